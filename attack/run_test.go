package attack_test

import (
	"context"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"leafserve"
	"leafserve/attack"
	"leafserve/lexicon"
)

var methods = []string{attack.Leaf, attack.Charmer, attack.Random, attack.Keyboard, attack.Swap, attack.Homoglyph}

// rarity is a score that likes texts with many different characters, and
// something of every place.
func rarity(_ context.Context, texts []string, owner []int) ([]float64, error) {
	scores := make([]float64, len(texts))
	for i, text := range texts {
		for j, r := range text {
			scores[i] += math.Sin(float64(r) * float64(j+1+owner[i]))
		}
	}
	return scores, nil
}

// replay makes edits one after the other and fails where one does not fit.
func replay(t *testing.T, clean string, edits []leafserve.Edit) string {
	t.Helper()
	text := []rune(clean)
	for _, e := range edits {
		from := []rune(e.From)
		if e.At < 0 || e.At+len(from) > len(text) || string(text[e.At:e.At+len(from)]) != e.From {
			t.Fatalf("edit %+v does not fit %q", e, string(text))
		}
		want := map[string][2]int{"insert": {0, 1}, "delete": {1, 0}, "replace": {1, 1}, "swap": {2, 2}}
		if got := [2]int{len(from), utf8.RuneCountInString(e.To)}; got != want[e.Op] {
			t.Fatalf("edit %+v takes and puts %v characters, want %v", e, got, want[e.Op])
		}
		text = slices.Concat(text[:e.At], []rune(e.To), text[e.At+len(from):])
	}
	return string(text)
}

// levenshtein is the distance without swaps.
func levenshtein(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		diagonal := row[0]
		row[0]++
		for j := range y {
			cost := diagonal
			if x[i] != y[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(y)]
}

func TestRunOnBadInput(t *testing.T) {
	for _, tc := range []struct {
		name, prompt string
		damaged      string // methods that must find an edit under no-increase
	}{
		{"empty", "", ""},
		{"one letter", "a", "homoglyph"}, // every other letter is a word
		{"one sign", "?", ""},
		{"no letters", "1234 5678!", ""},
		{"blanks", " \t\n ", ""},
		{"4,000 characters", strings.Repeat("a cat on a blue background, ", 143)[:4000], "leaf random keyboard swap homoglyph"},
		{"emoji", "🐱🐶🦊", ""},
		{"emoji and words", "🐱 kitchen 🐶", "leaf charmer random keyboard swap homoglyph"},
		{"right to left", "חתול על רקע כחול", "random swap"},
		{"combining marks", "e\u0301te\u0301", ""},
		{"replacement character", "a \ufffd kitchen", "leaf charmer random keyboard swap homoglyph"},
		{"NUL", "a \x00 kitchen", "leaf charmer random keyboard swap homoglyph"},
	} {
		for _, method := range methods {
			t.Run(tc.name+"/"+method, func(t *testing.T) {
				cfg := attack.Config{Method: method, Edits: 8, Rho: 20, Constraint: attack.NoIncrease, Seed: 3}
				if method == attack.Charmer && len(tc.prompt) > 1000 {
					cfg.Edits, cfg.Rho = 1, 1
				}
				results, err := attack.Run(context.Background(), []string{tc.prompt}, rarity, cfg)
				if err != nil {
					t.Fatal(err)
				}
				r := results[0]
				if got := replay(t, tc.prompt, r.Edits); got != r.Prompt {
					t.Errorf("the edits %+v of %q give %q, not %q", r.Edits, tc.prompt, got, r.Prompt)
				}
				if r.Edits == nil {
					t.Error("Edits is nil")
				}
				if strings.Contains(tc.damaged, method) && len(r.Edits) == 0 {
					t.Errorf("no edit of %q found", tc.prompt)
				}
			})
		}
	}
}

func TestRunWithoutSentences(t *testing.T) {
	results, err := attack.Run(context.Background(), nil, rarity, attack.Config{Method: attack.Leaf, Edits: 1, Rho: 1, Constraint: attack.None})
	if err != nil || len(results) != 0 {
		t.Errorf("Run of nothing = %v, %v", results, err)
	}
}

// TestRunWhereNothingIsValid: without a dictionary word strict allows no edit,
// and there is nothing to ask.
func TestRunWhereNothingIsValid(t *testing.T) {
	for _, method := range methods {
		r, err := attack.Run(context.Background(), []string{"cars 1234"}, func(context.Context, []string, []int) ([]float64, error) {
			return nil, errors.New("asked")
		}, attack.Config{Method: method, Edits: 3, Rho: 50, Constraint: attack.Strict, Seed: 1})
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if r[0].Prompt != "cars 1234" || len(r[0].Edits) != 0 || r[0].Valid != 0 || !math.IsNaN(r[0].Score) {
			t.Errorf("%s: Run = %+v, want the clean prompt", method, r[0])
		}
	}
}

func TestRunIsDeterministic(t *testing.T) {
	prompts := []string{"a cat on a blue background", "show me a 3d mug of beer", "a cat on a blue background", "", "the kitchen"}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			cfg := attack.Config{Method: method, Edits: 2, Rho: 10, Constraint: attack.NoIncrease, Seed: 7}
			bySentence := func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
				return rarity(ctx, texts, make([]int, len(texts)))
			}
			together, err := attack.Run(context.Background(), prompts, bySentence, cfg)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range prompts {
				alone, err := attack.Run(context.Background(), []string{p}, bySentence, cfg)
				if err != nil {
					t.Fatal(err)
				}
				a, b := alone[0], together[i]
				if math.IsNaN(a.Score) && math.IsNaN(b.Score) {
					a.Score, b.Score = 0, 0
				}
				if !reflect.DeepEqual(a, b) {
					t.Errorf("%q alone gives %+v, in the batch %+v", p, a, b)
				}
			}
			cfg.Seed = 8
			other, err := attack.Run(context.Background(), prompts, bySentence, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if method != attack.Charmer && other[0].Prompt == together[0].Prompt && other[1].Prompt == together[1].Prompt {
				t.Errorf("seeds 7 and 8 both give %q", other[0].Prompt)
			}
		})
	}
}

