package ort_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// weight is a tensor as it will be stored.
type weight struct {
	dtype  weights.DType
	values tensor.Tensor
}

// checkpoint stores weights in a fresh folder. Their values must be exact in
// their type, which random's are in every type here.
func checkpoint(t *testing.T, tensors map[string]weight) *weights.Checkpoint {
	t.Helper()
	header, data := map[string]any{}, []byte{}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		w, start := tensors[name], len(data)
		for _, v := range w.values.Data {
			bits := math.Float32bits(v)
			switch w.dtype {
			case weights.F32:
				data = binary.LittleEndian.AppendUint32(data, bits)
			case weights.BF16:
				data = binary.LittleEndian.AppendUint16(data, uint16(bits>>16))
			case weights.F16: // normal numbers and zero
				half := uint16(bits >> 16 & 0x8000)
				if v != 0 {
					half |= uint16((bits>>23&0xff-112)<<10 | bits>>13&0x3ff)
				}
				data = binary.LittleEndian.AppendUint16(data, half)
			}
		}
		header[name] = map[string]any{"dtype": w.dtype, "shape": w.values.Shape, "data_offsets": []int{start, len(data)}}
	}
	raw, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), append(file, data...), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// random gives multiples of 1/8 in −2…2, the same ones for the same seed.
func random(seed uint64, shape ...int) tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 0))
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = float32(r.IntN(33)-16) / 8
	}
	return x
}

// each applies f to every value.
func each(x tensor.Tensor, f func(v float64) float64) tensor.Tensor {
	y := x.Clone()
	for i, v := range x.Data {
		y.Data[i] = float32(f(float64(v)))
	}
	return y
}

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

// at is x's value at an index.
func at(x tensor.Tensor, index ...int) float64 {
	n := 0
	for i, d := range x.Shape {
		n = n*d + index[i]
	}
	return float64(x.Data[n])
}

// fill makes a tensor whose value at each index is f's.
func fill(f func(i []int) float64, shape ...int) tensor.Tensor {
	x := tensor.New(shape...)
	index := make([]int, len(shape))
	for n := range x.Data {
		for rest, i := n, len(shape)-1; i >= 0; rest, i = rest/shape[i], i-1 {
			index[i] = rest % shape[i]
		}
		x.Data[n] = float32(f(index))
	}
	return x
}

