package attack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"leafserve"
)

// search runs leaf or charmer over all victims, stage by stage together.
type search struct {
	cfg     Config
	score   Score
	symbols []string
	hunts   map[int]*hunt // by sentence
}

// hunt is the state of the search for one victim.
type hunt struct {
	*victim
	scores  map[string]float64 // of every text asked about
	check   *checker           // of the text of this round
	options []option           // candidates of this stage
	done    bool
}

// option is one candidate.
type option struct {
	slot int
	edit edit
	text string // after the edit; the text before it if the edit is not valid
}

// searchAll runs leaf or charmer, as cfg says, over batches of victims.
func searchAll(ctx context.Context, victims []*victim, score Score, cfg Config) error {
	s := &search{cfg: cfg, score: score, symbols: symbols(cfg.Alphabet)}
	for len(victims) > 0 {
		n := s.fitting(victims)
		if err := s.run(ctx, victims[:n]); err != nil {
			return err
		}
		victims = victims[n:]
	}
	return nil
}

// maxBytes is how much text the candidates of one stage may hold; a victim
// that needs more is searched alone.
const maxBytes = 64 << 20

// fitting gives how many of victims, at least one, are searched together.
func (s *search) fitting(victims []*victim) int {
	bytes := 0
	for i, v := range victims {
		candidates := s.cfg.Rho
		if s.cfg.Method == Charmer {
			candidates = max(v.text.slots(), min(s.cfg.Rho, v.text.slots())*len(s.symbols))
		}
		if bytes += candidates * len(v.Prompt); bytes > maxBytes && i > 0 {
			return i
		}
	}
	return len(victims)
}

// run searches for all edits of some victims.
func (s *search) run(ctx context.Context, victims []*victim) error {
	s.hunts = map[int]*hunt{}
	hunts := make([]*hunt, len(victims))
	for i, v := range victims {
		hunts[i] = &hunt{victim: v, scores: map[string]float64{}}
		s.hunts[v.sentence] = hunts[i]
	}
	for round := range s.cfg.Edits {
		hunts = slices.DeleteFunc(hunts, func(h *hunt) bool { return h.done })
		if err := s.round(ctx, hunts); err != nil {
			return fmt.Errorf("%s, edit %d of %d: %w", s.cfg.Method, round+1, s.cfg.Edits, err)
		}
	}
	return nil
}

// round makes one edit in each text: stage 1 finds where, with a blank as the
// symbol, stage 2 what.
func (s *search) round(ctx context.Context, hunts []*hunt) error {
	for _, h := range hunts {
		h.check = newChecker(s.cfg.Dictionary.Has, h.text)
		s.try(h, s.drawSlots(h), []string{" "})
	}
	if err := s.ask(ctx, hunts); err != nil {
		return err
	}
	for _, h := range hunts {
		s.try(h, s.keep(h), s.drawSymbols(h))
	}
	if err := s.ask(ctx, hunts); err != nil {
		return err
	}
	for _, h := range hunts {
		s.finish(h)
	}
	return nil
}

// drawSlots gives the slots that stage 1 tries.
func (s *search) drawSlots(h *hunt) []int {
	if s.cfg.Method == Leaf {
		return sample(h.rng, h.text.slots(), s.cfg.Rho)
	}
	all := make([]int, h.text.slots())
	for i := range all {
		all[i] = i
	}
	return all
}

func (s *search) drawSymbols(h *hunt) []string {
	if s.cfg.Method == Charmer {
		return s.symbols
	}
	var drawn []string
	for _, i := range sample(h.rng, len(s.symbols), s.cfg.Rho) {
		drawn = append(drawn, s.symbols[i])
	}
	return drawn
}

// sample draws k of 0…n−1, without replacement if k ≤ n, else with.
func sample(rng *rand.Rand, n, k int) []int {
	if k <= n {
		return rng.Perm(n)[:k]
	}
	drawn := make([]int, k)
	for i := range drawn {
		drawn[i] = rng.IntN(n)
	}
	return drawn
}

// keep gives the slots that stage 2 goes on with: leaf's is the worst, the
// first drawn of equals; charmer's the Rho worst, the leftmost of equals.
func (s *search) keep(h *hunt) []int {
	ranked := slices.Clone(h.options)
	slices.SortStableFunc(ranked, func(a, b option) int { return cmp.Compare(h.scores[b.text], h.scores[a.text]) })
	kept := min(s.cfg.Rho, len(ranked))
	if s.cfg.Method == Leaf {
		kept = 1
	}
	slots := make([]int, kept)
	for i := range slots {
		slots[i] = ranked[i].slot
	}
	return slots
}

// try makes h's options for a stage: every symbol at every slot. An edit that
// is not valid leaves the text as it is, and so takes part as that.
func (s *search) try(h *hunt, slots []int, symbols []string) {
	h.options = h.options[:0]
	for _, slot := range slots {
		for _, symbol := range symbols {
			h.options = append(h.options, option{slot, h.text.slotEdit(slot, symbol), h.Prompt})
		}
	}
	if s.cfg.Method == Charmer && s.cfg.OffByOne {
		h.options = h.options[:max(0, len(h.options)-1)]
	}
	for i := range h.options {
		if o := &h.options[i]; !o.edit.none() && h.check.allows(s.cfg.Constraint, o.edit) {
			o.text = h.text.edited(o.edit)
			h.Valid++
		}
	}
	h.Candidates += len(h.options)
}

// ask has the texts scored that were not before.
func (s *search) ask(ctx context.Context, hunts []*hunt) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var texts []string
	var owner []int
	for _, h := range hunts {
		for _, text := range h.unknown() {
			texts, owner = append(texts, text), append(owner, h.sentence)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	scores, err := s.score(ctx, texts, owner)
	if err != nil {
		return err
	}
	if len(scores) != len(texts) {
		return leafserve.Errorf(leafserve.Internal, "score gave %d values for %d texts", len(scores), len(texts))
	}
	for i, text := range texts {
		if math.IsNaN(scores[i]) {
			return leafserve.Errorf(leafserve.Internal, "the score of %.64q is not a number", text)
		}
		s.hunts[owner[i]].scores[text] = scores[i]
	}
	return nil
}

// unknown gives the different texts among h's options that have no score yet;
// none where no option changes the text, as there is nothing to choose.
func (h *hunt) unknown() []string {
	if !slices.ContainsFunc(h.options, func(o option) bool { return o.text != h.Prompt }) {
		return nil
	}
	var texts []string
	for _, o := range h.options {
		if _, asked := h.scores[o.text]; !asked {
			h.scores[o.text] = math.Inf(-1) // until the answer is there
			texts = append(texts, o.text)
		}
	}
	h.Scored += len(texts)
	return texts
}

// finish makes the edit of the worst option, the first of equals.
func (s *search) finish(h *hunt) {
	best := -1
	for i, o := range h.options {
		if best < 0 || h.scores[o.text] > h.scores[h.options[best].text] {
			best = i
		}
	}
	if best < 0 || h.options[best].text == h.Prompt {
		h.done = s.cfg.Method == Charmer // it would try the same again
		return
	}
	h.apply(h.options[best].edit)
	h.Score = h.scores[h.Prompt]
	h.done = s.cfg.Stop != nil && s.cfg.Stop(h.sentence, h.Prompt, h.Score)
}
