package diffusion

import (
	"math"
	"slices"

	"leafserve"
	"leafserve/tensor"
)

// tinyAlphaBar stands for ᾱ = 0 (zero terminal SNR) in the classes that keep
// it: σ = 1e10, so that the latent is noise to the last bit of a float32.
// eulerAlphaBar is what diffusers puts there in Euler's and DPM-Solver's classes.
const (
	tinyAlphaBar  = 1e-20
	eulerAlphaBar = 1.0 / (1 << 24)
)

// Schedule is the noise levels of one run. Samplers work in the coordinates
// x = x0 + σ·noise (Karras et al. 2022), whatever the class of diffusers does.
type Schedule struct {
	Name           string    // short name of the scheduler
	Config         Config    // what it was made from
	Timesteps      []float64 // what the network is asked with at Sigmas[i]; one a step
	Sigmas         []float64 // noise levels, falling, one more than Timesteps; the last may be 0
	InitNoiseSigma float64   // diffusers' factor from unit noise to the first latent

	train []float64 // σ_t of the network's timesteps, rising
	next  []float64 // the level that step i goes to: Sigmas[i+1], but for DDIM and PNDM
	redo  float64   // the level that PNDM corrects its first step from: mostly Sigmas[0]
	vp    bool      // diffusers' latents are variance preserving: x/√(1+σ²)
	table Table
}

// Table is a schedule as diffusers reports it for the same class: Heun's levels
// come twice, PNDM's second timestep does, and DDIM, PNDM and LCM have no Sigmas.
type Table struct {
	Timesteps []float32 `json:"timesteps"`
	Sigmas    []float32 `json:"sigmas,omitempty"`
}

// NewSchedule lays out steps (1…T) noise levels for a scheduler by any name that
// Canonical knows. Errors are Invalid and name the request field.
func NewSchedule(name string, c Config, steps int) (*Schedule, error) {
	short, _, err := Canonical(name)
	if err != nil {
		return nil, err
	}
	if steps < 1 || steps > c.NumTrainTimesteps {
		return nil, leafserve.InvalidField("steps", "steps is %d, want 1 to %d, the timesteps the network was trained on", steps, c.NumTrainTimesteps)
	}
	s := &Schedule{Name: c.configured(short), Config: c}
	if err := schedulers[s.Name].levels(s, steps); err != nil {
		return nil, err
	}
	if t := s.Timesteps[0]; t > float64(c.NumTrainTimesteps-1) {
		return nil, tooLate(int(t), c.NumTrainTimesteps)
	}
	if err := checkFalling(s.Sigmas); err != nil {
		return nil, err
	}
	return s, nil
}

// set takes the levels over; each step goes to the following one.
func (s *Schedule) set(timesteps, sigmas []float64) {
	s.table = Table{Timesteps: float32s(timesteps), Sigmas: float32s(sigmas)}
	s.Timesteps, s.Sigmas = timesteps, sigmas[:len(timesteps)+1]
	s.next, s.redo = s.Sigmas[1:], s.Sigmas[0]
}

// Table gives the schedule as diffusers reports it.
func (s *Schedule) Table() Table { return s.table }

// Timestep is what the network is asked with at noise level sigma: exact at the
// schedule's levels, interpolated in log σ between the network's elsewhere.
func (s *Schedule) Timestep(sigma float64) float64 {
	if i := slices.Index(s.Sigmas[:len(s.Timesteps)], sigma); i >= 0 {
		return s.Timesteps[i]
	}
	if s.Config.continuousV() {
		return 0.25 * math.Log(sigma)
	}
	return timestepOf(s.train, sigma)
}

// Start turns unit noise into the first latent in diffusers' scale (its
// prepare_latents).
func (s *Schedule) Start(noise tensor.Tensor) tensor.Tensor {
	return tensor.Scale(s.InitNoiseSigma, noise)
}

// vpScale is the factor from x = x0 + σ·noise to diffusers' latent at level sigma.
func (s *Schedule) vpScale(sigma float64) float64 {
	if s.vp {
		return 1 / math.Sqrt(1+sigma*sigma)
	}
	return 1
}

