package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"leafserve/tensor"
)

// writeNPY writes a tensor in numpy's format, version 1.0: the library that we
// read with writes flat arrays only.
func writeNPY(w io.Writer, t tensor.Tensor) error {
	dims := strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", "), "[]")
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }", dims)
	const before = 10 // magic, version, header length
	header += strings.Repeat(" ", 63-(before+len(header))%64) + "\n"
	if _, err := fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s", len(header)&0xff, len(header)>>8, header); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, t.Data)
}
