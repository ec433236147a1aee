package diffusion

import (
	"maps"
	"slices"
	"strings"

	"leafserve"
)

// scheduler is one row of the table below: diffusers' class of that name, what
// it reads, how it lays out its noise levels and how it walks down them.
type scheduler struct {
	class       string         // diffusers' name
	webui       string         // A1111's name
	implied     map[string]any // configuration that the short name stands for
	keys        []string       // of scheduler_config.json that the class reads
	defaults    Config         // the class's own, where a key is absent
	fixedLevels bool           // Karras and other layouts do not apply
	levels      func(s *Schedule, steps int) error
	sample      sampler
}

// schedulers by short name. Another one is a row here and a sampler.
var schedulers = map[string]scheduler{
	"ddim": {
		class: "DDIMScheduler", webui: "DDIM", fixedLevels: true, levels: (*Schedule).ddimLevels, sample: ddim,
		keys: keysOf("set_alpha_to_one rescale_betas_zero_snr clip_sample clip_sample_range " + thresholdKeys),
		defaults: classDefaults(func(c *Config) {
			c.TimestepSpacing, c.ClipSample, c.SetAlphaToOne = "leading", true, true
		}),
	},
	"euler": {
		class: "EulerDiscreteScheduler", webui: "Euler", levels: (*Schedule).eulerLevels, sample: euler,
		keys:     keysOf("rescale_betas_zero_snr interpolation_type timestep_type final_sigmas_type " + sigmaKeyList),
		defaults: classDefaults(func(c *Config) {}),
	},
	"euler_a": {
		class: "EulerAncestralDiscreteScheduler", webui: "Euler a", levels: (*Schedule).eulerLevels, sample: eulerAncestral,
		keys:     keysOf("rescale_betas_zero_snr"),
		defaults: classDefaults(func(c *Config) {}),
	},
	"heun": {
		class: "HeunDiscreteScheduler", webui: "Heun", levels: (*Schedule).heunLevels, sample: heun,
		keys:     keysOf("clip_sample clip_sample_range " + sigmaKeyList),
		defaults: classDefaults(func(c *Config) { c.BetaStart, c.BetaEnd = 0.00085, 0.012 }),
	},
	"dpmpp_2m": {
		class: "DPMSolverMultistepScheduler", webui: "DPM++ 2M", levels: (*Schedule).dpmLevels, sample: dpmMultistep,
		implied: map[string]any{"algorithm_type": "dpmsolver++"}, keys: dpmKeys,
		defaults: classDefaults(func(c *Config) {}),
	},
	"dpmpp_2m_sde": {
		class: "DPMSolverMultistepScheduler", webui: "DPM++ 2M SDE", levels: (*Schedule).dpmLevels, sample: dpmMultistep,
		implied: map[string]any{"algorithm_type": "sde-dpmsolver++"}, keys: dpmKeys,
		defaults: classDefaults(func(c *Config) {}),
	},
	"pndm": {
		class: "PNDMScheduler", webui: "PLMS", fixedLevels: true, levels: (*Schedule).plmsLevels, sample: plms,
		implied: map[string]any{"skip_prk_steps": true}, keys: keysOf("set_alpha_to_one skip_prk_steps"),
		defaults: classDefaults(func(c *Config) { c.TimestepSpacing, c.SkipPRKSteps = "leading", false }),
	},
	"lcm": {
		class: "LCMScheduler", webui: "LCM", fixedLevels: true, levels: (*Schedule).lcmLevels, sample: lcm,
		keys: keysOf("original_inference_steps timestep_scaling set_alpha_to_one rescale_betas_zero_snr " +
			"clip_sample clip_sample_range " + thresholdKeys),
		defaults: classDefaults(func(c *Config) {
			c.BetaStart, c.BetaEnd, c.BetaSchedule = 0.00085, 0.012, "scaled_linear"
			c.TimestepSpacing, c.SetAlphaToOne = "leading", true
		}),
	},
}

const (
	thresholdKeys = "thresholding dynamic_thresholding_ratio sample_max_value"
	sigmaKeyList  = "use_karras_sigmas use_exponential_sigmas use_beta_sigmas sigma_min sigma_max"
)

