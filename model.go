package leafserve

// ModelInfo is what requests are checked against and filled from: the public
// face of a model, read from its folder without loading a weight.
type ModelInfo struct {
	Name           string   `json:"id"`
	Object         string   `json:"object"`   // "model", as OpenAI's clients expect
	Created        int64    `json:"created"`  // Unix seconds
	OwnedBy        string   `json:"owned_by"` // "leafserve"
	Encoders       []string `json:"encoders"` // robust first where there is one
	DefaultEncoder string   `json:"default_encoder"`
	EncoderLayers  int      `json:"encoder_layers"` // depth of the text encoder, bounds clip_skip
	Context        int      `json:"context"`        // tokens a prompt may have, BOS and EOS included
	Width          int      `json:"width"`          // default size, pixels
	Height         int      `json:"height"`
	Factor         int      `json:"factor"`     // width and height are multiples of it
	MaxPixels      int      `json:"max_pixels"` // largest width × height
	Scheduler      string   `json:"scheduler"`  // short name of the default
	Steps          int      `json:"steps"`
	GuidanceScale  float64  `json:"guidance_scale"`
}
