package attack

import (
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"unicode/utf8"

	"leafserve"
	"leafserve/lexicon"
)

// Score tells how far texts are from what they should be: higher is worse.
// texts[i] is an edited form of sentence owner[i], an index into the sentences
// of Run. The same text and owner must have the same score at each call; NaN
// and a wrong number of scores are errors.
type Score func(ctx context.Context, texts []string, owner []int) ([]float64, error)

// Result is what became of one sentence.
type Result struct {
	Prompt     string           // damaged; the clean one where no edit was valid or none was worse
	Edits      []leafserve.Edit // in order, each of the text before it; never nil
	Candidates int              // edits tried
	Valid      int              // of them, those that changed the text and were valid
	Scored     int              // texts handed to Score
	Score      float64          // of Prompt; NaN where Score was not asked about it
}

// Run damages every sentence and gives one Result a sentence. It calls score,
// which only leaf and charmer need, once a stage for all sentences together, more
// often where there are over 65,536 candidates or 16 MiB of text, and in one
// round never twice for the same text of a sentence. It holds no more text than a
// call does, and forgets a round's scores when the edit is made. It wraps score's
// and ctx's errors; all others are Invalid and name the field of the request.
func Run(ctx context.Context, sentences []string, score Score, cfg Config) ([]Result, error) {
	if err := cfg.check(sentences); err != nil {
		return nil, err
	}
	if cfg.Dictionary == nil {
		cfg.Dictionary = lexicon.English()
	}
	victims := make([]*victim, len(sentences))
	for i, s := range sentences {
		victims[i] = newVictim(s, i, cfg.Seed)
	}
	var err error
	switch {
	case searches(cfg.Method):
		err = searchAll(ctx, victims, score, cfg)
	case cfg.Method == Manual:
		victims[0].byHand(cfg.Manual)
	default:
		err = typeAll(ctx, victims, cfg)
	}
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(sentences))
	for i := range results {
		results[i] = victims[i].Result
	}
	return results, nil
}

func (cfg Config) check(sentences []string) error {
	for _, s := range sentences {
		if !utf8.ValidString(s) {
			return leafserve.InvalidField("prompt", "prompt %.64q is not valid UTF-8", s)
		}
	}
	if err := oneOf("attack.method", cfg.Method, methods); err != nil {
		return err
	}
	if cfg.Method == Manual {
		if len(sentences) != 1 {
			return leafserve.InvalidField("attack.prompt", "method manual damages one prompt, not %d", len(sentences))
		}
		if cfg.Manual == sentences[0] {
			return leafserve.InvalidField("attack.prompt", "attack.prompt is the prompt itself: change a character")
		}
		return checkManual(cfg.Manual)
	}
	if err := inRange("attack.edits", cfg.Edits, math.MaxInt); err != nil {
		return err
	}
	if err := oneOf("attack.constraint", cfg.Constraint, constraints); err != nil || !searches(cfg.Method) {
		return err
	}
	for _, r := range cfg.Alphabet {
		if !utf8.ValidRune(r) {
			return leafserve.InvalidField("attack.alphabet", "the alphabet has %#x, which is no character", r)
		}
	}
	return inRange("attack.rho", cfg.Rho, math.MaxInt)
}

// victim is one sentence under attack.
type victim struct {
	Result
	sentence int       // its index
	text     *sentence // Result.Prompt
	rng      *rand.Rand
}

func newVictim(s string, index int, seed uint64) *victim {
	h := fnv.New64a()
	h.Write([]byte(s))
	return &victim{
		Result:   Result{Prompt: s, Edits: []leafserve.Edit{}, Score: math.NaN()},
		sentence: index,
		text:     newSentence(s),
		rng:      rand.New(rand.NewPCG(seed, h.Sum64())),
	}
}

// apply makes e, an edit of v's text.
func (v *victim) apply(e edit) {
	v.Edits = append(v.Edits, v.text.public(e))
	v.Prompt = v.text.edited(e)
	v.text = newSentence(v.Prompt)
}
