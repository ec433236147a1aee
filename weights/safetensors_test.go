package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/tensor"
)

// container is a safetensors file: the header's length, the header, the data.
func container(header string, data ...byte) []byte {
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), data...)
}

// store writes a file into a fresh folder and gives its path.
func store(t testing.TB, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// lies are files that must be refused, with what the error says.
var lies = []struct {
	name string
	file []byte
	want string
}{
	{"empty file", nil, "cannot read its first 8 bytes"},
	{"seven bytes", make([]byte, 7), "cannot read its first 8 bytes"},
	{"eight bytes that promise more", binary.LittleEndian.AppendUint64(nil, 2), "header of 2 bytes in a file of 8"},
	{"no header at all", make([]byte, 8), "not a JSON object"},
	{"header one byte past the end", container(`{}`)[:9], "header of 2 bytes in a file of 9"},
	{"header of 2^64-1 bytes", append(bytes.Repeat([]byte{0xff}, 8), "{}"...), "in a file of 10"},
	{"header over the format's limit", append(binary.LittleEndian.AppendUint64(nil, maxHeader+1), "{}"...), "header of 104857601 bytes"},
	{"not JSON", container(`{"a":`), "not a JSON object"},
	{"a JSON list", container(`[]`), "not a JSON object"},
	{"a JSON null", container(`null`), "not a JSON object"},
	{"entry is a number", container(`{"a":1}`), `tensor "a"`},
	{"entry is null", container(`{"a":null}`), `tensor "a" has unknown dtype ""`},
	{"unknown dtype", container(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 0), `tensor "a" has unknown dtype "F4"`},
	{"negative extent", container(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 0), "impossible shape [-1]"},
	{"two negative extents", container(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, 0), "impossible shape"},
	{"fractional extent", container(`{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}`, 0), `tensor "a"`},
	{"product beyond 64 bits", container(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`), "impossible shape"},
	{"product that wraps to the right size", container(`{"a":{"dtype":"U8","shape":[3,6148914691236517206],"data_offsets":[0,2]}}`, 0, 0), "impossible shape"},
	{"offsets left out", container(`{"a":{"dtype":"U8","shape":[1]}}`, 0), "offsets [0 0] do not hold U8[1]"},
	{"negative offset", container(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[-1,1]}}`, 0), "offsets [-1 1] do not hold U8[2]"},
	{"offsets the wrong way round", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 0), "offsets [1 0] do not hold"},
	{"offsets whose difference wraps", container(`{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[1,-9223372036854775808]}}`, 0), "do not hold"},
	{"offset near the end of 64 bits", container(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`), "do not hold"},
	{"offset beyond 64 bits", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551617]}}`, 0), `tensor "a"`},
	{"shape says less", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`, make([]byte, 8)...), "do not hold F32[1]"},
	{"dtype says more", container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, make([]byte, 4)...), "do not hold F32[2]"},
	{"overlap", container(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 0, 0, 0), `tensor "b" starts at byte`},
	{"the same bytes twice", container(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 0, 0), "overlap or leave a gap"},
	{"gap between", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 0, 0, 0), `tensor "b" starts at byte`},
	{"gap before", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 0, 0), "overlap or leave a gap"},
	{"bytes left over", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 0, 0), "cut short or damaged"},
	{"bytes without a tensor", container(`{}`, 0), "cut short or damaged"},
	{"data cut short", container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, make([]byte, 7)...), "cut short or damaged, fetch it again"},
}

func TestReadHeaderRefusesLies(t *testing.T) {
	for _, tc := range lies {
		t.Run(tc.name, func(t *testing.T) {
			path := store(t, tc.file)
			entries, err := ReadHeader(path)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("ReadHeader = %v, %v, want an error that names the file and says %q", entries, err, tc.want)
			}
		})
	}
}

func TestReadHeaderAccepts(t *testing.T) {
	for _, tc := range []struct {
		name string
		file []byte
		want []string // name dtype shape offset-in-data length
	}{
		{"nothing", container(`{}`), nil},
		{"metadata only", container(`{"__metadata__":{"format":"pt"}}`), nil},
		{"padded header", container(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}    `, 1, 2, 3), []string{"a U8 [3] 0 3"}},
		{"any order", container(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"F16","shape":[1,1],"data_offsets":[1,3]}}`, 1, 2, 3), []string{"a F16 [1 1] 1 2", "b U8 [1] 0 1"}},
		{"scalar", container(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 0, 0, 0, 0), []string{"a F32 [] 0 4"}},
		{"tensors without values", container(`{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"a F32 [0 7] 0 0", "b U8 [1] 0 1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := store(t, tc.file)
			entries, err := ReadHeader(path)
			if err != nil {
				t.Fatal(err)
			}
			base := int64(8 + binary.LittleEndian.Uint64(tc.file))
			var got []string
			for name, e := range entries {
				if e.Name != name || e.File != path {
					t.Errorf("entry %q is %q in %s", name, e.Name, e.File)
				}
				got = append(got, fmt.Sprint(e.Name, " ", e.DType, " ", e.Shape, " ", e.Offset-base, " ", e.Length))
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("ReadHeader = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReadHeaderOfNothing(t *testing.T) {
	for _, tc := range []struct{ name, path, want string }{
		{"missing", filepath.Join(t.TempDir(), "gone.safetensors"), "gone.safetensors: no such file"},
		{"a folder", t.TempDir(), "is a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := ReadHeader(tc.path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ReadHeader = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadWidens(t *testing.T) {
	for _, tc := range []struct {
		dtype DType
		raw   []byte
		want  []float32
	}{
		{F32, []byte{0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc1}, []float32{1, -10}},
		{F16, []byte{0, 0x3c, 0, 0xc9, 0xff, 0x7b}, []float32{1, -10, 65504}},
		{BF16, []byte{0x80, 0x3f, 0x20, 0xc1, 0x49, 0x40}, []float32{1, -10, 3.140625}},
		{"U8", []byte{0, 127, 255}, []float32{0, 127, 255}},
		{"I32", []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1}, []float32{1, -1, 1 << 24}},
	} {
		t.Run(string(tc.dtype), func(t *testing.T) {
			header := fmt.Sprintf(`{"a":{"dtype":%q,"shape":[%d],"data_offsets":[0,%d]}}`, tc.dtype, len(tc.want), len(tc.raw))
			got, err := mustEntry(t, container(header, tc.raw...)).Read()
			if err != nil || !slices.Equal(got.Data, tc.want) {
				t.Errorf("Read = %v, %v, want %v", got.Data, err, tc.want)
			}
		})
	}
}

// mustEntry gives the tensor "a" of a file.
func mustEntry(t *testing.T, file []byte) Entry {
	t.Helper()
	entries, err := ReadHeader(store(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return entries["a"]
}

func TestReadErrors(t *testing.T) {
	e := mustEntry(t, container(`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`, make([]byte, 8)...))
	if _, err := e.Read(); err == nil || !strings.Contains(err.Error(), `tensor "a" is F64, want F32, F16, BF16, U8 or I32`) {
		t.Errorf("Read of an F64 = %v", err)
	}
	if err := os.Truncate(e.File, e.Offset+4); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read(); err == nil || !strings.Contains(err.Error(), e.File) {
		t.Errorf("Read after the file shrank = %v, want an error that names it", err)
	}
	if err := os.Remove(e.File); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Read(); !os.IsNotExist(err) {
		t.Errorf("Read after the file went = %v", err)
	}
}

// TestEveryHalf compares all binary16 numbers with (−1)^s · 2^(e−15) · 1.f, or
// 2^−14 · 0.f where e is 0 (IEEE 754, §3.4), computed in float64.
func TestEveryHalf(t *testing.T) {
	for h := range 1 << 16 {
		sign, exp, frac := 1-2*float64(h>>15), h>>10&31, float64(h&1023)/1024
		want := sign * math.Ldexp(1+frac, exp-15)
		switch {
		case exp == 31 && frac == 0:
			want = math.Inf(int(sign))
		case exp == 31:
			want = math.NaN()
		case exp == 0:
			want = sign * math.Ldexp(frac, -14)
		}
		got := halfToFloat(uint16(h))
		if math.IsNaN(want) && math.IsNaN(float64(got)) {
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != (h>>15 == 1) {
			t.Fatalf("half %#04x = %v, want %v", h, got, want)
		}
	}
}

// FuzzHeader: no file makes the reader panic, and of what it accepts every
// tensor lies inside the file, holds its shape and shares no byte with another.
func FuzzHeader(f *testing.F) {
	for _, tc := range lies {
		f.Add(tc.file)
	}
	f.Add(container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F16","shape":[],"data_offsets":[1,3]}}`, 1, 2, 3))
	f.Fuzz(func(t *testing.T, file []byte) {
		entries, err := parseHeader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		used := int64(8 + binary.LittleEndian.Uint64(file))
		for name, e := range entries {
			if e.Offset < 8 || e.Length < 0 || e.Offset+e.Length > int64(len(file)) {
				t.Errorf("tensor %q lies at %d+%d in a file of %d", name, e.Offset, e.Length, len(file))
			}
			if n := int64(tensor.Size(e.Shape)) * sizes[e.DType]; n != e.Length {
				t.Errorf("tensor %q of %s%v has %d bytes", name, e.DType, e.Shape, e.Length)
			}
			used += e.Length
		}
		if used != int64(len(file)) {
			t.Errorf("header and tensors have %d bytes of a file of %d", used, len(file))
		}
	})
}