var dpmKeys = keysOf("algorithm_type solver_type solver_order lower_order_final euler_at_final final_sigmas_type " +
	"lambda_min_clipped use_lu_lambdas use_flow_sigmas use_dynamic_shifting variance_type rescale_betas_zero_snr " +
	thresholdKeys + " " + sigmaKeyList)

// sigmaKeys is the configuration key of each layout of noise levels.
var sigmaKeys = map[string]string{
	"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas",
}

// laterNames are names of the contract that have no row yet.
var laterNames = strings.Fields("ddpm lms dpm2 dpm2_a dpmpp_sde dpmpp_2s unipc deis tcd " +
	"DDPMScheduler LMSDiscreteScheduler KDPM2DiscreteScheduler KDPM2AncestralDiscreteScheduler " +
	"DPMSolverSDEScheduler DPMSolverSinglestepScheduler UniPCMultistepScheduler DEISMultistepScheduler TCDScheduler")

// keysOf is what every class reads and the keys given.
func keysOf(more string) []string {
	return append(strings.Fields("num_train_timesteps beta_start beta_end beta_schedule trained_betas "+
		"prediction_type timestep_spacing steps_offset"), strings.Fields(more)...)
}

// classDefaults is what most classes agree on, changed by set.
func classDefaults(set func(*Config)) Config {
	c := Config{
		NumTrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: "linear",
		PredictionType: "epsilon", TimestepSpacing: "linspace", ClipSampleRange: 1,
		ThresholdingRatio: 0.995, SampleMaxValue: 1, FinalSigmasType: "zero",
		InterpolationType: "linear", TimestepType: "discrete",
		AlgorithmType: "dpmsolver++", SolverType: "midpoint", SolverOrder: 2, LowerOrderFinal: true,
		OriginalSteps: 50, TimestepScaling: 10, SkipPRKSteps: true,
	}
	set(&c)
	return c
}

// Names lists the short names of the schedulers, sorted.
func Names() []string { return slices.Sorted(maps.Keys(schedulers)) }

// Canonical resolves a scheduler's short name, diffusers class name or A1111
// name (these in any letter case, with " Karras" or " Exponential" after it or
// not) to the short name and the configuration keys that the given name stands
// for. A class name stands for no keys: its configuration decides. Errors are
// Invalid and list the short names.
func Canonical(name string) (short string, implied map[string]any, err error) {
	if row, ok := schedulers[name]; ok {
		return name, maps.Clone(row.implied), nil
	}
	base, sigmas := strings.ToLower(name), ""
	for _, layout := range []string{"karras", "exponential"} {
		if cut, ok := strings.CutSuffix(base, " "+layout); ok {
			base, sigmas = cut, layout
		}
	}
	for _, short := range Names() {
		row := schedulers[short]
		if row.class == name {
			return short, nil, nil
		}
		if strings.ToLower(row.webui) == base && (sigmas == "" || !row.fixedLevels) {
			return short, withSigmaKey(row.implied, sigmas), nil
		}
	}
	if slices.Contains(laterNames, name) {
		return "", nil, leafserve.InvalidField("scheduler", "scheduler %s is not supported yet: use one of %s", name, strings.Join(Names(), ", "))
	}
	return "", nil, leafserve.InvalidField("scheduler", "scheduler %q is unknown: use one of %s", name, strings.Join(Names(), ", "))
}

// withSigmaKey is implied with the keys that choose a layout of noise levels, if one is named.
func withSigmaKey(implied map[string]any, sigmas string) map[string]any {
	out := map[string]any{}
	maps.Copy(out, implied)
	for layout, key := range sigmaKeys {
		if sigmas != "" {
			out[key] = layout == sigmas
		}
	}
	return out
}

// ImpliedSigmas is the layout of noise levels that a name stands for beside the
// scheduler: karras for A1111's "DPM++ 2M Karras"; "" for most.
func ImpliedSigmas(name string) string {
	_, implied, _ := Canonical(name) // a name that is none implies nothing
	for layout, key := range sigmaKeys {
		if implied[key] == true {
			return layout
		}
	}
	return ""
}
