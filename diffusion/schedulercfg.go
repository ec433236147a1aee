package diffusion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"leafserve"
)

// Config holds the keys of diffusers' scheduler_config.json that decide a
// number. ParseConfig fills it; a key that a class does not have keeps a value
// that switches its effect off.
type Config struct {
	NumTrainTimesteps    int       `json:"num_train_timesteps"` // T: the network knows t in 0…T−1
	BetaStart            float64   `json:"beta_start"`
	BetaEnd              float64   `json:"beta_end"`
	BetaSchedule         string    `json:"beta_schedule"` // linear, scaled_linear, squaredcos_cap_v2
	TrainedBetas         []float64 `json:"trained_betas"` // T values that replace the schedule
	RescaleBetasZeroSNR  bool      `json:"rescale_betas_zero_snr"`
	PredictionType       string    `json:"prediction_type"`  // epsilon, v_prediction, sample
	TimestepSpacing      string    `json:"timestep_spacing"` // linspace, leading, trailing
	StepsOffset          int       `json:"steps_offset"`     // added to "leading" timesteps
	SetAlphaToOne        bool      `json:"set_alpha_to_one"` // DDIM's and PNDM's last step goes to noise 0, else to that of t = 0
	ClipSample           bool      `json:"clip_sample"`      // clamp x0 to ±ClipSampleRange
	ClipSampleRange      float64   `json:"clip_sample_range"`
	Thresholding         bool      `json:"thresholding"` // clamp x0 to a quantile of |x0| and divide by it
	ThresholdingRatio    float64   `json:"dynamic_thresholding_ratio"`
	SampleMaxValue       float64   `json:"sample_max_value"` // largest threshold
	UseKarrasSigmas      bool      `json:"use_karras_sigmas"`
	UseExponentialSigmas bool      `json:"use_exponential_sigmas"`
	UseBetaSigmas        bool      `json:"use_beta_sigmas"`
	UseLuLambdas         bool      `json:"use_lu_lambdas"`
	SigmaMin             *float64  `json:"sigma_min"` // ends of Karras, exponential and beta levels; nil: the network's
	SigmaMax             *float64  `json:"sigma_max"`
	FinalSigmasType      string    `json:"final_sigmas_type"`  // zero, sigma_min
	InterpolationType    string    `json:"interpolation_type"` // linear, log_linear (Euler)
	TimestepType         string    `json:"timestep_type"`      // discrete, continuous (Euler)
	AlgorithmType        string    `json:"algorithm_type"`     // dpmsolver++, sde-dpmsolver++, dpmsolver
	SolverType           string    `json:"solver_type"`        // midpoint, heun
	SolverOrder          int       `json:"solver_order"`       // 1…3
	LowerOrderFinal      bool      `json:"lower_order_final"`  // lower the order in the last two of fewer than 15 steps
	EulerAtFinal         bool      `json:"euler_at_final"`
	LambdaMinClipped     *float64  `json:"lambda_min_clipped"` // leave out levels with −log σ below it; nil: none
	OriginalSteps        int       `json:"original_inference_steps"`
	TimestepScaling      float64   `json:"timestep_scaling"`
	SkipPRKSteps         bool      `json:"skip_prk_steps"`       // PNDM without its Runge-Kutta start; false is refused
	UseFlowSigmas        bool      `json:"use_flow_sigmas"`      // refused
	UseDynamicShifting   bool      `json:"use_dynamic_shifting"` // refused
	VarianceType         string    `json:"variance_type"`        // refused unless empty
}

// maxTrainTimesteps bounds the tables that a request's configuration can ask for.
const maxTrainTimesteps = 10000

// DecodeConfig reads a scheduler_config.json. Python writes infinities and NaN
// as bare words there; they become the strings "inf", "-inf" and "nan", which
// ParseConfig understands.
func DecodeConfig(data []byte) (map[string]any, error) {
	var raw map[string]any
	if err := json.Unmarshal(quotePythonNumbers(data), &raw); err != nil {
		return nil, fmt.Errorf("scheduler configuration is not a JSON object: %w", err)
	}
	return raw, nil
}

// quotePythonNumbers puts Infinity, -Infinity and NaN outside of strings in quotes.
func quotePythonNumbers(data []byte) []byte {
	words := [][2]string{{"-Infinity", `"-inf"`}, {"Infinity", `"inf"`}, {"NaN", `"nan"`}}
	var out []byte
	quoted := false
scan:
	for i := 0; i < len(data); i++ {
		switch {
		case quoted && data[i] == '\\' && i+1 < len(data):
			out = append(out, data[i])
			i++
		case data[i] == '"':
			quoted = !quoted
		case !quoted:
			for _, w := range words {
				if bytes.HasPrefix(data[i:], []byte(w[0])) {
					out = append(out, w[1]...)
					i += len(w[0]) - 1
					continue scan
				}
			}
		}
		out = append(out, data[i])
	}
	return out
}