// normalize brings runs of n values to mean 0 and variance 1.
func normalize(x tensor.Tensor, n int, epsilon float64) tensor.Tensor {
	y := x.Clone()
	for run := range slices.Chunk(y.Data, n) {
		mean, variance := 0.0, 0.0
		for _, v := range run {
			mean += float64(v) / float64(n)
		}
		for _, v := range run {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		for i, v := range run {
			run[i] = float32((float64(v) - mean) / math.Sqrt(variance+epsilon))
		}
	}
	return y
}

// scaleChannels is x·w[c] + b[c], where c runs along an axis.
func scaleChannels(x, w, b tensor.Tensor, axis int) tensor.Tensor {
	return fill(func(i []int) float64 { return at(x, i...)*at(w, i[axis]) + at(b, i[axis]) }, x.Shape...)
}

// conv is a convolution by its definition.
func conv(x, w, bias tensor.Tensor, stride, padding int) tensor.Tensor {
	k := w.Shape[2]
	size := func(d int) int { return (d+2*padding-k)/stride + 1 }
	return fill(func(i []int) float64 {
		sum := at(bias, i[1])
		for c := range w.Shape[1] {
			for dy := range k {
				for dx := range k {
					y, z := i[2]*stride+dy-padding, i[3]*stride+dx-padding
					if y >= 0 && y < x.Shape[2] && z >= 0 && z < x.Shape[3] {
						sum += at(x, i[0], c, y, z) * at(w, i[1], c, dy, dx)
					}
				}
			}
		}
		return sum
	}, x.Shape[0], w.Shape[0], size(x.Shape[2]), size(x.Shape[3]))
}

// attention is softmax(q·kᵀ/√dh)·v, a head at a time.
func attention(q, k, v tensor.Tensor, heads int) tensor.Tensor {
	s, dh := k.Shape[1], q.Shape[2]/heads
	return fill(func(i []int) float64 {
		b, head := i[0], i[2]/dh
		total, sum := 0.0, 0.0
		for j := range s {
			score := 0.0
			for d := range dh {
				score += at(q, b, i[1], head*dh+d) * at(k, b, j, head*dh+d)
			}
			e := math.Exp(score / math.Sqrt(float64(dh)))
			total, sum = total+e, sum+e*at(v, b, j, i[2])
		}
		return sum / total
	}, q.Shape...)
}

// linear is x·wᵀ + b for x [n,in].
func linear(x, w, b tensor.Tensor) tensor.Tensor {
	return fill(func(i []int) float64 {
		sum := at(b, i[1])
		for k := range x.Shape[1] {
			sum += at(x, i[0], k) * at(w, i[1], k)
		}
		return sum
	}, x.Shape[0], w.Shape[0])
}

func softmax(x tensor.Tensor) tensor.Tensor {
	n := x.Shape[len(x.Shape)-1]
	y := each(x, math.Exp)
	for row := range slices.Chunk(y.Data, n) {
		sum := float32(0)
		for _, v := range row {
			sum += v
		}
		for i := range row {
			row[i] /= sum
		}
	}
	return y
}

// largest is the largest |value|.
func largest(x tensor.Tensor) float64 { return tensor.MaxAbsDiff(x, tensor.New(x.Shape...)) }

// TestNumbers runs every op and layer and compares it with its definition in
// plain Go. Inputs have open batch and size where the op allows it.
func TestNumbers(t *testing.T) {
	rt := leaftest.Runtime(t)
	x := random(1, 2, 6, 5, 7)         // [B,C,h,w]
	rows := random(2, 5, 8)            // [n,in]
	three := random(3, 2, 3, 4)        // [B,T,D]
	w, b := random(4, 6), random(5, 6) // of norms
	kernel, bias := random(6, 4, 6, 3, 3), random(7, 4)
	fc, fcBias := random(8, 3, 8), random(9, 3)
	q, k, v := random(10, 2, 5, 8), random(11, 2, 3, 8), random(12, 2, 3, 8)
	table := random(13, 9, 4)
	c := checkpoint(t, map[string]weight{
		"norm.weight": {weights.F32, w}, "norm.bias": {weights.F32, b},
		"conv.weight": {weights.F32, kernel}, "conv.bias": {weights.F32, bias}, "bare.weight": {weights.F32, kernel},
		"f32.weight": {weights.F32, fc}, "f32.bias": {weights.F32, fcBias},
		"f16.weight": {weights.F16, fc}, "f16.bias": {weights.F16, fcBias},
		"bf16.weight": {weights.BF16, fc}, "bf16.bias": {weights.BF16, fcBias},
		"nobias.weight": {weights.F32, fc}, "table": {weights.F16, table},
	})
	open4 := []int{onnx.Any, 6, onnx.Any, onnx.Any}
	type op = func(g *onnx.Graph, in ...onnx.Value) onnx.Value
	unary := func(f func(*onnx.Graph, onnx.Value) onnx.Value) op {
		return func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return f(g, in[0]) }
	}
	binary := func(f func(*onnx.Graph, onnx.Value, onnx.Value) onnx.Value) op {
		return func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return f(g, in[0], in[1]) }
	}
	for _, tc := range []struct {
		name   string
		build  op
		inputs []tensor.Tensor
		shapes [][]int // declared, where not the inputs' own
		want   tensor.Tensor
	}{
		{name: "Add", build: binary((*onnx.Graph).Add), inputs: []tensor.Tensor{x, random(20, 6, 1, 1)}, shapes: [][]int{open4},
			want: fill(func(i []int) float64 { return at(x, i...) + at(random(20, 6, 1, 1), i[1], 0, 0) }, x.Shape...)},
		{name: "Mul", build: binary((*onnx.Graph).Mul), inputs: []tensor.Tensor{rows, rows}, want: each(rows, func(v float64) float64 { return v * v })},
		{name: "Div", build: binary((*onnx.Graph).Div), inputs: []tensor.Tensor{rows, fill(func([]int) float64 { return 4 }, 1)}, want: each(rows, func(v float64) float64 { return v / 4 })},
		{name: "Sigmoid", build: unary((*onnx.Graph).Sigmoid), inputs: []tensor.Tensor{x}, shapes: [][]int{open4}, want: each(x, sigmoid)},
		{name: "Erf", build: unary((*onnx.Graph).Erf), inputs: []tensor.Tensor{x}, want: each(x, math.Erf)},
		{name: "Sin", build: unary((*onnx.Graph).Sin), inputs: []tensor.Tensor{x}, want: each(x, math.Sin)},
		{name: "Cos", build: unary((*onnx.Graph).Cos), inputs: []tensor.Tensor{x}, want: each(x, math.Cos)},
		{name: "SiLU", build: unary((*onnx.Graph).SiLU), inputs: []tensor.Tensor{x}, want: each(x, func(v float64) float64 { return v * sigmoid(v) })},
		{name: "QuickGELU", build: unary((*onnx.Graph).QuickGELU), inputs: []tensor.Tensor{x}, want: each(x, func(v float64) float64 { return v * sigmoid(1.702*v) })},
		{name: "GELU", build: unary((*onnx.Graph).GELU), inputs: []tensor.Tensor{x}, want: each(x, func(v float64) float64 { return v / 2 * (1 + math.Erf(v/math.Sqrt2)) })},
		{name: "Activation", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Activation("swish", x) }), inputs: []tensor.Tensor{rows}, want: each(rows, func(v float64) float64 { return v * sigmoid(v) })},
		{name: "Softmax", build: unary((*onnx.Graph).Softmax), inputs: []tensor.Tensor{three}, shapes: [][]int{{onnx.Any, 3, 4}}, want: softmax(three)},
		{name: "MatMul", build: binary((*onnx.Graph).MatMul), inputs: []tensor.Tensor{rows, random(21, 8, 3)},
			want: linear(rows, fill(func(i []int) float64 { return at(random(21, 8, 3), i[1], i[0]) }, 3, 8), tensor.New(3))},
		{name: "Transpose", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Transpose(x, 2, 0, 1) }), inputs: []tensor.Tensor{three},
			want: fill(func(i []int) float64 { return at(three, i[1], i[2], i[0]) }, 4, 2, 3)},
		{name: "Reshape", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Reshape(x, onnx.Any, 12) }), inputs: []tensor.Tensor{three}, shapes: [][]int{{onnx.Any, 3, 4}},
			want: tensor.Tensor{Shape: []int{2, 12}, Data: three.Data}},
		{name: "ReshapeKeep", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.ReshapeKeep(x, 0, 3, onnx.Any) }), inputs: []tensor.Tensor{x}, shapes: [][]int{open4},
			want: tensor.Tensor{Shape: []int{2, 3, 70}, Data: x.Data}},
		{name: "ReshapeLike", build: binary((*onnx.Graph).ReshapeLike), inputs: []tensor.Tensor{three, random(22, 4, 6)}, shapes: [][]int{{onnx.Any, 3, 4}, {onnx.Any, onnx.Any}},
			want: tensor.Tensor{Shape: []int{4, 6}, Data: three.Data}},
		{name: "Concat", build: binary(func(g *onnx.Graph, a, b onnx.Value) onnx.Value { return g.Concat(1, a, b) }), inputs: []tensor.Tensor{k, q}, shapes: [][]int{{onnx.Any, 3, 8}, {onnx.Any, 5, 8}},
			want: fill(func(i []int) float64 {
				if i[1] < 3 {
					return at(k, i...)
				}
				return at(q, i[0], i[1]-3, i[2])
			}, 2, 8, 8)},
		{name: "Slice", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Slice(x, 1, 2, 5) }), inputs: []tensor.Tensor{x},
			want: fill(func(i []int) float64 { return at(x, i[0], i[1]+2, i[2], i[3]) }, 2, 3, 5, 7)},
		{name: "Unsqueeze", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Unsqueeze(x, 1) }), inputs: []tensor.Tensor{rows},
			want: tensor.Tensor{Shape: []int{5, 1, 8}, Data: rows.Data}},
		{name: "Gather", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return g.Gather(in[0], g.Ints(4, 0, 4)) }, inputs: []tensor.Tensor{rows},
			want: fill(func(i []int) float64 { return at(rows, []int{4, 0, 4}[i[0]], i[1]) }, 3, 8)},
		{name: "Gather of stored halves", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value {
			return g.Add(g.Cast(g.Gather(g.Stored("table", 9, 4), g.Ints(8, 1)), onnx.Float), in[0])
		}, inputs: []tensor.Tensor{tensor.New(1)}, want: fill(func(i []int) float64 { return at(table, []int{8, 1}[i[0]], i[1]) }, 2, 4)},
		{name: "GatherND", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value {
			return g.GatherND(in[0], g.Reshape(g.Ints(2, 0), 2, 1))
		}, inputs: []tensor.Tensor{three}, want: fill(func(i []int) float64 { return at(three, i[0], []int{2, 0}[i[0]], i[1]) }, 2, 4)},
		{name: "Pad", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Pad(x, []int{0, 1, 0}, []int{0, 0, 2}) }), inputs: []tensor.Tensor{three}, shapes: [][]int{{onnx.Any, 3, 4}},
			want: fill(func(i []int) float64 {
				if i[1] < 1 || i[2] >= 4 {
					return 0
				}
				return at(three, i[0], i[1]-1, i[2])
			}, 2, 4, 6)},
		{name: "ResizeNearest to odd sizes", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return g.ResizeNearest(in[0], g.Ints(2, 6, 9, 13)) }, inputs: []tensor.Tensor{x}, shapes: [][]int{open4},
			want: fill(func(i []int) float64 { return at(x, i[0], i[1], i[2]*5/9, i[3]*7/13) }, 2, 6, 9, 13)},
		{name: "ResizeNearest doubles", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value {
			return g.ResizeNearest(in[0], g.Mul(g.ShapeOf(in[0]), g.Ints(1, 1, 2, 2)))
		}, inputs: []tensor.Tensor{x}, shapes: [][]int{open4}, want: fill(func(i []int) float64 { return at(x, i[0], i[1], i[2]/2, i[3]/2) }, 2, 6, 10, 14)},
		{name: "InstanceNorm", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return g.InstanceNorm(in[0], in[1], in[2], 1e-5) }, inputs: []tensor.Tensor{x, w, b},
			want: scaleChannels(normalize(x, 35, 1e-5), w, b, 1)},
		{name: "LayerNorm", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.LayerNorm("norm", x, 1e-5) }), inputs: []tensor.Tensor{random(23, 2, 4, 6)}, shapes: [][]int{{onnx.Any, 4, 6}},
			want: scaleChannels(normalize(random(23, 2, 4, 6), 6, 1e-5), w, b, 2)},
		{name: "GroupNorm", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.GroupNorm("norm", x, 3, 1e-5) }), inputs: []tensor.Tensor{x}, shapes: [][]int{open4},
			want: scaleChannels(normalize(x, 70, 1e-5), w, b, 1)},
		{name: "GroupNorm of one group, large epsilon", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.GroupNorm("norm", x, 1, 0.5) }), inputs: []tensor.Tensor{x},
			want: scaleChannels(normalize(x, 210, 0.5), w, b, 1)},
		{name: "Conv with padding", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Conv("conv", x, 4, 3, 1, 1) }), inputs: []tensor.Tensor{x}, shapes: [][]int{open4},
			want: conv(x, kernel, bias, 1, 1)},
		{name: "Conv with stride", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Conv("conv", x, 4, 3, 2, 1) }), inputs: []tensor.Tensor{x}, want: conv(x, kernel, bias, 2, 1)},
		{name: "Conv with stride, no padding", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Conv("conv", x, 4, 3, 2, 0) }), inputs: []tensor.Tensor{x}, want: conv(x, kernel, bias, 2, 0)},
		{name: "Conv without bias", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.ConvBare("bare", x, 4, 3, 1) }), inputs: []tensor.Tensor{x}, want: conv(x, kernel, tensor.New(4), 1, 0)},
		{name: "Linear", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Linear("f32", x, 3) }), inputs: []tensor.Tensor{rows}, shapes: [][]int{{onnx.Any, 8}}, want: linear(rows, fc, fcBias)},
		{name: "Linear, float16", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Linear("f16", x, 3) }), inputs: []tensor.Tensor{rows}, want: linear(rows, fc, fcBias)},
		{name: "Linear, bfloat16", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.Linear("bf16", x, 3) }), inputs: []tensor.Tensor{rows}, want: linear(rows, fc, fcBias)},
		{name: "Linear without bias", build: unary(func(g *onnx.Graph, x onnx.Value) onnx.Value { return g.LinearBare("nobias", x, 3) }), inputs: []tensor.Tensor{rows}, want: linear(rows, fc, tensor.New(3))},
		{name: "MultiHeadAttention", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return g.MultiHeadAttention(in[0], in[1], in[2], 2) }, inputs: []tensor.Tensor{q, k, v},
			shapes: [][]int{{onnx.Any, onnx.Any, 8}, {onnx.Any, onnx.Any, 8}, {onnx.Any, onnx.Any, 8}}, want: attention(q, k, v, 2)},
		{name: "MultiHeadAttention with one head", build: func(g *onnx.Graph, in ...onnx.Value) onnx.Value { return g.MultiHeadAttention(in[0], in[1], in[2], 1) }, inputs: []tensor.Tensor{q, k, v}, want: attention(q, k, v, 1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := onnx.New(c)
			g.Ignore("")
			var values []onnx.Value
			var feeds []ort.Input
			for i, in := range tc.inputs {
				shape := in.Shape
				if i < len(tc.shapes) {
					shape = tc.shapes[i]
				}
				values = append(values, g.Input(string(rune('a'+i)), onnx.Float, shape...))
				feeds = append(feeds, ort.Floats(in))
			}
			y := tc.build(g, values...)
			g.Output("y", y)
			out, err := open(t, rt, g).Run(context.Background(), feeds...)
			if err != nil {
				t.Fatal(err)
			}
			leaftest.Close(t, tc.name, out[0], tc.want, 1e-6*max(1, largest(tc.want)))
			if len(y.Shape) != len(out[0].Shape) {
				t.Fatalf("the builder infers %v, the runtime gives %v", y.Shape, out[0].Shape)
			}
			for i, d := range y.Shape {
				if d != onnx.Any && d != out[0].Shape[i] {
					t.Errorf("the builder infers %v, the runtime gives %v", y.Shape, out[0].Shape)
				}
			}
		})
	}
}
