package leafserve

import "time"

// Request is the body of POST /generate, the file of `generate --request` and
// what a job carries. A nil pointer or empty string means "not given"; Resolve
// fills those from the model, so that a resolved request can be run again to
// the same picture.
type Request struct {
	Prompt         string `json:"prompt"`                    // 1…MaxPromptRunes characters of valid UTF-8
	NegativePrompt string `json:"negative_prompt,omitempty"` // 0…MaxPromptRunes characters
	Model          string `json:"model,omitempty"`           // a name from GET /v1/models
	Encoder        string `json:"encoder,omitempty"`         // one of the model's encoders: robust, standard, …

	Seed  *uint64  `json:"seed,omitempty"`  // picture i uses Seed+i (mod 2^64)
	Seeds []uint64 `json:"seeds,omitempty"` // or one a picture; len(Seeds) == N
	RNG   string   `json:"rng,omitempty"`   // torch-cpu, torch-cpu-fp16, philox

	Scheduler       string         `json:"scheduler,omitempty"`        // short name, diffusers class or A1111 name
	SchedulerConfig map[string]any `json:"scheduler_config,omitempty"` // diffusers keys over the model's
	Sigmas          string         `json:"sigmas,omitempty"`           // model, karras, …

	Steps           *int     `json:"steps,omitempty"`            // 1…MaxSteps
	GuidanceScale   *float64 `json:"guidance_scale,omitempty"`   // 0…MaxGuidance; ≤ 1 means no guidance
	GuidanceRescale *float64 `json:"guidance_rescale,omitempty"` // 0…1 (Lin et al. 2023, §3.4)
	Eta             *float64 `json:"eta,omitempty"`              // 0…1, DDIM's η
	ClipSkip        *int     `json:"clip_skip,omitempty"`        // layers left out at the end, 0…depth−1

	Width  *int `json:"width,omitempty"`  // pixels, a multiple of the VAE factor
	Height *int `json:"height,omitempty"` // pixels, a multiple of the VAE factor
	N      *int `json:"n,omitempty"`      // pictures, 1…MaxImages

	InitImage string   `json:"init_image,omitempty"` // base64 or data URL: image-to-image
	MaskImage string   `json:"mask_image,omitempty"` // base64 or data URL: inpainting
	Strength  *float64 `json:"strength,omitempty"`   // 0…1, with InitImage
	Loras     []Lora   `json:"loras,omitempty"`

	OutputFormat string `json:"output_format,omitempty"` // png, jpeg, webp
	Response     string `json:"response,omitempty"`      // url, b64_json
	Previews     int    `json:"previews,omitempty"`      // a preview every that many steps, 0 none
	Priority     int    `json:"priority,omitempty"`      // −10…10
	WebhookURL   string `json:"webhook_url,omitempty"`   // signed POST at the terminal state

	NotBefore *time.Time `json:"not_before,omitempty"` // the job waits until then
	TimeoutS  float64    `json:"timeout_s,omitempty"`  // seconds from acceptance, or from NotBefore, to the end; 0 for no bound but the server's

	// Only in POST /compare.
	Prompts        []string `json:"prompts,omitempty"`          // instead of prompt: a list, 1…MaxComparePrompts, each with its own noise
	Attack         *Attack  `json:"attack,omitempty"`           // how the prompt is damaged
	Arms           []string `json:"arms,omitempty"`             // encoders to compare; default standard and robust
	AttackedPerArm bool     `json:"attacked_per_arm,omitempty"` // each arm meets its own worst typo, not all the same
}

// Lora names a low-rank weight update and its strength.
type Lora struct {
	Name  string  `json:"name"`
	Scale float64 `json:"scale"`
}

// Limits of a request.
const (
	MaxPromptRunes = 4000
	MaxSteps       = 1000
	MaxGuidance    = 100
	MaxImages      = 16
	MaxPriority    = 10                 // and as far below 0
	MaxDelay       = 7 * 24 * time.Hour // from now to NotBefore
	MaxTimeoutS    = 7 * 24 * 3600
)
