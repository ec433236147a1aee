package leaftrain

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"leafserve"
	"leafserve/attack"
	"leafserve/textenc"
)

// Config is a recipe. Its JSON is stored with what it made.
type Config struct {
	Steps   int      `json:"steps"`   // of the optimiser, from 1
	Batch   int      `json:"batch"`   // captions a step, from 1; gradients add up over as many runs as the memory asks for
	Seed    uint64   `json:"seed"`    // of every random choice
	Threats []Threat `json:"threats"` // how captions are damaged
	Loss    Loss     `json:"loss"`

	LearningRate float64 `json:"learning_rate"` // its peak, after the warm-up
	WarmUp       int     `json:"warm_up"`       // steps on which it rises, in a line; then it falls as a cosine to 0 after the last
	Beta1        float64 `json:"beta1"`
	Beta2        float64 `json:"beta2"`
	Epsilon      float64 `json:"epsilon"`
	WeightDecay  float64 `json:"weight_decay"` // of matrices and tables, not of vectors (biases, layer norms)
	Clip         float64 `json:"clip"`         // most that the norm of all gradients may be; 0 is any
}

// Threat is one way in which captions are damaged: by a typist first, then by
// LEAF's search, each of as many edits as it says. One of no edits keeps captions
// clean, and so holds the encoder where it is on them.
type Threat struct {
	Share      float64           `json:"share"`                // of the batch; shares are relative to their sum
	Typos      int               `json:"typos,omitempty"`      // random slips of a hasty typist (attack.Random)
	Edits      int               `json:"edits,omitempty"`      // k: edits found by the search
	Rho        int               `json:"rho,omitempty"`        // ρ: positions, then symbols, that the search tries; 1 is a random edit
	Constraint string            `json:"constraint,omitempty"` // of both: attack.Strict, NoIncrease or None
	Objective  textenc.Objective `json:"objective,omitempty"`  // what the search drives apart
}

// Loss weighs squared L2 distances between the teacher's states of the clean and
// the student's of the damaged caption. Each is a mean over the batch.
type Loss struct {
	Pooled  float64 `json:"pooled"`            // of the projected embedding: the paper's
	Words   float64 `json:"words,omitempty"`   // of the states up to EOS that have a counterpart, the mean over a caption's
	Padding float64 `json:"padding,omitempty"` // of the states after EOS, the mean over a caption's
	Share   float64 `json:"share,omitempty"`   // of the captions whose padding is read, which costs as much as 77 tokens do; 0 to 1
	Empty   float64 `json:"empty,omitempty"`   // of all states of the empty prompt, the mean over them: guidance subtracts what the UNet makes of it
}

// states says whether a loss reads more than the embedding.
func (l Loss) states() bool { return l.Words > 0 || l.Padding > 0 && l.Share > 0 }

// recipe is the paper's, as its code has it: one search of ρ 50 for one edit,
// strict; the pooled embedding.
func recipe() Config {
	return Config{
		Steps: 18_840, Batch: 128, Seed: 1,
		Threats:      []Threat{{Share: 1, Edits: 1, Rho: 50, Constraint: attack.Strict, Objective: textenc.Pooled}},
		Loss:         Loss{Pooled: 1},
		LearningRate: 1e-5, WarmUp: 1400, Beta1: 0.9, Beta2: 0.98, Epsilon: 1e-6, WeightDecay: 1e-4,
	}
}

var presets = map[string]func() Config{
	// The authors' code chooses AdamW's betas by whether "vit" is in the model's
	// name, which ViT-L's start, fare2-clip, does not have.
	"leaf-vit-l": func() Config {
		c := recipe()
		c.Steps, c.Beta2, c.Epsilon = 18_960, 0.999, 1e-8
		return c
	},
	"leaf-vit-h": recipe,
	"leaf-vit-g": recipe,
	"leaf-vit-bigg": func() Config {
		c := recipe()
		c.Steps = 18_750
		return c
	},
	"default-model": defaultModel,
}

// defaultModel makes the robust encoder of the model inside the program.
func defaultModel() Config {
	c := recipe()
	c.Steps, c.Batch, c.WarmUp, c.LearningRate = 1500, 128, 50, 1e-3
	c.Threats = []Threat{
		{Share: 0.35, Edits: 1, Rho: 20, Constraint: attack.Strict, Objective: textenc.Pooled},
		{Share: 0.4, Typos: 1, Constraint: attack.NoIncrease},
		{Share: 0.15, Typos: 2, Constraint: attack.NoIncrease},
		{Share: 0.1},
	}
	c.Loss = Loss{Pooled: 1, Words: 1, Padding: 1, Share: 0.1, Empty: 0.1}
	return c
}

