package attack

import (
	"context"
	"testing"

	"leafserve/lexicon"
)

var captions = []string{
	"a cat on a blue background", "show me cartoon kiwi on a plain green background, detailed",
	"a man riding a wave on top of a surfboard", "two dogs and a child play in the snow near the old kitchen",
}

// BenchmarkCandidates is the work on strings for one candidate of leaf, the
// edit and its check: looking at the words around it, or at all words.
func BenchmarkCandidates(b *testing.B) {
	d := lexicon.English()
	run := func(b *testing.B, candidate func(c *checker, t *sentence, e edit)) {
		n := 0
		for b.Loop() {
			for _, s := range captions {
				t := newSentence(s)
				c := newChecker(d.Has, t)
				for slot := range t.slots() {
					candidate(c, t, t.slotEdit(slot, asciiSymbols[slot*7%96]))
					n++
				}
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "candidates/s")
	}
	b.Run("incremental", func(b *testing.B) {
		run(b, func(c *checker, t *sentence, e edit) {
			if c.allows(Strict, e) {
				t.edited(e)
			}
		})
	})
	b.Run("full", func(b *testing.B) {
		run(b, func(_ *checker, t *sentence, e edit) { Valid(d, Strict, t.s, t.edited(e)) })
	})
}

// BenchmarkSearch is leaf with ρ=50 and a score that takes no time, in the
// search as it is and in the naive one.
func BenchmarkSearch(b *testing.B) {
	cfg := Config{Method: Leaf, Edits: 1, Rho: 50, Constraint: Strict, Seed: 1, Dictionary: lexicon.English()}
	free := func(_ context.Context, texts []string, _ []int) ([]float64, error) {
		return make([]float64, len(texts)), nil
	}
	b.Run("fast", func(b *testing.B) {
		for b.Loop() {
			if _, err := Run(context.Background(), captions, free, cfg); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(captions))/b.Elapsed().Seconds(), "captions/s")
	})
	b.Run("naive", func(b *testing.B) {
		for b.Loop() {
			for i, s := range captions {
				naive(s, i, free, cfg)
			}
		}
		b.ReportMetric(float64(b.N*len(captions))/b.Elapsed().Seconds(), "captions/s")
	})
}
