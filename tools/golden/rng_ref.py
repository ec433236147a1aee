"""Two random generators, written out in plain Python/numpy so that they can be ported.

1. TorchCPU: what torch.Generator("cpu").manual_seed(seed) + torch.randn() computes.
   * Engine: MT19937, state initialised with init_genrand(seed & 0xffffffff)  (only the low 32 bits count!).
   * n < 16 (scalar path): float64 Box-Muller, one value at a time, for every float dtype.
       u1 = 53-bit uniform, u2 = 53-bit uniform  (random64() = first draw << 32 | second draw; & (2^53-1); * 2^-53)
       r = sqrt(-2*log1p(-u2)); theta = 2*pi*u1; returns r*cos(theta); r*sin(theta) is CACHED in the generator and is
       returned by the next scalar-path call, even if calls with n >= 16 come in between (these neither use nor
       clear the cache). manual_seed clears it.
   * n >= 16 and contiguous (block path), float32: fill all n values with 24-bit uniforms ((draw & 0xffffff) * 2^-24, one
       32-bit draw each); then for every full block of 16 at i = 0, 16, ... <= n-16, for j in 0..7:
         u1 = 1 - x[j]; u2 = x[j+8]; radius = sqrt(-2*ln u1); theta = 2*pi*u2; x[j] = radius*cos(theta); x[j+8] = radius*sin(theta)
       If n % 16 != 0: the LAST 16 values x[n-16:n] are filled with 16 new uniforms and transformed again, so that
       values already produced by the last full block are overwritten. Draws consumed: n + (16 if n % 16 else 0).
   * On x86 with AVX2 (any current machine; AVX-512 machines run the AVX2 kernel too) float32 uses Cephes polynomials in
       float32 with FMA contraction: log256_ps / sincos256_ps. `Exact` below reproduces them bit by bit. Without AVX2
       (ATEN_CPU_CAPABILITY=default, ARM) libm float functions are used: equal within about 1e-6.
   * float16/bfloat16 n >= 16: the uniforms are drawn in that dtype: float16 (draw & 0x7ff) * 2^-11, bfloat16
       (draw & 0xff) * 2^-8; every operation is rounded to it. So float16 noise is NOT rounded float32 noise.
   * float64 n >= 16: 53-bit uniforms (two draws each), libm.

2. philox_randn: "NV" source, i.e. what CUDA's torch.randn gives for small tensors, in numpy.
"""

import math

import numpy as np

f32 = np.float32


