package lexicon_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"leafserve/attack"
	"leafserve/lexicon"
)

// prompts of the default model's evaluation, each with one and two typos.
func prompts(t testing.TB) (clean, one, two []string) {
	t.Helper()
	data, err := os.ReadFile("../weights/builtin/leaf-emoji-64/eval/prompts.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Prompts []struct{ Prompt, Typo, Typo2 string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Prompts {
		clean, one, two = append(clean, p.Prompt), append(one, p.Typo), append(two, p.Typo2)
	}
	return clean, one, two
}

// undone gives the share of damaged prompts that Correct brings back.
func undone(t *testing.T, clean, damaged []string) float64 {
	t.Helper()
	n := 0
	for i := range clean {
		if got, _ := lexicon.English().Correct(damaged[i]); got == clean[i] {
			n++
		} else if testing.Verbose() {
			t.Logf("%q: %q, want %q", damaged[i], got, clean[i])
		}
	}
	return float64(n) / float64(len(clean))
}

// TestCorrectUndoesTypos pins how good the baseline is that an encoder has to
// beat. What is left is mostly words of one or two letters, typos that are
// words ("sun", "sunn"), and those that only sense tells apart ("skul").
func TestCorrectUndoesTypos(t *testing.T) {
	clean, one, two := prompts(t)
	var again, damaged []string
	for seed := range uint64(10) {
		results, err := attack.Run(context.Background(), clean, nil, attack.Config{
			Method: attack.Random, Edits: 1, Constraint: attack.NoIncrease, Seed: seed,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			again, damaged = append(again, clean[i]), append(damaged, r.Prompt)
		}
	}
	for _, tc := range []struct {
		name           string
		clean, damaged []string
		least          float64
	}{
		{"clean", clean, clean, 1},
		{"one typo of the model card", clean, one, 0.87},
		{"two typos of the model card", clean, two, 0.77},
		{"one random typo", again, damaged, 0.90},
	} {
		t.Run(tc.name, func(t *testing.T) {
			share := undone(t, tc.clean, tc.damaged)
			t.Logf("%.1f %% of %d prompts", 100*share, len(tc.clean))
			if share < tc.least {
				t.Errorf("%.3f of the prompts came back, want %v", share, tc.least)
			}
		})
	}
}

func BenchmarkCorrect(b *testing.B) {
	_, damaged, _ := prompts(b)
	for b.Loop() {
		for _, p := range damaged {
			lexicon.English().Correct(p)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(damaged)), "µs/prompt")
}
