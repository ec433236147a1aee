package attack

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"leafserve/lexicon"
)

// naive is LEAF's search, and Charmer's, as the papers' code does it: every
// candidate is checked in full and scored, invalid ones as the text itself. It
// draws as Run does.
func naive(sentence string, index int, score Score, cfg Config) string {
	rng := newVictim(sentence, index, cfg.Seed).rng
	s := sentence
	for range cfg.Edits {
		slots := all(2*len([]rune(s)) + 1)
		if cfg.Method == Leaf {
			slots = sample(rng, len(slots), cfg.Rho)
		}
		texts := naiveStage(s, slots, []string{" "}, cfg)
		scores := naiveScores(texts, index, score)
		order := all(len(texts))
		slices.SortStableFunc(order, func(a, b int) int { return -compare(scores[a], scores[b]) })
		kept := order[:min(len(order), cfg.Rho)]
		symbols := symbols(cfg.Alphabet)
		if cfg.Method == Leaf {
			kept = order[:1]
			var drawn []string
			for _, i := range sample(rng, len(symbols), cfg.Rho) {
				drawn = append(drawn, symbols[i])
			}
			symbols = drawn
		}
		var worst []int
		for _, i := range kept {
			worst = append(worst, slots[i])
		}
		texts = naiveStage(s, worst, symbols, cfg)
		scores = naiveScores(texts, index, score)
		if len(texts) > 0 {
			s = texts[slices.Index(scores, slices.Max(scores))]
		}
	}
	return s
}

// naiveStage makes every candidate, from code points.
func naiveStage(s string, slots []int, symbols []string, cfg Config) []string {
	var texts []string
	runes := []rune(s)
	for _, slot := range slots {
		for _, symbol := range symbols {
			at, on := slot/2, slot%2
			put := symbol
			if on == 1 && string(runes[at]) == symbol {
				put = ""
			}
			text := string(runes[:at]) + put + string(runes[at+on:])
			if !Valid(cfg.Dictionary, cfg.Constraint, s, text) {
				text = s
			}
			texts = append(texts, text)
		}
	}
	if cfg.Method == Charmer && cfg.OffByOne {
		texts = texts[:len(texts)-min(1, len(texts))]
	}
	return texts
}

func naiveScores(texts []string, index int, score Score) []float64 {
	scores, _ := score(context.Background(), texts, slices.Repeat([]int{index}, len(texts)))
	return scores
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// hashScore gives every text and owner one of few values, so that ties are
// common.
func hashScore(values uint32) Score {
	return func(_ context.Context, texts []string, owner []int) ([]float64, error) {
		scores := make([]float64, len(texts))
		for i, text := range texts {
			h := fnv.New32a()
			h.Write([]byte{byte(owner[i])})
			h.Write([]byte(text))
			scores[i] = float64(h.Sum32() % values)
		}
		return scores, nil
	}
}

// parts of random sentences: words of the dictionary and not, all that the
// tokenizer treats on its own, other scripts.
var parts = strings.Split(`a|the|cat|kitchen|cars|blue|dog's|don't|cannot|wanna|well-known|3,5|u.s.|e.g.|"hello"|'tis|(a|b)|x|dogs'|end.|`+
	`no!|what?|...|--|,|:|;|«so»|’s|café|кот|猫|🐱|İn|ſo|kit|chen|kit chen| |  |`+"\t|\n|\u00a0|A|THE|Dog|`|''|.|'|3.|a.|_x_|@|#1|$3|50%|&amp;|can|not|do|n't", "|")

func randomSentence(rng *rand.Rand, most int) string {
	var words []string
	for range rng.IntN(most + 1) {
		words = append(words, parts[rng.IntN(len(parts))])
	}
	return strings.Join(words, []string{" ", " ", " ", ""}[rng.IntN(4)])
}

// TestRunAsNaive: what is left out of the search never changes what it picks.
func TestRunAsNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 250 {
		cfg := Config{
			Method: []string{Leaf, Charmer}[rng.IntN(2)], Edits: 1 + rng.IntN(3), Rho: 1 + rng.IntN(60),
			Constraint: constraints[rng.IntN(3)], OffByOne: rng.IntN(2) == 0, Seed: rng.Uint64(), Dictionary: lexicon.English(),
			Alphabet: [][]rune{nil, nil, []rune("ab 猫'."), {}}[rng.IntN(4)],
		}
		if cfg.Method == Charmer {
			cfg.Rho = 1 + rng.IntN(4)
		}
		var sentences []string
		for range 1 + rng.IntN(3) {
			sentences = append(sentences, randomSentence(rng, 6))
		}
		score := hashScore([]uint32{2, 7, 1 << 31}[rng.IntN(3)])
		results, err := Run(context.Background(), sentences, score, cfg)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		for j, s := range sentences {
			if want := naive(s, j, score, cfg); results[j].Prompt != want {
				t.Fatalf("case %d: Run(%q, %+v) = %q, want %q", i, s, cfg, results[j].Prompt, want)
			}
		}
	}
}

