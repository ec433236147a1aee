package weights

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"

	"leafserve/tensor"
)

// Write stores tensors as float32 in safetensors form, sorted by name.
func Write(w io.Writer, tensors map[string]tensor.Tensor, metadata map[string]string) error {
	return WriteAs(w, F32, tensors, metadata)
}

// WriteAs stores tensors in safetensors form, sorted by name, as F32 or F16, to
// which values are rounded: to the nearest, ties to even. One that F16 cannot
// hold is an error that names its tensor; what was written up to there is of no
// use. The metadata are for ReadMetadata. Little memory is used but the tensors'.
func WriteAs(w io.Writer, dtype DType, tensors map[string]tensor.Tensor, metadata map[string]string) error {
	parts := map[string]part{}
	for name, t := range tensors {
		parts[name] = valuesOf(name, t, dtype)
	}
	return writeParts(context.Background(), w, parts, metadata)
}

// Copy writes the tensors that keep takes, by name, as one safetensors file,
// each as it is stored. It looks at ctx before each.
func (c *Checkpoint) Copy(ctx context.Context, w io.Writer, keep func(name string) bool) error {
	parts := map[string]part{}
	for name, e := range c.entries {
		if keep(name) {
			parts[name] = e.stored()
		}
	}
	return writeParts(ctx, w, parts, nil)
}

// Rewrite writes all tensors as one safetensors file: those in changed with other
// values, as WriteAs, the others as they are stored. A changed one must be in the
// checkpoint, in its shape. It looks at ctx before each.
func (c *Checkpoint) Rewrite(ctx context.Context, w io.Writer, dtype DType, changed map[string]tensor.Tensor, metadata map[string]string) error {
	parts := map[string]part{}
	for name, e := range c.entries {
		parts[name] = e.stored()
	}
	for name, t := range changed {
		stored, ok := c.entries[name]
		if !ok {
			return fmt.Errorf("%s holds no tensor %q whose values could be others", c.Dir, name)
		}
		if !slices.Equal(stored.Shape, t.Shape) {
			return fmt.Errorf("%s: tensor %q has shape %v, the new values %v", c.Dir, name, stored.Shape, t.Shape)
		}
		parts[name] = valuesOf(name, t, dtype)
	}
	return writeParts(ctx, w, parts, metadata)
}

// part is a tensor on its way into a file.
type part struct {
	dtype DType
	shape []int
	write func(w io.Writer) error // its bytes, as many as dtype and shape say
}

// stored is the tensor as it is in its file.
func (e Entry) stored() part {
	return part{e.DType, e.Shape, func(w io.Writer) error {
		f, err := os.Open(e.File)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(w, io.NewSectionReader(f, e.Offset, e.Length))
		if err == nil && n < e.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%s: tensor %q: %w", e.File, e.Name, err)
		}
		return nil
	}}
}

// valuesOf is t as dtype.
func valuesOf(name string, t tensor.Tensor, dtype DType) part {
	return part{dtype, t.Shape, func(w io.Writer) error {
		narrow, ok := narrowers[dtype]
		if !ok {
			return fmt.Errorf("tensor %q: values are written as F32 or F16, not as %s", name, dtype)
		}
		if err := t.Check(fmt.Sprintf("tensor %q", name), t.Shape...); err != nil {
			return err
		}
		raw := make([]byte, min(chunk, len(t.Data)*int(sizes[dtype])))
		for values := range slices.Chunk(t.Data, chunk/int(sizes[dtype])) {
			raw = raw[:len(values)*int(sizes[dtype])]
			if bad := narrow(raw, values); bad >= 0 {
				return fmt.Errorf("tensor %q holds %g, the limit of %s is 65504: write it as F32", name, values[bad], dtype)
			}
			if _, err := w.Write(raw); err != nil {
				return err
			}
		}
		return nil
	}}
}

// narrowers fill raw with the stored form of values. They give the index of one
// that has none, else -1.
var narrowers = map[DType]func(raw []byte, values []float32) int{
	F32: func(raw []byte, values []float32) int {
		for i, v := range values {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
		}
		return -1
	},
	F16: func(raw []byte, values []float32) int {
		for i, v := range values {
			h := floatToHalf(v)
			if h&0x7fff == halfInf && !math.IsInf(float64(v), 0) {
				return i
			}
			binary.LittleEndian.PutUint16(raw[2*i:], h)
		}
		return -1
	},
}

const halfInf = 0x1f << 10

// floatToHalf rounds to an IEEE 754 binary16, to the nearest, ties to even; what
// rounds to 2^16 or more is an infinity.
func floatToHalf(f float32) uint16 {
	sign, abs := uint16(math.Float32bits(f)>>16)&0x8000, math.Float32bits(f)&^(1<<31)
	switch {
	case abs > 0xff<<23: // NaN; a bit keeps it one
		return sign | halfInf | 1<<9 | uint16(abs>>13)&0x3ff
	case abs >= (127+16)<<23:
		return sign | halfInf
	case abs < (127-14)<<23: // subnormal: a multiple of 2^-24
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(abs))*(1<<24)))
	}
	abs += 1<<12 - 1 + abs>>13&1 // a carry into the exponent is right, up to infinity
	return sign | uint16(abs>>13-112<<10)
}

// line is a tensor in a header, as it is written.
type line struct {
	DType   DType    `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// writeParts writes a safetensors file.
func writeParts(ctx context.Context, w io.Writer, parts map[string]part, metadata map[string]string) error {
	names := slices.Sorted(maps.Keys(parts))
	header := map[string]any{}
	if len(metadata) > 0 {
		header[metadataKey] = metadata
	}
	end := int64(0)
	for _, name := range names {
		p, start := parts[name], end
		end += int64(tensor.Size(p.shape)) * sizes[p.dtype]
		header[name] = line{p.dtype, append([]int{}, p.shape...), [2]int64{start, end}}
	}
	raw, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(raw)%8 != 0 { // as the format wants it
		raw = append(raw, ' ')
	}
	buf := bufio.NewWriterSize(w, chunk)
	buf.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(raw)))) // buf keeps an error for the next write
	buf.Write(raw)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := parts[name].write(buf); err != nil {
			return err
		}
	}
	return buf.Flush()
}
