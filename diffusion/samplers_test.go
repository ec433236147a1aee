package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/tensor"
)

// For data from N(0, dataVar) the best denoiser is known, and so is the path of
// the probability-flow ODE: x/√(dataVar+σ²) stays.
const dataVar = 0.25

func gaussian(_ context.Context, x tensor.Tensor, sigma float64) (tensor.Tensor, error) {
	return tensor.Scale(dataVar/(dataVar+sigma*sigma), x), nil
}

// onKarras is a schedule of n steps from σ = hi to lo that no class has.
func onKarras(lo, hi float64, n int, set func(*Config)) *Schedule {
	s := &Schedule{Config: classDefaults(set)}
	s.set(make([]float64, n), karras(lo, hi, n+1))
	return s
}

// TestOrder: halving the step must halve a first-order sampler's error and
// quarter a second-order one's. PLMS is of order 2 whatever its weights: they are
// those of equal steps, and σ's are not. The 3M solver starts with steps of order 1 and 2,
// whose error stays.
func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		walk  sampler
		set   func(*Config)
		order float64
	}{
		{"ddim", ddim, func(*Config) {}, 1},
		{"euler", euler, func(*Config) {}, 1},
		{"heun", heun, func(*Config) {}, 2},
		{"dpmpp_1m", dpmMultistep, func(c *Config) { c.SolverOrder = 1 }, 1},
		{"dpmpp_2m", dpmMultistep, func(*Config) {}, 2},
		{"dpmpp_2m heun", dpmMultistep, func(c *Config) { c.SolverType = "heun" }, 2},
		{"dpmpp_3m", dpmMultistep, func(c *Config) { c.SolverOrder = 3 }, 2.4},
		{"dpm_2m", dpmMultistep, func(c *Config) { c.AlgorithmType = "dpmsolver" }, 2},
		{"plms", plms, func(*Config) {}, 2},
		{"plms on v", plms, func(c *Config) { c.PredictionType = "v_prediction" }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const lo, hi = 0.1, 10.0
			errAt := func(n int) float64 {
				s := onKarras(lo, hi, n, func(c *Config) { c.FinalSigmasType = "sigma_min"; tc.set(c) })
				x, err := tc.walk(context.Background(), s, gaussian, latentOf(slices.Repeat([]float32{10}, 8)), Options{})
				if err != nil {
					t.Fatal(err)
				}
				return math.Abs(float64(x.Data[0]) - hi*math.Sqrt((dataVar+lo*lo)/(dataVar+hi*hi)))
			}
			coarse, fine := errAt(20), errAt(40)
			got := math.Log2(coarse / fine)
			t.Logf("error %.2g at 20 steps, %.2g at 40: order %.2f", coarse, fine, got)
			if math.Abs(got-tc.order) > 0.35 {
				t.Errorf("order %.2f, want about %v", got, tc.order)
			}
		})
	}
}

// TestStochasticVariance: samplers that add noise must land on the data's
// distribution, not only on its mean.
func TestStochasticVariance(t *testing.T) {
	for _, tc := range []struct {
		name string
		walk sampler
		eta  float64
		set  func(*Config)
	}{
		{"ddim eta 0.5", ddim, 0.5, func(*Config) {}},
		{"ddim eta 1", ddim, 1, func(*Config) {}},
		{"euler_a", eulerAncestral, 0, func(*Config) {}},
		{"dpmpp_2m_sde", dpmMultistep, 0, func(c *Config) { c.AlgorithmType = "sde-dpmsolver++" }},
		{"dpmpp_2m_sde heun", dpmMultistep, 0, func(c *Config) { c.AlgorithmType, c.SolverType = "sde-dpmsolver++", "heun" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const lo, hi, n = 0.02, 10.0, 10000
			noise := seeded(7)
			s := onKarras(lo, hi, 240, tc.set)
			x := tensor.Scale(math.Sqrt(dataVar+hi*hi), noise(1, 1, 1, n))
			x, err := tc.walk(context.Background(), s, gaussian, x, Options{Eta: tc.eta, Noise: noise})
			if err != nil {
				t.Fatal(err)
			}
			got := deviation(x.Data) * deviation(x.Data)
			if want := dataVar + lo*lo; math.Abs(got/want-1) > 0.06 {
				t.Errorf("variance %.4f, want %.4f", got, want)
			}
		})
	}
}

// seeded gives unit noise that is the same in every run.
func seeded(seed uint64) func(shape ...int) tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(shape ...int) tensor.Tensor {
		out := tensor.New(shape...)
		for i := range out.Data {
			out.Data[i] = float32(r.NormFloat64())
		}
		return out
	}
}