// ParseConfig gives the configuration of the named scheduler over a model's
// scheduler_config.json, as diffusers' Class.from_config(raw, **override) does:
// keys that the class lacks are ignored in raw, absent ones take the class's own
// default. What the name stands for ("DPM++ 2M Karras") wins over raw, override
// over both; its keys must be the class's. Errors are Invalid and name the key.
func ParseConfig(name string, raw, override map[string]any) (Config, error) {
	short, implied, err := Canonical(name)
	if err != nil {
		return Config{}, err
	}
	row := schedulers[short]
	merged := maps.Clone(implied)
	if merged == nil {
		merged = map[string]any{}
	}
	for _, key := range row.keys {
		if v, ok := raw[key]; ok && implied[key] == nil {
			merged[key] = v
		}
	}
	for _, key := range slices.Sorted(maps.Keys(override)) {
		if !slices.Contains(row.keys, key) {
			return Config{}, invalidConfig("scheduler %s has no key %q, it has: %s", short, key, strings.Join(row.keys, ", "))
		}
		merged[key] = override[key]
	}
	c := row.defaults
	if err := decodeInto(&c, merged); err != nil {
		return Config{}, err
	}
	c.translate()
	return c, c.validate()
}

// DefaultScheduler is the short name of the scheduler that a model's
// scheduler_config.json describes, or ddim where that class is not built yet:
// it runs on the same noise schedule.
func DefaultScheduler(raw map[string]any) (short string, err error) {
	class, _ := raw["_class_name"].(string)
	if slices.Contains(laterNames, class) {
		class = "ddim"
	}
	c, err := ParseConfig(class, raw, nil)
	if err != nil {
		return "", err
	}
	short, _, err = Canonical(class)
	return c.configured(short), err
}

// configured is the scheduler that runs under c where a class has several: the
// algorithm decides between DPM-Solver++'s two.
func (c Config) configured(short string) string {
	switch {
	case schedulers[short].class != schedulers["dpmpp_2m"].class:
		return short
	case c.AlgorithmType == "sde-dpmsolver++":
		return "dpmpp_2m_sde"
	}
	return "dpmpp_2m"
}

// decodeInto sets c's fields from JSON values; null keeps what is there.
func decodeInto(c *Config, values map[string]any) error {
	if v, _ := values["lambda_min_clipped"].(string); v == "-inf" {
		values["lambda_min_clipped"] = nil
	}
	text, err := json.Marshal(values)
	if err == nil {
		err = json.Unmarshal(text, c)
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return invalidConfig("%s is a %s, want %s", wrong.Field, wrong.Value, kindName(wrong.Type))
	}
	if err != nil {
		return invalidConfig("values are not JSON: %w", err)
	}
	return nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list of numbers"
	}
	return "text"
}

// translate maps values of sibling classes as DPMSolverMultistepScheduler does.
func (c *Config) translate() {
	if c.AlgorithmType == "deis" {
		c.AlgorithmType = "dpmsolver++"
	}
	if slices.Contains([]string{"logrho", "bh1", "bh2"}, c.SolverType) {
		c.SolverType = "midpoint"
	}
}

// validate returns an Invalid error for the first value that no code here serves.
func (c Config) validate() error {
	for _, check := range []func() error{c.validateWords, c.validateNumbers, c.validatePairs} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateWords() error {
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"beta_schedule", c.BetaSchedule, []string{"linear", "scaled_linear", "squaredcos_cap_v2"}},
		{"prediction_type", c.PredictionType, []string{"epsilon", "v_prediction", "sample"}},
		{"timestep_spacing", c.TimestepSpacing, []string{"linspace", "leading", "trailing"}},
		{"final_sigmas_type", c.FinalSigmasType, []string{"zero", "sigma_min"}},
		{"interpolation_type", c.InterpolationType, []string{"linear", "log_linear"}},
		{"timestep_type", c.TimestepType, []string{"discrete", "continuous"}},
		{"algorithm_type", c.AlgorithmType, []string{"dpmsolver++", "sde-dpmsolver++", "dpmsolver"}},
		{"solver_type", c.SolverType, []string{"midpoint", "heun"}},
		{"variance_type", c.VarianceType, []string{""}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return invalidConfig("%s is %q, want one of: %s", f.key, f.value, strings.Join(f.allowed, ", "))
		}
	}
	return nil
}

