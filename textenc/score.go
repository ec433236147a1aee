package textenc

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"leafserve/tensor"
)

// Objective says what an attack drives apart: a distance between the encodings
// of a clean and of an edited text.
type Objective string

// The objectives. Vectors are not normalised before their distance is taken.
const (
	Pooled Objective = "pooled" // squared L2 of the projected EOS state (the EOS state without a projection)
	Cosine Objective = "cosine" // 1 − cosine of it
	Hidden Objective = "hidden" // squared L2 of the states that a UNet reads, the mean over all rows that align pairs; dear, since padding is read too
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
// computed, and nothing twice. The first call of this or of Scores loads a graph
// of its own, which takes as much memory as the layers do in float32: 13 MB and
// 0.04 s of CPU for the default model, 0.4 GB and 0.9 s for ViT-L/14.
func (e *Encoder) Embed(ctx context.Context, texts []string) (tensor.Tensor, error) {
	out := tensor.New(len(texts), e.embedWidth())
	var all batch
	err := e.windows(ctx, texts, func(i int, w window) { all.add(i, 0, e.sequence(w, Pooled)) })
	if err != nil {
		return out, err
	}
	err = e.each(ctx, all, Pooled, func(text int, row func(int) []float32) {
		copy(rowOf(out, text), row(0))
	})
	return out, err
}

// States gives the rows [L,D] that a UNet reads of each prompt, after the final
// layer norm: whole all T of them, else those up to EOS, which cost less. Equal to
// Encode's to the rounding of float32, but never from the cache.
func (e *Encoder) States(ctx context.Context, prompts []Prompt, whole bool) ([]tensor.Tensor, error) {
	out := make([]tensor.Tensor, len(prompts))
	var all batch
	for i, p := range prompts {
		ids := p.IDs
		if !whole {
			ids = ids[:e.eosRow(ids)+1]
		}
		out[i] = tensor.New(len(ids), e.Config.Width)
		all.add(i, 0, ids)
	}
	err := e.each(ctx, all, Hidden, func(i int, row func(int) []float32) {
		for at := range out[i].Shape[0] {
			copy(rowOf(out[i], at), row(at))
		}
	})
	return out, err
}

func (e *Encoder) embedWidth() int {
	if e.projects {
		return e.Config.Projection
	}
	return e.Config.Width
}

// windows tokenizes texts one after the other. It ends with ctx's error.
func (e *Encoder) windows(ctx context.Context, texts []string, found func(text int, w window)) error {
	c := e.tokenizer.newCutter()
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return err
		}
		found(i, c.window(text))
	}
	return nil
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
		out[i] = Anchor{objective: Hidden, window: e.tokenizer.windowOf(prompts[i].IDs), state: em.rows()}
	}
	return out, nil
}

// Scores gives a function that measures how far edited texts are from their
// anchors: of texts[i], from anchors[owner[i]]. It is exact: a text's score is
// that of Encode's states, to the rounding of float32 (relative 1e-4). Texts of
// other owners do not change it by a bit. The function remembers its scores, so
// that equal token sequences of one owner score equally, to the bit, in all its
// calls; drop it when the search is over. It is safe for concurrent use.
func (e *Encoder) Scores(o Objective, anchors []Anchor) func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
	s := scorer{e: e, objective: o, anchors: anchors, known: map[string]float64{}}
	return s.score
}

// scorer is what Scores gives.
type scorer struct {
	e         *Encoder
	objective Objective
	anchors   []Anchor

	mu    sync.Mutex
	known map[string]float64 // by owner and sequence
}

