package tensor

import "math"

// block is how many values torch's CPU kernel makes at a time. Draws of fewer
// take another path.
const block = 16

// torchCPU is torch's CPU generator (ATen's CPUGeneratorImpl with the
// normal_fill kernels). Draws of block or more values are made from uniforms of
// the tensor's own precision, 8 Box–Muller pairs a block; smaller ones, one
// value at a time, in float64.
type torchCPU struct {
	mt       *mt19937
	spare    float64 // second value of the last small pair
	hasSpare bool    // kept by large draws
}

func newTorchCPU(seed uint64) *torchCPU { return &torchCPU{mt: newMT19937(uint32(seed))} }

// Randn draws in float32.
func (g *torchCPU) Randn(shape ...int) Tensor {
	out := New(shape...)
	g.fill(out.Data, g.uniform24, pairs)
	return out
}

// torchCPUHalf draws in float16.
type torchCPUHalf struct{ *torchCPU }

// Randn draws in float16.
func (g torchCPUHalf) Randn(shape ...int) Tensor {
	out := New(shape...)
	g.fill(out.Data, g.uniform11, halfPairs)
	for i, v := range out.Data {
		out.Data[i] = half(v)
	}
	return out
}

// fill fills x with uniforms in order and turns each block into normals with
// pairs. Values past the last full block come from a block of new uniforms that
// ends where x ends and replaces what it overlaps.
func (g *torchCPU) fill(x []float32, uniform func() float32, pairs func([]float32)) {
	if len(x) < block {
		for i := range x {
			x[i] = float32(g.normal())
		}
		return
	}
	for i := range x {
		x[i] = uniform()
	}
	for i := 0; i+block <= len(x); i += block {
		pairs(x[i : i+block])
	}
	if len(x)%block != 0 {
		tail := x[len(x)-block:]
		for i := range tail {
			tail[i] = uniform()
		}
		pairs(tail)
	}
}

func (g *torchCPU) uniform24() float32 { return float32(g.mt.uint32()&(1<<24-1)) * 0x1p-24 }

func (g *torchCPU) uniform11() float32 { return float32(g.mt.uint32()&(1<<11-1)) * 0x1p-11 }

// normal draws one value: Box–Muller in float64, the sine kept for the next call.
func (g *torchCPU) normal() float64 {
	if g.hasSpare {
		g.hasSpare = false
		return g.spare
	}
	u1 := float64(g.mt.uint53()) * 0x1p-53
	u2 := float64(g.mt.uint53()) * 0x1p-53
	radius := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.spare, g.hasSpare = radius*sin, true
	return radius * cos
}

// pairs turns a block of uniforms into normals in place, value j with value
// j+8. Adding 0 makes −0 into +0, as torch's "·std + mean" does.
func pairs(x []float32) {
	for j := range x[:block/2] {
		radius := float32(math.Sqrt(float64(-2 * log32(1-x[j]))))
		sin, cos := sincos32(2 * math.Pi * x[j+block/2])
		x[j] = float32(radius*cos) + 0
		x[j+block/2] = float32(radius*sin) + 0
	}
}

// halfPairs is pairs with each operation rounded to float16. Its logarithm,
// sine and cosine are the C library's, good to less than a float16 ulp.
func halfPairs(x []float32) {
	for j := range x[:block/2] {
		log := half(float32(math.Log(float64(1 - x[j]))))
		radius := half(float32(math.Sqrt(float64(half(float32(-2 * log))))))
		sin, cos := math.Sincos(float64(half(float32(2 * math.Pi * x[j+block/2]))))
		x[j] = half(float32(radius*half(float32(cos)))) + 0
		x[j+block/2] = half(float32(radius*half(float32(sin)))) + 0
	}
}
