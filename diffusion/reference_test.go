package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"leafserve/tensor"
)

// classes says how many recorded runs of each class are served and how many are
// not: image-to-image, Euler's s_churn, which pipelines cannot set, and PNDM's
// Runge-Kutta start, which is refused.
var classes = []struct {
	name          string
	runs, skipped int
}{
	{"DDIMScheduler", 23, 6},
	{"EulerDiscreteScheduler", 22, 8},
	{"EulerAncestralDiscreteScheduler", 14, 6},
	{"HeunDiscreteScheduler", 14, 7},
	{"DPMSolverMultistepScheduler", 41, 8},
	{"LCMScheduler", 10, 4},
	{"PNDMScheduler", 10, 6},
}

func TestReference(t *testing.T) {
	for _, class := range classes {
		t.Run(class.name, func(t *testing.T) {
			runs, skipped := 0, 0
			for i, r := range readRuns(t, class.name) {
				if r.Strength != nil || r.StepKwargs["s_churn"] != 0 || r.Label == "prk" {
					skipped++
					continue
				}
				runs++
				t.Run(fmt.Sprintf("%d-%s-%s-%d", i, r.Base, r.Label, r.Steps), func(t *testing.T) { checkRun(t, r) })
			}
			if runs != class.runs || skipped != class.skipped {
				t.Errorf("%d runs checked and %d skipped, want %d and %d", runs, skipped, class.runs, class.skipped)
			}
			t.Logf("%s: %d runs checked, %d skipped (image-to-image, s_churn, prk)", class.name, runs, skipped)
		})
	}
}

