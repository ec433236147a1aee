package leaftrain

import (
	"context"
	"math"
	"time"

	"leafserve/attack"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Evaluation tells how far the student is, on captions that it does not learn
// from, from the teacher on their clean form.
type Evaluation struct {
	Step    int     `json:"step"` // steps made
	Clean   Drift   `json:"clean"`
	Typo    Drift   `json:"typo"` // after one slip of a hasty typist
	Leaf    Drift   `json:"leaf"` // after LEAF's search against the student: one edit, ρ 20, strict
	Seconds float64 `json:"seconds"`
}

// Drift is 1 − cosine, the mean over captions.
type Drift struct {
	Pooled float64 `json:"pooled"` // of the projected embedding
	Hidden float64 `json:"hidden"` // of the states that a UNet reads, as in textenc.Drift
}

// The damage of all evaluations, so that they can be compared.
var (
	typo       = Threat{Typos: 1, Constraint: attack.NoIncrease}
	worst      = Threat{Edits: 1, Rho: 20, Constraint: attack.Strict, Objective: textenc.Pooled}
	evaluation = uint64(1) // seed
)

// Evaluate measures the student as it is. Equal captions are damaged by equal
// slips at every call.
func (t *Trainer) Evaluate(ctx context.Context, captions []string) (Evaluation, error) {
	start := time.Now()
	e := Evaluation{Step: t.step}
	ideal, err := read(ctx, t.teacher, captions)
	if err != nil {
		return e, err
	}
	for _, part := range []struct {
		threat Threat
		into   *Drift
	}{{Threat{}, &e.Clean}, {typo, &e.Typo}, {worst, &e.Leaf}} {
		damaged, _, err := t.attack(ctx, part.threat, captions, evaluation)
		if err != nil {
			return e, err
		}
		got, err := read(ctx, t.student.Encoder, damaged)
		if err != nil {
			return e, err
		}
		*part.into = t.drift(ideal, got)
	}
	e.Seconds = time.Since(start).Seconds()
	return e, nil
}

// reading is what an encoder makes of some texts.
type reading struct {
	prompts    []textenc.Prompt
	embeddings tensor.Tensor   // [n,P]
	states     []tensor.Tensor // [T,D] each
}

func read(ctx context.Context, e *textenc.Encoder, texts []string) (r reading, err error) {
	for _, text := range texts {
		r.prompts = append(r.prompts, e.Tokenize(text))
	}
	if r.embeddings, err = e.Embed(ctx, texts); err != nil {
		return r, err
	}
	r.states, err = e.States(ctx, r.prompts, true)
	return r, err
}

// drift is the mean drift from ideal, of clean captions, to got, of damaged ones.
func (t *Trainer) drift(ideal, got reading) Drift {
	var d Drift
	n := float64(len(ideal.prompts))
	for i := range ideal.prompts {
		var pooled, hidden angle
		pooled.add(ideal.embeddings.Row(i).Data, got.embeddings.Row(i).Data)
		for _, at := range t.student.Align(ideal.prompts[i], got.prompts[i]) {
			hidden.add(ideal.states[i].Row(at.Clean).Data, got.states[i].Row(at.Damaged).Data)
		}
		d.Pooled += pooled.turn() / n
		d.Hidden += hidden.turn() / n
	}
	return d
}

// angle adds up what tells the directions of two vectors apart.
type angle struct{ ab, aa, bb float64 }

func (g *angle) add(a, b []float32) {
	for i, v := range a {
		x, y := float64(v), float64(b[i])
		g.ab += x * y
		g.aa += x * x
		g.bb += y * y
	}
}

// turn is 1 − cosine, 0 to 2.
func (g angle) turn() float64 { return max(0, 1-g.ab/math.Sqrt(g.aa*g.bb)) }
