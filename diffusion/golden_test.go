package diffusion

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"leafserve/tensor"
)

// refRun is one recorded run of a diffusers scheduler (testdata/schedulers,
// made by diffusers 0.39.0 with a synthetic network; see model).
type refRun struct {
	Class, Base, Label string
	Config             map[string]any
	Steps              int
	Strength           *float64           // set: image-to-image
	StepKwargs         map[string]float64 `json:"step_kwargs"`
	SetKwargs          map[string]int     `json:"set_timesteps_kwargs"`
	Timesteps, Sigmas  []float64
	InitNoiseSigma     float64 `json:"init_noise_sigma"`
	Noise, Start       []float32
	Trajectory         []refCall
}

// refCall is one call of the network and of the scheduler's step.
type refCall struct {
	T     float64   `json:"t"`
	In    []float32 `json:"in"`    // scaled input, where it differs from the latent before
	M     []float32 `json:"m"`     // the network's output
	Noise []float32 `json:"noise"` // what step drew
	X     []float32 `json:"x"`     // the latent after it
}

// readGolden decodes testdata/schedulers/name.json.gz.
func readGolden(t *testing.T, name string, into any) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "schedulers", name+".json.gz"))
	if err != nil {
		t.Fatalf("golden missing: restore it from version control: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func readRuns(t *testing.T, class string) []refRun {
	t.Helper()
	var file struct{ Cases []refRun }
	readGolden(t, class, &file)
	return file.Cases
}

func latentOf(values []float32) tensor.Tensor {
	return tensor.Tensor{Shape: []int{1, 4, 2, 1}, Data: values}
}

func maxAbs(values []float32) float64 {
	worst := 0.0
	for _, v := range values {
		worst = max(worst, float64(max(v, -v)))
	}
	return worst
}
