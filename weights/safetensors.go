// Package weights reads and writes model folders: safetensors files, one or
// sharded, and the JSON beside them. It never loads what is not asked for: a
// Checkpoint knows where each tensor lies, and the runtime maps the file.
package weights

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"leafserve/tensor"
)

// maxHeader bounds the JSON header, as the format's reference reader does.
const maxHeader = 100 << 20

// DType is a safetensors element type.
type DType string

// The element types that models use here.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// sizes in bytes of every element type of the format; sub-byte types are not read.
var sizes = map[DType]int64{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, F16: 2, BF16: 2,
	"U32": 4, "I32": 4, F32: 4, "U64": 8, "I64": 8, "F64": 8,
}

// Entry says where one tensor lies.
type Entry struct {
	Name   string
	DType  DType
	Shape  []int
	File   string // absolute path, symbolic links resolved (hub caches are made of links)
	Offset int64  // of the first byte in File
	Length int64  // in bytes
}

// ReadHeader lists the tensors of a safetensors file, by name. A header that is
// no JSON, lies about offsets, overlaps or leaves gaps, or a file that ends
// early is an error naming the file and what is wrong.
func ReadHeader(path string) (map[string]Entry, error) {
	var entries map[string]Entry
	err := openHeader(path, func(r io.Reader, fileSize int64) (err error) {
		entries, err = parseHeader(r, fileSize)
		return err
	})
	if err != nil {
		return nil, err
	}
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	for name, e := range entries {
		e.File = real
		entries[name] = e
	}
	return entries, nil
}

// ReadMetadata gives the texts that a safetensors file's writer kept beside the
// tensors; none is an empty map. Metadata of any other form is an error.
func ReadMetadata(path string) (map[string]string, error) {
	metadata := map[string]string{}
	err := openHeader(path, func(r io.Reader, fileSize int64) error {
		header, _, err := readHeader(r, fileSize)
		if raw, ok := header[metadataKey]; ok && err == nil && json.Unmarshal(raw, &metadata) != nil {
			err = fmt.Errorf("%s is no JSON object of texts", metadataKey)
		}
		return err
	})
	return metadata, err
}

// metadataKey is the one name in a header that is no tensor's.
const metadataKey = "__metadata__"

