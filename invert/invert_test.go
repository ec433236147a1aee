package invert

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// open loads an inverter of a model's encoder.
func open(t testing.TB, model, encoder string, opts textenc.Options) *Inverter {
	t.Helper()
	tok, err := textenc.LoadTokenizer(filepath.Join(model, "tokenizer"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(leaftest.Runtime(t), filepath.Join(model, encoder), tok, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// openDefault loads an encoder of the default model with its projection.
func openDefault(t testing.TB, encoder string) *Inverter {
	t.Helper()
	ckpt, err := weights.Open(filepath.Join(leaftest.DefaultModel(), "clip"))
	if err != nil {
		t.Fatal(err)
	}
	projection, _ := ckpt.Lookup("text_projection.weight")
	return open(t, leaftest.DefaultModel(), encoder, textenc.Options{Projection: &projection})
}

// openTiny loads tiny-sd15's, which has no projection.
func openTiny(t testing.TB) *Inverter {
	t.Helper()
	return open(t, leaftest.Model(t, "tiny-sd15"), "text_encoder", textenc.Options{})
}

func embed(t testing.TB, v *Inverter, texts ...string) []Target {
	t.Helper()
	targets, err := v.Embed(context.Background(), texts...)
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

func steps(n int) Config {
	cfg := DefaultConfig()
	cfg.Steps = n
	return cfg
}

func run(t testing.TB, v *Inverter, cfg Config, targets ...Target) []Result {
	t.Helper()
	out, err := v.Invert(context.Background(), targets, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestInvertDefaultModel: a caption's embedding is met nearly, by another text.
// Random tokens, which the first step tries, are far away.
func TestInvertDefaultModel(t *testing.T) {
	for _, encoder := range []string{"text_encoder", "text_encoder_robust"} {
		t.Run(encoder, func(t *testing.T) {
			v := openDefault(t, encoder)
			target := embed(t, v, "a ghost on a yellow background")
			first := run(t, v, steps(1), target...)[0]
			found := run(t, v, steps(150), target...)[0]
			t.Logf("%q %.4f, then %q %.4f at step %d", first.Text, first.Cosine, found.Text, found.Cosine, found.Step)
			if first.Cosine > 0.7 || found.Cosine < 0.95 {
				t.Errorf("cosine %v after 1 step and %v after 150, want at most 0.7 and at least 0.95", first.Cosine, found.Cosine)
			}
			if len(found.IDs) != target[0].Tokens || found.Step < 2 || found.Step > 150 {
				t.Errorf("%d tokens at step %d, want %d within 150 steps", len(found.IDs), found.Step, target[0].Tokens)
			}
			checkCosine(t, v, found, target[0])
		})
	}
}

// checkCosine measures a result again, from its tokens.
func checkCosine(t *testing.T, v *Inverter, r Result, target Target) {
	t.Helper()
	embedding, err := v.tower.Embed(context.Background(), r.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if want := cosine(embedding, target.Embedding); math.Abs(r.Cosine-want) > 1e-5 {
		t.Errorf("cosine %v, but the tokens' is %v", r.Cosine, want)
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func TestInvertIsSeeded(t *testing.T) {
	v := openTiny(t)
	target := embed(t, v, "two green dogs")[0]
	first := run(t, v, steps(20), target)[0]
	if again := run(t, v, steps(20), target)[0]; !reflect.DeepEqual(again, first) {
		t.Errorf("the same seed gives %+v, then %+v", first, again)
	}
	target.Seed = 1
	if other := run(t, v, steps(20), target)[0]; reflect.DeepEqual(other.IDs, first.IDs) {
		t.Errorf("another seed gives the same tokens %v", other.IDs)
	}
}

// TestInvertBatch: targets of several lengths side by side start and go as alone;
// after some steps rounding may part them.
func TestInvertBatch(t *testing.T) {
	v := openTiny(t)
	targets := embed(t, v, "cat", "two green dogs in the rain")
	targets[1].Seed = 7
	for i, got := range run(t, v, steps(3), targets...) {
		alone := run(t, v, steps(3), targets[i])[0]
		if !reflect.DeepEqual(got.IDs, alone.IDs) || math.Abs(got.Cosine-alone.Cosine) > 1e-6 {
			t.Errorf("target %d: %+v, alone %+v", i, got, alone)
		}
	}
	if got := run(t, v, steps(1)); len(got) != 0 {
		t.Errorf("no targets give %v", got)
	}
}

func TestInvertReports(t *testing.T) {
	v := openTiny(t)
	cfg := steps(5)
	var seen []float64
	cfg.OnStep = func(step int, best []float64) {
		if len(best) != 1 || step != len(seen)+1 {
			t.Errorf("OnStep(%d, %v) after %d steps", step, best, len(seen))
		}
		if n := len(seen); n > 0 && best[0] < seen[n-1] {
			t.Errorf("the best fell from %v to %v", seen[n-1], best[0])
		}
		seen = append(seen, best[0])
	}
	found := run(t, v, cfg, embed(t, v, "a red house")...)[0]
	if len(seen) != 5 || seen[4] != found.Cosine {
		t.Errorf("heard %v, result %v", seen, found.Cosine)
	}
}

// TestInvertStops: the context ends while the search runs.
func TestInvertStops(t *testing.T) {
	v := openTiny(t)
	ctx, cancel := context.WithCancel(context.Background())
	cfg := DefaultConfig()
	cfg.OnStep = func(step int, _ []float64) {
		if step == 2 {
			cancel()
		}
		if step > 2 {
			t.Errorf("step %d after the end", step)
		}
	}
	_, err := v.Invert(ctx, embed(t, v, "a red house"), cfg)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "step 3 of 3000") {
		t.Errorf("Invert = %v, want step 3 of 3000 and %v", err, context.Canceled)
	}
}

func TestEmbedErrors(t *testing.T) {
	v := openTiny(t)
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "text 2 has 0 tokens, want 1 to 75"},
		{"blank", " \n", "text 2 has 0 tokens"},
		{"too long", strings.Repeat("a ", 76), "text 2 has 76 tokens, want 1 to 75"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := v.Embed(context.Background(), "fine", tc.text)
			checkInvalid(t, err, tc.want)
		})
	}
}

func TestInvertErrors(t *testing.T) {
	v := openTiny(t)
	fits := embed(t, v, "a red house")[0]
	for _, tc := range []struct {
		name   string
		change func(target *Target, cfg *Config)
		want   string
	}{
		{"no steps", func(_ *Target, cfg *Config) { cfg.Steps = 0 }, "steps is 0, want 1 or more"},
		{"no tokens", func(target *Target, _ *Config) { target.Tokens = 0 }, "tokens is 0, want 1 to 75"},
		{"too many tokens", func(target *Target, _ *Config) { target.Tokens = 76 }, "tokens is 76, want 1 to 75"},
		{"an embedding of another width", func(target *Target, _ *Config) { target.Embedding = make([]float32, 3) }, "an embedding of 3 numbers, want 16"},
		{"an embedding of zeros", func(target *Target, _ *Config) { target.Embedding = make([]float32, 16) }, "an embedding of length 0 has no direction"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target, cfg := fits, DefaultConfig()
			tc.change(&target, &cfg)
			_, err := v.Invert(context.Background(), []Target{fits, target}, cfg)
			checkInvalid(t, err, tc.want)
		})
	}
}

func checkInvalid(t *testing.T, err error, want string) {
	t.Helper()
	if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want Invalid: %q", err, want)
	}
}

// TestSnap compares with cosines in float64. Where two tokens are as near as
// float32 can tell, either will do.
func TestSnap(t *testing.T) {
	v := openDefault(t, "text_encoder")
	want := []int{320, 1125, 49407, 0}
	rows := v.tower.Rows(want)
	for i := range rows.Data {
		rows.Data[i] *= 3 // longer, the same way
	}
	s := search{rows: rows, target: Target{Tokens: len(want)}}
	ids, err := v.snap(context.Background(), []search{s, s})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ids, [][]int{want, want}) {
		t.Errorf("snap gives %v, want %v twice", ids, want)
	}
	far := tensor.New(3, v.tower.Config.Width)
	for i := range far.Data {
		far.Data[i] = float32(math.Sin(float64(i * i)))
	}
	ids, err = v.snap(context.Background(), []search{{rows: far, target: Target{Tokens: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids[0] {
		row := far.Row(i).Data
		best := math.Inf(-1)
		for token := range v.tower.Config.Vocab {
			best = max(best, cosine(row, v.tower.Rows([]int{token}).Data))
		}
		if got := cosine(row, v.tower.Rows([]int{id}).Data); best-got > 1e-6 {
			t.Errorf("row %d: token %d has cosine %v, the nearest %v", i, id, got, best)
		}
	}
}

// TestStep: rows move by AdamW against the gradient at the nearest tokens, which
// in the second step are not the rows themselves.
func TestStep(t *testing.T) {
	v := openTiny(t)
	target := embed(t, v, "a red house")[0]
	s := []search{v.start(target, DefaultConfig())}
	rows := s[0].rows.Clone()
	o := tensor.AdamW{LearningRate: 0.1, WeightDecay: 0.1, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
	for step := range 2 {
		ids, err := v.snap(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.step(context.Background(), s, step+1); err != nil {
			t.Fatal(err)
		}
		slopes, err := v.tower.Slopes(context.Background(), textenc.Target{Rows: v.tower.Rows(ids[0]), Embedding: target.Embedding})
		if err != nil {
			t.Fatal(err)
		}
		o.Step(rows, slopes[0].Gradient)
		leaftest.Close(t, "rows", s[0].rows, rows, 1e-6)
	}
}

func TestNewErrors(t *testing.T) {
	model := leaftest.Model(t, "tiny-sd15")
	tok, err := textenc.LoadTokenizer(filepath.Join(model, "tokenizer"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(leaftest.Runtime(t), model, tok, textenc.Options{}); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("New = %v, want a word on config.json", err)
	}
}
