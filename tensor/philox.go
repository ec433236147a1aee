package tensor

import (
	"math"
	"math/bits"
)

// philox draws as torch's CUDA generator does for tensors small enough that
// every thread makes one value (at least up to 4·64·64 on current cards), in
// float64: web UIs call it "NV". A card computes in float32 with a fast sine,
// so its own values differ by about 1e-6.
type philox struct {
	seed  uint64
	calls uint64 // of Randn so far
}

// Randn makes value i of draw k from counter (k, i): cuRAND's Box–Muller, of
// which the sine half is kept.
func (p *philox) Randn(shape ...int) Tensor {
	const (
		unit  = float64(float32(0x1p-32))
		angle = float64(float32(0x1p-32 * 2 * math.Pi))
	)
	out := New(shape...)
	for i := range out.Data {
		w := philox4x32([4]uint32{uint32(p.calls), uint32(p.calls >> 32), uint32(i), uint32(uint64(i) >> 32)}, p.seed)
		u := float64(float64(w[0])*unit) + unit/2
		v := float64(float64(w[1])*angle) + angle/2
		out.Data[i] = float32(math.Sqrt(-2*math.Log(u)) * math.Sin(v))
	}
	p.calls++
	return out
}

// philox4x32 is Philox4x32-10 of Salmon et al. 2011; the key's low word comes first.
func philox4x32(c [4]uint32, key uint64) [4]uint32 {
	k0, k1 := uint32(key), uint32(key>>32)
	for range 10 {
		hi0, lo0 := bits.Mul32(c[0], 0xd2511f53)
		hi1, lo1 := bits.Mul32(c[2], 0xcd9e8d57)
		c = [4]uint32{hi1 ^ c[1] ^ k0, lo1, hi0 ^ c[3] ^ k1, lo0}
		k0 += 0x9e3779b9
		k1 += 0xbb67ae85
	}
	return c
}
