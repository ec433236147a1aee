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

func undone(d *lexicon.Dictionary, t testing.TB, clean, damaged []string) float64 {
	n := 0
	for i := range clean {
		if got, _ := d.Correct(damaged[i]); got == clean[i] {
			n++
		} else {
			t.Logf("%q\n %q\n %q", clean[i], damaged[i], got)
		}
	}
	return float64(n) / float64(len(clean))
}

func TestAccuracy(t *testing.T) {
	d := lexicon.English()
	clean, one, two := prompts(t)
	t.Log("clean", undone(d, t, clean, clean), len(clean))
	t.Log("one", undone(d, t, clean, one))
	t.Log("two", undone(d, t, clean, two))
	sum, n := 0.0, 0
	for seed := range uint64(10) {
		r, err := attack.Run(context.Background(), clean, nil, attack.Config{Method: attack.Random, Edits: 1, Constraint: attack.NoIncrease, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		damaged := make([]string, len(r))
		for i := range r {
			damaged[i] = r[i].Prompt
		}
		sum += undone(d, t, clean, damaged)
		n++
	}
	t.Log("random", sum/float64(n))
}

func BenchmarkCorrect(b *testing.B) {
	d := lexicon.English()
	clean, one, _ := prompts(b)
	for b.Loop() {
		for _, p := range one {
			d.Correct(p)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(clean)), "µs/prompt")
}