// finalSigma is the level after the last step of Euler's and DPM-Solver's classes.
func (s *Schedule) finalSigma() float64 {
	if s.Config.FinalSigmasType == "sigma_min" {
		return s.train[0]
	}
	return 0
}

// ddimLevels: DDIM goes down by T/steps timesteps a step even where its spacing
// does otherwise, and below t = 0 to noise 0 or, without set_alpha_to_one, to
// that of t = 0.
func (s *Schedule) ddimLevels(steps int) error {
	c := s.Config
	s.train = trainSigmas(c, tinyAlphaBar)
	timesteps := c.timesteps(steps)
	sigmas, next := make([]float64, 0, steps+1), make([]float64, 0, steps)
	for i, t := range timesteps {
		timesteps[i] = math.RoundToEven(t)
		at := int(timesteps[i])
		if at >= len(s.train) {
			return tooLate(at, len(s.train))
		}
		to := 0.0
		if prev := at - c.NumTrainTimesteps/steps; prev >= 0 {
			to = s.train[prev]
		} else if !c.SetAlphaToOne {
			to = s.train[0]
		}
		sigmas, next = append(sigmas, s.train[at]), append(next, to)
	}
	if c.RescaleBetasZeroSNR && c.PredictionType == "epsilon" && sigmas[0] == s.train[len(s.train)-1] {
		return invalidConfig("rescale_betas_zero_snr needs prediction_type v_prediction or sample: from pure noise, epsilon says nothing about the picture")
	}
	s.set(timesteps, append(sigmas, next[len(next)-1]))
	s.table.Sigmas = nil
	s.next, s.vp, s.InitNoiseSigma = next, true, 1
	return nil
}

// plmsLevels are DDIM's; diffusers lists the second timestep twice, as the first
// step asks the network there too. It corrects that step from T/steps timesteps
// above the second one, which is the first where the spacing is even.
func (s *Schedule) plmsLevels(steps int) error {
	c := s.Config
	if c.PredictionType == "sample" {
		return invalidConfig("prediction_type sample does not go with scheduler pndm: choose another scheduler")
	}
	if err := s.ddimLevels(steps); err != nil {
		return err
	}
	if len(s.Timesteps) > 1 {
		second := int(s.Timesteps[1])
		s.redo = s.train[second+c.NumTrainTimesteps/steps]
		s.table.Timesteps = slices.Insert(s.table.Timesteps, 1, float32(second))
	}
	return nil
}

// eulerLevels: levels of possibly fractional timesteps, or spread between the
// first and the last of these.
func (s *Schedule) eulerLevels(steps int) error {
	c := s.Config
	s.train = trainSigmas(c, eulerAlphaBar)
	timesteps := c.timesteps(steps)
	sigmas := make([]float64, steps, steps+2)
	for i, t := range timesteps {
		sigmas[i] = interpolate(s.train, t)
	}
	if c.InterpolationType == "log_linear" {
		sigmas = exponential(s.train[0], s.train[len(s.train)-1], steps+1)
	}
	if f := c.layout(); f != nil {
		sigmas = c.spread(f, sigmas, steps)
		for i, sigma := range sigmas {
			timesteps[i] = timestepOf(s.train, sigma)
		}
	}
	if c.continuousV() {
		for i := range timesteps {
			timesteps[i] = 0.25 * math.Log(sigmas[i])
		}
	}
	s.set(timesteps, append(sigmas, s.finalSigma()))
	s.InitNoiseSigma = s.Sigmas[0]
	if c.TimestepSpacing == "leading" {
		s.InitNoiseSigma = math.Hypot(1, s.Sigmas[0])
	}
	return nil
}

