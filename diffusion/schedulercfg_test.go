package diffusion

import (
	"errors"
	"math"
	"strings"
	"testing"

	"leafserve"
)

// sd15 is the scheduler_config.json of Stable Diffusion 1.5 (a PNDMScheduler's).
var sd15 = map[string]any{
	"_class_name": "PNDMScheduler", "num_train_timesteps": 1000.0, "beta_start": 0.00085, "beta_end": 0.012,
	"beta_schedule": "scaled_linear", "steps_offset": 1.0, "set_alpha_to_one": false, "skip_prk_steps": true,
	"clip_sample": false, "trained_betas": nil,
}

func TestCanonical(t *testing.T) {
	for _, tc := range []struct{ name, short, key string }{
		{"ddim", "ddim", ""},
		{"DDIMScheduler", "ddim", ""},
		{"DDIM", "ddim", ""},
		{"Euler", "euler", ""},
		{"Euler a", "euler_a", ""},
		{"euler A Karras", "euler_a", "use_karras_sigmas"},
		{"EulerAncestralDiscreteScheduler", "euler_a", ""},
		{"Heun", "heun", ""},
		{"LCM", "lcm", ""},
		{"PNDMScheduler", "pndm", ""},
		{"PLMS", "pndm", "skip_prk_steps"},
		{"DPMSolverMultistepScheduler", "dpmpp_2m", ""},
		{"DPM++ 2M", "dpmpp_2m", "algorithm_type"},
		{"DPM++ 2M Karras", "dpmpp_2m", "use_karras_sigmas"},
		{"DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "use_exponential_sigmas"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			short, implied, err := Canonical(tc.name)
			if err != nil || short != tc.short {
				t.Fatalf("Canonical(%q) = %q, %v, want %q", tc.name, short, err, tc.short)
			}
			if _, ok := implied[tc.key]; ok != (tc.key != "") {
				t.Errorf("Canonical(%q) stands for %v, want key %q", tc.name, implied, tc.key)
			}
		})
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"unipc", "not supported yet: use one of ddim, dpmpp_2m, dpmpp_2m_sde, euler, euler_a, heun, lcm, pndm"},
		{"UniPCMultistepScheduler", "not supported yet"},
		{"DDIM Karras", "unknown"},
		{"PLMS Karras", "unknown"},
		{"", "unknown"},
		{"euler\x00", "unknown"},
	} {
		_, _, err := Canonical(tc.name)
		checkInvalid(t, err, "scheduler", tc.want)
	}
}