// openHeader lets read have a file from its start, of so many bytes; its error
// is made to name the file.
func openHeader(path string, read func(r io.Reader, fileSize int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := read(bufio.NewReader(f), info.Size()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// parseHeader reads the header and checks it against the file's size.
func parseHeader(r io.Reader, fileSize int64) (map[string]Entry, error) {
	header, base, err := readHeader(r, fileSize)
	if err != nil {
		return nil, err
	}
	delete(header, metadataKey)
	entries := make(map[string]Entry, len(header))
	for name, raw := range header {
		e, err := parseEntry(name, raw, base)
		if err != nil {
			return nil, err
		}
		entries[name] = e
	}
	return entries, checkLayout(entries, base, fileSize)
}

// readHeader reads the length and the JSON. base is where the data starts.
func readHeader(r io.Reader, fileSize int64) (header map[string]json.RawMessage, base int64, err error) {
	var n uint64
	if err := binary.Read(r, binary.LittleEndian, &n); err != nil {
		return nil, 0, fmt.Errorf("not a safetensors file: cannot read its first 8 bytes: %w", err)
	}
	if n > maxHeader || int64(n) > fileSize-8 {
		return nil, 0, fmt.Errorf("not a safetensors file or cut short: header of %d bytes in a file of %d", n, fileSize)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, 0, fmt.Errorf("header cut short: %w", err)
	}
	if err := json.Unmarshal(raw, &header); err != nil {
		return nil, 0, fmt.Errorf("header is not a JSON object: %w", err)
	}
	if header == nil {
		return nil, 0, fmt.Errorf("header is not a JSON object: null")
	}
	return header, 8 + int64(n), nil
}

// parseEntry turns one header line into an Entry. base is where the data starts.
func parseEntry(name string, raw json.RawMessage, base int64) (Entry, error) {
	var h struct {
		DType   DType    `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return Entry{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	want, ok := sizes[h.DType]
	if !ok {
		return Entry{}, fmt.Errorf("tensor %q has unknown dtype %q", name, h.DType)
	}
	shape := make([]int, len(h.Shape))
	for i, d := range h.Shape {
		if d < 0 || (d > 0 && want > math.MaxInt64/d) {
			return Entry{}, fmt.Errorf("tensor %q has impossible shape %v", name, h.Shape)
		}
		shape[i] = int(d)
		want *= d
	}
	if first, end := h.Offsets[0], h.Offsets[1]; first < 0 || end < first || end > math.MaxInt64-base || end-first != want {
		return Entry{}, fmt.Errorf("tensor %q: offsets %v do not hold %s%v", name, h.Offsets, h.DType, h.Shape)
	}
	return Entry{Name: name, DType: h.DType, Shape: shape, Offset: base + h.Offsets[0], Length: want}, nil
}

// checkLayout makes sure that the tensors fill the data part, once and whole.
func checkLayout(entries map[string]Entry, base, fileSize int64) error {
	order := slices.SortedFunc(maps.Values(entries), func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Length, b.Length))
	})
	end := base
	for _, e := range order {
		if e.Offset != end {
			return fmt.Errorf("tensor %q starts at byte %d, want %d: tensors overlap or leave a gap", e.Name, e.Offset, end)
		}
		end += e.Length
	}
	if end != fileSize {
		return fmt.Errorf("tensors end at byte %d of a file of %d: cut short or damaged, fetch it again", end, fileSize)
	}
	return nil
}

// Read loads one tensor as float32. F16, BF16 and U8 are widened exactly; I32
// beyond ±2^24 is rounded.
func (e Entry) Read() (tensor.Tensor, error) {
	f, err := os.Open(e.File)
	if err != nil {
		return tensor.Tensor{}, err
	}
	defer f.Close()
	widen, ok := wideners[e.DType]
	if !ok {
		return tensor.Tensor{}, fmt.Errorf("%s: tensor %q is %s, want F32, F16, BF16, U8 or I32", e.File, e.Name, e.DType)
	}
	t := tensor.New(e.Shape...)
	raw := make([]byte, min(e.Length, chunk))
	size := sizes[e.DType]
	for at := int64(0); at < e.Length; at += int64(len(raw)) {
		raw = raw[:min(int64(len(raw)), e.Length-at)]
		if _, err := f.ReadAt(raw, e.Offset+at); err != nil {
			return tensor.Tensor{}, fmt.Errorf("%s: tensor %q: %w", e.File, e.Name, err)
		}
		widen(t.Data[at/size:], raw)
	}
	return t, nil
}

// chunk is how many bytes of a tensor are converted at a time: a multiple of all
// elements' sizes that stays in a core's cache.
const chunk = 64 << 10

// wideners turn stored values, all of raw, into float32.
var wideners = map[DType]func(into []float32, raw []byte){
	F32: func(into []float32, raw []byte) {
		for i := range len(raw) / 4 {
			into[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	},
	F16: func(into []float32, raw []byte) {
		for i := range len(raw) / 2 {
			into[i] = halfToFloat(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	},
	BF16: func(into []float32, raw []byte) {
		for i := range len(raw) / 2 {
			into[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	},
	"U8": func(into []float32, raw []byte) {
		for i, v := range raw {
			into[i] = float32(v)
		}
	},
	"I32": func(into []float32, raw []byte) {
		for i := range len(raw) / 4 {
			into[i] = float32(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
	},
}

// halfToFloat widens an IEEE 754 binary16; every value is exact in float32.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch {
	case exp == 0x1f: // Inf, NaN
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp == 0: // zero, subnormal: frac · 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(frac)/(1<<24)))
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
