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
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	entries, err := parseHeader(bufio.NewReader(f), info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
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

func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// parseHeader reads the length, the JSON and checks it against the file's size.
func parseHeader(r io.Reader, fileSize int64) (map[string]Entry, error) {
	var n uint64
	if err := binary.Read(r, binary.LittleEndian, &n); err != nil {
		return nil, fmt.Errorf("not a safetensors file: cannot read its first 8 bytes: %w", err)
	}
	if n > maxHeader || int64(n) > fileSize-8 {
		return nil, fmt.Errorf("not a safetensors file or cut short: header of %d bytes in a file of %d", n, fileSize)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("header cut short: %w", err)
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(raw, &header); err != nil {
		return nil, fmt.Errorf("header is not a JSON object: %w", err)
	}
	if header == nil {
		return nil, fmt.Errorf("header is not a JSON object: null")
	}
	delete(header, "__metadata__")
	entries := make(map[string]Entry, len(header))
	for name, raw := range header {
		e, err := parseEntry(name, raw, 8+int64(n))
		if err != nil {
			return nil, err
		}
		entries[name] = e
	}
	return entries, checkLayout(entries, 8+int64(n), fileSize)
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
	raw := make([]byte, e.Length)
	if _, err := f.ReadAt(raw, e.Offset); err != nil {
		return tensor.Tensor{}, fmt.Errorf("%s: tensor %q: %w", e.File, e.Name, err)
	}
	t := tensor.New(e.Shape...)
	switch e.DType {
	case F32:
		for i := range t.Data {
			t.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	case F16:
		for i := range t.Data {
			t.Data[i] = halfToFloat(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	case BF16:
		for i := range t.Data {
			t.Data[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	case "U8":
		for i := range t.Data {
			t.Data[i] = float32(raw[i])
		}
	case "I32":
		for i := range t.Data {
			t.Data[i] = float32(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
	default:
		return t, fmt.Errorf("%s: tensor %q is %s, want F32, F16, BF16, U8 or I32", e.File, e.Name, e.DType)
	}
	return t, nil
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

// line is a tensor in a header, as it is written.
type line struct {
	DType   DType    `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// writeHeader writes the length and the JSON, padded with spaces as the format
// wants it. buf keeps an error for Flush.
func writeHeader(buf *bufio.Writer, lines map[string]line, metadata map[string]string) error {
	header := map[string]any{}
	if len(metadata) > 0 {
		header["__metadata__"] = metadata
	}
	for name, l := range lines {
		header[name] = l
	}
	raw, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(raw)%8 != 0 {
		raw = append(raw, ' ')
	}
	binary.Write(buf, binary.LittleEndian, uint64(len(raw)))
	buf.Write(raw)
	return nil
}

// Write stores tensors as float32 in safetensors form, sorted by name.
func Write(w io.Writer, tensors map[string]tensor.Tensor, metadata map[string]string) error {
	names := slices.Sorted(maps.Keys(tensors))
	lines := map[string]line{}
	end := int64(0)
	for _, name := range names {
		start := end
		end += 4 * int64(len(tensors[name].Data))
		lines[name] = line{F32, tensors[name].Shape, [2]int64{start, end}}
	}
	buf := bufio.NewWriter(w)
	if err := writeHeader(buf, lines, metadata); err != nil {
		return err
	}
	for _, name := range names {
		binary.Write(buf, binary.LittleEndian, tensors[name].Data) // buf keeps the error for Flush
	}
	return buf.Flush()
}
