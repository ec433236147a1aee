package leaftrain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"leafserve/attack"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Trainer changes a student. It is not safe for concurrent use.
type Trainer struct {
	Config   Config
	student  *textenc.Trainable
	teacher  *textenc.Encoder
	moments  []tensor.AdamW // of the student's Parameters
	step     int
	fruitful bool // an edit was possible in some caption
}

// Metrics tell of one step, of the weights before it.
type Metrics struct {
	Step         int     `json:"step"` // from 1
	Loss         float64 `json:"loss"`
	CleanDrift   float64 `json:"clean_drift"`    // mean squared L2 of the embedding, student on the clean caption to teacher
	Drift        float64 `json:"attacked_drift"` // the same on the damaged captions
	Candidates   int     `json:"candidates"`     // edits that searches tried
	Changed      int     `json:"changed"`        // captions that were damaged
	LearningRate float64 `json:"learning_rate"`
	GradientNorm float64 `json:"gradient_norm"`
	Seconds      float64 `json:"seconds"`
	AttackShare  float64 `json:"attack_share"` // of the seconds
}

// ErrDiverged says that a loss is no number, or has exploded. The weights are
// those before the step.
var ErrDiverged = errors.New("training diverged")

// ErrNoEdits says that no caption could be damaged.
var ErrNoEdits = errors.New("no caption could be edited")

// New starts at the student's weights. The teacher is the encoder that the student
// was before training; both stay the caller's. The error names the field of the
// recipe that is wrong.
func New(student *textenc.Trainable, teacher *textenc.Encoder, cfg Config) (*Trainer, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	t := &Trainer{Config: cfg, student: student, teacher: teacher, moments: make([]tensor.AdamW, len(student.Parameters))}
	for i, p := range student.Parameters {
		t.moments[i] = tensor.AdamW{Beta1: cfg.Beta1, Beta2: cfg.Beta2, Epsilon: cfg.Epsilon}
		if len(p.Value.Shape) > 1 {
			t.moments[i].WeightDecay = cfg.WeightDecay
		}
	}
	return t, nil
}

// Steps is how many steps were made.
func (t *Trainer) Steps() int { return t.step }

// Step makes one step on the captions: attack, lessons, gradients, AdamW. On an
// error, ctx's included, the weights stay as they were.
func (t *Trainer) Step(ctx context.Context, captions []string) (Metrics, error) {
	start := time.Now()
	m := Metrics{Step: t.step + 1, LearningRate: t.Config.rate(t.step)}
	damaged, err := t.damage(ctx, captions, &m)
	if err != nil {
		return m, err
	}
	attacked := time.Since(start)
	lessons, err := t.lessons(ctx, captions, damaged)
	if err != nil {
		return m, err
	}
	distances, gradients, err := t.student.Gradients(ctx, lessons)
	if err != nil {
		return m, err
	}
	if err := t.measure(ctx, &m, captions, lessons, distances, gradients); err != nil {
		return m, err
	}
	t.apply(gradients, m)
	m.Seconds = time.Since(start).Seconds()
	m.AttackShare = attacked.Seconds() / m.Seconds
	return m, nil
}

// damage gives each caption its damaged form: batch's first share by the first
// threat, and so on.
func (t *Trainer) damage(ctx context.Context, captions []string, m *Metrics) ([]string, error) {
	var damaged []string
	for i, threat := range t.Config.Threats {
		part := captions[len(damaged):t.cut(i, len(captions))]
		out, candidates, err := t.attack(ctx, threat, part, t.random(uint64(i)).Uint64())
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", m.Step, err)
		}
		damaged = append(damaged, out...)
		m.Candidates += candidates
	}
	for i := range captions {
		if damaged[i] != captions[i] {
			m.Changed++
		}
	}
	return damaged, t.checkFruit(m)
}

// patience is how many steps may pass before a caption is damaged.
const patience = 20

func (t *Trainer) checkFruit(m *Metrics) error {
	t.fruitful = t.fruitful || m.Changed > 0 || !t.Config.damages()
	if t.fruitful || m.Step < patience {
		return nil
	}
	return fmt.Errorf("%w in %d steps: under the constraints none of them has a word of the dictionary that an edit may break: choose constraint %s, or other captions",
		ErrNoEdits, patience, attack.None)
}

