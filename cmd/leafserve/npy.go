package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"leafserve/tensor"
)

// numpy's file format: magic, version, header length, a Python dictionary
// padded to a multiple of 64 bytes, the values (numpy.lib.format).
const (
	npyMagic  = "\x93NUMPY"
	npyBefore = 10      // bytes before the dictionary in version 1.0
	maxValues = 1 << 26 // of a file that we read, 256 MiB
)

// npyFloats is the dictionary of a float32 array in C order.
var npyFloats = regexp.MustCompile(`^\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9, ]+)\),? *\} *\n$`)

// writeNPY writes a tensor in version 1.0.
func writeNPY(w io.Writer, t tensor.Tensor) error {
	dims := strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", "), "[]")
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }", dims)
	header += strings.Repeat(" ", 63-(npyBefore+len(header))%64) + "\n"
	if _, err := fmt.Fprintf(w, "%s\x01\x00%c%c%s", npyMagic, len(header)&0xff, len(header)>>8, header); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, t.Data)
}

// readNPY reads a float32 array of any version, in C order and with finite
// values; the rest of r is not looked at.
func readNPY(r io.Reader) (tensor.Tensor, error) {
	header, err := readNPYHeader(r)
	if err != nil {
		return tensor.Tensor{}, err
	}
	found := npyFloats.FindSubmatch(header)
	if found == nil {
		return tensor.Tensor{}, fmt.Errorf("it holds %.80q, want float32 in C order", bytes.TrimSpace(header))
	}
	shape, count, err := parseShape(string(found[1]))
	if err != nil {
		return tensor.Tensor{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, int64(4*count))) // grows with what is there, not with what is promised
	if err != nil {
		return tensor.Tensor{}, err
	}
	if len(raw) != 4*count {
		return tensor.Tensor{}, fmt.Errorf("it is cut short: %d bytes of values, its shape %v wants %d", len(raw), shape, 4*count)
	}
	t := tensor.Tensor{Shape: shape, Data: make([]float32, count)}
	for i := range t.Data {
		v := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return tensor.Tensor{}, fmt.Errorf("value %d is %v", i, v)
		}
		t.Data[i] = v
	}
	return t, nil
}

// readNPYHeader gives the dictionary.
func readNPYHeader(r io.Reader) ([]byte, error) {
	errNot := errors.New("it is not a .npy file")
	var start [len(npyMagic) + 2]byte
	if _, err := io.ReadFull(r, start[:]); err != nil || string(start[:len(npyMagic)]) != npyMagic {
		return nil, errNot
	}
	length := make([]byte, 4)
	if start[len(npyMagic)] == 1 { // later versions have longer headers
		length = length[:2]
	}
	if _, err := io.ReadFull(r, length); err != nil {
		return nil, errNot
	}
	n := binary.LittleEndian.Uint32(append(length, 0, 0))
	header, err := io.ReadAll(io.LimitReader(r, int64(min(n, 1<<16))))
	if err != nil {
		return nil, err
	}
	return header, nil
}

// parseShape reads the inside of a Python tuple of sizes of at least 1.
func parseShape(text string) (shape []int, count int, err error) {
	count = 1
	for field := range strings.SplitSeq(strings.TrimRight(text, ", "), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > maxValues/count {
			return nil, 0, fmt.Errorf("its shape is (%.80s), want sizes of 1 or more and at most %d values", text, maxValues)
		}
		shape, count = append(shape, n), count*n
	}
	return shape, count, nil
}