// TestChangeAsFull: looking only at the words around an edit gives the counts
// that all words give.
func TestChangeAsFull(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	has := lexicon.English().Has
	for range 3000 {
		checkChange(t, has, randomSentence(rng, 8), rng)
	}
}

// checkChange tries some edits of a text in both ways.
func checkChange(t *testing.T, has func(string) bool, s string, rng *rand.Rand) {
	t.Helper()
	text := newSentence(s)
	c := newChecker(has, text)
	for range 20 {
		var e edit
		if text.len() > 1 && rng.IntN(4) == 0 {
			at := rng.IntN(text.len() - 1)
			e = edit{at, 2, text.sub(at+1, at+2) + text.sub(at, at+1)}
		} else {
			e = text.slotEdit(rng.IntN(text.slots()), asciiSymbols[rng.IntN(len(asciiSymbols))])
		}
		after := newChecker(has, newSentence(text.edited(e)))
		lost, gained := 0, 0
		for w := range c.counts {
			if after.counts[w] == 0 {
				lost++
			}
		}
		for w := range after.counts {
			if c.counts[w] == 0 {
				gained++
			}
		}
		if l, g := c.change(e); l != lost || g != gained {
			t.Fatalf("change(%q → %q) = %d lost, %d gained, want %d, %d", s, text.edited(e), l, g, lost, gained)
		}
	}
}

func FuzzChange(f *testing.F) {
	for _, s := range []string{"a dog. a cat", "don't, cannot", "kit chen'", "a\u00a0b .", ""} {
		f.Add(s, uint64(1))
	}
	has := lexicon.English().Has
	f.Fuzz(func(t *testing.T, s string, seed uint64) {
		if len(s) > 300 {
			t.Skip()
		}
		checkChange(t, has, strings.ToValidUTF8(s, "?"), rand.New(rand.NewPCG(seed, 0)))
	})
}

func TestSample(t *testing.T) {
	for _, tc := range []struct{ n, k int }{{5, 0}, {5, 3}, {5, 5}, {96, 50}, {1, 1}, {1, 4}, {5, 6}, {3, 100}} {
		rng, seen, met := rand.New(rand.NewPCG(1, 1)), map[int]int{}, 0
		const times = 2000
		for range times {
			drawn := sample(rng, tc.n, tc.k)
			sorted := slices.Sorted(slices.Values(drawn))
			if len(drawn) != tc.k || tc.k > 0 && (sorted[0] < 0 || sorted[tc.k-1] >= tc.n) {
				t.Fatalf("sample(%d, %d) = %v", tc.n, tc.k, drawn)
			}
			if repeats := len(slices.Compact(sorted)) < tc.k; repeats && tc.k <= tc.n {
				t.Fatalf("sample(%d, %d) = %v, want no repeats", tc.n, tc.k, drawn)
			} else if repeats {
				met++
			}
			for _, i := range drawn {
				seen[i]++
			}
		}
		if tc.k > tc.n && met != times {
			t.Errorf("sample(%d, %d) had repeats %d times of %d", tc.n, tc.k, met, times)
		}
		for i := range tc.n {
			if want := float64(times*tc.k) / float64(tc.n); float64(seen[i]) < 0.8*want || float64(seen[i]) > 1.2*want {
				t.Errorf("sample(%d, %d) drew %d %d times, want about %.0f", tc.n, tc.k, i, seen[i], want)
			}
		}
	}
}

// TestSentencesDrawApart: sentences of one length do not get the same slots.
func TestSentencesDrawApart(t *testing.T) {
	a, b := newVictim("a cat", 0, 1), newVictim("a dog", 1, 1)
	if slices.Equal(sample(a.rng, 1000, 5), sample(b.rng, 1000, 5)) {
		t.Error("two sentences draw the same")
	}
}