// schedule makes one over SD 1.5's configuration.
func schedule(t testing.TB, name string, steps int) *Schedule {
	t.Helper()
	c, err := ParseConfig(name, sd15, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSchedule(name, c, steps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBatchEqualsAlone: items of a batch do not know of each other.
func TestBatchEqualsAlone(t *testing.T) {
	model := func(_ context.Context, x tensor.Tensor, at float64) (tensor.Tensor, error) {
		return synthetic(x, at), nil
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			s := schedule(t, name, 6)
			s.Config.Thresholding = true // per item too
			noise, step := seeded(3)(3, 4, 2, 2), seeded(4)(3, 4, 2, 2)
			sample := func(noise, step tensor.Tensor) tensor.Tensor {
				x, err := Sample(context.Background(), s, model, noise, Options{Eta: 0.5, Noise: func(...int) tensor.Tensor { return step }})
				if err != nil {
					t.Fatal(err)
				}
				return x
			}
			batch := sample(noise, step)
			for i := range 3 {
				if d := tensor.MaxAbsDiff(batch.Row(i), sample(noise.Row(i), step.Row(i))); d != 0 {
					t.Errorf("item %d is off by %g", i, d)
				}
			}
		})
	}
}

func TestSampleErrors(t *testing.T) {
	broken := errors.New("device lost")
	failAt := func(call int, err error, value float32) Model {
		return func(_ context.Context, x tensor.Tensor, at float64) (tensor.Tensor, error) {
			out := synthetic(x, at)
			if call--; call == 0 {
				out.Data[1] = value
				return out, err
			}
			return out, nil
		}
	}
	for _, name := range Names() {
		for _, tc := range []struct {
			name  string
			model Model
			cause error
			kind  leafserve.Kind
			text  string
		}{
			{"network fails", failAt(2, broken, 0), broken, leafserve.Internal, "of 4: device lost"},
			{"NaN", failAt(2, nil, float32(math.NaN())), nil, leafserve.Invalid, "of 4: the latent is no longer finite"},
			{"infinite", failAt(2, nil, float32(math.Inf(1))), nil, leafserve.Invalid, "of 4: the latent is no longer finite"},
			{"canceled", failAt(1, context.Canceled, 0), context.Canceled, leafserve.Canceled, "step 1 of 4"},
			{"wrong shape", func(context.Context, tensor.Tensor, float64) (tensor.Tensor, error) {
				return tensor.New(1, 4, 1, 1), nil
			}, nil, leafserve.Internal, "step 1 of 4: network output has shape [1 4 1 1]"},
		} {
			t.Run(name+" "+tc.name, func(t *testing.T) {
				s := schedule(t, name, 4)
				_, err := Sample(context.Background(), s, tc.model, seeded(1)(1, 4, 2, 2), Options{Noise: seeded(2)})
				if err == nil || !strings.HasPrefix(err.Error(), name+" step ") || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("Sample error = %v, want %s step … %s", err, name, tc.text)
				}
				if tc.cause != nil && !errors.Is(err, tc.cause) {
					t.Errorf("Sample error = %v, does not wrap %v", err, tc.cause)
				}
				if got := leafserve.KindOf(err); got != tc.kind {
					t.Errorf("KindOf(%v) = %v, want %v", err, got, tc.kind)
				}
			})
		}
	}
	if _, err := Sample(context.Background(), schedule(t, "euler", 4), failAt(9, nil, 0), tensor.New(4, 2, 2), Options{}); err == nil {
		t.Error("Sample takes noise of three axes")
	}
}

