package tensor

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// draw is one recorded call of randn. Up to 64 values are all in Values,
// otherwise the first and last 64 are kept; SHA256 is of all their bytes.
type draw struct {
	Kind   string
	Seed   uint64 `json:",string"`
	DType  string
	Shape  []int
	Values []float32
	First  []float32
	Last   []float32
	SHA256 string
	Calls  []draw   // of a sequence
	Word0  []uint32 `json:"words_of_value_0"`
}

// golden is what torch 2.8 and diffusers 0.39 computed on a CPU with AVX2.
type golden struct {
	MT19937 []struct {
		Seed   uint64 `json:",string"`
		U32    []uint32
		At1000 uint32 `json:"u32_at_1000"`
	}
	TorchCPU  []draw `json:"torch_cpu"`
	Diffusers []struct {
		Seeds  []string
		AsList bool `json:"as_list"`
		Calls  []draw
	}
	PhiloxKnownAnswers []struct {
		Counter [4]uint32
		Key     [2]uint32
		OutHex  string `json:"out_hex"`
	} `json:"philox_known_answers"`
	Philox []draw
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	f, err := os.Open("testdata/rng.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	return g
}

// checkBits compares got with d to the bit.
func (d draw) checkBits(t *testing.T, got Tensor) {
	t.Helper()
	if err := got.Check("noise", d.Shape...); err != nil {
		t.Fatal(err)
	}
	first, last := d.First, d.Last
	if d.Values != nil {
		first, last = d.Values, nil
	}
	for i, want := range first {
		if got.Data[i] != want {
			t.Fatalf("value %d = %v, want %v", i, got.Data[i], want)
		}
	}
	for i, want := range last {
		if at := len(got.Data) - len(last) + i; got.Data[at] != want {
			t.Fatalf("value %d = %v, want %v", at, got.Data[at], want)
		}
	}
	if sum := hash(got.Data, d.DType); sum != d.SHA256 {
		t.Errorf("SHA-256 of all values = %s, want %s", sum, d.SHA256)
	}
}

// hash is the SHA-256 of the values' little-endian bytes in dtype.
func hash(values []float32, dtype string) string {
	var b []byte
	for _, v := range values {
		if dtype == "float16" {
			b = binary.LittleEndian.AppendUint16(b, halfBits(v))
		} else {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// halfBits encodes a float16 number.
func halfBits(v float32) uint16 {
	b := math.Float32bits(v)
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	if b < 0x38800000 { // below 2⁻¹⁴
		return sign | uint16(math.Abs(float64(v))*0x1p24)
	}
	return sign | uint16(b>>13-0x1c000)
}

func TestMT19937(t *testing.T) {
	cases := readGolden(t).MT19937
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, tc := range cases {
		t.Run(fmt.Sprint(tc.Seed), func(t *testing.T) {
			m := newMT19937(uint32(tc.Seed))
			var got []uint32
			for range 8 + 1000 {
				got = append(got, m.uint32())
			}
			if head := got[:len(tc.U32)]; !slices.Equal(head, tc.U32) {
				t.Errorf("first words = %v, want %v", head, tc.U32)
			}
			if last := got[len(got)-1]; last != tc.At1000 {
				t.Errorf("1000th word after those = %d, want %d", last, tc.At1000)
			}
		})
	}
}

func TestTorchCPUBits(t *testing.T) {
	names := map[string]string{"float32": "torch-cpu", "float16": "torch-cpu-fp16"}
	singles := 0
	for _, tc := range readGolden(t).TorchCPU {
		if tc.Kind != "single" {
			continue
		}
		singles++
		t.Run(fmt.Sprintf("%s_seed_%d_n_%d", tc.DType, tc.Seed, tc.Shape), func(t *testing.T) {
			g, err := NewGenerator(names[tc.DType], tc.Seed)
			if err != nil {
				t.Fatal(err)
			}
			tc.checkBits(t, g.Randn(tc.Shape...))
		})
	}
	if singles != 234 {
		t.Errorf("%d single draws tested, want 234", singles)
	}
}

// The recorded sequences change precision between draws of one generator.
func TestTorchCPUSequences(t *testing.T) {
	sequences := 0
	for _, tc := range readGolden(t).TorchCPU {
		if tc.Kind != "sequence" {
			continue
		}
		sequences++
		t.Run(fmt.Sprintf("%d_seed_%d", sequences, tc.Seed), func(t *testing.T) {
			g := newTorchCPU(tc.Seed)
			for i, call := range tc.Calls {
				t.Logf("call %d: %s %v", i, call.DType, call.Shape)
				switch call.DType {
				case "float32":
					call.checkBits(t, g.Randn(call.Shape...))
				case "float16":
					call.checkBits(t, torchCPUHalf{g}.Randn(call.Shape...))
				default:
					return // float64 is not offered, and nothing follows it
				}
			}
		})
	}
	if sequences != 15 {
		t.Errorf("%d sequences tested, want 15", sequences)
	}
}

func TestDiffusersRandnTensor(t *testing.T) {
	cases := readGolden(t).Diffusers
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, tc := range cases {
		t.Run(fmt.Sprintf("%v_list_%v_%v_%s", tc.Seeds, tc.AsList, tc.Calls[0].Shape, tc.Calls[0].DType), func(t *testing.T) {
			var gens []Generator
			for _, s := range tc.Seeds {
				var seed uint64
				if _, err := fmt.Sscan(s, &seed); err != nil {
					t.Fatal(err)
				}
				g := newTorchCPU(seed)
				if tc.Calls[0].DType == "float16" {
					gens = append(gens, torchCPUHalf{g})
				} else {
					gens = append(gens, g)
				}
			}
			for _, call := range tc.Calls {
				if tc.AsList {
					call.checkBits(t, RandnEach(gens, call.Shape...))
				} else {
					call.checkBits(t, gens[0].Randn(call.Shape...))
				}
			}
		})
	}
}

func TestPhilox4x32KnownAnswers(t *testing.T) {
	cases := readGolden(t).PhiloxKnownAnswers
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, tc := range cases {
		w := philox4x32(tc.Counter, uint64(tc.Key[1])<<32|uint64(tc.Key[0]))
		if got := fmt.Sprintf("%08x%08x%08x%08x", w[0], w[1], w[2], w[3]); got != tc.OutHex {
			t.Errorf("philox4x32(%x, %x) = %s, want %s", tc.Counter, tc.Key, got, tc.OutHex)
		}
	}
}

func TestPhiloxNoise(t *testing.T) {
	const tolerance = 2e-6
	cases := readGolden(t).Philox
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, tc := range cases {
		t.Run(fmt.Sprint(tc.Seed), func(t *testing.T) {
			g, err := NewGenerator("philox", tc.Seed)
			if err != nil {
				t.Fatal(err)
			}
			for i, call := range tc.Calls {
				w := philox4x32([4]uint32{uint32(i)}, tc.Seed)
				if !slices.Equal(w[:], call.Word0) {
					t.Errorf("call %d: words of value 0 = %v, want %v", i, w, call.Word0)
				}
				got := g.Randn(call.Shape...).Data
				want, ends := call.Values, got
				if want == nil {
					want, ends = slices.Concat(call.First, call.Last), slices.Concat(got[:64], got[len(got)-64:])
				}
				d := MaxAbsDiff(Tensor{[]int{len(ends)}, ends}, Tensor{[]int{len(want)}, want})
				if d > tolerance {
					t.Errorf("call %d: off by %g, want at most %g", i, d, tolerance)
				}
			}
		})
	}
}

func TestNewGeneratorUnknownName(t *testing.T) {
	_, err := NewGenerator("cuda", 1)
	if err == nil || !strings.Contains(err.Error(), `"cuda"`) || !strings.Contains(err.Error(), "philox, torch-cpu, torch-cpu-fp16") {
		t.Errorf("NewGenerator(cuda) error = %v, want one that names cuda and what there is", err)
	}
}

func TestRandnEmpty(t *testing.T) {
	for _, name := range Generators() {
		g, err := NewGenerator(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Randn(0, 4); len(got.Data) != 0 {
			t.Errorf("%s: Randn(0, 4) has %d values", name, len(got.Data))
		}
	}
}

// A uniform of 0 makes a radius of −0, which torch's final addition hides.
func TestNoNegativeZero(t *testing.T) {
	for name, pairs := range map[string]func([]float32){"float32": pairs, "float16": halfPairs} {
		x := make([]float32, block)
		x[block/2] = 0.5 // cos π < 0
		pairs(x)
		for i, v := range x {
			if math.Float32bits(v) != 0 {
				t.Errorf("%s: value %d = %v (bits %#x), want +0", name, i, v, math.Float32bits(v))
			}
		}
	}
}

// fma32 is checked against exact arithmetic.
func TestFMA32(t *testing.T) {
	check := func(t *testing.T, a, b, c float32) {
		t.Helper()
		if got, want := fma32(a, b, c), fmaExact(a, b, c); got != want {
			t.Fatalf("fma32(%x, %x, %x) = %x, want %x", a, b, c, got, want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	t.Run("any", func(t *testing.T) {
		for range 100_000 {
			scale := float32(math.Ldexp(1, r.IntN(60)-30))
			check(t, float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())*scale)
		}
	})
	t.Run("near_ties", func(t *testing.T) {
		missed := 0 // by rounding twice
		for k := 1; k < 4000; k += 2 {
			a, b := 1+float32(k)*0x1p-12, float32(1+0x1p-12) // a·b lies half way between two float32
			for _, c := range []float32{0, 0x1p-60, -0x1p-60, 0x1p-52, -0x1p-52} {
				check(t, a, b, c)
				check(t, -a, b, c)
				if float32(float64(a)*float64(b)+float64(c)) != fmaExact(a, b, c) {
					missed++
				}
			}
		}
		if missed == 0 {
			t.Error("rounding twice is never wrong here: the cases do not test what they should")
		}
	})
}

func fmaExact(a, b, c float32) float32 {
	exact := func(v float32) *big.Float { return new(big.Float).SetPrec(400).SetFloat64(float64(v)) }
	p := new(big.Float).SetPrec(400).Mul(exact(a), exact(b))
	f, _ := p.Add(p, exact(c)).Float32()
	return f
}

func BenchmarkRandn(b *testing.B) {
	for _, name := range Generators() {
		b.Run(name, func(b *testing.B) {
			g, err := NewGenerator(name, 1)
			if err != nil {
				b.Fatal(err)
			}
			var n int
			for b.Loop() {
				n += len(g.Randn(1, 4, 64, 64).Data)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/value")
		})
	}
}