class MT19937:
    def __init__(self, seed):
        s = np.zeros(624, dtype=np.uint64)
        x = int(seed) & 0xFFFFFFFF
        s[0] = x
        for i in range(1, 624):
            x = (1812433253 * (x ^ (x >> 30)) + i) & 0xFFFFFFFF
            s[i] = x
        self.s = [int(v) for v in s]
        self.i = 624

    def _twist(self):
        s = self.s
        for k in range(624):
            y = (s[k] & 0x80000000) | (s[(k + 1) % 624] & 0x7FFFFFFF)
            s[k] = s[(k + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
        self.i = 0

    def u32(self):
        if self.i >= 624:
            self._twist()
        y = self.s[self.i]
        self.i += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        return (y ^ (y >> 18)) & 0xFFFFFFFF

    def u64(self):
        hi = self.u32()
        return (hi << 32) | self.u32()


def fma32(a, b, c):
    """float32 fma. a*b is exact in float64; the sum is rounded to odd in float64 before rounding to float32 (correct fma)."""
    p = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.asarray(c, np.float64)
    s = p + c
    bb = s - p
    err = (p - (s - bb)) + (c - bb)  # TwoSum: s + err is exact
    i = s.view(np.int64) if isinstance(s, np.ndarray) and s.ndim else np.atleast_1d(s).view(np.int64)
    e = np.atleast_1d(err)
    sv = np.atleast_1d(s).copy()
    fix = (e != 0) & ((i & 1) == 0)
    toward = np.where((e > 0), np.inf, -np.inf)
    sv[fix] = np.nextafter(sv[fix], toward[fix])  # round to odd
    return sv.astype(f32).reshape(np.shape(s))


class Exact:
    """log256_ps and sincos256_ps (Cephes single precision, as in avx_mathfun), with the FMAs GCC makes of them."""

    @staticmethod
    def log(x):
        x = np.maximum(np.asarray(x, f32), np.array(0x00800000, np.uint32).view(f32))
        b = x.view(np.uint32)
        e = ((b >> np.uint32(23)).astype(np.int32) - 127).astype(f32) + f32(1)
        m = ((b & np.uint32(0x807FFFFF)) | np.uint32(0x3F000000)).view(f32)  # [0.5, 1)
        small = m < f32(0.707106781186547524)
        tmp = np.where(small, m, f32(0))
        m = m - f32(1)
        e = e - np.where(small, f32(1), f32(0))
        m = m + tmp
        z = m * m
        y = np.full_like(m, f32(7.0376836292e-2))
        for c in (
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ):
            y = fma32(y, m, np.full_like(m, f32(c)))
        y = y * m
        y = Exact.tail(y, z, e)
        m = m + y
        return fma32(e, np.full_like(m, f32(0.693359375)), m)

    @staticmethod
    def tail(y, z, e):
        # y = y*z; y = y + e*q1; y = y - z*0.5   -> fma(y, z, e*q1), then fnma(z, 0.5, y)
        y = fma32(y, z, e * f32(-2.12194440e-4))
        return fma32(-z, np.full_like(z, f32(0.5)), y)

    @staticmethod
    def sincos(x):
        x = np.asarray(x, f32)
        sign_sin = x.view(np.uint32) & np.uint32(0x80000000)
        x = np.abs(x)
        y = x * f32(1.27323954473516)
        j = y.astype(np.int32)
        j = (j + 1) & ~1
        y = j.astype(f32)
        sign_sin = sign_sin ^ ((j & 4).astype(np.uint32) << np.uint32(29))
        poly = (j & 2) == 0
        sign_cos = ((~(j - 2)) & 4).astype(np.uint32) << np.uint32(29)
        for c in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8):
            x = fma32(y, np.full_like(x, f32(c)), x)
        z = x * x
        yc = fma32(np.full_like(z, f32(2.443315711809948e-5)), z, np.full_like(z, f32(-1.388731625493765e-3)))
        yc = fma32(yc, z, np.full_like(z, f32(4.166664568298827e-2)))
        yc = yc * z
        yc = fma32(yc, z, -(z * f32(0.5)))
        yc = yc + f32(1)
        ys = fma32(np.full_like(z, f32(-1.9515295891e-4)), z, np.full_like(z, f32(8.3321608736e-3)))
        ys = fma32(ys, z, np.full_like(z, f32(-1.6666654611e-1)))
        ys = ys * z
        ys = fma32(ys, x, x)
        s = np.where(poly, ys, yc)
        c = np.where(poly, yc, ys)
        return (s.view(np.uint32) ^ sign_sin).view(f32), (c.view(np.uint32) ^ sign_cos).view(f32)


class TorchCPU:
    def __init__(self, seed):
        self.mt = MT19937(seed)
        self.cache = None

    def _scalar(self):
        if self.cache is not None:
            v, self.cache = self.cache, None
            return v
        m = (1 << 53) - 1
        u1 = (self.mt.u64() & m) * 2.0**-53
        u2 = (self.mt.u64() & m) * 2.0**-53
        r = math.sqrt(-2.0 * math.log1p(-u2))
        t = 2.0 * math.pi * u1
        self.cache = r * math.sin(t)
        return r * math.cos(t)

    def randn(self, n, dtype="float32", exact=True):
        if n < 16:
            v = np.array([self._scalar() for _ in range(n)], np.float64)
            if dtype == "bfloat16":
                raise NotImplementedError
            return v.astype(dtype)
        if dtype == "float32":
            u = lambda k: np.array([self.mt.u32() & 0xFFFFFF for _ in range(k)], np.uint32).astype(f32) * f32(2.0**-24)
            fill = self._fill32 if exact else self._fill32_libm
        elif dtype == "float16":
            u = lambda k: (np.array([self.mt.u32() & 0x7FF for _ in range(k)], np.float64) * 2.0**-11).astype(
                np.float16
            )
            fill = self._fill16
        elif dtype == "float64":
            u = lambda k: np.array([(self.mt.u64() & ((1 << 53) - 1)) * 2.0**-53 for _ in range(k)], np.float64)
            fill = self._fill64
        else:
            raise NotImplementedError
        x = u(n)
        b = x[: n // 16 * 16].reshape(-1, 16)
        x[: n // 16 * 16] = fill(b).reshape(-1)
        if n % 16:
            x[n - 16 :] = fill(u(16).reshape(1, 16)).reshape(-1)
        return x

    @staticmethod
    def _fill32(b):
        u1 = f32(1) - b[:, :8]
        radius = np.sqrt(f32(-2) * Exact.log(u1))
        s, c = Exact.sincos(f32(2.0 * math.pi) * b[:, 8:])
        return np.concatenate([radius * c, radius * s], 1)

    @staticmethod
    def _fill32_libm(b):
        u1 = (f32(1) - b[:, :8]).astype(np.float64)
        radius = np.sqrt(-2 * np.log(u1))
        t = (f32(2.0 * math.pi) * b[:, 8:]).astype(np.float64)
        return np.concatenate([radius * np.cos(t), radius * np.sin(t)], 1).astype(f32)

    @staticmethod
    def _fill16(b):
        h = lambda v: v.astype(np.float16) + np.float16(0)  # "* std + mean" turns -0 into +0
        w = lambda v: v.astype(f32)
        u1 = h(f32(1) - w(b[:, :8]))
        radius = h(np.sqrt(w(h(f32(-2) * w(h(np.log(w(u1))))))))
        t = h(f32(2.0 * math.pi) * w(b[:, 8:]))
        c = h(np.cos(w(t)))
        s = h(np.sin(w(t)))
        # each product and the final "* std + mean" are rounded to float16
        return np.concatenate([h(w(radius) * w(c)), h(w(radius) * w(s))], 1)

    @staticmethod
    def _fill64(b):
        u1 = 1 - b[:, :8]
        radius = np.sqrt(-2 * np.log(u1))
        t = 2.0 * math.pi * b[:, 8:]
        return np.concatenate([radius * np.cos(t), radius * np.sin(t)], 1)


def philox4x32_10(counter, key):
    """counter: 4 arrays/ints, key: 2 ints (uint32 words, low word first). Salmon et al. 2011."""
    c = [np.asarray(v, np.uint64) for v in counter]
    k0, k1 = int(key[0]), int(key[1])
    M0, M1, W0, W1, mask = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, np.uint64(0xFFFFFFFF)
    for r in range(10):
        p0 = c[0] * np.uint64(M0)
        p1 = c[2] * np.uint64(M1)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            p1 & mask,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            p0 & mask,
        ]
        k0 = (k0 + W0) & 0xFFFFFFFF
        k1 = (k1 + W1) & 0xFFFFFFFF
    return [v.astype(np.uint32) for v in c]


class PhiloxNV:
    """Value i of the k-th randn call: counter = (k, 0, i, 0), key = (seed low, seed high), and of the four output
    words the first two feed cuRAND's Box-Muller, of which the SINE half is kept:
        u = x * 2^-32 + 2^-33 ; v = y * (2^-32 * 2pi) + (2^-33 * 2pi) ; z = sqrt(-2 ln u) * sin v
    (constants as float32; arithmetic in float64 here like the numpy emulations; a GPU uses float32 and __sincosf)."""

    def __init__(self, seed):
        self.seed, self.offset = int(seed), 0

    def words(self, n):
        i = np.arange(n, dtype=np.uint64)
        z = np.zeros(n, np.uint64)
        w = philox4x32_10(
            [
                z + np.uint64(self.offset & 0xFFFFFFFF),
                z + np.uint64(self.offset >> 32),
                i & np.uint64(0xFFFFFFFF),
                i >> np.uint64(32),
            ],
            (self.seed & 0xFFFFFFFF, (self.seed >> 32) & 0xFFFFFFFF),
        )
        self.offset += 1
        return w

    def randn(self, n):
        w = self.words(n)
        inv = np.float64(f32(2.3283064e-10))
        inv2pi = np.float64(f32(2.3283064e-10 * 6.2831855))
        u = w[0].astype(np.float64) * inv + inv / 2
        v = w[1].astype(np.float64) * inv2pi + inv2pi / 2
        return (np.sqrt(-2.0 * np.log(u)) * np.sin(v)).astype(f32)
