package textenc

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// fastTolerance of a packed against a plain run: of the largest value of the
// plain one. Scores add squares of small differences, which lose digits.
const fastTolerance, scoreTolerance = 2e-5, 1e-4

// defaultEncoder loads an encoder of the default model.
func defaultEncoder(t testing.TB, name string) *Encoder {
	t.Helper()
	dir := leaftest.DefaultModel()
	return loadEncoder(t, filepath.Join(dir, name), filepath.Join(dir, "tokenizer"), defaultOptions(t))
}

// defaultOptions has the projection of the default model's CLIP.
func defaultOptions(t testing.TB) Options {
	t.Helper()
	clip, err := weights.Open(filepath.Join(leaftest.DefaultModel(), "clip"))
	if err != nil {
		t.Fatal(err)
	}
	entry, ok := clip.Lookup(textProjection)
	if !ok {
		t.Fatal("no text projection")
	}
	return Options{Projection: &entry}
}

// towers are encoders of all kinds: with and without projection, half precision,
// pad "!", and the old config whose eos_token_id is a wrong 2.
var towers = map[string]func(t testing.TB) *Encoder{
	"default":        func(t testing.TB) *Encoder { return defaultEncoder(t, "text_encoder") },
	"default robust": func(t testing.TB) *Encoder { return defaultEncoder(t, "text_encoder_robust") },
	"tiny-sd15":      func(t testing.TB) *Encoder { return tinyEncoder(t, "tiny-sd15") },
	"tiny-sd21":      func(t testing.TB) *Encoder { return tinyEncoder(t, "tiny-sd21") },
	"tiny-sd15, eos 2": func(t testing.TB) *Encoder {
		e := tinyEncoder(t, "tiny-sd15")
		e.Config.EOS = 2
		return e
	},
	"tiny-clip": func(t testing.TB) *Encoder {
		return loadEncoder(t, leaftest.Model(t, "tiny-clip"), filepath.Join(leaftest.DefaultModel(), "tokenizer"), Options{})
	},
}

func tinyEncoder(t testing.TB, name string) *Encoder {
	dir := leaftest.Model(t, name)
	return loadEncoder(t, filepath.Join(dir, "text_encoder"), filepath.Join(dir, "tokenizer"), Options{})
}

// captions of the kinds that the default model draws, and hard ones.
var captions = []string{
	"a red apple on a white background", "two cats and a dog", "a photo of a Smiling face with sunglasses", "",
	"猫 café 😀 👩‍🚀", "a <|endoftext|> b", "x", "don't!!! 42 &amp; more", strings.Repeat("word ", 100), "pizza pizza pizza pizza",
}

// edited gives n texts at one to three random character edits from text, the
// text itself first.
func edited(rng *rand.Rand, text string, n int) []string {
	const alphabet = "abcxyzABC 019'!<é"
	out := []string{text}
	for len(out) < n {
		s := []rune(text)
		for range 1 + rng.IntN(3) {
			c := []rune(alphabet)[rng.IntN(len([]rune(alphabet)))]
			switch at := rng.IntN(len(s) + 1); {
			case at == len(s) || rng.IntN(3) == 0:
				s = slices.Insert(s, at, c)
			case rng.IntN(2) == 0:
				s[at] = c
			default:
				s = slices.Delete(s, at, at+1)
			}
		}
		out = append(out, string(s))
	}
	return out
}

// neighbours are edited captions with their owners, in random order.
func neighbours(seed uint64, each int) (texts []string, owner []int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i, caption := range captions {
		for _, text := range edited(rng, caption, each) {
			texts, owner = append(texts, text), append(owner, i)
		}
	}
	rng.Shuffle(len(texts), func(i, j int) {
		texts[i], texts[j] = texts[j], texts[i]
		owner[i], owner[j] = owner[j], owner[i]
	})
	return texts, owner
}

