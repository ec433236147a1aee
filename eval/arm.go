package eval

import (
	"context"
	"maps"
	"slices"
	"strings"

	"leafserve"
	"leafserve/attack"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Names of arms that have a part to play: robust is compared with the others,
// standard is f0 of the LEAF paper.
const (
	standard = "standard"
	robust   = "robust"
	auto     = "auto"   // robust for damaged texts, standard for others
	spell    = "+spell" // ends the name of an arm with the corrector in front
)

// Arm is what texts go through: an encoder, maybe with a corrector in front, or
// one of two encoders.
type Arm struct {
	Name    string
	Encoder *textenc.Encoder
	Correct func(text string) string // nil for none

	Damaged func(text string) bool // of arm auto: whether a text is Robust's
	Robust  *textenc.Encoder
}

// Lab is a loaded model and the tools that evaluations use on it.
type Lab struct {
	Model    string // its name
	Encoders map[string]*textenc.Encoder
	Correct  func(text string) string // the corrector of arms NAME+spell
	Damaged  func(text string) bool   // by which arm auto takes the robust encoder
}

// DefaultArms lists standard, robust and standard+spell, as far as the model has
// these encoders.
func (l Lab) DefaultArms() []string {
	if l.Encoders[robust] == nil {
		return []string{standard, standard + spell}
	}
	return []string{standard, robust, standard + spell}
}

// arm finds an arm; without that encoder, it has none.
func (l Lab) arm(name string) Arm {
	a := Arm{Name: name, Encoder: l.Encoders[strings.TrimSuffix(name, spell)]}
	if strings.HasSuffix(name, spell) {
		a.Correct = l.Correct
	}
	if name == auto && l.Encoders[robust] != nil && l.Damaged != nil {
		a.Encoder, a.Robust, a.Damaged = l.Encoders[standard], l.Encoders[robust], l.Damaged
	}
	return a
}

// Arms finds arms by name: an encoder, an encoder and "+spell", or auto.
func (l Lab) Arms(names []string) ([]Arm, error) {
	var arms []Arm
	for i, name := range names {
		a := l.arm(name)
		switch {
		case a.Encoder == nil:
			return nil, leafserve.InvalidField("arms", "model %s has no encoder %q for an arm, it has: %s; %s puts a spelling corrector in front", l.Model, strings.TrimSuffix(name, spell), strings.Join(slices.Sorted(maps.Keys(l.Encoders)), ", "), spell)
		case slices.Contains(names[:i], name):
			return nil, leafserve.InvalidField("arms", "arm %s twice", name)
		}
		arms = append(arms, a)
	}
	if len(arms) == 0 {
		return nil, leafserve.InvalidField("arms", "no arm: want some of %s", strings.Join(l.DefaultArms(), ", "))
	}
	return arms, nil
}

// bare is the arm without its corrector.
func (a Arm) bare() Arm {
	return Arm{Name: strings.TrimSuffix(a.Name, spell), Encoder: a.Encoder}
}

// read gives the texts as the arm's encoder gets them.
func (a Arm) read(texts []string) []string {
	if a.Correct == nil {
		return texts
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = a.Correct(t)
	}
	return out
}

// each gives the value of every text by the encoder that reads it. of gets the
// texts of one encoder as it reads them, and their indices.
func each[T any](a Arm, texts []string, of func(e *textenc.Encoder, texts []string, items []int) ([]T, error)) ([]T, error) {
	texts = a.read(texts)
	parts := map[*textenc.Encoder][]int{}
	for i, t := range texts {
		e := a.Encoder
		if a.Damaged != nil && a.Damaged(t) {
			e = a.Robust
		}
		parts[e] = append(parts[e], i)
	}
	out := make([]T, len(texts))
	for e, items := range parts {
		values, err := of(e, pick(texts, items), items)
		if err != nil {
			return nil, err
		}
		for b, i := range items {
			out[i] = values[b]
		}
	}
	return out, nil
}

// pick gives the items with the given indices.
func pick[T any](all []T, items []int) []T {
	out := make([]T, len(items))
	for b, i := range items {
		out[b] = all[i]
	}
	return out
}

// embed gives unit embeddings [n,P] of one text or more.
func (a Arm) embed(ctx context.Context, texts []string) (tensor.Tensor, error) {
	rows, err := each(a, texts, func(e *textenc.Encoder, texts []string, _ []int) ([]tensor.Tensor, error) {
		x, err := e.Embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		rows := make([]tensor.Tensor, len(texts))
		for i := range rows {
			rows[i] = x.Row(i)
		}
		return rows, nil
	})
	if err != nil {
		return tensor.Tensor{}, err
	}
	return tensor.UnitRows(tensor.Concat(rows...)), nil
}

// anchors encodes clean texts.
func (a Arm) anchors(ctx context.Context, texts []string, o textenc.Objective) ([]textenc.Anchor, error) {
	return each(a, texts, func(e *textenc.Encoder, texts []string, _ []int) ([]textenc.Anchor, error) {
		return e.Anchors(ctx, texts, o)
	})
}

// drift scores texts by their distance to the anchors of their owners.
func (a Arm) drift(o textenc.Objective, anchors []textenc.Anchor) attack.Score {
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		return each(a, texts, func(e *textenc.Encoder, texts []string, items []int) ([]float64, error) {
			return e.Scores(o, anchors)(ctx, texts, pick(owner, items))
		})
	}
}

// cosines of a unit row with all unit rows of anchors [C,P].
func cosines(row []float32, anchors tensor.Tensor) []float64 {
	out := make([]float64, anchors.Shape[0])
	for c := range out {
		for j, v := range anchors.Row(c).Data {
			out[c] += float64(v) * float64(row[j])
		}
	}
	return out
}

// argmax is the index of the first largest value.
func argmax(x []float64) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
