package eval

import (
	"context"
	"encoding/json"
	"errors"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/eval/data"
	"leafserve/internal/leaftest"
	"leafserve/pipeline"
	"leafserve/tensor"
)

// loadLab loads the encoders of the built-in model; arms NAME+spell have a
// corrector that knows one word.
func loadLab(t *testing.T) (Lab, func(set data.Set) tensor.Tensor) {
	t.Helper()
	rt := leaftest.Runtime(t)
	folder, err := pipeline.Describe(leaftest.DefaultModel())
	if err != nil {
		t.Fatal(err)
	}
	encoders, err := pipeline.LoadEncoders(rt, folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { encoders.Close() })
	pictures := func(set data.Set) tensor.Tensor {
		judge, err := pipeline.LoadJudge(rt, folder)
		if err != nil {
			t.Fatal(err)
		}
		defer judge.Close()
		images, err := set.Images(data.Images(set.Captions))
		if err != nil {
			t.Fatal(err)
		}
		x, err := judge.Images(t.Context(), images)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	return Lab{
		Model: "leaf-emoji-64", Encoders: encoders, Damaged: pipeline.Damaged,
		Correct: func(s string) string { return strings.ReplaceAll(s, "caat", "cat") },
	}, pictures
}

// start starts a run in dir that reports to progress.
func start(t *testing.T, l Lab, dir string, s Settings, progress func(done, all int)) *Run {
	t.Helper()
	r, _, err := l.Start(dir, s, progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func quiet(int, int) {}

// TestCard holds the measure of the model card to PyTorch's figures, which make.py
// wrote: clean prompts and five strengths of the data's typos.
func TestCard(t *testing.T) {
	var card map[string]struct {
		ZeroShot float64 `json:"zero_shot"`
	}
	raw, err := os.ReadFile("testdata/card.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &card); err != nil {
		t.Fatal(err)
	}
	l, pictures := loadLab(t)
	set, err := data.Default().Set()
	if err != nil {
		t.Fatal(err)
	}
	task := Pictures{Images: pictures(set), Class: set.Class}
	for _, c := range set.Classes {
		task.Prompts, task.Typos = append(task.Prompts, c.Prompt), append(task.Typos, c.Typos)
	}
	edits := []int{1, 2, 3, 4, 5}
	r := start(t, l, t.TempDir(), Settings{Arms: []string{"standard", "robust"}, Edits: edits, Rho: 1, Constraint: "strict"}, quiet)
	result, err := ZeroShotPictures(t.Context(), r, task)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range result.Rows {
		if row.Over != "" || row.Attack == "leaf" {
			continue
		}
		name := row.Arm + "/clean"
		if row.Edits > 0 {
			name = row.Arm + "/typo" + string(rune('0'+row.Edits))
		}
		want, ok := card[name]
		if d := math.Abs(row.Mean - want.ZeroShot); !ok || d > 1.5/345 { // a picture may tip over
			t.Errorf("%s: accuracy %.4f, want %.4f", name, row.Mean, want.ZeroShot)
		}
		delete(card, name)
	}
	if len(card) > 0 {
		t.Errorf("not measured: %v", card)
	}
}

// few are eight captions and their classes.
func few(t *testing.T) Texts {
	set, err := data.Default().Set()
	if err != nil {
		t.Fatal(err)
	}
	task := Texts{Class: set.Class[:8]}
	for _, c := range set.Captions[:8] {
		task.Texts, task.Typos = append(task.Texts, c.Text), append(task.Typos, c.Typos)
	}
	for _, c := range set.Classes {
		task.Prompts = append(task.Prompts, c.Prompt)
	}
	return task
}

var smallest = Settings{Arms: []string{"standard", "robust", "standard+spell"}, Edits: []int{1, 2}, Rho: 2, Constraint: "strict", Seed: 7}

// TestStoppedRunGoesOn: a run that is stopped and started again finds what an
// undisturbed one finds, without doing anything twice.
func TestStoppedRunGoesOn(t *testing.T) {
	l, _ := loadLab(t)
	for name, claim := range map[string]func(ctx context.Context, r *Run) (Result, error){
		"zeroshot": func(ctx context.Context, r *Run) (Result, error) {
			return ZeroShotTexts(ctx, r, few(t), []string{"charmer"})
		},
		"textfare": func(ctx context.Context, r *Run) (Result, error) {
			task := few(t)
			return TextFARE(ctx, r, l.Encoders[standard], task.Texts, nil, []string{"leaf"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole, stopped := t.TempDir(), t.TempDir()
			want, err := claim(t.Context(), start(t, l, whole, smallest, quiet))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var last, total int
			_, err = claim(ctx, start(t, l, stopped, smallest, func(done, all int) {
				if last, total = done, all; done > all/3 {
					cancel()
				}
			}))
			if !errors.Is(err, context.Canceled) || last == total {
				t.Fatalf("stopped at %d of %d with %v", last, total, err)
			}
			atStart := -1
			got, err := claim(t.Context(), start(t, l, stopped, smallest, func(done, all int) {
				if last, total = done, all; atStart < 0 && done > 0 {
					atStart = done
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			if got.Table() != want.Table() {
				t.Errorf("after the stop:\n%s\nwant:\n%s", got.Table(), want.Table())
			}
			if last != total || total == 0 || atStart == 0 {
				t.Errorf("progress went from %d to %d of %d", atStart, last, total)
			}
			a, b := lines(t, whole), lines(t, stopped)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%d lines of cases after the stop, %d without, or others", len(b), len(a))
			}
		})
	}
}

func lines(t *testing.T, dir string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(raw), "\n")
}

// TestAttackIsAdaptive: the search sees what comes out of the corrector. One
// that undoes all edits of "cat", the worst place, leaves others to be found.
func TestAttackIsAdaptive(t *testing.T) {
	l, _ := loadLab(t)
	const clean, begin = "a cat on a blue background", "a cat on "
	repairs := func(text string) string {
		if strings.HasPrefix(text, begin) {
			return text
		}
		return clean
	}
	for name, tc := range map[string]struct {
		correct func(string) string
		inCat   bool
	}{
		"no corrector": {nil, true},
		"undoes edits": {repairs, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, l, t.TempDir(), Settings{Arms: []string{standard}, Edits: []int{1}, Rho: 50, Constraint: "strict"}, quiet)
			got, err := r.leaf(t.Context(), Arm{Name: standard, Encoder: l.Encoders[standard], Correct: tc.correct}, []string{clean})
			if err != nil {
				t.Fatal(err)
			}
			found := got[0][1]
			if inCat := !strings.HasPrefix(found, begin); inCat != tc.inCat || found == clean {
				t.Errorf("the search found %q", found)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	l, _ := loadLab(t)
	ok := []string{"standard"}
	for name, tc := range map[string]struct {
		s    Settings
		want string
	}{
		"no such arm":   {Settings{Arms: []string{"fare"}, Edits: []int{1}}, `no encoder "fare" for an arm, it has: robust, standard`},
		"spell of none": {Settings{Arms: []string{"+spell"}, Edits: []int{1}}, `no encoder ""`},
		"arm twice":     {Settings{Arms: []string{"robust", "robust"}, Edits: []int{1}}, "arm robust twice"},
		"no arm":        {Settings{Edits: []int{1}}, "no arm: want some of standard, robust, standard+spell"},
		"edit 0":        {Settings{Arms: ok, Edits: []int{0, 1}}, "edits are [0 1]"},
		"edits fall":    {Settings{Arms: ok, Edits: []int{2, 1}}, "edits are [2 1], want rising numbers from 1 to 8"},
		"edits twice":   {Settings{Arms: ok, Edits: []int{1, 1}}, "rising"},
		"many edits":    {Settings{Arms: ok, Edits: []int{9}}, "from 1 to 8"},
		"limit":         {Settings{Arms: ok, Edits: []int{1}, Limit: -1}, "limit is -1"},
		"rho":           {Settings{Arms: ok, Edits: []int{1}, Rho: -1}, "rho is -1"},
		"constraint":    {Settings{Arms: ok, Edits: []int{1}, Constraint: "loose"}, `constraint is "loose"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := l.Start(t.TempDir(), tc.s, quiet)
			if err == nil || !strings.Contains(err.Error(), tc.want) || leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestMargin(t *testing.T) {
	for _, tc := range []struct {
		cos   []float64
		right int
		want  float64
	}{
		{[]float64{0.5, 0.25}, 0, 0.25},
		{[]float64{0.5, 0.25}, 1, -0.25},
		{[]float64{-1, -0.5, -0.75}, 1, 0.25},
	} {
		if got := margin(tc.cos, tc.right); got != tc.want {
			t.Errorf("margin(%v, %d) = %v, want %v", tc.cos, tc.right, got, tc.want)
		}
	}
}

func TestLevels(t *testing.T) {
	edits := []leafserve.Edit{{Op: "insert", At: 1, To: "ö"}, {Op: "swap", At: 2, From: "at", To: "ta"}, {Op: "delete", At: 0, From: "c"}}
	want := damaged{"cat", "cöat", "cöta", "öta", "öta"}
	if got := levels("cat", edits, 4); !slices.Equal(got, want) {
		t.Errorf("levels = %q, want %q", got, want)
	}
}

func TestResult(t *testing.T) {
	series := []Series{
		{"accuracy", "standard", "", 0, []float64{1, 1, 1, 0}}, {"accuracy", "robust", "", 0, []float64{1, 1, 0, 1}},
		{"accuracy", "standard", "leaf", 1, []float64{0, 0, 0, 0}}, {"accuracy", "robust", "leaf", 1, []float64{1, 1, 1, 1}},
		{"accuracy", "standard", "charmer", 1, []float64{0, 0, 0, 0}},
		{"accuracy", "standard+spell", "leaf", 1, []float64{0, 0, 0, 0}}, {"accuracy", "standard+spell", "leaf transferred", 1, []float64{0, 0, 0, 0}},
		{"text → image", "standard", "", 0, []float64{1, 2}}, {"text → image", "standard", "leaf", 1, []float64{10, 12}},
		{"clean only", "standard", "", 0, []float64{1, 2}},
	}
	r := newResult("claim", Settings{Model: "m"}, []string{"A note."}, series)
	table := r.Table()
	for _, want := range []string{
		"## accuracy (n = 4", "| texts | standard | robust | standard+spell | robust − standard | robust − standard+spell |\n",
		"| clean | 0.750 [", "| leaf, k=1 | 0.000 [0.000, 0.000] | 1.000 [1.000, 1.000] | 0.000 [0.000, 0.000] | +1.000 [+1.000, +1.000] |",
		"## text → image (n = 2", "- A note.\n", "| 11.0 [10.0, 12.0] |", // fewer digits of large numbers
		"| leaf transferred, k=1 |  |  | 0.000 [0.000, 0.000] |  |  |\n| charmer, k=1 |", // below its search
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	var stored Result
	raw, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &stored); err != nil || stored.Table() != table {
		t.Errorf("results.json does not hold the result: %v\n%s", err, raw)
	}
	for _, name := range []string{"accuracy.png", "text-image.png", "clean-only.png"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if img, err := png.Decode(f); err != nil || img.Bounds().Dx() < 400 {
			t.Errorf("%s is no plot: %v", name, err)
		}
		f.Close()
	}
}