// within fails unless got is within tol of want, relative to want's largest value.
func within(t *testing.T, name string, got, want tensor.Tensor, tol float64) {
	t.Helper()
	largest := 0.0
	for _, v := range want.Data {
		largest = max(largest, math.Abs(float64(v)))
	}
	leaftest.Close(t, name, got, want, tol*largest)
}

func TestEmbedEqualsEncode(t *testing.T) {
	for name, load := range towers {
		t.Run(name, func(t *testing.T) {
			e := load(t)
			texts, _ := neighbours(1, 12)
			got, err := e.Embed(context.Background(), texts)
			if err != nil {
				t.Fatal(err)
			}
			part := pooled
			if e.projects {
				part = projected
			}
			want := stacked(encode(t, e, 0, texts...), part)
			within(t, "Embed", got, want, fastTolerance)
			t.Logf("off by %.1e", tensor.MaxAbsDiff(got, want))
		})
	}
}

// plainScores is what Scores promises, by the definition: each text by itself
// through Encode.
func plainScores(t *testing.T, e, frozen *Encoder, o Objective, texts []string, owner []int) []float64 {
	t.Helper()
	clean := encode(t, frozen, 0, captions...)
	from, to := windows(t, frozen, captions), windows(t, e, texts)
	scores := make([]float64, len(texts))
	for i, em := range encode(t, e, 0, texts...) {
		a, b := clean[owner[i]], em
		x, y := tensor.Tensor{Shape: []int{1, e.embedWidth()}, Data: frozen.pooledOf(a)}, tensor.Tensor{Data: e.pooledOf(b)}
		switch o {
		case Pooled:
			scores[i] = squares(x.Data, y.Data)
		case Cosine:
			scores[i] = 1 - cosine(x, y)
		case Hidden:
			pairs := align(from[owner[i]], to[i])
			for _, at := range pairs {
				scores[i] += squares(rowOf(a.rows(), at.Clean), rowOf(b.rows(), at.Damaged)) / float64(len(pairs))
			}
		}
	}
	return scores
}

// windows are those of Encode and Window.
func windows(t *testing.T, e *Encoder, texts []string) []window {
	t.Helper()
	var out []window
	for _, text := range texts {
		out = append(out, e.tokenizer.windowOf(e.Tokenize(text).IDs))
	}
	return out
}

func squares(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		sum += math.Pow(float64(v)-float64(b[i]), 2)
	}
	return sum
}

