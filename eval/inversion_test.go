package eval

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/invert"
	"leafserve/pipeline"
)

// loadInverters gives the inverters of the built-in model.
func loadInverters(t *testing.T) func(encoder string) (*invert.Inverter, error) {
	t.Helper()
	folder, err := pipeline.Describe(leaftest.DefaultModel())
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.NewInverters(leaftest.Runtime(t), folder).Of
}

var inverted = []string{"a cat", "a dog on a red background", "a ghost", "a green apple", "a moon", "two red cars", "a fish", "a bird", "a tree"}

// TestInversion: a run that is stopped and goes on finds what an undisturbed one
// finds; reconstructions come nearer to the embedding than chance, and hold some
// of the words.
func TestInversion(t *testing.T) {
	l, _ := loadLab(t)
	inverters := loadInverters(t)
	s := Settings{Arms: []string{standard, robust}, Edits: []int{1}, Rho: 2, Constraint: "strict", Seed: 5}
	invertAll := func(ctx context.Context, dir string, progress func(done, all int)) (Result, error) {
		return Inversion(ctx, start(t, l, dir, s, progress), inverters, inverted, 20)
	}
	want, err := invertAll(t.Context(), t.TempDir(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := invertAll(ctx, dir, func(done, all int) {
		if done > all/3 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped with %v", err)
	}
	done, all := 0, 0
	got, err := invertAll(t.Context(), dir, func(d, a int) { done, all = d, a })
	if err != nil {
		t.Fatal(err)
	}
	if got.Table() != want.Table() {
		t.Errorf("after the stop:\n%s\nwant:\n%s", got.Table(), want.Table())
	}
	if done != all || all != len(inverted)*2*3 {
		t.Errorf("progress ended at %d of %d, want %d", done, all, len(inverted)*2*3)
	}
	for _, row := range got.Rows {
		if row.Over == "" && row.Attack == "" && (row.N != len(inverted) || row.Mean <= map[string]float64{"cosine": 0.7}[row.Figure] || row.Low > row.Mean || row.High < row.Mean) {
			t.Errorf("%+v is not what a reconstruction of clean texts has", row)
		}
	}
}

func TestInversionRefuses(t *testing.T) {
	l, _ := loadLab(t)
	inverters := loadInverters(t)
	for name, tc := range map[string]struct {
		arm, text, want string
	}{
		"a corrector": {standard + spell, "a cat", "leave out arm standard+spell"},
		"no token":    {standard, " ", `text 2 (" ") has 0 tokens`},
		"too long":    {standard, strings.Repeat("a ", 76), "has 76 tokens, inversion wants 1 to 75"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, l, t.TempDir(), Settings{Arms: []string{tc.arm}}, quiet)
			_, err := Inversion(t.Context(), r, inverters, []string{"a cat", tc.text}, 1)
			if err == nil || !strings.Contains(err.Error(), tc.want) || leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestTogether: figures of all texts are ratios of sums, not means of ratios.
func TestTogether(t *testing.T) {
	c := recovered{
		arm: standard, cosines: []float64{1, 1},
		overlaps: []invert.Overlap{{Words: 1, WordsFound: 1, WordsWritten: 4, Tokens: 1, TokensFound: 1}, {Words: 7, WordsFound: 1, WordsWritten: 4, Tokens: 9, TokensFound: 3}},
		grams:    []invert.NGrams{invert.Pair{Reference: "a b c d", Reconstruction: "a b c d"}.NGrams(), {}},
	}
	better := c
	better.arm, better.overlaps = robust, []invert.Overlap{c.overlaps[0], {Words: 7, WordsFound: 5, WordsWritten: 4, Tokens: 9, TokensFound: 3}}
	rows := togetherRows([]recovered{c, better})
	for _, want := range []Row{
		{Figure: "word recall", Arm: standard, Estimate: leafserve.Estimate{Mean: 0.25}},
		{Figure: "word recall", Arm: robust, Estimate: leafserve.Estimate{Mean: 0.75}},
		{Figure: "word recall", Arm: robust, Over: standard, Estimate: leafserve.Estimate{Mean: 0.5}},
		{Figure: "word accuracy", Arm: standard, Estimate: leafserve.Estimate{Mean: 0.25}},
		{Figure: "token recall", Arm: robust, Estimate: leafserve.Estimate{Mean: 0.4}},
		{Figure: "BLEU", Arm: standard, Estimate: leafserve.Estimate{Mean: 100}},
	} {
		i := slices.IndexFunc(rows, func(r Row) bool { return r.Figure == want.Figure && r.Arm == want.Arm && r.Over == want.Over })
		if i < 0 || math.Abs(rows[i].Mean-want.Mean) > 1e-12 {
			t.Errorf("%s of %s over %q: row %d of %+v, want mean %v", want.Figure, want.Arm, want.Over, i, rows, want.Mean)
		}
	}
}
