package tensor

import "math"

// The float32 logarithm, sine and cosine of torch's AVX2 kernel: the Cephes
// single-precision polynomials, every multiply-add fused where the compiler of
// the official builds fuses it. They differ from correctly rounded functions in
// the last bits, and those bits are part of the noise that a seed stands for.
// Conversions to float32 around products keep Go on arm64 from fusing others.

// log32 is ln x for a normal float32 x > 0; smaller x count as 2⁻¹²⁶.
func log32(x float32) float32 {
	const smallestNormal = 0x1p-126
	b := math.Float32bits(max(x, smallestNormal))
	e := float32(int(b>>23) - 126)                       // x = m·2^e
	m := math.Float32frombits(b&0x007fffff | 0x3f000000) // in [½, 1)
	if m < math.Sqrt2/2 {
		e--
		m += m
	}
	m-- // x = (1+m)·2^e
	y := float32(7.0376836292e-2)
	y = fma32(y, m, -1.1514610310e-1)
	y = fma32(y, m, 1.1676998740e-1)
	y = fma32(y, m, -1.2420140846e-1)
	y = fma32(y, m, 1.4249322787e-1)
	y = fma32(y, m, -1.6668057665e-1)
	y = fma32(y, m, 2.0000714765e-1)
	y = fma32(y, m, -2.4999993993e-1)
	y = fma32(y, m, 3.3333331174e-1)
	y *= m

	// ln 2 is split in two: 0.693359375 − 2.12194440e-4.
	z := float32(m * m)
	y = fma32(y, z, float32(e*-2.12194440e-4))
	y = fma32(-z, 0.5, y)
	return fma32(e, 0.693359375, m+y)
}

// sincos32 is sin x and cos x for 0 ≤ x ≤ 8192.
func sincos32(x float32) (sin, cos float32) {
	octant := (uint32(float32(x*(4/math.Pi))) + 1) &^ 1 // x is within π/4 of octant·π/4
	y := float32(octant)
	x = fma32(y, -0.78515625, x) // π/4 in three parts
	x = fma32(y, -2.4187564849853515625e-4, x)
	x = fma32(y, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := fma32(2.443315711809948e-5, z, -1.388731625493765e-3)
	c = fma32(c, z, 4.166664568298827e-2)
	c = fma32(float32(c*z), z, float32(-0.5*z)) + 1

	s := fma32(-1.9515295891e-4, z, 8.3321608736e-3)
	s = fma32(s, z, -1.6666654611e-1)
	s = fma32(float32(s*z), x, x)

	switch octant & 6 {
	case 2:
		return c, -s
	case 4:
		return -s, -c
	case 6:
		return -c, s
	}
	return s, c
}

// fma32 is a·b + c rounded once to float32, for finite values. The product is
// exact in float64, so only the sum rounds, and rounding that again to float32
// is harmless unless it landed on a tie.
func fma32(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	if math.Float64bits(s)<<36 == 0 {
		return fma32Tie(a, b, c)
	}
	return float32(s)
}

// fma32Tie is fma32 where the float64 sum may lie on a tie of float32 that
// a·b + c itself misses: the sum is moved off it, towards a·b + c (rounding to
// odd; Boldo and Melquiond 2008).
func fma32Tie(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	back := float64(s - p)
	lost := float64(p-float64(s-back)) + float64(q-back) // p+q = s+lost exactly (Knuth's TwoSum)
	if lost != 0 {
		s = math.Nextafter(s, math.Inf(int(math.Copysign(1, lost))))
	}
	return float32(s)
}

// half rounds x, |x| < 65520, to the nearest float16, ties to even.
func half(x float32) float32 {
	if -0x1p-14 < x && x < 0x1p-14 { // subnormal: a multiple of 2⁻²⁴, the unit in the last place of ½
		return float32(x+0.5) - 0.5
	}
	b := math.Float32bits(x)
	b += 0xfff + b>>13&1
	return math.Float32frombits(b &^ 0x1fff)
}
