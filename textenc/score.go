package textenc

import (
	"context"
	"fmt"
	"slices"

	"leafserve/tensor"
)

// Objective says what an attack drives apart: a distance between the encodings
// of a clean and of an edited text.
type Objective string

// The objectives. Vectors are not normalised before their distance is taken.
const (
	Pooled Objective = "pooled" // squared L2 of the projected EOS state (the EOS state without a projection)
	Cosine Objective = "cosine" // 1 − cosine of it
	Hidden Objective = "hidden" // squared L2 of the states that a UNet reads, the mean over all rows that align pairs
)

func (o Objective) check() error {
	if all := []Objective{Pooled, Cosine, Hidden}; !slices.Contains(all, o) {
		return fmt.Errorf("objective %q is unknown, want one of %v", o, all)
	}
	return nil
}

// Anchor is the clean end of an objective's distance.
type Anchor struct {
	objective Objective
	window    window        // of hidden
	state     tensor.Tensor // [1,P], or [1,D] without a projection; of hidden [T,D]
}

// Embed gives the vector that stands for each text, [n,P]: the projected EOS
// state, or where the model has no projection the EOS state, [n,D]. Equal to
// Encode's to the rounding of float32 (2e-5 of the largest value), but much
// faster on many texts that share their beginnings: nothing past EOS is
// computed, and nothing twice. The first call loads the graph.
func (e *Encoder) Embed(ctx context.Context, texts []string) (tensor.Tensor, error) {
	out := tensor.New(len(texts), e.embedWidth())
	err := e.eachPooled(ctx, e.windows(texts), make([]int, len(texts)), func(text int, state []float32) {
		copy(rowOf(out, text), state)
	})
	return out, err
}

func (e *Encoder) embedWidth() int {
	if e.projects {
		return e.Config.Projection
	}
	return e.Config.Width
}

// windows tokenizes texts.
func (e *Encoder) windows(texts []string) []window {
	c := e.tokenizer.newCutter()
	out := make([]window, len(texts))
	for i, text := range texts {
		out[i] = c.window(text)
	}
	return out
}

// Anchors encodes the clean texts, for Scores of this or of another encoder of
// the same shape with the same tokenizer (the frozen one, in LEAF training).
func (e *Encoder) Anchors(ctx context.Context, texts []string, o Objective) ([]Anchor, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o == Hidden {
		return e.hiddenAnchors(ctx, texts)
	}
	states, err := e.Embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	out := make([]Anchor, len(texts))
	for i := range out {
		out[i] = Anchor{objective: o, state: states.Row(i)}
	}
	return out, nil
}

func (e *Encoder) hiddenAnchors(ctx context.Context, texts []string) ([]Anchor, error) {
	prompts := make([]Prompt, len(texts))
	for i, text := range texts {
		prompts[i] = e.Tokenize(text)
	}
	embeddings, err := e.Encode(ctx, prompts, 0)
	if err != nil {
		return nil, err
	}
	out := make([]Anchor, len(texts))
	for i, em := range embeddings {
		out[i] = Anchor{objective: Hidden, window: prompts[i].window(), state: em.rows()}
	}
	return out, nil
}

// Scores gives a function that measures how far edited texts are from their
// anchors: of texts[i], from anchors[owner[i]]. It is exact: a text's score is
// that of Encode's states, to the rounding of float32 (relative 1e-4), and equal
// token sequences have equal scores. Texts of other owners in the same call do
// not change it by a bit. It is safe for concurrent use.
func (e *Encoder) Scores(o Objective, anchors []Anchor) func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		if err := e.checkScores(o, anchors, texts, owner); err != nil {
			return nil, err
		}
		scores := make([]float64, len(texts))
		windows := e.windows(texts)
		if o == Hidden {
			err := e.eachHidden(ctx, windows, owner, func(text int, row func(int) []float32) {
				scores[text] = anchors[owner[text]].hiddenScore(windows[text], row)
			})
			return scores, err
		}
		err := e.eachPooled(ctx, windows, owner, func(text int, state []float32) {
			scores[text] = anchors[owner[text]].pooledScore(state)
		})
		return scores, err
	}
}

func (e *Encoder) checkScores(o Objective, anchors []Anchor, texts []string, owner []int) error {
	if err := o.check(); err != nil {
		return err
	}
	if len(owner) != len(texts) {
		return fmt.Errorf("%d owners for %d texts", len(owner), len(texts))
	}
	for i, at := range owner {
		if at < 0 || at >= len(anchors) {
			return fmt.Errorf("text %d belongs to anchor %d of %d", i+1, at, len(anchors))
		}
	}
	want := []int{1, e.embedWidth()}
	if o == Hidden {
		want = []int{e.Config.Context, e.Config.Width}
	}
	for i, a := range anchors {
		if a.objective != o || !slices.Equal(a.state.Shape, want) {
			return fmt.Errorf("anchor %d is %s %v, want %s %v: make it with Anchors for this objective, by an encoder of the same shape", i+1, a.objective, a.state.Shape, o, want)
		}
	}
	return nil
}

func (a Anchor) pooledScore(state []float32) float64 {
	var g gap
	g.add(a.state.Data, state)
	if a.objective == Cosine {
		return g.turn()
	}
	return g.squares
}

// hiddenScore compares with the states of a window, which row gives by position.
func (a Anchor) hiddenScore(w window, row func(int) []float32) float64 {
	var g gap
	pairs := align(a.window, w)
	for _, at := range pairs {
		g.add(rowOf(a.state, at[0]), row(at[1]))
	}
	return g.squares / float64(len(pairs))
}

// eachPooled calls found with the vector that stands for each text. Texts of a
// group share packs. Calls of found overlap.
func (e *Encoder) eachPooled(ctx context.Context, windows []window, group []int, found func(text int, state []float32)) error {
	sequences := make([][]int, len(windows))
	for i, w := range windows {
		sequences[i] = w.ids[:e.eosRow(w.ids)+1]
	}
	return e.runPacks(ctx, packed(sequences, group), (*pack).leaves, func(p *pack, states, projected tensor.Tensor) {
		if e.projects {
			states = projected
		}
		for i, b := range p.branches {
			for _, text := range b.texts {
				found(text, rowOf(states, i))
			}
		}
	})
}

// eachHidden calls found with the states of all rows of each text's window.
func (e *Encoder) eachHidden(ctx context.Context, windows []window, group []int, found func(text int, row func(position int) []float32)) error {
	sequences := make([][]int, len(windows))
	for i, w := range windows {
		sequences[i] = w.ids
	}
	return e.runPacks(ctx, packed(sequences, group), (*pack).all, func(p *pack, states, _ tensor.Tensor) {
		for _, b := range p.branches {
			row := func(position int) []float32 { return rowOf(states, b.nodes[position]) }
			for _, text := range b.texts {
				found(text, row)
			}
		}
	})
}