func (s *scorer) score(ctx context.Context, texts []string, owner []int) ([]float64, error) {
	if err := s.check(texts, owner); err != nil {
		return nil, err
	}
	keys, fresh := make([]string, len(texts)), batch{}
	windows := map[string]window{} // of fresh, by key
	err := s.e.windows(ctx, texts, func(i int, w window) {
		sequence := s.e.sequence(w, s.objective)
		key := sequenceKey(owner[i], sequence)
		keys[i] = key
		if _, ok := windows[key]; ok {
			return
		}
		if _, ok := s.recall(key); !ok {
			windows[key] = w
			fresh.add(i, owner[i], sequence)
		}
	})
	if err != nil {
		return nil, err
	}
	err = s.e.each(ctx, fresh, s.objective, func(text int, row func(int) []float32) {
		s.remember(keys[text], s.anchors[owner[text]].distance(windows[keys[text]], row))
	})
	if err != nil {
		return nil, err
	}
	scores := make([]float64, len(texts))
	for i, key := range keys {
		scores[i], _ = s.recall(key)
	}
	return scores, nil
}

func (s *scorer) recall(key string) (score float64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	score, ok = s.known[key]
	return score, ok
}

// remember keeps the first score of a key: another call may have been faster.
func (s *scorer) remember(key string, score float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[key]; !ok {
		s.known[key] = score
	}
}

// sequenceKey identifies a sequence of an owner.
func sequenceKey(owner int, sequence []int) string {
	b := binary.AppendUvarint(make([]byte, 0, 3*len(sequence)+3), uint64(owner))
	for _, id := range sequence {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return string(b)
}

func (s *scorer) check(texts []string, owner []int) error {
	if err := s.objective.check(); err != nil {
		return err
	}
	if len(owner) != len(texts) {
		return fmt.Errorf("%d owners for %d texts", len(owner), len(texts))
	}
	for i, at := range owner {
		if at < 0 || at >= len(s.anchors) {
			return fmt.Errorf("text %d belongs to anchor %d of %d", i+1, at, len(s.anchors))
		}
	}
	want := []int{1, s.e.embedWidth()}
	if s.objective == Hidden {
		want = []int{s.e.Config.Context, s.e.Config.Width}
	}
	for i, a := range s.anchors {
		if a.objective != s.objective || !slices.Equal(a.state.Shape, want) {
			return fmt.Errorf("anchor %d is %s %v, want %s %v: make it with Anchors for this objective, by an encoder of the same shape",
				i+1, a.objective, a.state.Shape, s.objective, want)
		}
	}
	return nil
}

// distance is the objective's, to the states that row gives: of hidden at a
// position of w, else at 0 the one that stands for the text.
func (a Anchor) distance(w window, row func(int) []float32) float64 {
	var g gap
	switch a.objective {
	case Pooled:
		g.add(a.state.Data, row(0))
		return g.squares
	case Cosine:
		g.add(a.state.Data, row(0))
		return g.turn()
	}
	pairs := align(a.window, w)
	for _, at := range pairs {
		g.add(rowOf(a.state, at.Clean), row(at.Damaged))
	}
	return g.squares / float64(len(pairs))
}

// sequence is the part of a window that the objective needs: of hidden all, else
// what comes up to the position pooled from.
func (e *Encoder) sequence(w window, o Objective) []int {
	if o == Hidden {
		return w.ids
	}
	return w.ids[:e.eosRow(w.ids)+1]
}

// each runs a batch and calls found for each text with its states: of hidden at
// every position, else at 0 the one that stands for the text. Calls overlap.
func (e *Encoder) each(ctx context.Context, b batch, o Objective, found func(text int, row func(int) []float32)) error {
	rows := (*pack).leaves
	if o == Hidden {
		rows = (*pack).all
	}
	return e.runPacks(ctx, packed(b), rows, func(p *pack, states, projected tensor.Tensor) {
		for i, br := range p.branches {
			row := func(int) []float32 { return rowOf(states, i) }
			switch {
			case o == Hidden:
				row = func(position int) []float32 { return rowOf(states, br.nodes[position]) }
			case e.projects:
				row = func(int) []float32 { return rowOf(projected, i) }
			}
			for _, text := range br.texts {
				found(text, row)
			}
		}
	})
}