func TestDefaultScheduler(t *testing.T) {
	for _, tc := range []struct {
		raw  map[string]any
		want string
	}{
		{map[string]any{"_class_name": "DPMSolverMultistepScheduler"}, "dpmpp_2m"},
		{map[string]any{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "dpmpp_2m_sde"},
		{map[string]any{"_class_name": "EulerAncestralDiscreteScheduler", "algorithm_type": "sde-dpmsolver++"}, "euler_a"},
		{sd15, "pndm"},
		{map[string]any{"_class_name": "UniPCMultistepScheduler"}, "ddim"}, // not built yet
	} {
		if got, err := DefaultScheduler(tc.raw); err != nil || got != tc.want {
			t.Errorf("DefaultScheduler(%v) = %q, %v, want %q", tc.raw, got, err, tc.want)
		}
	}
	_, err := DefaultScheduler(map[string]any{"_class_name": "FlowMatchEulerDiscreteScheduler"})
	checkInvalid(t, err, "scheduler", "unknown")
	_, err = DefaultScheduler(map[string]any{"_class_name": "LCMScheduler", "beta_start": "x"})
	checkInvalid(t, err, "scheduler_config", "beta_start")
	_, err = DefaultScheduler(map[string]any{"_class_name": "PNDMScheduler"}) // the class's default is false
	checkInvalid(t, err, "scheduler_config", "skip_prk_steps false")
}

func TestImpliedSigmas(t *testing.T) {
	for name, want := range map[string]string{
		"DPM++ 2M Karras": "karras", "Euler Exponential": "exponential", "DPM++ 2M": "", "euler": "", "PLMS": "", "plmz": "",
	} {
		if got := ImpliedSigmas(name); got != want {
			t.Errorf("ImpliedSigmas(%q) = %q, want %q", name, got, want)
		}
	}
}

// checkInvalid wants an Invalid error about field that contains text.
func checkInvalid(t *testing.T, err error, field, text string) {
	t.Helper()
	var e *leafserve.Error
	if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != field || !strings.Contains(e.Error(), text) {
		t.Errorf("error = %v, want Invalid about %s with %q", err, field, text)
	}
}

// TestParseConfigDefaults: a key that the file lacks takes the default of the
// class that is asked for, not of the one that wrote the file.
func TestParseConfigDefaults(t *testing.T) {
	for _, tc := range []struct {
		name    string
		raw     map[string]any
		spacing string
		clip    bool
		beta    float64
	}{
		{"ddim", sd15, "leading", false, 0.00085},
		{"euler", sd15, "linspace", false, 0.00085},
		{"dpmpp_2m", sd15, "linspace", false, 0.00085},
		{"lcm", sd15, "leading", false, 0.00085},
		{"ddim", nil, "leading", true, 0.0001},
		{"euler", nil, "linspace", false, 0.0001},
		{"heun", nil, "linspace", false, 0.00085},
		{"lcm", nil, "leading", false, 0.00085},
		{"pndm", nil, "leading", false, 0.0001},
		{"euler", map[string]any{"clip_sample": true}, "linspace", false, 0.0001}, // no key of Euler's
	} {
		c, err := ParseConfig(tc.name, tc.raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.TimestepSpacing != tc.spacing || c.ClipSample != tc.clip || c.BetaStart != tc.beta {
			t.Errorf("ParseConfig(%s, %v) = %s, %v, %v, want %s, %v, %v", tc.name, tc.raw,
				c.TimestepSpacing, c.ClipSample, c.BetaStart, tc.spacing, tc.clip, tc.beta)
		}
	}
}

// TestParseConfigOrder: file, then what the name stands for, then the override.
func TestParseConfigOrder(t *testing.T) {
	sde := map[string]any{"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": true}
	plain := map[string]any{"algorithm_type": "dpmsolver++"}
	for _, tc := range []struct {
		name          string
		raw, override map[string]any
		want          string
		karras        bool
	}{
		{"DPMSolverMultistepScheduler", sde, nil, "dpmpp_2m_sde", false},
		{"DPMSolverMultistepScheduler", plain, nil, "dpmpp_2m", false},
		{"DPMSolverMultistepScheduler", plain, sde, "dpmpp_2m_sde", false},
		{"dpmpp_2m", sde, nil, "dpmpp_2m", false},
		{"dpmpp_2m", nil, sde, "dpmpp_2m_sde", false},
		{"dpmpp_2m_sde", plain, nil, "dpmpp_2m_sde", false},
		{"DPM++ 2M SDE Karras", sde, nil, "dpmpp_2m_sde", true},
		{"DPM++ 2M Karras", nil, map[string]any{"use_karras_sigmas": false}, "dpmpp_2m", false},
		{"Euler a Karras", sd15, nil, "euler_a", true},
	} {
		c, err := ParseConfig(tc.name, tc.raw, tc.override)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSchedule(tc.name, c, 8)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != tc.want || s.Config.UseKarrasSigmas != tc.karras {
			t.Errorf("%s over %v and %v runs %s, Karras %v, want %s, %v", tc.name, tc.raw, tc.override, s.Name, s.Config.UseKarrasSigmas, tc.want, tc.karras)
		}
	}
}

// TestParseConfigSiblings: values of DEIS and UniPC files stand for the nearest
// that DPM-Solver has.
func TestParseConfigSiblings(t *testing.T) {
	for _, raw := range []map[string]any{
		{"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis", "solver_type": "logrho"},
		{"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2"},
	} {
		c, err := ParseConfig("DPMSolverMultistepScheduler", raw, nil)
		if err != nil || c.AlgorithmType != "dpmsolver++" || c.SolverType != "midpoint" {
			t.Errorf("ParseConfig(%v) = %s, %s, %v, want dpmsolver++, midpoint", raw, c.AlgorithmType, c.SolverType, err)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, scheduler string
		override        map[string]any
		want            string
	}{
		{"unknown key", "euler", map[string]any{"beta_strat": 1.0}, `no key "beta_strat", it has: num_train_timesteps, beta_start`},
		{"another class's key", "euler", map[string]any{"clip_sample": true}, `no key "clip_sample"`},
		{"text for a number", "euler", map[string]any{"beta_start": "low"}, "beta_start is a string, want a number"},
		{"fraction for a count", "ddim", map[string]any{"steps_offset": 1.5}, "steps_offset is a number 1.5, want a whole number"},
		{"number for a flag", "heun", map[string]any{"use_karras_sigmas": 1.0}, "use_karras_sigmas is a number, want true or false"},
		{"number for a word", "heun", map[string]any{"beta_schedule": 1.0}, "beta_schedule is a number, want text"},
		{"word", "ddim", map[string]any{"timestep_spacing": "even"}, `timestep_spacing is "even", want one of: linspace, leading, trailing`},
		{"not a number", "ddim", map[string]any{"beta_start": math.NaN()}, "not JSON"},
		{"large table", "ddim", map[string]any{"num_train_timesteps": 1e9}, "num_train_timesteps is 1e+09, want 2 to 10000"},
		{"huge number", "ddim", map[string]any{"num_train_timesteps": 1e300}, "num_train_timesteps is a number 1e+300, want a whole number"},
		{"order", "dpmpp_2m", map[string]any{"solver_order": 4.0}, "solver_order is 4, want 1 to 3"},
		{"two layouts", "euler", map[string]any{"use_karras_sigmas": true, "use_beta_sigmas": true}, "exclude each other"},
		{"Runge-Kutta start", "pndm", map[string]any{"skip_prk_steps": false}, "skip_prk_steps false, PNDM's Runge-Kutta start, is not supported yet: set it to true"},
		{"terminal SNR", "pndm", map[string]any{"rescale_betas_zero_snr": true}, `no key "rescale_betas_zero_snr"`},
		{"flow", "dpmpp_2m", map[string]any{"use_flow_sigmas": true}, "use_flow_sigmas"},
		{"noise to zero", "DPMSolverMultistepScheduler", map[string]any{"algorithm_type": "dpmsolver"}, "final_sigmas_type to sigma_min"},
		{"old SDE", "dpmpp_2m", map[string]any{"algorithm_type": "sde-dpmsolver"}, "want one of: dpmsolver++, sde-dpmsolver++, dpmsolver"},
		{"betas of another length", "ddim", map[string]any{"trained_betas": []any{0.1, 0.2}}, "2 values for 1000"},
		{"beta of 1", "ddim", map[string]any{"trained_betas": []any{0.1, 1.0}, "num_train_timesteps": 2.0}, "trained_betas[1] is 1"},
		{"ends", "euler", map[string]any{"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_min < sigma_max"},
		{"layouts of timesteps", "euler", map[string]any{"interpolation_type": "log_linear", "timestep_type": "continuous", "prediction_type": "v_prediction"}, "keep one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseConfig(tc.scheduler, sd15, tc.override)
			checkInvalid(t, err, "scheduler_config", tc.want)
		})
	}
}

func TestWithSigmas(t *testing.T) {
	for _, tc := range []struct {
		scheduler, sigmas string
		key               func(Config) bool
	}{
		{"euler", "karras", func(c Config) bool { return c.UseKarrasSigmas && !c.UseExponentialSigmas }},
		{"euler_a", "karras", func(c Config) bool { return c.UseKarrasSigmas }},
		{"dpmpp_2m", "exponential", func(c Config) bool { return c.UseExponentialSigmas }},
		{"heun", "beta", func(c Config) bool { return c.UseBetaSigmas && !c.UseExponentialSigmas }},
		{"heun", "model", func(c Config) bool { return c.UseExponentialSigmas }},
		{"ddim", "", func(c Config) bool { return true }},
	} {
		c, err := ParseConfig(tc.scheduler, map[string]any{"use_exponential_sigmas": true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = c.WithSigmas(tc.scheduler, tc.sigmas); err != nil || !tc.key(c) {
			t.Errorf("WithSigmas(%s, %s) = %+v, %v", tc.scheduler, tc.sigmas, c, err)
		}
	}
	for _, tc := range []struct{ scheduler, sigmas, field, want string }{
		{"euler", "sgm_uniform", "sigmas", "not supported yet: use one of model, karras"},
		{"euler", "karas", "sigmas", `sigmas "karas" is unknown: use one of model, karras`},
		{"ddim", "karras", "sigmas", "scheduler ddim has noise levels of its own"},
		{"lcm", "beta", "sigmas", "scheduler lcm has noise levels of its own"},
		{"PLMS", "karras", "sigmas", "scheduler pndm has noise levels of its own"},
		{"plmz", "karras", "scheduler", "unknown"},
	} {
		_, err := Config{}.WithSigmas(tc.scheduler, tc.sigmas)
		checkInvalid(t, err, tc.field, tc.want)
	}
}

// TestKarrasForAll: the layout is the same whichever sampler walks it.
func TestKarrasForAll(t *testing.T) {
	sigmas := map[string][]float64{}
	for _, name := range []string{"euler", "euler_a", "heun"} {
		c, err := ParseConfig(name, sd15, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = c.WithSigmas(name, "karras"); err != nil {
			t.Fatal(err)
		}
		s, err := NewSchedule(name, c, 12)
		if err != nil {
			t.Fatal(err)
		}
		sigmas[name] = s.Sigmas
	}
	for i, want := range sigmas["euler"] {
		if sigmas["euler_a"][i] != want || sigmas["heun"][i] != want {
			t.Errorf("sigma %d = %v (euler), %v (euler_a), %v (heun)", i, want, sigmas["euler_a"][i], sigmas["heun"][i])
		}
	}
}

func TestDecodeConfig(t *testing.T) {
	raw, err := DecodeConfig([]byte(`{"lambda_min_clipped": -Infinity, "sigma_max": Infinity, "x": NaN, "note": "a \"NaN\" and -Infinity", "algorithm_type": "dpmsolver++"}`))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"lambda_min_clipped": "-inf", "sigma_max": "inf", "x": "nan", "note": `a "NaN" and -Infinity`} {
		if raw[key] != want {
			t.Errorf("%s = %v, want %v", key, raw[key], want)
		}
	}
	delete(raw, "sigma_max")
	if c, err := ParseConfig("dpmpp_2m", raw, nil); err != nil || c.LambdaMinClipped != nil {
		t.Errorf("ParseConfig = %v, %v, want no clipping", c.LambdaMinClipped, err)
	}
	for _, bad := range []string{"", "[1]", `{"a":`, "-Infinity"} {
		if _, err := DecodeConfig([]byte(bad)); err == nil {
			t.Errorf("DecodeConfig(%q) gives no error", bad)
		}
	}
}

func TestNewScheduleRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, scheduler string
		override        map[string]any
		steps           int
		field, want     string
	}{
		{"no step", "euler", nil, 0, "steps", "want 1 to 1000"},
		{"too many", "euler", nil, 1001, "steps", "want 1 to 1000"},
		{"more than distilled", "lcm", nil, 51, "steps", "distilled on 50"},
		{"beyond the table", "ddim", nil, 1000, "steps", "timestep 1000, the network knows 0 to 999"},
		{"levels coincide", "dpmpp_2m", nil, 1000, "steps", "coincide"},
		{"leading past the end", "euler", map[string]any{"timestep_spacing": "leading"}, 1000, "steps", "timestep 1000"},
		{"epsilon from pure noise", "ddim", map[string]any{"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"}, 4, "scheduler_config", "needs prediction_type"},
		{"PNDM on x0", "pndm", map[string]any{"prediction_type": "sample"}, 4, "scheduler_config", "does not go with scheduler pndm"},
		{"no signal left", "euler", map[string]any{"beta_start": 0.9, "beta_end": 0.99}, 4, "scheduler_config", "choose smaller ones"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := ParseConfig(tc.scheduler, sd15, tc.override)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSchedule(tc.scheduler, c, tc.steps)
			checkInvalid(t, err, tc.field, tc.want)
			if s != nil {
				t.Errorf("NewSchedule = %v beside its error", s)
			}
		})
	}
}

// TestTrailingRounding pins timesteps on which the rounding of numpy's arange
// decides (48 steps: the exact values are 937 and 687), and those where arange adds one too many (61).
func TestTrailingRounding(t *testing.T) {
	for _, tc := range []struct{ steps, at, want int }{
		{48, 0, 999}, {48, 3, 936}, {48, 15, 686}, {48, 47, 20}, {61, 0, 999}, {61, 60, 15},
	} {
		got := trailingTimesteps(1000, 1000, tc.steps)
		if len(got) != tc.steps || got[tc.at] != float64(tc.want) {
			t.Errorf("%d trailing steps: %d timesteps, [%d] = %v, want %d", tc.steps, len(got), tc.at, got[tc.at], tc.want)
		}
	}
}

// TestBetaQuantile pins scipy.stats.beta.ppf(p, 0.6, 0.6).
func TestBetaQuantile(t *testing.T) {
	for _, tc := range []struct{ p, want float64 }{{0, 0.0}, {1e-06, 1.8558824624053043e-10}, {0.05, 0.012554456873611399}, {0.3333333333333333, 0.2754132907776234}, {0.5, 0.5000000000000001}, {0.75, 0.824319621347305}, {0.999, 0.9999814412614826}, {1, 1.0}} {
		if got := betaQuantile(tc.p, 0.6); math.Abs(got-tc.want) > 1e-13 {
			t.Errorf("betaQuantile(%v) = %.17g, want %.17g", tc.p, got, tc.want)
		}
	}
}

// TestTimestep: exact at the schedule's levels, and the inverse of the network's
// levels elsewhere.
func TestTimestep(t *testing.T) {
	s := schedule(t, "euler", 20)
	for i, sigma := range s.Sigmas[:20] {
		if got := s.Timestep(sigma); got != s.Timesteps[i] {
			t.Errorf("Timestep(%v) = %v, want %v", sigma, got, s.Timesteps[i])
		}
	}
	for _, at := range []int{0, 1, 500, 998, 999} {
		if got := s.Timestep(s.train[at]); math.Abs(got-float64(at)) > 1e-4 {
			t.Errorf("Timestep(%v) = %v, want %v", s.train[at], got, at)
		}
	}
	if lo, hi := s.Timestep(1e-9), s.Timestep(1e9); lo != 0 || hi != 999 {
		t.Errorf("outside: %v and %v, want 0 and 999", lo, hi)
	}
}

// FuzzSchedule: whatever a stranger configures is refused as Invalid or gives
// levels that a sampler can walk.
func FuzzSchedule(f *testing.F) {
	for _, name := range append(Names(), "DPM++ 2M Karras", "DPMSolverMultistepScheduler", "PNDMScheduler") {
		f.Add(name, "model", 4, `{}`)
		f.Add(name, "karras", 20, `{"beta_schedule":"scaled_linear","timestep_spacing":"trailing","rescale_betas_zero_snr":true,"prediction_type":"v_prediction"}`)
	}
	f.Add("dpmpp_2m", "beta", 3, `{"lambda_min_clipped":-5.1,"use_lu_lambdas":true,"final_sigmas_type":"sigma_min"}`)
	f.Add("dpmpp_2m", "", 1, `{"lambda_min_clipped":9,"timestep_spacing":"leading","steps_offset":999}`)
	f.Add("euler", "exponential", 7, `{"interpolation_type":"log_linear","timestep_spacing":"leading","sigma_max":3}`)
	f.Add("ddim", "", 61, `{"timestep_spacing":"trailing","num_train_timesteps":64,"beta_schedule":"squaredcos_cap_v2"}`)
	f.Add("lcm", "", 2, `{"num_train_timesteps":2,"trained_betas":[0.5,0.6],"original_inference_steps":2}`)
	f.Fuzz(func(t *testing.T, name, sigmas string, steps int, config string) {
		override, err := DecodeConfig([]byte(config))
		if err != nil {
			return
		}
		s, err := build(name, sigmas, steps, override)
		if err != nil {
			if leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("error %v is %s", err, leafserve.KindOf(err))
			}
			return
		}
		if len(s.Sigmas) != len(s.Timesteps)+1 || len(s.next) != len(s.Timesteps) || len(s.Timesteps) > steps {
			t.Fatalf("%d timesteps, %d sigmas for %d steps", len(s.Timesteps), len(s.Sigmas), steps)
		}
		for i, at := range s.Timesteps {
			if last := float64(s.Config.NumTrainTimesteps - 1); !s.Config.continuousV() && !(at >= 0 && at <= last) {
				t.Errorf("timestep %v, want 0 to %v", at, last)
			}
			if from, to := s.Sigmas[i], s.next[i]; !(from > 0 && to >= 0 && to <= from) {
				t.Errorf("step %d goes from %v to %v", i, from, to)
			}
		}
	})
}

func build(name, sigmas string, steps int, override map[string]any) (*Schedule, error) {
	c, err := ParseConfig(name, nil, override)
	if err != nil {
		return nil, err
	}
	if c, err = c.WithSigmas(name, sigmas); err != nil {
		return nil, err
	}
	return NewSchedule(name, c, steps)
}