// checkRun compares schedule, single steps and whole trajectory with r.
func checkRun(t *testing.T, r refRun) {
	if n := r.SetKwargs["original_inference_steps"]; n != 0 {
		r.Config["original_inference_steps"] = n
	}
	c, err := ParseConfig(r.Class, r.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSchedule(r.Class, c, r.Steps)
	if err != nil {
		t.Fatal(err)
	}
	checkTable(t, s, r)
	if d := tensor.MaxAbsDiff(s.Start(latentOf(r.Noise)), latentOf(r.Start)); d > 2e-6*max(1, maxAbs(r.Start)) {
		t.Errorf("Start is off by %g", d)
	}
	last := r.Trajectory[len(r.Trajectory)-1].X
	stepped := play(t, s, r, true)
	if d := tensor.MaxAbsDiff(stepped, latentOf(last)); !(d <= r.stepTolerance(last)) {
		t.Errorf("with the recorded outputs the last latent is off by %g", d)
	}
	free := play(t, s, r, false)
	if d := tensor.MaxAbsDiff(free, latentOf(last)); !(d <= 1e-4*max(1, maxAbs(last))) {
		t.Errorf("the whole trajectory is off by %g", d)
	}
}

// stepTolerance is 1e-5 of the latent, and what the recorded run itself lost when
// it subtracted float32 numbers as large as its start (4096 where the terminal
// signal-to-noise ratio is zero, else too small to matter).
func (r refRun) stepTolerance(x []float32) float64 {
	return 1e-5*max(1, maxAbs(x)) + maxAbs(r.Start)/(1<<24)
}

func checkTable(t *testing.T, s *Schedule, r refRun) {
	table := s.Table()
	if len(table.Timesteps) != len(r.Timesteps) || len(table.Sigmas) != len(r.Sigmas) {
		t.Fatalf("%d timesteps and %d sigmas, want %d and %d", len(table.Timesteps), len(table.Sigmas), len(r.Timesteps), len(r.Sigmas))
	}
	for i, want := range r.Timesteps {
		tol := 0.0
		if want != math.Trunc(want) {
			tol = 1e-4
		}
		if got := float64(table.Timesteps[i]); math.Abs(got-want) > tol {
			t.Errorf("timestep %d = %v, want %v", i, got, want)
		}
	}
	for i, want := range r.Sigmas {
		if got := float64(table.Sigmas[i]); math.Abs(got-want) > 2e-6*want {
			t.Errorf("sigma %d = %v, want %v (%.1e relative)", i, got, want, math.Abs(got/want-1))
		}
	}
	if got, want := s.InitNoiseSigma, r.InitNoiseSigma; math.Abs(got-want) > 2e-6*want {
		t.Errorf("InitNoiseSigma = %v, want %v", got, want)
	}
}

// play samples over r's noise. With recorded, the network answers r's outputs
// and each input is compared with r's, which proves every single step; without,
// it is the synthetic network. Draws must come in the calls in which diffusers
// draws, steps be reported once each.
func play(t *testing.T, s *Schedule, r refRun, recorded bool) tensor.Tensor {
	t.Helper()
	calls, draws, steps := 0, 0, 0
	before := r.Start
	model := func(_ context.Context, x tensor.Tensor, at float64) (tensor.Tensor, error) {
		if calls == len(r.Trajectory) {
			return x, errors.New("more calls than diffusers makes")
		}
		call := r.Trajectory[calls]
		if math.Abs(at-call.T) > 1e-4 {
			t.Errorf("call %d asks for timestep %v, want %v", calls, at, call.T)
		}
		want := before
		if call.In != nil {
			want = call.In
		}
		calls, before = calls+1, call.X
		if !recorded {
			return synthetic(x, at), nil
		}
		if d := tensor.MaxAbsDiff(x, latentOf(want)); !(d <= r.stepTolerance(want)) {
			t.Errorf("call %d: input is off by %g", calls-1, d)
		}
		return latentOf(call.M), nil
	}
	noise := func(shape ...int) tensor.Tensor {
		for ; draws < calls && r.Trajectory[draws].Noise == nil; draws++ {
		}
		if draws != calls-1 || !slices.Equal(shape, []int{1, 4, 2, 1}) {
			t.Fatalf("noise of shape %v drawn in call %d, diffusers draws in call %d", shape, calls-1, draws)
		}
		draws++
		return latentOf(r.Trajectory[draws-1].Noise)
	}
	onStep := func(step int, _ tensor.Tensor) {
		if steps++; step != steps {
			t.Errorf("step %d reported as %d", steps, step)
		}
	}
	x, err := Sample(context.Background(), s, model, latentOf(r.Noise), Options{Eta: r.StepKwargs["eta"], Noise: noise, OnStep: onStep})
	if err != nil {
		t.Fatal(err)
	}
	for ; draws < calls && r.Trajectory[draws].Noise == nil; draws++ {
	}
	if calls != len(r.Trajectory) || draws != calls || steps != r.Steps {
		t.Errorf("%d calls, draws up to %d, %d steps, want %d, %d, %d", calls, draws, steps, len(r.Trajectory), calls, r.Steps)
	}
	return x
}

// synthetic is the network of the recorded runs: tanh(0.7·x) + 0.1·sin t.
func synthetic(x tensor.Tensor, t float64) tensor.Tensor {
	out := tensor.New(x.Shape...)
	for i, v := range x.Data {
		out.Data[i] = float32(math.Tanh(0.7*float64(v))) + float32(0.1*math.Sin(t))
	}
	return out
}

// TestAlphasCumprod: ᾱ is torch's, to the bit; after the rescaling to zero
// terminal SNR within 4e-7, because torch's float32 square root there (a vector
// library's) is not the correctly rounded one.
func TestAlphasCumprod(t *testing.T) {
	var file struct {
		Cases []struct {
			Config map[string]any
			Alphas []float32 `json:"alphas_cumprod"`
		}
	}
	readGolden(t, "alphas_cumprod", &file)
	if len(file.Cases) != 4 {
		t.Fatalf("%d cases, want 4", len(file.Cases))
	}
	for _, tc := range file.Cases {
		t.Run(fmt.Sprint(tc.Config["beta_schedule"], tc.Config["rescale_betas_zero_snr"]), func(t *testing.T) {
			c, err := ParseConfig("ddim", tc.Config, nil)
			if err != nil {
				t.Fatal(err)
			}
			tol := 0.0
			if c.RescaleBetasZeroSNR {
				tol = 4e-7
			}
			got := tensor.Tensor{Shape: []int{1000}, Data: alphasCumprod(c)}
			if d := tensor.MaxAbsDiff(got, tensor.Tensor{Shape: []int{1000}, Data: tc.Alphas}); d > tol {
				t.Errorf("alphas_cumprod is off by %g, want at most %g", d, tol)
			}
		})
	}
}
