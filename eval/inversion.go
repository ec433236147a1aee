package eval

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/invert"
	"leafserve/stats"
)

// sideBySide is how many texts one call reconstructs: more cost less each, fewer
// lose less when a run is stopped.
const sideBySide = 4

// Inversion measures how much of a text its embedding gives away: PEZ (package
// invert) reconstructs every text from the embedding of an arm's encoder, of
// which inverter gives the inverter. The figures are the cosine of the two
// embeddings and what came back of the text: words, tokens and BLEU, of all texts
// together. Where there are edits, LEAF's search damages each text first, and it
// is still the clean text that is looked for. steps is how long the search is; it
// runs on all cores if calls of the inverter do not.
func Inversion(ctx context.Context, r *Run, inverter func(encoder string) (*invert.Inverter, error), texts []string, steps int) (Result, error) {
	texts = first(r, texts)
	r.all = len(texts) * len(r.arms) * (2 + len(r.Edits))
	var all []Series
	var back []recovered
	for _, arm := range r.arms {
		if arm.Correct != nil {
			return Result{}, leafserve.InvalidField("arms", "inversion starts from an encoder's embedding, which a corrector in front does not change: leave out arm %s", arm.Name)
		}
		v, err := inverter(arm.Name)
		if err == nil {
			err = readable(v, texts)
		}
		if err != nil {
			return Result{}, err
		}
		found, err := r.reconstructions(ctx, arm, v, texts, steps)
		if err != nil {
			return Result{}, err
		}
		for _, c := range found {
			all = append(all, Series{"cosine", arm.Name, c.attack, c.edits, c.cosines})
		}
		back = append(back, found...)
	}
	result := newResult("inversion", r.Settings, []string{
		"cosine: of the embeddings of a text and of its reconstruction, whose number of tokens is given.",
		"word recall, token recall: share of the clean texts' words and tokens that came back, in any order. word accuracy: LEAF's figure, words found over words written. BLEU: corpus BLEU-4 as sacrebleu's. Each is one figure of all texts together.",
		"leaf: LEAF's search damaged the text before, away from its clean embedding by the same encoder.",
	}, all)
	result.Rows = append(result.Rows, togetherRows(back)...)
	return result, nil
}

// readable refuses texts that have no token, or too many for an inverter.
func readable(v *invert.Inverter, texts []string) error {
	for i, t := range texts {
		if n := len(v.IDs(t)); n < 1 || n > v.Limit() {
			return leafserve.InvalidField("data", "text %d (%.64q) has %d tokens, inversion wants 1 to %d: leave it out", i+1, t, n, v.Limit())
		}
	}
	return nil
}

// reconstruction is what the search found for one text.
type reconstruction struct {
	Text   string  `json:"text"`
	IDs    []int   `json:"ids"`
	Cosine float64 `json:"cosine"`
}

// recovered is what an arm gave away of all texts under one condition.
type recovered struct {
	arm, attack string
	edits       int
	cosines     []float64
	overlaps    []invert.Overlap
	grams       []invert.NGrams
}

// reconstructions inverts all texts clean, then damaged as often as asked.
func (r *Run) reconstructions(ctx context.Context, arm Arm, v *invert.Inverter, texts []string, steps int) ([]recovered, error) {
	forms, err := r.leaf(ctx, arm, texts)
	if err != nil {
		return nil, err
	}
	var out []recovered
	for _, k := range append([]int{0}, r.Edits...) {
		c := recovered{arm: arm.Name, edits: k}
		if k > 0 {
			c.attack = "leaf"
		}
		found, err := r.invert(ctx, v, arm.Name, k, at(forms, k), steps)
		if err != nil {
			return nil, err
		}
		for i, f := range found {
			c.cosines = append(c.cosines, f.Cosine)
			c.overlaps = append(c.overlaps, invert.Compare(texts[i], f.Text, v.IDs(texts[i]), f.IDs))
			c.grams = append(c.grams, invert.Pair{Reference: texts[i], Reconstruction: f.Text}.NGrams())
		}
		out = append(out, c)
	}
	return out, nil
}

// invert reconstructs texts that k edits damaged, some on each core.
func (r *Run) invert(ctx context.Context, v *invert.Inverter, arm string, k int, texts []string, steps int) ([]reconstruction, error) {
	ids := make([]string, len(texts))
	for i := range ids {
		ids[i] = fmt.Sprintf("inversion of %d edits on %s: %d", k, arm, i)
	}
	cfg := invert.DefaultConfig()
	cfg.Steps = steps
	return cases(ctx, r, ids, sideBySide*runtime.GOMAXPROCS(0), func(ctx context.Context, missing []int) ([]reconstruction, error) {
		out := make([]reconstruction, len(missing))
		calls, ctx := errgroup.WithContext(ctx)
		for from := 0; from < len(missing); from += sideBySide {
			calls.Go(func() error {
				part := missing[from:min(from+sideBySide, len(missing))]
				found, err := invertAll(ctx, v, cfg, texts, part, r.Seed)
				for b, f := range found {
					out[from+b] = reconstruction{f.Text, f.IDs, f.Cosine}
				}
				return err
			})
		}
		return out, calls.Wait()
	})
}

// invertAll reconstructs the texts with the given indices in one call.
func invertAll(ctx context.Context, v *invert.Inverter, cfg invert.Config, texts []string, items []int, seed uint64) ([]invert.Result, error) {
	part := make([]string, len(items))
	for b, i := range items {
		part[b] = texts[i]
	}
	targets, err := v.Embed(ctx, part...)
	if err != nil {
		return nil, err
	}
	for b := range targets {
		targets[b].Seed = seed
	}
	return v.Invert(ctx, targets, cfg)
}

// Figures of all texts together.
var togetherFigures = []struct {
	name string
	of   func(o invert.Overlap, g invert.NGrams) float64
}{
	{"word recall", func(o invert.Overlap, _ invert.NGrams) float64 { return o.WordRecall() }},
	{"word accuracy", func(o invert.Overlap, _ invert.NGrams) float64 { return o.WordAccuracy() }},
	{"token recall", func(o invert.Overlap, _ invert.NGrams) float64 { return o.TokenRecall() }},
	{"BLEU", func(_ invert.Overlap, g invert.NGrams) float64 { return g.BLEU() }},
}

// sum adds up the counts of some texts.
func (c recovered) sum(items []int) (o invert.Overlap, g invert.NGrams) {
	for _, i := range items {
		o, g = o.Plus(c.overlaps[i]), g.Plus(c.grams[i])
	}
	return o, g
}

// togetherRows gives the figures of all texts together, and their differences.
func togetherRows(all []recovered) []Row {
	var out []Row
	for _, f := range togetherFigures {
		of := func(c recovered, items []int) float64 { return f.of(c.sum(items)) }
		for _, c := range all {
			mean := stats.Resampled(len(c.cosines), func(items []int) float64 { return of(c, items) })
			out = append(out, Row{f.name, c.arm, "", c.attack, c.edits, mean})
		}
		for _, c := range all {
			i := slices.IndexFunc(all, func(o recovered) bool { return o.arm == robust && o.edits == c.edits })
			if i < 0 || c.arm == robust {
				continue
			}
			gain := stats.Resampled(len(c.cosines), func(items []int) float64 { return of(all[i], items) - of(c, items) })
			out = append(out, Row{f.name, robust, c.arm, c.attack, c.edits, gain})
		}
	}
	return out
}
