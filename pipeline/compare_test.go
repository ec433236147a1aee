package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
)

const apple = "a red apple on a white background"

// compareJob is a resolved comparison of two steps, every seed given.
func compareJob(t *testing.T, m *Model, r leafserve.Request) leafserve.Job {
	t.Helper()
	if r.Prompt == "" && r.Prompts == nil {
		r.Prompt = apple
	}
	if r.Seeds == nil {
		r.Seed = ptr(uint64(7))
	}
	if r.Attack == nil {
		r.Attack = &leafserve.Attack{}
	}
	r.Attack.Seed, r.Steps = ptr(uint64(1)), ptr(2)
	r, err := m.ResolveCompare(r)
	if err != nil {
		t.Fatal(err)
	}
	return leafserve.Job{ID: "01JCMP", Kind: "compare", Request: r}
}

// runCompare runs a comparison and gives the folder of its files and its events.
func runCompare(t *testing.T, m *Model, r leafserve.Request) (leafserve.Result, string, []any) {
	t.Helper()
	store, dir := folder(t)
	var events []any
	result, err := leaftest.Run(context.Background(), m.Runner(store, nil), compareJob(t, m, r), func(e any) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	return result, dir, events
}

// twoEncoders is tiny-sd15 with a second encoder and without a CLIP.
func twoEncoders(t *testing.T) *Model {
	t.Helper()
	dir := leaftest.Model(t, "tiny-sd15")
	if err := os.CopyFS(filepath.Join(dir, "text_encoder_robust"), os.DirFS(filepath.Join(leaftest.Model(t, "tiny-sd15"), "text_encoder"))); err != nil {
		t.Fatal(err)
	}
	return load(t, dir)
}

// TestCompareDrawsWhatGenerateDraws: every cell is the picture of its prompt,
// encoder and seed, to the bit, in one batch and in several.
func TestCompareDrawsWhatGenerateDraws(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	whole, dir, _ := runCompare(t, m, leafserve.Request{Scheduler: "euler_a", NegativePrompt: "blue"})
	m.Info.MaxPixels = 3 * 64 * 64
	parts, _, events := runCompare(t, m, leafserve.Request{Scheduler: "euler_a", NegativePrompt: "blue"})
	if last, ok := events[len(events)-1].(leafserve.StepEvent); !ok || last.Step != 4 || last.Steps != 4 {
		t.Errorf("two batches of two steps end with %+v", events[len(events)-1])
	}
	store, _ := folder(t)
	for name, arm := range whole.Compare.Arms {
		for state, cell := range map[string]leafserve.Cell{"clean": arm.Clean, "attacked": arm.Attacked} {
			alone := job(t, m, func(r *leafserve.Request) {
				*r = leafserve.Request{Prompt: cell.Prompt, Encoder: name, Scheduler: "euler_a", NegativePrompt: "blue", Steps: ptr(2), Seed: ptr(uint64(7))}
			})
			want, err := leaftest.Run(context.Background(), m.Runner(store, nil), alone, func(any) {})
			if err != nil {
				t.Fatal(err)
			}
			if cell.Image.SHA256 != want.Images[0].SHA256 || cell.Image.Seed != 7 {
				t.Errorf("%s %s is not what POST /generate draws of %q", state, name, cell.Prompt)
			}
			if _, err := os.Stat(filepath.Join(dir, strings.TrimPrefix(cell.Image.URL, "/images/"))); err != nil {
				t.Error(err)
			}
		}
		if p := parts.Compare.Arms[name]; p.Clean.Image.SHA256 != arm.Clean.Image.SHA256 || p.Attacked.Image.SHA256 != arm.Attacked.Image.SHA256 {
			t.Errorf("%s: two batches give other pictures than one", name)
		}
	}
	if len(whole.Images) != 4 || whole.Compare.Arms["standard"].Clean.Image != whole.Images[0] {
		t.Errorf("job.images = %+v", whole.Images)
	}
}

// TestCompareFigures: what is told belongs together, and the files are there.
func TestCompareFigures(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	result, dir, _ := runCompare(t, m, leafserve.Request{Attack: &leafserve.Attack{Edits: 2, Objective: "hidden", Against: "robust"}})
	c := result.Compare
	if c.Case == nil || c.Cases != nil || c.Summary != nil || c.Prompt != apple || c.Seed != 7 || c.Verdict.Text == "" {
		t.Fatalf("comparison %+v", c)
	}
	a := c.Attack
	if a.Prompt == apple || len(a.Edits) != 2 || a.Candidates < 1 || a.Method != "leaf" || a.Attack.Against != "robust" {
		t.Errorf("attack %+v", a)
	}
	clean, damaged := "", ""
	for _, part := range a.Diff {
		if part.T != "ins" {
			clean += part.S
		}
		if part.T != "del" {
			damaged += part.S
		}
	}
	if clean != apple || damaged != a.Prompt {
		t.Errorf("diff %+v of %q and %q", a.Diff, apple, a.Prompt)
	}
	if len(a.Tokens.Clean) != 7 || slices.Equal(a.Tokens.Attacked, a.Tokens.Clean) || a.Tokens.Clean[2].Piece != "apple</w>" {
		t.Errorf("tokens %+v", a.Tokens)
	}
	for name, arm := range c.Arms {
		if d := a.Drift[name]; !(d.Pooled > 0) || !(d.Hidden > 0) || !(d.PooledL2 > 0) || !(d.HiddenL2 > 0) {
			t.Errorf("%s drifts %+v", name, d)
		}
		if arm.Clean.Prompt != apple || arm.Attacked.Prompt != a.Prompt || arm.Clean.Similarity != nil || arm.Attacked.Drift != nil {
			t.Errorf("%s = %+v", name, arm)
		}
		if s := *arm.Attacked.Similarity; s < -1 || s > 1 || *arm.Clean.ClipScore < 0 || *arm.Clean.ClipScore > 1 || *arm.Attacked.ClipScore > 1 {
			t.Errorf("%s: figures %v %v %v", name, *arm.Clean.ClipScore, *arm.Attacked.ClipScore, s)
		}
	}
	for route, url := range map[string]string{"/images/": c.Montage, "/reports/": c.Report} {
		if !strings.HasPrefix(url, route) {
			t.Errorf("%q is not under %s", url, route)
		}
		if info, err := os.Stat(filepath.Join(dir, filepath.Base(url))); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestCompareReports: first the typo, then each step, and previews of all cells.
func TestCompareReports(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	_, _, events := runCompare(t, m, leafserve.Request{Previews: 1})
	var got []string
	for _, event := range events {
		switch e := event.(type) {
		case leafserve.StateEvent:
			got = append(got, fmt.Sprintf("%s %t", e.State, e.Attack.Prompt != apple && len(e.Attack.Drift) == 2 && len(e.Attack.Tokens.Clean) == 7))
		case leafserve.StepEvent:
			got = append(got, fmt.Sprintf("step %d/%d", e.Step, e.Steps))
		case leafserve.PreviewEvent:
			got = append(got, fmt.Sprintf("%d %s", e.Step, e.Cell))
			checkPreview(t, e.Image)
		}
	}
	want := []string{"running true", "step 1/2", "1 cleanstandard", "1 cleanrobust", "1 attackedstandard", "1 attackedrobust", "step 2/2"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// TestCompareListReports: a list moves while its typos are looked for, a step for
// each 16 prompts of each search, and never goes back, although fewer pictures
// are drawn than there could be: 34 of 136 are the same.
func TestCompareListReports(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	m.Info.MaxPixels = 16 * 16 * 16                           // 9 batches of two steps, then 7
	prompts := slices.Repeat([]string{"an owl", "12 34"}, 17) // of 12 34 no edit is valid
	for _, tc := range []struct {
		name    string
		attack  leafserve.Attack
		perArm  bool
		attacks int // steps of the search
	}{
		{"one typo for all", leafserve.Attack{Rho: 2}, false, 3},
		{"one an arm", leafserve.Attack{Rho: 2}, true, 6},
		{"without a search", leafserve.Attack{Method: "swap"}, true, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, events := runCompare(t, m, leafserve.Request{Prompts: prompts, Width: ptr(16), Height: ptr(16), Attack: &tc.attack, AttackedPerArm: tc.perArm})
			share := 0.0
			for i, event := range events {
				e := event.(leafserve.StepEvent)
				want := tc.attacks + 2*7
				if i < tc.attacks {
					want = tc.attacks + 2*9
				}
				if e.Step != i+1 || e.Steps != want || i < tc.attacks && e.ETAMS != 0 {
					t.Errorf("event %d is %+v, want %d steps", i, e, want)
				}
				if now := float64(e.Step) / float64(e.Steps); now < share {
					t.Errorf("event %d says %v after %v", i, now, share)
				} else {
					share = now
				}
			}
			if len(events) != tc.attacks+2*7 {
				t.Errorf("%d events, want %d", len(events), tc.attacks+2*7)
			}
		})
	}
}

// TestCompareClipSkip: the drift is that of the states which the UNet reads, and
// what leaf reads of hidden is not, so that is refused.
func TestCompareClipSkip(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	drift := func(skip int) leafserve.Drift {
		result, _, _ := runCompare(t, m, leafserve.Request{ClipSkip: &skip, Attack: &leafserve.Attack{Method: "manual", Prompt: "a red aplpe on a white background"}})
		return result.Compare.Attack.Drift["standard"]
	}
	whole, skipped := drift(0), drift(1)
	if skipped.Hidden == whole.Hidden || skipped.HiddenL2 == whole.HiddenL2 || !(skipped.Hidden > 0) {
		t.Errorf("hidden drift with clip_skip 1 is %v, without %v", skipped.Hidden, whole.Hidden)
	}
	if skipped.Pooled != whole.Pooled || skipped.PooledL2 != whole.PooledL2 {
		t.Errorf("pooled drift with clip_skip 1 is %v, without %v: the UNet does not read it", skipped.Pooled, whole.Pooled)
	}
	for objective, ok := range map[string]bool{"pooled": true, "cosine": true, "hidden": false} {
		_, err := m.ResolveCompare(leafserve.Request{Prompt: apple, ClipSkip: ptr(1), Attack: &leafserve.Attack{Objective: objective}})
		var bad *leafserve.Error
		if ok && err != nil || !ok && (!errors.As(err, &bad) || bad.Kind != leafserve.Invalid || bad.Param != "attack.objective") {
			t.Errorf("objective %s with clip_skip 1: %v", objective, err)
		}
	}
}

// TestCompareRepeats: the same resolved request gives the same figures.
func TestCompareRepeats(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for name, r := range map[string]leafserve.Request{
		"one prompt": {Attack: &leafserve.Attack{Edits: 3}, AttackedPerArm: true},
		"a list":     {Prompts: []string{"an owl", "a blue boat on the sea", "two cats"}, Seeds: []uint64{3, 1, 2}, Attack: &leafserve.Attack{Method: "random"}},
	} {
		t.Run(name, func(t *testing.T) {
			var runs [2]string
			for i := range runs {
				result, _, _ := runCompare(t, m, r)
				out, err := json.Marshal(result.Compare)
				if err != nil {
					t.Fatal(err)
				}
				runs[i] = untimed(string(out))
			}
			if runs[0] != runs[1] {
				t.Errorf("two runs differ:\n%s\n%s", runs[0], runs[1])
			}
		})
	}
}

// untimed leaves the milliseconds of the search out of a comparison.
func untimed(out string) string {
	parts := strings.Split(out, `"ms":`)
	for i, part := range parts[1:] {
		parts[i+1] = strings.TrimLeft(part, "0123456789.e-")
	}
	return strings.Join(parts, "")
}

func TestCompareList(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	prompts := []string{"an owl", "a blue boat on the sea", "a ghost on a yellow background", "an owl"}
	result, _, events := runCompare(t, m, leafserve.Request{Prompts: prompts, Seeds: []uint64{3, 1, 2, 3}, Attack: &leafserve.Attack{Method: "keyboard"}})
	c := result.Compare
	if c.Case != nil || len(c.Cases) != 4 || c.Summary == nil || c.Summary.Cases != 4 || c.Summary.Verdict.Text == "" {
		t.Fatalf("comparison %+v", c)
	}
	seeds := map[string]uint64{"an owl": 3, "a blue boat on the sea": 1, "a ghost on a yellow background": 2}
	last := math.Inf(-1)
	for _, one := range c.Cases {
		if one.Seed != seeds[one.Prompt] || one.Arms["robust"].Clean.Image.Seed != one.Seed {
			t.Errorf("%q has seed %d", one.Prompt, one.Seed)
		}
		s := *one.Arms["robust"].Attacked.Similarity
		if s < last {
			t.Errorf("%q with %v comes after %v: want the worst first", one.Prompt, s, last)
		}
		last = s
	}
	if len(result.Images) != 12 {
		t.Errorf("%d pictures, want 12: the prompt and seed that come twice are drawn once", len(result.Images))
	}
	for _, e := range events {
		if _, ok := e.(leafserve.StateEvent); ok {
			t.Error("the typo of a list was told")
		}
	}
}

// TestComparePerArm: every arm meets the typo that is worst for it, with the
// drift of that, and the case shows the one of attack.against.
func TestComparePerArm(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, against := range []string{"standard", "robust"} {
		r := leafserve.Request{AttackedPerArm: true, Attack: &leafserve.Attack{Against: against}}
		result, _, _ := runCompare(t, m, r)
		c := result.Compare
		for name, arm := range c.Arms {
			a := *compareJob(t, m, r).Request.Attack
			a.Against = name
			want, err := m.Encoders.Attack(context.Background(), []string{apple}, a, []string{name})
			if err != nil {
				t.Fatal(err)
			}
			if arm.Attacked.Prompt != want[0].Prompt || arm.Attacked.Drift == nil || *arm.Attacked.Drift != want[0].Drift[name] {
				t.Errorf("%s met %q with drift %+v, its worst is %q with %+v", name, arm.Attacked.Prompt, arm.Attacked.Drift, want[0].Prompt, want[0].Drift[name])
			}
		}
		if c.Attack.Prompt != c.Arms[against].Attacked.Prompt {
			t.Errorf("the case shows %q, want that of %s", c.Attack.Prompt, against)
		}
	}
}

// TestCompareWithoutEdit: where no edit is valid, clean and attacked are the
// same picture, drawn once, and the verdict says so.
func TestCompareWithoutEdit(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	result, _, events := runCompare(t, m, leafserve.Request{Prompt: "12 34", Previews: 1, Attack: &leafserve.Attack{Constraint: "strict"}})
	c := result.Compare
	if c.Attack.Prompt != "12 34" || c.Attack.Edits == nil || len(c.Attack.Edits) != 0 || len(result.Images) != 2 {
		t.Errorf("attack %+v, %d pictures", c.Attack, len(result.Images))
	}
	for name, arm := range c.Arms {
		if arm.Clean.Image != arm.Attacked.Image || *arm.Attacked.Similarity != 1 || c.Attack.Drift[name].Pooled > 1e-6 {
			t.Errorf("%s = %+v", name, arm)
		}
	}
	if !strings.Contains(c.Verdict.Text, "no valid typo") {
		t.Errorf("verdict %+v", c.Verdict)
	}
	if n := len(events); n != 1+1+4+1 {
		t.Errorf("%d events: every cell wants its preview", n)
	}
}

// TestCompareAnyPrompt: odd prompts get an answer, whatever the method, and are
// no trouble for the others of a list.
func TestCompareAnyPrompt(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	prompts := []string{
		"12 + 34 = ?!", "a", strings.Repeat("many words ", 363) + "and end", "🦉👩‍👩‍👧", "חתול שחור", "a קֶטֶן owl 🦉", "  a   owl ", "<img onerror=x>",
	}
	for _, method := range []string{"leaf", "charmer", "random", "keyboard", "swap", "homoglyph"} {
		t.Run(method, func(t *testing.T) {
			r := leafserve.Request{Prompts: prompts, Width: ptr(16), Height: ptr(16), Attack: &leafserve.Attack{Method: method, Edits: leafserve.MaxEdits}} // more than "a" has letters
			switch method {
			case "leaf":
				r.Attack.Rho = 3
			case "charmer": // reads every slot: 8,000 texts of the long prompt
				r.Attack.Rho, r.Attack.Edits, r.Prompts = 1, 1, slices.Delete(slices.Clone(prompts), 2, 3)
			}
			result, _, _ := runCompare(t, m, r)
			if got := len(result.Compare.Cases); got != len(r.Prompts) {
				t.Errorf("%d cases of %d prompts", got, len(r.Prompts))
			}
			if _, err := json.Marshal(result); err != nil { // NaN
				t.Error(err)
			}
		})
	}
}

// TestCompareWithoutJudge: a model without CLIP has no scores, and is judged by
// drift.
func TestCompareWithoutJudge(t *testing.T) {
	m := twoEncoders(t)
	result, _, _ := runCompare(t, m, leafserve.Request{Prompts: []string{"a cat", "a dog in a car"}, Attack: &leafserve.Attack{Method: "swap"}})
	for _, one := range result.Compare.Cases {
		arm := one.Arms["robust"]
		if arm.Clean.ClipScore != nil || arm.Attacked.ClipScore != nil || arm.Attacked.Similarity != nil || one.Attack.Drift["robust"].Hidden <= 0 || one.Verdict.Text == "" {
			t.Errorf("case %+v", one)
		}
	}
}

func TestCompareNeedsTwoEncoders(t *testing.T) {
	_, err := describe(t, leaftest.Model(t, "tiny-sd15")).ResolveCompare(leafserve.Request{Prompt: "a cat"})
	var e *leafserve.Error
	if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != "model" || !strings.Contains(err.Error(), "leafserve models attach") {
		t.Errorf("ResolveCompare = %v", err)
	}
}

// TestCompareCost: nobody burns a server with one request.
func TestCompareCost(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	long := slices.Repeat([]string{strings.Repeat("x", leafserve.MaxPromptRunes)}, leafserve.MaxComparePrompts)
	for _, tc := range []struct {
		name string
		req  leafserve.Request
		ok   bool
	}{
		{"everything of leaf", leafserve.Request{Prompts: long, Attack: &leafserve.Attack{Edits: leafserve.MaxEdits, Rho: leafserve.MaxRho}}, true},
		{"by each arm", leafserve.Request{Prompts: long, Attack: &leafserve.Attack{Edits: leafserve.MaxEdits, Rho: leafserve.MaxRho}, AttackedPerArm: true}, false},
		{"charmer on long prompts", leafserve.Request{Prompts: long, Attack: &leafserve.Attack{Method: "charmer"}}, false},
		{"charmer on one", leafserve.Request{Prompt: long[0], Attack: &leafserve.Attack{Method: "charmer", Edits: leafserve.MaxEdits, Rho: leafserve.MaxRho}}, true},
		{"no search", leafserve.Request{Prompts: long, Attack: &leafserve.Attack{Method: "swap", Edits: leafserve.MaxEdits}}, true},
	} {
		_, err := f.ResolveCompare(tc.req)
		if tc.ok && err != nil || !tc.ok && (err == nil || !strings.Contains(err.Error(), "fewer prompts")) {
			t.Errorf("%s: ResolveCompare = %v", tc.name, err)
		}
	}
}

// TestCompareStops cancels before the attack, when the typo is known and after
// a step: it ends with the context's error and makes no report.
func TestCompareStops(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, at := range []string{"start", "state", "step"} {
		t.Run(at, func(t *testing.T) {
			store, dir := folder(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if at == "start" {
				cancel()
			}
			result, err := leaftest.Run(ctx, m.Runner(store, nil), compareJob(t, m, leafserve.Request{Prompt: "an owl, " + at}), func(event any) {
				_, typo := event.(leafserve.StateEvent)
				if typo == (at == "state") {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) || result.Compare != nil {
				t.Errorf("Runner = %+v, %v", result, err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("stored %v, %v, want nothing", left, err)
			}
		})
	}
}