// TestHeunClips: with both of a step's estimates clipped to 1, the path towards
// 1 is straight.
func TestHeunClips(t *testing.T) {
	c, err := ParseConfig("heun", sd15, map[string]any{"prediction_type": "sample", "clip_sample": true, "timestep_spacing": "trailing"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSchedule("heun", c, 2)
	if err != nil {
		t.Fatal(err)
	}
	var inputs []float64
	model := func(_ context.Context, x tensor.Tensor, _ float64) (tensor.Tensor, error) {
		inputs = append(inputs, float64(x.Data[0]))
		return tensor.Tensor{Shape: x.Shape, Data: []float32{10}}, nil
	}
	if _, err := Sample(context.Background(), s, model, tensor.Tensor{Shape: []int{1, 1, 1, 1}, Data: []float32{1}}, Options{}); err != nil {
		t.Fatal(err)
	}
	from, to := s.Sigmas[0], s.Sigmas[1]
	want := (1 + (from-1)*to/from) / math.Hypot(1, to)
	if len(inputs) != 3 || math.Abs(inputs[2]-want) > 1e-6 {
		t.Errorf("network inputs %v, want 3, the last %v", inputs, want)
	}
}

// TestPLMSUneven pins the last latent where T/steps is not the distance of the
// timesteps, so that steps end at other levels than the next start at. The
// numbers are those of diffusers 0.39.0's PNDMScheduler code in float32.
func TestPLMSUneven(t *testing.T) {
	for _, tc := range []struct {
		spacing, prediction string
		steps               int
		toOne               bool
		want                []float32
	}{
		{"linspace", "epsilon", 7, false, []float32{2.4390032, -0.9048159}},
		{"linspace", "v_prediction", 7, true, []float32{0.3739204, -0.2039307}},
		{"linspace", "v_prediction", 2, true, []float32{0.1373725, -0.0551687}},
		{"trailing", "v_prediction", 7, false, []float32{0.3280207, -0.1302311}},
		{"trailing", "epsilon", 30, false, []float32{3.5620217, -0.8565130}},
	} {
		t.Run(fmt.Sprint(tc.spacing, " ", tc.prediction, " ", tc.steps), func(t *testing.T) {
			c, err := ParseConfig("pndm", sd15, map[string]any{
				"timestep_spacing": tc.spacing, "prediction_type": tc.prediction, "set_alpha_to_one": tc.toOne})
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSchedule("pndm", c, tc.steps)
			if err != nil {
				t.Fatal(err)
			}
			model := func(_ context.Context, x tensor.Tensor, at float64) (tensor.Tensor, error) {
				return synthetic(x, at), nil
			}
			got, err := Sample(context.Background(), s, model, tensor.Tensor{Shape: []int{1, 1, 2, 1}, Data: []float32{1, -0.5}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d := tensor.MaxAbsDiff(got, tensor.Tensor{Shape: got.Shape, Data: tc.want}); d > 2e-5 {
				t.Errorf("last latent %v, want %v", got.Data, tc.want)
			}
		})
	}
}

func TestDPMOrder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		c     Config
		steps int
		want  []int // of the first three and the last three steps
	}{
		{"2, few steps, to zero", Config{SolverOrder: 2, LowerOrderFinal: true, FinalSigmasType: "zero"}, 14, []int{1, 2, 2, 2, 2, 1}},
		{"2, few steps", Config{SolverOrder: 2, LowerOrderFinal: true, FinalSigmasType: "sigma_min"}, 14, []int{1, 2, 2, 2, 2, 1}},
		{"2, many steps", Config{SolverOrder: 2, LowerOrderFinal: true, FinalSigmasType: "sigma_min"}, 15, []int{1, 2, 2, 2, 2, 2}},
		{"2, many steps, Euler at the end", Config{SolverOrder: 2, EulerAtFinal: true, FinalSigmasType: "sigma_min"}, 15, []int{1, 2, 2, 2, 2, 1}},
		{"3, few steps", Config{SolverOrder: 3, LowerOrderFinal: true, FinalSigmasType: "zero"}, 14, []int{1, 2, 3, 3, 2, 1}},
		{"3, many steps, to zero", Config{SolverOrder: 3, LowerOrderFinal: true, FinalSigmasType: "zero"}, 15, []int{1, 2, 3, 3, 3, 1}},
		{"3, never lower", Config{SolverOrder: 3, FinalSigmasType: "sigma_min"}, 14, []int{1, 2, 3, 3, 3, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &Schedule{Config: tc.c, Timesteps: make([]float64, tc.steps)}
			var got []int
			for _, i := range []int{0, 1, 2, tc.steps - 3, tc.steps - 2, tc.steps - 1} {
				got = append(got, s.dpmOrder(i))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("orders %v, want %v", got, tc.want)
			}
		})
	}
}

// TestSampleKeepsNoise: callers use the same noise for several runs.
func TestSampleKeepsNoise(t *testing.T) {
	model := func(_ context.Context, x tensor.Tensor, at float64) (tensor.Tensor, error) {
		return synthetic(x, at), nil
	}
	for _, name := range Names() {
		noise := seeded(5)(1, 4, 2, 2)
		before := noise.Clone()
		if _, err := Sample(context.Background(), schedule(t, name, 3), model, noise, Options{Noise: seeded(6)}); err != nil {
			t.Fatal(err)
		}
		if tensor.MaxAbsDiff(noise, before) != 0 {
			t.Errorf("%s writes to its noise", name)
		}
	}
}

// BenchmarkSample is the cost of everything but the network: 20 steps on a
// latent of a 512-pixel picture.
func BenchmarkSample(b *testing.B) {
	model := func(_ context.Context, x tensor.Tensor, _ float64) (tensor.Tensor, error) { return x, nil }
	noise := seeded(1)(1, 4, 64, 64)
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			s := schedule(b, name, 20)
			for b.Loop() {
				if _, err := Sample(context.Background(), s, model, noise, Options{Noise: func(...int) tensor.Tensor { return noise }}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
