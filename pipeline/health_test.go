package pipeline

import (
	"context"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
)

func TestHealth(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	encoders, err := LoadEncoders(leaftest.Runtime(t), f)
	if err != nil {
		t.Fatal(err)
	}
	defer encoders.Close()
	for _, tc := range []struct {
		name, prompt string
		damaged      bool
		words        []leafserve.HealthWord
	}{
		{"sound", "a ghost on a yellow background", false, nil},
		{"one typo", "a ghost on a yelllow background", true, []leafserve.HealthWord{{Word: "yelllow", Pieces: 3, Misspelled: true, Suggestion: "yellow"}}},
		{"a word taken apart", "a sail boat near a kit chen", true, []leafserve.HealthWord{{Word: "kit chen", Pieces: 2, Misspelled: true, Suggestion: "kitchen"}}},
		{"after a sign, at the end", "a cat foo+teh", true, []leafserve.HealthWord{{Word: "teh", Pieces: 1, Misspelled: true, Suggestion: "the"}}},
		{"in order", "an axolotl foo+teh yelllow axolotl", true, []leafserve.HealthWord{
			{Word: "axolotl", Pieces: 4}, {Word: "teh", Pieces: 1, Misspelled: true, Suggestion: "the"},
			{Word: "yelllow", Pieces: 3, Misspelled: true, Suggestion: "yellow"}, {Word: "axolotl", Pieces: 4},
		}},
		{"long but right", "an axolotl", false, []leafserve.HealthWord{{Word: "axolotl", Pieces: 4}}},
		{"no letters", "1 2 3 !", false, nil},
		{"emoji", "🐈", false, nil},
		{"another script", "قطة على خلفية", false, nil},
		{"one letter", "a", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := encoders.Health(context.Background(), "robust", tc.prompt)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", got)
			if got.Damaged != tc.damaged || tc.words != nil && !slices.Equal(got.Words, tc.words) || got.Words == nil {
				t.Errorf("Health(%q) = %+v, want damaged %t, words %+v", tc.prompt, got, tc.damaged, tc.words)
			}
			if got.Fragility < 0 || got.Fragility > 1 || got.Limit != 77 {
				t.Errorf("fragility %v, limit %d", got.Fragility, got.Limit)
			}
			again, err := encoders.Health(context.Background(), "robust", tc.prompt)
			if err != nil || again.Fragility != got.Fragility {
				t.Errorf("a second time the fragility is %v (%v), was %v", again.Fragility, err, got.Fragility)
			}
		})
	}
	long, err := encoders.Health(context.Background(), "robust", strings.Repeat("a cat and ", 400))
	if err != nil || long.Tokens != 1202 {
		t.Errorf("4,000 characters: %d tokens, %v", long.Tokens, err)
	}
	standard, err := encoders.Health(context.Background(), "standard", "a ghost on a yellow background")
	if err != nil {
		t.Fatal(err)
	}
	robust, err := encoders.Health(context.Background(), "robust", "a ghost on a yellow background")
	if err != nil || robust.Fragility > standard.Fragility/2 {
		t.Errorf("robust is as fragile as standard: %v against %v", robust.Fragility, standard.Fragility)
	}
}

// TestAuto: encoder auto takes the robust encoder for damaged prompts only, and
// the resolved request names it.
func TestAuto(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	for prompt, want := range map[string]string{
		"a ghost on a yellow background":  "standard",
		"a ghost on a yelllow background": "robust",
		"":                                "",
	} {
		got, err := f.Resolve(leafserve.Request{Prompt: prompt, Encoder: "auto"})
		if want != "" && (err != nil || got.Encoder != want) {
			t.Errorf("Resolve(%q) takes %q, %v; want %s", prompt, got.Encoder, err, want)
		}
	}
	one := describe(t, leaftest.Model(t, "tiny-sd15"))
	if got, err := one.Resolve(leafserve.Request{Prompt: "a yelllow ghost", Encoder: "auto"}); err != nil || got.Encoder != "standard" {
		t.Errorf("a model with one encoder: %q, %v", got.Encoder, err)
	}
}

func BenchmarkHealth(b *testing.B) {
	f, err := Describe(leaftest.DefaultModel())
	if err != nil {
		b.Fatal(err)
	}
	encoders, err := LoadEncoders(leaftest.Runtime(b), f)
	if err != nil {
		b.Fatal(err)
	}
	defer encoders.Close()
	for b.Loop() {
		if _, err := encoders.Health(b.Context(), "robust", "a 3d whale on a gray backgground"); err != nil {
			b.Fatal(err)
		}
	}
}
