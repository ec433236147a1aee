package textenc

import (
	"context"
	"math"
	"slices"

	"leafserve/tensor"
)

// window is what the encoder reads of a text.
type window struct {
	ids  []int // [T]
	used int   // ids of the text, BOS and EOS included; the others are padding
}

// windowOf tells a text's ids from the padding, as far as they differ: of EOS
// signs at the end that could be either, one is the text's.
func (t *Tokenizer) windowOf(ids []int) window {
	used := len(ids)
	for used > 1 && ids[used-1] == t.pad {
		used--
	}
	if t.pad == t.eos {
		used = min(used+1, len(ids))
	}
	return window{ids, used}
}

// Drift tells how far the encoder moves from a clean text to a damaged one. Of
// Pooled the projected EOS state is compared (without a projection, the EOS
// state); of Hidden the states after the final layer norm that a UNet reads,
// padding included: all rows that have a counterpart, as align pairs them, put
// end to end.
type Drift struct {
	Pooled, Hidden     float64 // 1 − cosine, 0 for no move
	PooledL2, HiddenL2 float64 // Euclidean distance
}

// Drift compares the embeddings of two texts, which come from the cache where
// they can. skip is Encode's: a UNet that reads earlier states has another Hidden.
func (e *Encoder) Drift(ctx context.Context, clean, damaged string, skip int) (Drift, error) {
	prompts := []Prompt{e.Tokenize(clean), e.Tokenize(damaged)}
	out, err := e.Encode(ctx, prompts, skip)
	if err != nil {
		return Drift{}, err
	}
	var pooled, hidden gap
	pooled.add(e.pooledOf(out[0]), e.pooledOf(out[1]))
	for _, at := range align(e.tokenizer.windowOf(prompts[0].IDs), e.tokenizer.windowOf(prompts[1].IDs)) {
		hidden.add(rowOf(out[0].rows(), at.Clean), rowOf(out[1].rows(), at.Damaged))
	}
	return Drift{pooled.turn(), hidden.turn(), math.Sqrt(pooled.squares), math.Sqrt(hidden.squares)}, nil
}

// rows are the hidden states as [T,D].
func (em Embedding) rows() tensor.Tensor {
	return tensor.Tensor{Shape: em.Hidden.Shape[1:], Data: em.Hidden.Data}
}

// pooledOf is the vector that stands for a whole text: [P], or [D] without a
// projection.
func (e *Encoder) pooledOf(em Embedding) []float32 {
	if e.projects {
		return em.Projected.Data
	}
	return em.Pooled.Data
}

// gap adds up what tells two vectors apart.
type gap struct{ squares, dot, aa, bb float64 }

func (g *gap) add(a, b []float32) {
	for i, v := range a {
		x, y := float64(v), float64(b[i])
		g.squares += (x - y) * (x - y)
		g.dot += x * y
		g.aa += x * x
		g.bb += y * y
	}
}

// turn is 1 − cosine, 0 to 2.
func (g *gap) turn() float64 { return max(0, 1-g.dot/math.Sqrt(g.aa*g.bb)) }

// Pair is two rows that stand for the same: of a clean prompt, and of a damaged one.
type Pair struct{ Clean, Damaged int }

// Align pairs the rows of two prompts: those that have a counterpart, in
// order: words, the two EOS, and after both the padding.
func (e *Encoder) Align(clean, damaged Prompt) []Pair {
	return align(e.tokenizer.windowOf(clean.IDs), e.tokenizer.windowOf(damaged.IDs))
}

// Used is how many of a prompt's ids are not padding, BOS and EOS included.
func (e *Encoder) Used(p Prompt) int { return e.tokenizer.windowOf(p.IDs).used }

// align pairs the rows of a clean and a damaged window that stand for the same:
// equal tokens, along a longest common subsequence that takes all of an equal
// beginning and end; of each stretch between them, the last token with the last
// (a word's last piece has read the whole word); and what is padding in both, by
// place. Rows without a counterpart are left out.
func align(a, b window) []Pair {
	pairs := make([]Pair, 0, len(a.ids))
	head := common(a.ids[:a.used], b.ids[:b.used])
	for i := range head {
		pairs = append(pairs, Pair{i, i})
	}
	tail := 0
	for tail < min(a.used, b.used)-head && a.ids[a.used-1-tail] == b.ids[b.used-1-tail] {
		tail++
	}
	endA, endB := a.used-tail, b.used-tail
	for _, at := range alignEdited(a.ids[head:endA], b.ids[head:endB]) {
		pairs = append(pairs, Pair{head + at.Clean, head + at.Damaged})
	}
	for i := range tail {
		pairs = append(pairs, Pair{endA + i, endB + i})
	}
	for i := max(a.used, b.used); i < len(a.ids); i++ {
		pairs = append(pairs, Pair{i, i})
	}
	return pairs
}

// alignEdited is align for what lies between the equal ends.
func alignEdited(a, b []int) []Pair {
	var pairs []Pair
	left := commonLeft(a, b)
	i, j, gapA, gapB := 0, 0, 0, 0 // the gap is a[gapA:i], b[gapB:j]
	closeGap := func() {
		if gapA < i && gapB < j {
			pairs = append(pairs, Pair{i - 1, j - 1})
		}
		gapA, gapB = i+1, j+1
	}
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			closeGap()
			pairs = append(pairs, Pair{i, j})
			i, j = i+1, j+1
		case left[i+1][j] >= left[i][j+1]:
			i++
		default:
			j++
		}
	}
	i, j = len(a), len(b)
	closeGap()
	return pairs
}

// commonLeft gives the length of the longest common subsequence of a[i:] and
// b[j:] at [i][j].
func commonLeft(a, b []int) [][]int {
	left := make([][]int, len(a)+1)
	left[len(a)] = make([]int, len(b)+1)
	for i, id := range slices.Backward(a) {
		left[i] = make([]int, len(b)+1)
		for j := range slices.Backward(b) {
			if left[i][j] = max(left[i+1][j], left[i][j+1]); id == b[j] {
				left[i][j] = 1 + left[i+1][j+1]
			}
		}
	}
	return left
}

// rowOf is row i of x [R,D], shared with x.
func rowOf(x tensor.Tensor, i int) []float32 {
	d := x.Shape[1]
	return x.Data[i*d : (i+1)*d]
}