// heunLevels are Euler's; diffusers lists all but the first (and 0) twice, once
// for each of a step's two calls.
func (s *Schedule) heunLevels(steps int) error {
	if err := s.eulerLevels(steps); err != nil {
		return err
	}
	once := s.table
	s.table = Table{Timesteps: once.Timesteps[:1:1], Sigmas: once.Sigmas[:1:1]}
	for i := 1; i < steps; i++ {
		s.table.Timesteps = append(s.table.Timesteps, once.Timesteps[i], once.Timesteps[i])
		s.table.Sigmas = append(s.table.Sigmas, once.Sigmas[i], once.Sigmas[i])
	}
	s.table.Sigmas = append(s.table.Sigmas, 0)
	return nil
}

// dpmLevels: whole timesteps of steps+1 levels without the last, or levels
// spread over all that the network knows, whose timesteps Karras' and Lu's
// layouts round and the others cut.
func (s *Schedule) dpmLevels(steps int) error {
	c := s.Config
	s.train = trainSigmas(c, eulerAlphaBar)
	ends := []float64{s.train[len(s.train)-1], s.train[0]}
	var timesteps, sigmas []float64
	switch f := c.layout(); {
	case c.UseLuLambdas && !c.UseKarrasSigmas:
		sigmas = exponential(ends[1], ends[0], steps)
	case f != nil:
		sigmas = c.spread(f, ends, steps)
	default:
		timesteps = c.dpmTimesteps(steps, s.unclipped())
	}
	for _, t := range timesteps {
		sigmas = append(sigmas, interpolate(s.train, t))
	}
	round := math.Trunc
	if (c.UseKarrasSigmas || c.UseLuLambdas) && c.BetaSchedule != "squaredcos_cap_v2" {
		round = math.RoundToEven
	}
	for i := len(timesteps); i < len(sigmas); i++ {
		timesteps = append(timesteps, round(timestepOf(s.train, sigmas[i])))
	}
	s.set(timesteps, append(sigmas, s.finalSigma()))
	s.vp, s.InitNoiseSigma = true, 1
	return nil
}

// unclipped counts the network's levels with λ = −log σ of at least lambda_min_clipped.
func (s *Schedule) unclipped() int {
	n := len(s.train)
	for n > 1 && s.Config.LambdaMinClipped != nil && -math.Log(s.train[n-1]) < *s.Config.LambdaMinClipped {
		n--
	}
	return n
}

func (c Config) dpmTimesteps(steps, last int) []float64 {
	switch c.TimestepSpacing {
	case "leading":
		return leadingTimesteps(steps+1, last/(steps+1), c.StepsOffset)[:steps]
	case "trailing":
		return trailingTimesteps(c.NumTrainTimesteps, last, steps)
	}
	out := linspace(0, float64(last-1), steps+1)
	slices.Reverse(out)
	for i, t := range out {
		out[i] = math.RoundToEven(t)
	}
	return out[:steps]
}

// lcmLevels picks from the original_inference_steps timesteps that the network
// was distilled on (Luo et al. 2023, §4.3).
func (s *Schedule) lcmLevels(steps int) error {
	c := s.Config
	if c.OriginalSteps > c.NumTrainTimesteps {
		return invalidConfig("original_inference_steps is %d, want at most num_train_timesteps, %d", c.OriginalSteps, c.NumTrainTimesteps)
	}
	if steps > c.OriginalSteps {
		return leafserve.InvalidField("steps", "steps is %d, the network was distilled on %d (original_inference_steps): take no more", steps, c.OriginalSteps)
	}
	s.train = trainSigmas(c, tinyAlphaBar)
	stride := float64(c.OriginalSteps) / float64(steps)
	timesteps, sigmas := make([]float64, steps), make([]float64, steps+1)
	for i := range timesteps {
		from := c.OriginalSteps - int(float64(i)*stride) // counted from 1
		t := from*(c.NumTrainTimesteps/c.OriginalSteps) - 1
		timesteps[i], sigmas[i] = float64(t), s.train[t]
	}
	s.set(timesteps, sigmas)
	s.table.Sigmas = nil
	s.vp, s.InitNoiseSigma = true, 1
	return nil
}

func tooLate(t, train int) error {
	return leafserve.InvalidField("steps", "this many steps with timestep_spacing leading and this steps_offset ask for timestep %d, the network knows 0 to %d: take fewer steps", t, train-1)
}

func float32s(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}
