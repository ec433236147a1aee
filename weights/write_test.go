package weights

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"leafserve/tensor"
)

func TestWriteReadsBack(t *testing.T) {
	want := map[string]tensor.Tensor{
		"b.weight": {Shape: []int{2, 3}, Data: []float32{1, -2, 3.5, 0, float32(math.Inf(1)), math.SmallestNonzeroFloat32}},
		"a":        {Shape: []int{}, Data: []float32{7}},
		"none":     {Shape: []int{0, 4}, Data: []float32{}},
		"ünï\"c":   {Shape: []int{1}, Data: []float32{-0.25}},
	}
	for _, metadata := range []map[string]string{nil, {"format": "pt", "by": "leafserve"}} {
		var file bytes.Buffer
		if err := Write(&file, want, metadata); err != nil {
			t.Fatal(err)
		}
		if n := binary.LittleEndian.Uint64(file.Bytes()); n%8 != 0 {
			t.Errorf("header of %d bytes, want a multiple of 8", n)
		}
		entries, err := ReadHeader(store(t, file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(want) {
			t.Errorf("%d tensors came back, want %d", len(entries), len(want))
		}
		for name, x := range want {
			got, err := entries[name].Read()
			if err != nil {
				t.Fatal(err)
			}
			if tensor.MaxAbsDiff(finite(got), finite(x)) != 0 {
				t.Errorf("%s came back as %v, want %v", name, got, x)
			}
		}
	}
}

// finite puts large numbers for infinities, whose difference is no number.
func finite(x tensor.Tensor) tensor.Tensor {
	out := x.Clone()
	for i, v := range out.Data {
		out.Data[i] = max(-math.MaxFloat32, min(math.MaxFloat32, v))
	}
	return out
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestWriteAsHalf: values come back as the nearest that a half can hold, over
// several chunks and sizes that leave a short last one.
func TestWriteAsHalf(t *testing.T) {
	want := map[string]tensor.Tensor{
		"a": {Shape: []int{2, 2}, Data: []float32{1, -65504, 0x1p-24, float32(math.Inf(-1))}},
		"b": tensor.New(3, chunk/2+1),
	}
	for i := range want["b"].Data {
		want["b"].Data[i] = float32(i % 2048)
	}
	var file bytes.Buffer
	if err := WriteAs(&file, F16, want, nil); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadHeader(store(t, file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range want {
		got, err := entries[name].Read()
		if err != nil || entries[name].DType != F16 || !slices.Equal(got.Data, x.Data) || !slices.Equal(got.Shape, x.Shape) {
			t.Errorf("%s came back as %s%v, %v, other than it went", name, entries[name].DType, got.Shape, err)
		}
	}
}

// TestHalfRounds goes through all pairs of neighbours: what lies between them goes
// to the nearer, from their middle to the even one, below zero alike. The last
// pair is 65504 and 2^16, which is no half but an infinity.
func TestHalfRounds(t *testing.T) {
	up := float32(math.Inf(1))
	for h := range uint16(halfInf) {
		low, high := halfToFloat(h), halfToFloat(h+1)
		if h+1 == halfInf {
			high = 1 << 16
		}
		middle := (low + high) / 2
		for _, tc := range []struct {
			value float32
			want  uint16
		}{
			{low, h}, {math.Nextafter32(middle, 0), h}, {middle, h + h&1}, {math.Nextafter32(middle, up), h + 1}, {math.Nextafter32(high, 0), h + 1},
		} {
			if got := floatToHalf(tc.value); got != tc.want {
				t.Fatalf("half of %b = %#04x, want %#04x", tc.value, got, tc.want)
			}
			if got := floatToHalf(-tc.value); got != tc.want|1<<15 {
				t.Fatalf("half of %b = %#04x, want %#04x", -tc.value, got, tc.want|1<<15)
			}
		}
	}
	for _, bits := range []uint32{0x7f800001, 0x7fc00000, 0xffffffff} {
		if nan := math.Float32frombits(bits); !math.IsNaN(float64(halfToFloat(floatToHalf(nan)))) {
			t.Errorf("half of the NaN %#x = %#04x, which is none", bits, floatToHalf(nan))
		}
	}
}

func TestWriteErrors(t *testing.T) {
	one := func(x tensor.Tensor) map[string]tensor.Tensor { return map[string]tensor.Tensor{"a": x} }
	for _, tc := range []struct {
		name    string
		w       io.Writer
		dtype   DType
		tensors map[string]tensor.Tensor
		want    string
	}{
		{"a broken writer", brokenWriter{}, F32, one(tensor.New(9)), os.ErrClosed.Error()},
		{"too large for a half", io.Discard, F16, one(vector(65519, -65520)), `tensor "a" holds -65520, the limit of F16 is 65504`},
		{"a type that is only read", io.Discard, BF16, one(vector(1)), `tensor "a": values are written as F32 or F16, not as BF16`},
		{"fewer values than the shape says", io.Discard, F32, one(tensor.Tensor{Shape: []int{2}, Data: []float32{1}}), `tensor "a" has shape [2] with 1 values`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := WriteAs(tc.w, tc.dtype, tc.tensors, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("WriteAs = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadMetadata(t *testing.T) {
	for _, tc := range []struct {
		name, header string
		want         map[string]string
		err          string
	}{
		{name: "texts", header: `{"__metadata__":{"format":"pt","a":"{\"b\":1}"}}`, want: map[string]string{"format": "pt", "a": `{"b":1}`}},
		{name: "none", header: `{}`},
		{name: "a number", header: `{"__metadata__":{"a":1}}`, err: "__metadata__ is no JSON object of texts"},
		{name: "a list", header: `{"__metadata__":[]}`, err: "__metadata__ is no JSON object of texts"},
		{name: "no header", header: `[]`, err: "header is not a JSON object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := store(t, container(tc.header))
			got, err := ReadMetadata(path)
			switch {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.HasPrefix(err.Error(), path) {
					t.Errorf("ReadMetadata = %v, want an error that names the file and says %q", err, tc.err)
				}
			case err != nil || !maps.Equal(got, tc.want):
				t.Errorf("ReadMetadata = %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestMetadataComesBack(t *testing.T) {
	want := map[string]string{"format": "pt", "state": `{"step":1}`}
	var file bytes.Buffer
	if err := Write(&file, map[string]tensor.Tensor{"a": vector(1)}, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMetadata(store(t, file.Bytes())); err != nil || !maps.Equal(got, want) {
		t.Errorf("ReadMetadata = %v, %v, want %v", got, err, want)
	}
}

func TestRewrite(t *testing.T) {
	c, err := Open(folder(t, map[string]any{
		"model.safetensors.index.json": index,
		"model-1.safetensors":          string(container(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, []byte("ABCDEFGH")...)),
		"model-2.safetensors":          tensors{"b": vector(2, 3)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := c.Rewrite(t.Context(), &file, F16, map[string]tensor.Tensor{"b": vector(0.5, 7)}, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadHeader(store(t, file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if a := got["a"]; a.DType != "I64" || !bytes.Contains(file.Bytes(), []byte("ABCDEFGH")) || len(got) != 2 {
		t.Errorf("a of %d tensors is %+v, want its own bytes, of 2", len(got), a)
	}
	if b, err := got["b"].Read(); err != nil || got["b"].DType != F16 || !slices.Equal(b.Data, []float32{0.5, 7}) {
		t.Errorf("b is %s %v, %v, want the new values as F16", got["b"].DType, b.Data, err)
	}
}

func TestRewriteErrors(t *testing.T) {
	c, err := Open(folder(t, map[string]any{"model.safetensors": tensors{"a": vector(1), "b": vector(2, 3)}}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"b": `tensor "b" has shape [2], the new values [1]`,
		"c": `no tensor "c" whose values could be others`,
	} {
		if err := c.Rewrite(t.Context(), io.Discard, F32, map[string]tensor.Tensor{name: vector(1)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Rewrite of %s = %v, want %q", name, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Rewrite(ended, io.Discard, F32, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Rewrite after its context's end = %v, want %v", err, context.Canceled)
	}
}