func (c Config) validateNumbers() error {
	last := float64(c.NumTrainTimesteps)
	for _, f := range []struct {
		key       string
		v, lo, hi float64
	}{
		{"num_train_timesteps", last, 2, maxTrainTimesteps},
		{"beta_start", c.BetaStart, 1e-7, 0.9999},
		{"beta_end", c.BetaEnd, 1e-7, 0.9999},
		{"steps_offset", float64(c.StepsOffset), 0, last - 1},
		{"clip_sample_range", c.ClipSampleRange, 1e-6, 1e6},
		{"dynamic_thresholding_ratio", c.ThresholdingRatio, 0, 1},
		{"sample_max_value", c.SampleMaxValue, 1e-6, 1e6},
		{"solver_order", float64(c.SolverOrder), 1, 3},
		{"original_inference_steps", float64(c.OriginalSteps), 1, maxTrainTimesteps},
		{"timestep_scaling", c.TimestepScaling, 1e-6, 1e6},
	} {
		if math.IsNaN(f.v) || f.v < f.lo || f.v > f.hi {
			return invalidConfig("%s is %v, want %v to %v", f.key, f.v, f.lo, f.hi)
		}
	}
	for i, beta := range c.TrainedBetas {
		if !(beta > 0 && beta < 1) {
			return invalidConfig("trained_betas[%d] is %v, want a number between 0 and 1", i, beta)
		}
	}
	return nil
}

func (c Config) validatePairs() error {
	lo, hi := orElse(c.SigmaMin, 1e-3), orElse(c.SigmaMax, 1e4)
	spaced := 0
	for _, on := range []bool{c.UseKarrasSigmas, c.UseExponentialSigmas, c.UseBetaSigmas} {
		if on {
			spaced++
		}
	}
	switch {
	case len(c.TrainedBetas) > 0 && len(c.TrainedBetas) != c.NumTrainTimesteps:
		return invalidConfig("trained_betas has %d values for %d num_train_timesteps", len(c.TrainedBetas), c.NumTrainTimesteps)
	case !(lo > 0 && hi < math.MaxFloat32 && lo < hi):
		return invalidConfig("sigma_min %v and sigma_max %v: want 0 < sigma_min < sigma_max", lo, hi)
	case spaced > 1:
		return invalidConfig("use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas exclude each other: keep one")
	case c.UseFlowSigmas || c.UseDynamicShifting:
		return invalidConfig("use_flow_sigmas and use_dynamic_shifting are not supported: set them to false")
	case !c.SkipPRKSteps:
		return invalidConfig("skip_prk_steps false, PNDM's Runge-Kutta start, is not supported yet: set it to true")
	case c.AlgorithmType == "dpmsolver" && c.FinalSigmasType == "zero":
		return invalidConfig("algorithm_type dpmsolver cannot step to noise 0: set final_sigmas_type to sigma_min")
	case c.InterpolationType == "log_linear" && c.continuousV():
		return invalidConfig("interpolation_type log_linear does not go with timestep_type continuous: keep one")
	}
	return nil
}

// continuousV tells whether the network is asked by 0.25·log σ instead of a timestep.
func (c Config) continuousV() bool {
	return c.TimestepType == "continuous" && c.PredictionType == "v_prediction"
}

// WithSigmas lays the noise levels of the named scheduler out another way:
// "karras", "exponential" or "beta"; "model" and "" keep the configuration's.
// The error is Invalid and about the field sigmas.
func (c Config) WithSigmas(scheduler, sigmas string) (Config, error) {
	if sigmas == "" || sigmas == "model" {
		return c, nil
	}
	short, _, err := Canonical(scheduler)
	if err != nil {
		return c, err
	}
	key := sigmaKeys[sigmas]
	if key == "" {
		what := "unknown"
		if sigmas == "sgm_uniform" || sigmas == "simple" { // names of the contract
			what = "not supported yet"
		}
		return c, leafserve.InvalidField("sigmas", "sigmas %q is %s: use one of model, karras, exponential, beta", sigmas, what)
	}
	if schedulers[short].fixedLevels {
		return c, leafserve.InvalidField("sigmas", "scheduler %s has noise levels of its own: leave sigmas out or choose another scheduler", short)
	}
	c.UseKarrasSigmas, c.UseExponentialSigmas, c.UseBetaSigmas, c.UseLuLambdas = false, false, false, false
	return c, decodeInto(&c, map[string]any{key: true})
}

func invalidConfig(format string, args ...any) error {
	return leafserve.InvalidField("scheduler_config", "scheduler_config: "+format, args...)
}

func orElse(p *float64, v float64) float64 {
	if p == nil {
		return v
	}
	return *p
}