// scores anchors the captions with frozen and scores texts with e.
func scores(t *testing.T, e, frozen *Encoder, o Objective, texts []string, owner []int) []float64 {
	t.Helper()
	anchors, err := frozen.Anchors(context.Background(), captions, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Scores(o, anchors)(context.Background(), texts, owner)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestScoresEqualPlain: each objective, anchors of the same and of another
// encoder, and the worst text of each sentence.
func TestScoresEqualPlain(t *testing.T) {
	texts, owner := neighbours(2, 10)
	for _, tc := range []struct{ scored, anchors string }{
		{"default", "default"}, {"default robust", "default"}, {"tiny-sd15", "tiny-sd15"},
		{"tiny-sd21", "tiny-sd21"}, {"tiny-sd15, eos 2", "tiny-sd15, eos 2"}, {"tiny-clip", "tiny-clip"},
	} {
		e, frozen := towers[tc.scored](t), towers[tc.anchors](t)
		for _, o := range []Objective{Pooled, Cosine, Hidden} {
			t.Run(tc.scored+" from "+tc.anchors+" "+string(o), func(t *testing.T) {
				got, want := scores(t, e, frozen, o, texts, owner), plainScores(t, e, frozen, o, texts, owner)
				largest := slices.Max(want)
				if largest < 1e-3 {
					t.Fatalf("no text moves the encoder: %v", want)
				}
				for i := range got {
					if off := math.Abs(got[i] - want[i]); off > scoreTolerance*max(want[i], largest/10) {
						t.Errorf("score of %q = %v, want %v", texts[i], got[i], want[i])
					}
				}
				if g, w := worst(got, owner), worst(want, owner); !slices.Equal(g, w) {
					t.Errorf("the worst texts are %v, want %v", g, w)
				}
			})
		}
	}
}

// worst gives the first text with the highest score of each owner.
func worst(scores []float64, owner []int) []int {
	best := make([]int, len(captions))
	for i := range best {
		best[i] = -1
	}
	for i, o := range owner {
		if best[o] < 0 || scores[i] > scores[best[o]] {
			best[o] = i
		}
	}
	return best
}

// TestScoresOfOneOwnerDoNotDependOnOthers, to the bit.
func TestScoresOfOneOwnerDoNotDependOnOthers(t *testing.T) {
	e := towers["default"](t)
	texts, owner := neighbours(3, 12)
	for _, o := range []Objective{Pooled, Cosine, Hidden} {
		together := scores(t, e, e, o, texts, owner)
		for _, at := range []int{0, 4} {
			var own []string
			var owners []int
			var want []float64
			for i, text := range texts {
				if owner[i] == at {
					own, owners, want = append(own, text), append(owners, at), append(want, together[i])
				}
			}
			if alone := scores(t, e, e, o, own, owners); !slices.Equal(alone, want) {
				t.Errorf("%s: scores of %q alone = %v, together %v", o, captions[at], alone, want)
			}
		}
	}
}

// TestEqualSequencesScoreEqually, to the bit, whatever else a call holds: letter
// case and white space do not reach the encoder.
func TestEqualSequencesScoreEqually(t *testing.T) {
	e := towers["default"](t)
	for _, o := range []Objective{Pooled, Cosine, Hidden} {
		anchors, err := e.Anchors(context.Background(), captions, o)
		if err != nil {
			t.Fatal(err)
		}
		score := e.Scores(o, anchors)
		of := func(texts ...string) []float64 {
			t.Helper()
			out, err := score(context.Background(), texts, slices.Repeat([]int{1}, len(texts)))
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		got := of("two cats and a dag", "two cots and a dog", "TWO cats  and a dag ", "two cats and a dog")
		if got[0] != got[2] || got[0] == got[1] || got[0] < 100*got[3] {
			t.Errorf("%s: scores %v", o, got)
		}
		other := edited(rand.New(rand.NewPCG(9, 9)), captions[1], 40)
		if later := of(append(other, "Two cats and a DAG")...); later[len(other)] != got[0] {
			t.Errorf("%s: the same tokens score %v, later %v", o, got[0], later[len(other)])
		}
	}
}

func TestNothingToScore(t *testing.T) {
	e := towers["tiny-sd15"](t)
	for _, o := range []Objective{Pooled, Cosine, Hidden} {
		out, err := e.Scores(o, nil)(context.Background(), nil, nil)
		if err != nil || len(out) != 0 {
			t.Errorf("Scores of nothing = %v, %v", out, err)
		}
	}
	out, err := e.Embed(context.Background(), nil)
	if err != nil || !slices.Equal(out.Shape, []int{0, 16}) {
		t.Errorf("Embed of nothing = %v, %v", out, err)
	}
	if e.packs.session != nil {
		t.Error("the graph was loaded for nothing")
	}
}

func TestScoresRefuse(t *testing.T) {
	e, other := towers["tiny-sd15"](t), towers["default"](t)
	pooledAnchors, err := e.Anchors(context.Background(), captions, Pooled)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := other.Anchors(context.Background(), captions[:1], Pooled)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		o       Objective
		anchors []Anchor
		owner   []int
		want    string
	}{
		{"unknown objective", "l1", pooledAnchors, []int{0}, `objective "l1" is unknown, want one of [pooled cosine hidden]`},
		{"no owner", Pooled, pooledAnchors, nil, "0 owners for 1 texts"},
		{"negative owner", Pooled, pooledAnchors, []int{-1}, "text 1 belongs to anchor -1 of 10"},
		{"owner past the end", Pooled, pooledAnchors, []int{10}, "text 1 belongs to anchor 10 of 10"},
		{"anchors of another objective", Hidden, pooledAnchors, []int{0}, "anchor 1 is pooled [1 16], want hidden [77 16]"},
		{"anchors of another width", Pooled, wide, []int{0}, "anchor 1 is pooled [1 192], want pooled [1 16]"},
		{"an empty anchor", Pooled, []Anchor{{}}, []int{0}, "make it with Anchors"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := e.Scores(tc.o, tc.anchors)(context.Background(), []string{"a cat"}, tc.owner)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Scores = %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := e.Anchors(context.Background(), captions, "l1"); err == nil {
		t.Error("Anchors took an unknown objective")
	}
}

func TestScoringIsCanceled(t *testing.T) {
	e := towers["tiny-sd15"](t)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	texts, owner := neighbours(4, 3)
	for _, o := range []Objective{Pooled, Hidden} {
		anchors, err := e.Anchors(context.Background(), captions, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Scores(o, anchors)(ended, texts, owner); !errors.Is(err, context.Canceled) {
			t.Errorf("Scores = %v, want it to be canceled", err)
		}
		if _, err := e.Anchors(ended, texts, o); !errors.Is(err, context.Canceled) {
			t.Errorf("Anchors = %v, want it to be canceled", err)
		}
	}
}

// TestFirstScoresTogether: the graph is loaded once, whoever comes first.
func TestFirstScoresTogether(t *testing.T) {
	e := towers["tiny-sd15"](t)
	texts, owner := neighbours(5, 4)
	anchors, err := e.Anchors(context.Background(), captions, Hidden)
	if err != nil {
		t.Fatal(err)
	}
	results := make([][]float64, 6)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			var err error
			if results[i], err = e.Scores(Hidden, anchors)(context.Background(), texts, owner); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range results[1:] {
		if !slices.Equal(r, results[0]) {
			t.Errorf("scores of one call %v, of another %v", r, results[0])
		}
	}
}

// TestPackGraphFails: a load that fails says so, and is tried again.
func TestPackGraphFails(t *testing.T) {
	e := towers["tiny-sd15"](t)
	open := e.packs.open
	e.packs.open = func() (*ort.Session, error) { return nil, errors.New("disk on fire") }
	if _, err := e.Embed(context.Background(), captions); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("Embed = %v, want the reason", err)
	}
	e.packs.open = open
	if _, err := e.Embed(context.Background(), captions); err != nil {
		t.Errorf("the second Embed = %v", err)
	}
}

func TestDrift(t *testing.T) {
	standard, robust := towers["default"](t), towers["default robust"](t)
	drift := func(e *Encoder, clean, damaged string) Drift {
		d, err := e.Drift(context.Background(), clean, damaged, 0)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const clean, typo = "a red apple on a white background", "a red aplpe on a white background"
	if d := drift(standard, clean, clean); d.PooledL2 != 0 || d.HiddenL2 != 0 || d.Pooled > 1e-12 || d.Hidden > 1e-12 {
		t.Errorf("a text drifts from itself: %+v", d)
	}
	s, r := drift(standard, clean, typo), drift(robust, clean, typo)
	if r.Pooled >= s.Pooled || r.PooledL2 >= s.PooledL2 || r.Hidden >= s.Hidden || r.HiddenL2 >= s.HiddenL2 || r.Hidden <= 0 {
		t.Errorf("robust drifts %+v, standard %+v", r, s)
	}
	t.Logf("standard %+v, robust %+v", s, r)
	anchors, err := standard.Anchors(context.Background(), []string{clean}, Pooled)
	if err != nil {
		t.Fatal(err)
	}
	score, err := standard.Scores(Pooled, anchors)(context.Background(), []string{typo}, []int{0})
	if err != nil || math.Abs(score[0]-s.PooledL2*s.PooledL2) > scoreTolerance*score[0] {
		t.Errorf("Drift's L2 is %v, the score %v (%v)", s.PooledL2, score, err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := standard.Drift(ended, clean, typo, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Drift = %v, want it to be canceled", err)
	}
}
