package eval

import (
	"context"
	"maps"
	"math"
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
	spell    = "+spell" // ends the name of an arm with the corrector in front
)

// Arm is what texts go through: an encoder, maybe with a corrector in front.
type Arm struct {
	Name    string
	Encoder *textenc.Encoder
	Correct func(text string) string // nil for none
}

// Lab is a loaded model and the tools that evaluations use on it.
type Lab struct {
	Model    string // its name
	Encoders map[string]*textenc.Encoder
	Correct  func(text string) string // the corrector of arms NAME+spell
}

// DefaultArms lists standard, robust and standard+spell, as far as the model has
// these encoders.
func (l Lab) DefaultArms() []string {
	if l.Encoders[robust] == nil {
		return []string{standard, standard + spell}
	}
	return []string{standard, robust, standard + spell}
}

// Arms finds arms by name: an encoder, or an encoder and "+spell".
func (l Lab) Arms(names []string) ([]Arm, error) {
	var arms []Arm
	for i, name := range names {
		a := Arm{Name: name, Encoder: l.Encoders[strings.TrimSuffix(name, spell)]}
		if strings.HasSuffix(name, spell) {
			a.Correct = l.Correct
		}
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

// embed gives unit embeddings [n,P] of texts.
func (a Arm) embed(ctx context.Context, texts []string) (tensor.Tensor, error) {
	x, err := a.Encoder.Embed(ctx, a.read(texts))
	if err != nil {
		return x, err
	}
	return unitRows(x), nil
}

// drift scores texts by their distance to the anchors of their owners.
func (a Arm) drift(o textenc.Objective, anchors []textenc.Anchor) attack.Score {
	score := a.Encoder.Scores(o, anchors)
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		return score(ctx, a.read(texts), owner)
	}
}

// unitRows scales each row of x [n,P] to length 1, in place; rows of zeros stay.
func unitRows(x tensor.Tensor) tensor.Tensor {
	for i := range x.Shape[0] {
		row := x.Row(i).Data
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		if norm := math.Sqrt(sum); norm > 0 {
			for j := range row {
				row[j] = float32(float64(row[j]) / norm)
			}
		}
	}
	return x
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