// TestLeftmost: slot edits make the same text if they have the same leftmost
// edit, and only then.
func TestLeftmost(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, s := range []string{"", "a", "aaaa", "aabbb", "  a  ", "猫猫a猫", randomSentence(rng, 4), randomSentence(rng, 8)} {
		text := newSentence(s)
		edits, texts := map[string]edit{}, map[edit]string{}
		for slot := range text.slots() {
			for _, symbol := range symbols([]rune("ab 猫e")) {
				e := text.slotEdit(slot, symbol)
				after, first := text.edited(e), text.leftmost(e)
				if got := text.edited(first); got != after {
					t.Fatalf("leftmost(%+v) of %q makes %q, want %q", e, s, got, after)
				}
				if other, ok := edits[after]; ok && other != first {
					t.Errorf("%q becomes %q by %+v and by %+v", s, after, other, first)
				}
				if other, ok := texts[first]; ok && other != after {
					t.Errorf("%+v of %q stands for %q and %q", first, s, other, after)
				}
				edits[after], texts[first] = first, after
			}
		}
	}
}

// TestLongTextsAreAskedInParts: a call holds 16 MiB of text at most, also of one
// sentence; where its texts are cut apart does not depend on other sentences, and
// the edit is the naive search's.
func TestLongTextsAreAskedInParts(t *testing.T) {
	long := strings.Repeat("a cat on a blue background, ", 143)[:4000]
	cfg := Config{Method: Charmer, Edits: 1, Rho: 1, Constraint: None, Dictionary: lexicon.English()}
	run := func(sentences ...string) (found []Result, parts []int) {
		score := func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
			bytes, mine := 0, 0
			for i, text := range texts {
				bytes += len(text)
				if owner[i] == len(sentences)-1 {
					mine++
				}
			}
			if bytes > maxBytes {
				t.Errorf("a call has %d bytes, want %d at most", bytes, maxBytes)
			}
			if mine > 0 {
				parts = append(parts, mine)
			}
			return hashScore(1<<31)(ctx, texts, make([]int, len(texts)))
		}
		found, err := Run(t.Context(), sentences, score, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return found, parts
	}
	alone, parts := run(long)
	if len(parts) < 3 {
		t.Errorf("8,001 texts of 4 kB came in calls of %v", parts)
	}
	if want := naive(long, 0, hashScore(1<<31), cfg); alone[0].Prompt != want {
		t.Errorf("Run(%.20q…) has edits %+v, the naive search makes another", long, alone[0].Edits)
	}
	together, parts2 := run("a dog", long[:3000], long)
	if !slices.Equal(parts2, parts) || together[2].Prompt != alone[0].Prompt {
		t.Errorf("beside others: calls of %v, edits %+v, alone %v, %+v", parts2, together[2].Edits, parts, alone[0].Edits)
	}
}

// ending is a context that is canceled when its Err is called for the last time.
type ending struct {
	context.Context
	left int
}

func (c *ending) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelReachesTheCheck: candidates are not all checked before a cancel is
// seen.
func TestCancelReachesTheCheck(t *testing.T) {
	cfg := Config{Method: Charmer, Edits: 1, Rho: 1, Constraint: NoIncrease}
	never := func(context.Context, []string, []int) ([]float64, error) {
		t.Error("asked after a cancel")
		return nil, context.Canceled
	}
	if _, err := Run(&ending{t.Context(), 50}, []string{strings.Repeat("🐱", 100)}, never, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want it to be canceled", err)
	}
}

// TestFitting: no request makes candidates that fill the memory.
func TestFitting(t *testing.T) {
	victims := func(n, length int) []*victim {
		list := make([]*victim, n)
		for i := range list {
			list[i] = newVictim(strings.Repeat("x", length), i, 1)
		}
		return list
	}
	for _, tc := range []struct {
		name      string
		method    string
		rho       int
		n, length int
		want      int
	}{
		{"leaf, short", Leaf, 50, 256, 60, 256},
		{"leaf, long", Leaf, 200, 400, 4000, 327},
		{"charmer, short", Charmer, 20, 256, 60, 34},
		{"charmer, long", Charmer, 20, 256, 4000, 8},
		{"charmer, brute force", Charmer, 1 << 62, 256, 4000, 1},
		{"empty", Leaf, 50, 3, 0, 3},
	} {
		s := &search{cfg: Config{Method: tc.method, Rho: tc.rho}, symbols: asciiSymbols}
		if got := s.fitting(victims(tc.n, tc.length)); got != tc.want {
			t.Errorf("%s: %d victims together, want %d", tc.name, got, tc.want)
		}
	}
}