// TestRunIsPinned: a report can be made again, also by a later version.
func TestRunIsPinned(t *testing.T) {
	for _, tc := range []struct{ method, want string }{
		{attack.Leaf, "a cat on a blPe backgrohund"},
		{attack.Charmer, "a cat on a blue backgrohunz"},
		{attack.Random, "a cat on a blue babckground"},
		{attack.Keyboard, "a cat on a blhe vackground"},
		{attack.Swap, "a cat on a bleu abckground"},
		{attack.Homoglyph, "a cat on a blսe Ьackground"},
	} {
		r, err := attack.Run(context.Background(), []string{"a cat on a blue background"}, rarity, attack.Config{
			Method: tc.method, Edits: 2, Rho: 20, Constraint: attack.NoIncrease, Seed: 42,
		})
		if err != nil {
			t.Fatal(err)
		}
		if r[0].Prompt != tc.want {
			t.Errorf("%s: %q, want %q", tc.method, r[0].Prompt, tc.want)
		}
	}
}

// TestRunAsksOnce: one call a stage, and no text of a sentence twice in a round,
// nor the text that a round starts from if it has a score.
func TestRunAsksOnce(t *testing.T) {
	calls, texts, asked := 0, 0, map[string]bool{}
	clean := map[string]bool{}
	score := func(ctx context.Context, asks []string, owner []int) ([]float64, error) {
		if calls%2 == 0 {
			clear(asked)
		}
		calls++
		for i, text := range asks {
			key := string(rune('0'+owner[i])) + text
			if asked[key] || clean[key] {
				t.Errorf("%q of sentence %d asked again", text, owner[i])
			}
			asked[key] = true
		}
		texts += len(asks)
		return rarity(ctx, asks, owner)
	}
	starts := func(sentence int, text string, _ float64) bool {
		clean[string(rune('0'+sentence))+text] = true
		return false
	}
	prompts := []string{"a cat on a blue background", "a dog on a red background", "a cat on a blue background"}
	results, err := attack.Run(context.Background(), prompts, score, attack.Config{
		Method: attack.Leaf, Edits: 3, Rho: 50, Constraint: attack.NoIncrease, Seed: 1, Stop: starts,
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 6 {
		t.Errorf("%d calls of the score, want 6", calls)
	}
	if n := results[0].Scored + results[1].Scored + results[2].Scored; n != texts {
		t.Errorf("Scored says %d texts, %d were asked about", n, texts)
	}
	if results[0].Candidates != 300 || results[0].Valid >= 300 || results[0].Scored > results[0].Valid+1 {
		t.Errorf("Candidates, Valid, Scored = %d, %d, %d", results[0].Candidates, results[0].Valid, results[0].Scored)
	}
}

func TestRunStops(t *testing.T) {
	var seen []string
	cfg := attack.Config{Method: attack.Charmer, Edits: 5, Rho: 3, Constraint: attack.None, Stop: func(i int, text string, score float64) bool {
		seen = append(seen, text)
		return len(seen) == 2
	}}
	r, err := attack.Run(context.Background(), []string{"a cat"}, rarity, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(r[0].Edits) != 2 || len(seen) != 2 || seen[1] != r[0].Prompt {
		t.Errorf("stopped after %d edits, asked about %q", len(r[0].Edits), seen)
	}
	if want, _ := rarity(context.Background(), []string{r[0].Prompt}, []int{0}); r[0].Score != want[0] {
		t.Errorf("Score = %v, want %v", r[0].Score, want[0])
	}
}

// TestOffByOne: with the bug, nothing can be put at the end of the text.
func TestOffByOne(t *testing.T) {
	longest := func(_ context.Context, texts []string, _ []int) ([]float64, error) {
		scores := make([]float64, len(texts))
		for i, text := range texts {
			scores[i] = float64(strings.Index(text+"  ", " ")) // the later the first blank
		}
		return scores, nil
	}
	for _, tc := range []struct {
		bug  bool
		want string
	}{{false, "catz"}, {true, "cazt"}} {
		r, err := attack.Run(context.Background(), []string{"cat"}, longest, attack.Config{
			Method: attack.Charmer, Edits: 1, Rho: 1, Constraint: attack.None, OffByOne: tc.bug, Alphabet: []rune("z"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := r[0].Candidates; tc.bug && got != 6+1 || !tc.bug && got != 7+2 {
			t.Errorf("bug %v: %d candidates", tc.bug, got)
		}
	}
}

func TestRunErrors(t *testing.T) {
	good := attack.Config{Method: attack.Leaf, Edits: 1, Rho: 5, Constraint: attack.None}
	with := func(change func(*attack.Config)) attack.Config {
		cfg := good
		change(&cfg)
		return cfg
	}
	short := func(context.Context, []string, []int) ([]float64, error) { return []float64{1}, nil }
	nan := func(_ context.Context, texts []string, _ []int) ([]float64, error) {
		return slices.Repeat([]float64{math.NaN()}, len(texts)), nil
	}
	broken := func(context.Context, []string, []int) ([]float64, error) { return nil, io.ErrUnexpectedEOF }
	for _, tc := range []struct {
		name   string
		prompt string
		score  attack.Score
		cfg    attack.Config
		kind   leafserve.Kind
		text   string
	}{
		{"not UTF-8", "a\xff", rarity, good, leafserve.Invalid, `prompt "a\xff" is not valid UTF-8`},
		{"no edits", "a", rarity, with(func(c *attack.Config) { c.Edits = 0 }), leafserve.Invalid, "attack.edits is 0"},
		{"no rho", "a", rarity, with(func(c *attack.Config) { c.Rho = 0 }), leafserve.Invalid, "attack.rho is 0"},
		{"no constraint", "a", rarity, with(func(c *attack.Config) { c.Constraint = "" }), leafserve.Invalid, "strict, no-increase, none"},
		{"no method", "a", rarity, with(func(c *attack.Config) { c.Method = "x" }), leafserve.Invalid, "leaf, charmer, random, keyboard, swap, homoglyph, manual"},
		{"no character", "a", rarity, with(func(c *attack.Config) { c.Alphabet = []rune{0xd800} }), leafserve.Invalid, "0xd800"},
		{"too few scores", "a cat", short, good, leafserve.Internal, "score gave 1 values for"},
		{"NaN", "a cat", nan, good, leafserve.Internal, "is not a number"},
		{"score fails", "a cat", broken, good, leafserve.Internal, "leaf, edit 1 of 1: unexpected EOF"},
		{"manual typo equal to the prompt", "a cat", nil, attack.Config{Method: attack.Manual, Manual: "a cat"}, leafserve.Invalid, "attack.prompt is the prompt itself"},
		{"manual without a typo", "a cat", nil, attack.Config{Method: attack.Manual}, leafserve.Invalid, "attack.prompt is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := attack.Run(context.Background(), []string{tc.prompt}, tc.score, tc.cfg)
			if leafserve.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Run: %v (%s), want %s with %q", err, leafserve.KindOf(err), tc.kind, tc.text)
			}
		})
	}
	if _, err := attack.Run(context.Background(), []string{"a cat"}, broken, good); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the score's error is lost: %v", err)
	}
}

func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, method := range methods {
		_, err := attack.Run(ctx, []string{"a cat"}, rarity, attack.Config{Method: method, Edits: 1, Rho: 5, Constraint: attack.None})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want a canceled context", method, err)
		}
	}
}

// TestTyposAreNoWords: the typists never make a word of another, and each makes
// its own kind of edit.
func TestTyposAreNoWords(t *testing.T) {
	d := lexicon.English()
	prompts := []string{
		"a cat on a blue background", "the cars that walked along", "show me cartoon kiwi on a plain green background, detailed",
		"On no account", "A DOG", "hat bat rat cat mat", "a nice picture of mobile phone",
	}
	ops := map[string]string{
		attack.Random: "swap delete insert replace", attack.Keyboard: "replace", attack.Swap: "swap", attack.Homoglyph: "replace",
	}
	for method, kinds := range ops {
		seen := map[string]bool{}
		for seed := range uint64(60) {
			results, err := attack.Run(context.Background(), prompts, nil, attack.Config{
				Method: method, Edits: 2, Constraint: attack.NoIncrease, Seed: seed,
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range results {
				for _, e := range r.Edits {
					seen[e.Op] = true
				}
				for _, w := range strings.FieldsFunc(strings.ToLower(r.Prompt), notLetter) {
					if (d.Has(w) || d.Known(w)) && !slices.Contains(strings.FieldsFunc(strings.ToLower(prompts[i]), notLetter), w) {
						t.Errorf("%s, seed %d: %q became %q: %q is a word", method, seed, prompts[i], r.Prompt, w)
					}
				}
				if r.Prompt == prompts[i] || strings.EqualFold(r.Prompt, prompts[i]) {
					t.Errorf("%s, seed %d: %q stayed", method, seed, r.Prompt)
				}
			}
		}
		for _, op := range strings.Fields(kinds) {
			if !seen[op] {
				t.Errorf("%s never makes a %s", method, op)
			}
			delete(seen, op)
		}
		if len(seen) > 0 {
			t.Errorf("%s makes %v", method, seen)
		}
	}
}

func notLetter(r rune) bool { return !unicode.IsLetter(r) }

func FuzzRun(f *testing.F) {
	f.Add("a cat on a blue background", uint8(0), uint8(2), uint64(1))
	f.Add("don't. cannot 3,5 \"x\"", uint8(1), uint8(1), uint64(2))
	f.Add("🐱 קט\u00a0e\u0301", uint8(2), uint8(3), uint64(3))
	f.Add("", uint8(4), uint8(7), uint64(4))
	f.Fuzz(func(t *testing.T, prompt string, method, edits uint8, seed uint64) {
		if prompt = strings.ToValidUTF8(prompt, "?"); len(prompt) > 200 {
			t.Skip()
		}
		cfg := attack.Config{
			Method: methods[int(method)%len(methods)], Edits: 1 + int(edits%4), Rho: 1 + int(seed%20), Seed: seed,
			Constraint: []string{attack.Strict, attack.NoIncrease, attack.None}[seed%3], Dictionary: lexicon.English(),
		}
		if cfg.Method == attack.Charmer {
			cfg.Rho = 1
		}
		results, err := attack.Run(context.Background(), []string{prompt}, rarity, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := results[0]
		most := len(r.Edits)
		for _, e := range r.Edits {
			if e.Op == "swap" {
				most++
			}
		}
		if len(r.Edits) > cfg.Edits || levenshtein(prompt, r.Prompt) > most {
			t.Errorf("%q → %q is %d edits, want %d at most", prompt, r.Prompt, levenshtein(prompt, r.Prompt), most)
		}
		if !utf8.ValidString(r.Prompt) || replay(t, prompt, r.Edits) != r.Prompt {
			t.Errorf("%q → %q with %+v", prompt, r.Prompt, r.Edits)
		}
		for text, i := prompt, 0; i < len(r.Edits); i++ {
			after := replay(t, text, r.Edits[i:i+1])
			if !attack.Valid(cfg.Dictionary, cfg.Constraint, text, after) {
				t.Errorf("%s: %q → %q is not valid", cfg.Constraint, text, after)
			}
			text = after
		}
	})
}

// TestEqualSentences: equal sentences may have scores of their own, as in a
// classification with two labels.
func TestEqualSentences(t *testing.T) {
	score := func(_ context.Context, texts []string, owner []int) ([]float64, error) {
		scores := make([]float64, len(texts))
		for i, text := range texts {
			scores[i] = float64(len(text)) // one wants it long, the other short
			if owner[i] == 1 {
				scores[i] = -scores[i]
			}
		}
		return scores, nil
	}
	found, err := attack.Run(t.Context(), []string{"a cat", "a cat"}, score, attack.Config{Method: attack.Charmer, Edits: 1, Rho: 50, Constraint: attack.None})
	if err != nil {
		t.Fatal(err)
	}
	if len(found[0].Prompt) != 6 || len(found[1].Prompt) != 4 {
		t.Errorf("Run = %q and %q, want a longer and a shorter text", found[0].Prompt, found[1].Prompt)
	}
}