// Presets lists the names that Preset takes, sorted.
func Presets() []string {
	var names []string
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Preset gives a recipe by name: leaf-vit-l, -h, -g and -bigg are the paper's (30
// epochs of 80,000 captions), default-model is ours for the model inside the
// program. The error is Invalid.
func Preset(name string) (Config, error) {
	make, ok := presets[name]
	if !ok {
		return Config{}, leafserve.InvalidField("preset", "preset is %.64q, want one of: %s", name, strings.Join(Presets(), ", "))
	}
	return make(), nil
}

// Check says what keeps a recipe from being followed. The error is Invalid and
// names the field.
func (c Config) Check() error {
	for _, f := range []struct {
		name  string
		value float64
		low   float64
		high  float64
	}{
		{"steps", float64(c.Steps), 1, 1e9}, {"batch", float64(c.Batch), 1, 1e6}, {"warm_up", float64(c.WarmUp), 0, 1e9},
		{"learning_rate", c.LearningRate, 0, 1}, {"beta1", c.Beta1, 0, 0.999999}, {"beta2", c.Beta2, 0, 0.999999},
		{"epsilon", c.Epsilon, 0, 1}, {"weight_decay", c.WeightDecay, 0, 1}, {"clip", c.Clip, 0, math.MaxFloat32},
		{"loss.pooled", c.Loss.Pooled, 0, 1e6}, {"loss.words", c.Loss.Words, 0, 1e6}, {"loss.padding", c.Loss.Padding, 0, 1e6},
		{"loss.share", c.Loss.Share, 0, 1}, {"loss.empty", c.Loss.Empty, 0, 1e6},
	} {
		if !(f.value >= f.low && f.value <= f.high) {
			return leafserve.InvalidField(f.name, "%s is %g, want %g to %g", f.name, f.value, f.low, f.high)
		}
	}
	switch {
	case c.LearningRate == 0:
		return leafserve.InvalidField("learning_rate", "learning_rate is 0: nothing would be learned")
	case c.Loss.Pooled == 0 && !c.Loss.states():
		return leafserve.InvalidField("loss", "all parts of the loss are 0: give pooled, words, or padding with its share a weight")
	case len(c.Threats) == 0:
		return leafserve.InvalidField("threats", "threats is empty: say how captions are damaged")
	}
	for i, t := range c.Threats {
		if err := t.check(fmt.Sprintf("threats[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

// Limits of a threat.
const maxRho, maxEdits = 10_000, 100

func (t Threat) check(name string) error {
	switch {
	case !(t.Share > 0) || t.Share > 1e6:
		return leafserve.InvalidField(name+".share", "%s.share is %g, want more than 0", name, t.Share)
	case t.Typos < 0 || t.Typos > maxEdits:
		return leafserve.InvalidField(name+".typos", "%s.typos is %d, want 0 to %d", name, t.Typos, maxEdits)
	case t.Edits < 0 || t.Edits > maxEdits:
		return leafserve.InvalidField(name+".edits", "%s.edits is %d, want 0 to %d", name, t.Edits, maxEdits)
	case t.Edits > 0 && (t.Rho < 1 || t.Rho > maxRho):
		return leafserve.InvalidField(name+".rho", "%s.rho is %d, want 1 to %d", name, t.Rho, maxRho)
	case t.Edits == 0 && t.Rho != 0:
		return leafserve.InvalidField(name+".edits", "%s has rho %d but no edits to search: set edits to 1 or more", name, t.Rho)
	case t.Edits+t.Typos > 0 && !slices.Contains([]string{attack.Strict, attack.NoIncrease, attack.None}, t.Constraint):
		return leafserve.InvalidField(name+".constraint", "%s.constraint is %.64q, want %s, %s or %s", name, t.Constraint, attack.Strict, attack.NoIncrease, attack.None)
	case t.Edits > 0 && !slices.Contains([]textenc.Objective{textenc.Pooled, textenc.Cosine, textenc.Hidden}, t.Objective):
		return leafserve.InvalidField(name+".objective", "%s.objective is %.64q, want %s, %s or %s", name, t.Objective, textenc.Pooled, textenc.Cosine, textenc.Hidden)
	}
	return nil
}

// rate is the learning rate of a step, counted from 0.
func (c Config) rate(step int) float64 {
	if step < c.WarmUp {
		return c.LearningRate * float64(step+1) / float64(c.WarmUp)
	}
	done := float64(step-c.WarmUp) / float64(max(1, c.Steps-c.WarmUp))
	return c.LearningRate * (1 + math.Cos(math.Pi*done)) / 2
}
