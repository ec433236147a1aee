package attack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"unicode/utf8"

	"leafserve"
)

// search runs leaf or charmer over all victims, stage by stage together.
type search struct {
	cfg     Config
	score   Score
	symbols []string
}

// hunt is the state of the search for one victim.
type hunt struct {
	*victim
	scores  map[edit]float64 // of the texts asked about in this round, by leftmost edit
	check   *checker         // of the text of this round
	options []option         // candidates of this stage
	done    bool
}

// option is one candidate.
type option struct {
	slot  int
	edit  edit    // one that is not valid leaves the text as it is: edit{}
	score float64 // of the text after it, once asked about
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

// maxCandidates is how many candidates a stage may have; a victim that has more
// is searched alone. One takes about 200 bytes, and a Score may need a kilobyte.
const maxCandidates = 1 << 16

// fitting gives how many of victims, at least one, are searched together.
func (s *search) fitting(victims []*victim) int {
	total := 0
	for i, v := range victims {
		candidates := s.cfg.Rho
		if s.cfg.Method == Charmer {
			candidates = max(v.text.slots(), min(s.cfg.Rho, v.text.slots())*len(s.symbols))
		}
		if total += candidates; total > maxCandidates && i > 0 {
			return i
		}
	}
	return len(victims)
}

// run searches for all edits of some victims.
func (s *search) run(ctx context.Context, victims []*victim) error {
	hunts := make([]*hunt, len(victims))
	for i, v := range victims {
		hunts[i] = &hunt{victim: v, scores: map[edit]float64{}}
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
		if err := s.try(ctx, h, s.drawSlots(h), []string{" "}); err != nil {
			return err
		}
	}
	if err := s.ask(ctx, hunts); err != nil {
		return err
	}
	for _, h := range hunts {
		if err := s.try(ctx, h, s.keep(h), s.drawSymbols(h)); err != nil {
			return err
		}
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
	slices.SortStableFunc(ranked, func(a, b option) int { return cmp.Compare(b.score, a.score) })
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
// is not valid leaves the text as it is, and so takes part as that. It ends with
// ctx's error: the check of one edit may read all of a long text.
func (s *search) try(ctx context.Context, h *hunt, slots []int, symbols []string) error {
	h.options = h.options[:0]
	for _, slot := range slots {
		for _, symbol := range symbols {
			h.options = append(h.options, option{slot: slot, edit: h.text.slotEdit(slot, symbol)})
		}
	}
	if s.cfg.Method == Charmer && s.cfg.OffByOne {
		h.options = h.options[:max(0, len(h.options)-1)]
	}
	for i := range h.options {
		if err := ctx.Err(); err != nil {
			return err
		}
		if o := &h.options[i]; !o.edit.none() && h.check.allows(s.cfg.Constraint, o.edit) {
			h.Valid++
		} else {
			o.edit = edit{}
		}
	}
	h.Candidates += len(h.options)
	return nil
}

// ask gives every option its score. It asks about the texts that have none in
// this round, in calls of maxBytes.
func (s *search) ask(ctx context.Context, hunts []*hunt) error {
	var c call
	for _, h := range hunts {
		// Where a hunt's texts are cut apart does not depend on the other hunts:
		// to the bit, a score may depend on what is asked with it.
		for edits := range slices.Chunk(h.unknown(), max(1, maxBytes/h.mostBytes())) {
			if len(c.texts) > 0 && c.bytes+len(edits)*h.mostBytes() > maxBytes {
				if err := s.send(ctx, c); err != nil {
					return err
				}
				c = call{}
			}
			c.add(h, edits)
		}
	}
	if err := s.send(ctx, c); err != nil {
		return err
	}
	for _, h := range hunts {
		for i, o := range h.options {
			h.options[i].score = h.scores[h.text.leftmost(o.edit)]
		}
	}
	return nil
}

// unknown gives an edit for each different text among h's options that has no
// score yet; none where no option changes the text, as there is nothing to
// choose.
func (h *hunt) unknown() []edit {
	if !slices.ContainsFunc(h.options, func(o option) bool { return !o.edit.none() }) {
		return nil
	}
	var edits []edit
	for _, o := range h.options {
		e := h.text.leftmost(o.edit)
		if _, asked := h.scores[e]; !asked {
			h.scores[e] = math.Inf(-1) // until the answer is there
			edits = append(edits, e)
		}
	}
	h.Scored += len(edits)
	return edits
}

// mostBytes bounds the bytes of h's text after an edit.
func (h *hunt) mostBytes() int { return len(h.Prompt) + utf8.UTFMax }

// maxBytes is how much text one call of Score is given, if it is not a single
// text that is longer.
const maxBytes = 16 << 20

// call is what Score is asked at once.
type call struct {
	texts []string
	owner []int
	of    []asked // [texts]
	bytes int     // of texts, about
}

// asked says where a score belongs.
type asked struct {
	hunt *hunt
	edit edit
}

func (c *call) add(h *hunt, edits []edit) {
	for _, e := range edits {
		c.texts, c.owner, c.of = append(c.texts, h.text.edited(e)), append(c.owner, h.sentence), append(c.of, asked{h, e})
	}
	c.bytes += len(edits) * h.mostBytes()
}

// send has a call answered.
func (s *search) send(ctx context.Context, c call) error {
	if err := ctx.Err(); err != nil || len(c.texts) == 0 {
		return err
	}
	scores, err := s.score(ctx, c.texts, c.owner)
	if err != nil {
		return err
	}
	if len(scores) != len(c.texts) {
		return leafserve.Errorf(leafserve.Internal, "score gave %d values for %d texts", len(scores), len(c.texts))
	}
	for i, a := range c.of {
		if math.IsNaN(scores[i]) {
			return leafserve.Errorf(leafserve.Internal, "the score of %.64q is not a number", c.texts[i])
		}
		a.hunt.scores[a.edit] = scores[i]
	}
	return nil
}

// finish makes the edit of the worst option, the first of equals. Of the scores
// it keeps the one of the text that the next round starts from.
func (s *search) finish(h *hunt) {
	var best option
	for i, o := range h.options {
		if i == 0 || o.score > best.score {
			best = o
		}
	}
	score, asked := h.scores[h.text.leftmost(best.edit)]
	h.scores = map[edit]float64{}
	if asked {
		h.scores[edit{}] = score
	}
	if best.edit.none() {
		h.done = s.cfg.Method == Charmer // it would try the same again
		return
	}
	h.apply(best.edit)
	h.Score = best.score
	h.done = s.cfg.Stop != nil && s.cfg.Stop(h.sentence, h.Prompt, h.Score)
}
