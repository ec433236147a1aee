package eval

import (
	"context"
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/eval/data"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
	"leafserve/pipeline"
	"leafserve/tensor"
	"leafserve/textenc"
)

// loadStudio makes pictures by the built-in model, with few steps; painted lists
// all drawings.
func loadStudio(t *testing.T) (l Lab, s Studio, painted *[]Drawing) {
	t.Helper()
	folder, err := pipeline.Describe(leaftest.DefaultModel())
	if err != nil {
		t.Fatal(err)
	}
	m, err := pipeline.Load(leaftest.Runtime(t), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	judge, err := m.Judge()
	if err != nil {
		t.Fatal(err)
	}
	painted = &[]Drawing{}
	paint := func(ctx context.Context, drawings []Drawing) ([]image.Image, error) {
		*painted = append(*painted, drawings...)
		return paintAll(ctx, m, drawings)
	}
	correct := func(text string) string { return strings.ReplaceAll(text, "ghpst", "ghost") }
	l = Lab{Model: "leaf-emoji-64", Encoders: m.Encoders, Correct: correct, Damaged: pipeline.Damaged}
	return l, Studio{Paint: paint, Images: judge.Images, Texts: judge.Texts, Batch: 4}, painted
}

func paintAll(ctx context.Context, m *pipeline.Model, drawings []Drawing) ([]image.Image, error) {
	reqs := make([]leafserve.Request, len(drawings))
	for i, d := range drawings {
		var err error
		if reqs[i], err = m.Resolve(leafserve.Request{Prompt: d.Text, Encoder: d.Encoder, Seed: &d.Seed, Steps: new(5)}); err != nil {
			return nil, err
		}
	}
	outs, err := m.Generate(ctx, reqs, pipeline.Options{})
	if err != nil {
		return nil, err
	}
	images := make([]image.Image, len(outs))
	for i, o := range outs {
		if images[i], err = gallery.Picture(o.Images); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// TestGeneration: no picture is made twice, none again when the command is given
// again, and figures are of the prompts that ask for them.
func TestGeneration(t *testing.T) {
	l, studio, painted := loadStudio(t)
	classes, err := data.Default().Classes("classes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	task := Exercise{
		Prompts: []data.Prompt{
			{Text: "a ghost on a yellow background", Seed: 1000, Object: "ghost", Background: "yellow", Typos: data.Typos{"a ghpst on a yellow background"}},
			{Text: "a cat", Seed: 7, Object: "no such class", Background: "teal", Typos: data.Typos{"a caat"}},
		},
		Classes: classes, Method: "leaf", Objectives: []textenc.Objective{textenc.Pooled, textenc.Hidden},
	}
	dir := t.TempDir()
	s := Settings{Arms: []string{standard, robust, "standard+spell", auto}, Edits: []int{1}, Rho: 3, Constraint: "strict", Seed: 2}
	last, total := 0, 0
	want, err := Generation(t.Context(), start(t, l, dir, s, func(done, all int) { last, total = done, all }), studio, task)
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	for i, d := range *painted {
		if slices.Contains((*painted)[:i], d) {
			t.Errorf("%+v is made twice", d)
		}
	}
	count := len(*painted)
	got, err := Generation(t.Context(), start(t, l, dir, s, quiet), studio, task)
	if err != nil || got.Table() != want.Table() || len(*painted) != count {
		t.Errorf("given again (%v), %d pictures more are made:\n%s\nwant:\n%s", err, len(*painted)-count, got.Table(), want.Table())
	}
	checkGeneration(t, want)
}

func checkGeneration(t *testing.T, r Result) {
	t.Helper()
	row := func(figure, arm, attack string) Row {
		i := slices.IndexFunc(r.Rows, func(row Row) bool {
			return row.Figure == figure && row.Arm == arm && row.Attack == attack && row.Over == ""
		})
		if i < 0 {
			t.Fatalf("no %s of %s under %q", figure, arm, attack)
		}
		return r.Rows[i]
	}
	const score = "100 × CLIPScore"
	clean := row(score, standard, "")
	if clean.N != 2 || clean.Mean < 20 || clean.Mean > 100 {
		t.Errorf("the clean score is %+v", clean)
	}
	for _, arm := range []string{"standard+spell", auto} {
		if other := row(score, arm, ""); other.Mean != clean.Mean {
			t.Errorf("clean prompts are no other pictures by %s: %v, want %v", arm, other.Mean, clean.Mean)
		}
	}
	if a, b := row(score, auto, "random"), row(score, robust, "random"); a.Mean != b.Mean {
		t.Errorf("auto draws misspelt prompts by the robust encoder: %v, want %v", a.Mean, b.Mean)
	}
	for _, figure := range []string{"object top-1", "object top-5", "background"} {
		if n := row(figure, robust, "leaf on hidden").N; n != 1 {
			t.Errorf("%s is of %d prompts, want the one that asks for it", figure, n)
		}
	}
	row("won back", "standard+spell", "leaf on pooled transferred")
}

// TestDrawing: what an arm draws follows its corrector, and of auto the rule.
func TestDrawing(t *testing.T) {
	l, _ := loadLab(t)
	arms, err := l.Arms([]string{robust, "standard+spell", auto})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		arm  int
		text string
		want Drawing
	}{
		{0, "a caat", Drawing{robust, "a caat", 5}},
		{1, "a caat", Drawing{standard, "a cat", 5}},
		{2, "a cat", Drawing{standard, "a cat", 5}},
		{2, "an elphant", Drawing{robust, "an elphant", 5}},
	} {
		if got := arms[tc.arm].drawing(tc.text, 5); got != tc.want {
			t.Errorf("%s draws %+v of %q, want %+v", arms[tc.arm].Name, got, tc.text, tc.want)
		}
	}
}

// TestAutoReads: arm auto embeds and scores each text as the encoder that reads
// it does alone.
func TestAutoReads(t *testing.T) {
	l, _ := loadLab(t)
	arms, err := l.Arms([]string{standard, robust, auto})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"a cat", "an elphant", "a red house"}
	var rows []tensor.Tensor
	var drifts [][]float64
	for _, arm := range arms {
		x, err := arm.embed(t.Context(), texts)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, x)
		anchors, err := arms[0].anchors(t.Context(), []string{"a dog", "a ghost"}, textenc.Hidden)
		if err != nil {
			t.Fatal(err)
		}
		d, err := arm.drift(textenc.Hidden, anchors)(t.Context(), texts, []int{1, 0, 0})
		if err != nil {
			t.Fatal(err)
		}
		drifts = append(drifts, d)
	}
	for i, reader := range []int{0, 1, 0} {
		if d := tensor.MaxAbsDiff(rows[2].Row(i), rows[reader].Row(i)); d > 1e-6 {
			t.Errorf("%q: auto's embedding is off by %v from %s's", texts[i], d, arms[reader].Name)
		}
		if a, b := drifts[2][i], drifts[reader][i]; math.Abs(a-b) > 1e-5*b {
			t.Errorf("%q: auto's drift is %v, %s's %v", texts[i], a, arms[reader].Name, b)
		}
	}
}

func TestWonBack(t *testing.T) {
	score := func(arm, attack string, k int, values ...float64) Series {
		return Series{"score", arm, attack, k, values}
	}
	rows := wonBack([]Series{
		score(standard, "", 0, 80, 60), score(standard, "leaf", 1, 30, 50), score(standard, "random", 1, 80, 60),
		{"object", robust, "leaf", 1, []float64{1, 1}},
		score(robust, "", 0, 80, 60), score(robust, "leaf", 1, 60, 50), score(robust, "random", 1, 70, 60),
		score("standard+spell", "leaf transferred", 1, 80, 60), score("standard+spell", "charmer", 1, 80, 60),
	})
	type key struct{ arm, attack string }
	got := map[key]float64{}
	for _, r := range rows {
		if r.Figure != "won back" || r.Edits != 1 || r.N != 2 {
			t.Errorf("row %+v", r)
		}
		got[key{r.Arm, r.Attack}] = r.Mean
	}
	if len(got) != 2 || got[key{robust, "leaf"}] != 0.5 || got[key{"standard+spell", "leaf transferred"}] != 1 {
		t.Errorf("won back: %v, want 0.5 of 60 by robust and all by the corrector", got)
	}
}