func (c Config) damages() bool {
	for _, t := range c.Threats {
		if t.Edits+t.Typos > 0 {
			return true
		}
	}
	return false
}

// cut is where the captions of threat i end in a batch of n. What a share does
// not come to in one batch it has in another.
func (t *Trainer) cut(i, n int) int {
	part, all := 0.0, 0.0
	for j, threat := range t.Config.Threats {
		all += threat.Share
		if j <= i {
			part += threat.Share
		}
	}
	if i == len(t.Config.Threats)-1 {
		return n
	}
	return min(n, int(part/all*float64(n)+t.random(1<<32).Float64()))
}

// random is a generator of this step's alone, for one purpose.
func (t *Trainer) random(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(t.Config.Seed, purpose<<32|uint64(t.step)))
}

// attack damages captions as a threat says.
func (t *Trainer) attack(ctx context.Context, threat Threat, captions []string, seed uint64) (damaged []string, candidates int, err error) {
	damaged = captions
	if threat.Typos > 0 && len(captions) > 0 {
		results, err := attack.Run(ctx, damaged, nil, attack.Config{Method: attack.Random, Edits: threat.Typos, Constraint: threat.Constraint, Seed: seed})
		if err != nil {
			return nil, 0, err
		}
		damaged = prompts(results)
	}
	if threat.Edits == 0 || len(captions) == 0 {
		return damaged, 0, nil
	}
	anchors, err := t.teacher.Anchors(ctx, captions, threat.Objective)
	if err != nil {
		return nil, 0, err
	}
	results, err := attack.Run(ctx, damaged, t.student.Scores(threat.Objective, anchors), attack.Config{
		Method: attack.Leaf, Edits: threat.Edits, Rho: threat.Rho, Constraint: threat.Constraint, Seed: seed,
	})
	for _, r := range results {
		candidates += r.Candidates
	}
	return prompts(results), candidates, err
}

func prompts(results []attack.Result) []string {
	out := make([]string, len(results))
	for i, r := range results {
		out[i] = r.Prompt
	}
	return out
}

// measure fills in what a step is told by, and refuses one that would spoil the
// weights.
func (t *Trainer) measure(ctx context.Context, m *Metrics, captions []string, lessons []textenc.Lesson, distances []textenc.Distances, gradients []textenc.Gradient) error {
	var err error
	if m.CleanDrift, err = t.cleanDrift(ctx, captions, func(i int) []float32 { return lessons[i].Target }); err != nil {
		return err
	}
	for i, d := range distances {
		m.Loss += float64(lessons[i].Weight)*d.Pooled + d.Rows
	}
	for i := range captions {
		m.Drift += distances[i].Pooled / float64(len(captions))
	}
	for _, g := range gradients {
		for _, v := range g.Value.Data {
			m.GradientNorm += float64(v) * float64(v)
		}
	}
	m.GradientNorm = math.Sqrt(m.GradientNorm)
	if bad := m.Loss + m.GradientNorm; math.IsNaN(bad) || math.IsInf(bad, 0) {
		return fmt.Errorf("step %d: %w: the loss is %g, the norm of its gradient %g: take a lower learning rate", m.Step, ErrDiverged, m.Loss, m.GradientNorm)
	}
	return nil
}

func squared(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		d := float64(v) - float64(b[i])
		sum += d * d
	}
	return sum
}

// apply moves the weights.
func (t *Trainer) apply(gradients []textenc.Gradient, m Metrics) {
	scale := 1.0
	if t.Config.Clip > 0 && m.GradientNorm > t.Config.Clip {
		scale = t.Config.Clip / m.GradientNorm
	}
	for i, p := range t.student.Parameters {
		g := gradients[i]
		if scale != 1 {
			g.Value = tensor.Scale(scale, g.Value)
		}
		t.moments[i].LearningRate = m.LearningRate
		if g.Rows != nil {
			t.moments[i].StepRows(p.Value, g.Rows, g.Value)
		} else {
			t.moments[i].Step(p.Value, g.Value)
		}
	}
	t.step++
}
