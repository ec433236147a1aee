package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"unicode"
	"unicode/utf8"

	"leafserve"
	"leafserve/attack"
	"leafserve/lexicon"
	"leafserve/textenc"
)

// A prompt's health is worth a word on words of brokenPieces tokens and more; its
// fragility is the mean over typoDraws random typos, always the same ones.
const (
	brokenPieces = 3
	typoDraws    = 12
)

// Damaged is the rule by which encoder "auto" takes the robust encoder: the
// spelling corrector would change a word of the prompt.
func Damaged(prompt string) bool {
	_, fixes := lexicon.English().Correct(prompt)
	return len(fixes) > 0
}

// auto resolves encoder "auto"; a model without the pair keeps its default.
func (f *Folder) auto(prompt string) string {
	switch {
	case !slices.Contains(f.Info.Encoders, standard) || !slices.Contains(f.Info.Encoders, robust):
		return f.Info.DefaultEncoder
	case Damaged(prompt):
		return robust
	}
	return standard
}

// healthKept is how many prompts' health is kept.
const healthKept = 4096

// healthKey is what a prompt's health depends on.
type healthKey struct{ encoder, prompt string }

// health is the health of a request's prompt, from the cache if it can. A job
// does not fail for want of it: then it is nil.
func (m *Model) health(ctx context.Context, r leafserve.Request) *leafserve.Health {
	key := healthKey{r.Encoder, r.Prompt}
	if h, ok := m.healths.Get(key); ok {
		return &h
	}
	h, err := m.Encoders.Health(ctx, r.Encoder, r.Prompt)
	if err != nil {
		slog.Warn("health of a prompt not known", "err", err)
		return nil
	}
	m.healths.Add(key, h)
	return &h
}

// Health tells what an encoder will think of a prompt: how much of its context
// it takes, which words fall apart or look misspelled, and how far one random
// typo would move it (the mean of typoDraws, the same for the same prompt).
func (e Encoders) Health(ctx context.Context, encoder, prompt string) (leafserve.Health, error) {
	enc, err := e.named(encoder)
	if err != nil {
		return leafserve.Health{}, err
	}
	_, fixes := lexicon.English().Correct(prompt)
	h := leafserve.Health{
		Tokens: len(enc.Tokenize(prompt).Tokens) + 2, Limit: enc.Config.Context,
		Words: oddWords(enc, prompt, fixes), Damaged: len(fixes) > 0,
	}
	h.Fragility, err = fragility(ctx, enc, prompt)
	return h, err
}

// oddWords lists, in order, the words that the corrector would change and of
// the others those that fall into many tokens.
func oddWords(enc *textenc.Encoder, prompt string, fixes []lexicon.Fix) []leafserve.HealthWord {
	type placed struct {
		at   int
		word leafserve.HealthWord
	}
	var odd []placed
	pieces := func(word string) int { return len(enc.Tokenize(word).Tokens) }
	for _, f := range fixes {
		odd = append(odd, placed{f.At, leafserve.HealthWord{Word: f.From, Pieces: pieces(f.From), Misspelled: true, Suggestion: f.To}})
	}
	text := []rune(prompt)
	for at := 0; at < len(text); {
		end := at + wordLength(text[at:])
		word := string(text[at:end])
		fixed := func(f lexicon.Fix) bool { return f.At < end && at < f.At+utf8.RuneCountInString(f.From) }
		if n := pieces(word); n >= brokenPieces && !slices.ContainsFunc(fixes, fixed) {
			odd = append(odd, placed{at, leafserve.HealthWord{Word: word, Pieces: n}})
		}
		at = max(at+1, end)
	}
	slices.SortFunc(odd, func(a, b placed) int { return a.at - b.at })
	words := make([]leafserve.HealthWord, len(odd))
	for i, o := range odd {
		words[i] = o.word
	}
	return words
}

// wordLength is how many characters the word has that text begins with, 0 where
// a blank or a sign of punctuation comes first.
func wordLength(text []rune) int {
	n := 0
	for n < len(text) && !unicode.IsSpace(text[n]) && !unicode.IsPunct(text[n]) {
		n++
	}
	return n
}

// fragility is the mean pooled drift, 1 − cosine, under random typos.
func fragility(ctx context.Context, enc *textenc.Encoder, prompt string) (float64, error) {
	texts := []string{prompt}
	for seed := range uint64(typoDraws) {
		typos, err := attack.Run(ctx, []string{prompt}, nil, attack.Config{Method: attack.Random, Edits: 1, Constraint: attack.NoIncrease, Seed: seed})
		if err != nil {
			return 0, err
		}
		texts = append(texts, typos[0].Prompt)
	}
	anchors, err := enc.Anchors(ctx, texts[:1], textenc.Cosine)
	if err != nil {
		return 0, err
	}
	drifts, err := enc.Scores(textenc.Cosine, anchors)(ctx, texts[1:], make([]int, typoDraws))
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, d := range drifts {
		sum += d
	}
	return sum / typoDraws, nil
}
