package attack_test

import (
	"testing"

	"leafserve/attack"
	"leafserve/lexicon"
)

func TestValid(t *testing.T) {
	for _, tc := range []struct {
		name, before, after string
		strict, noIncrease  bool
	}{
		{"a word is broken", "a dog", "a dxg", true, true},
		{"a word becomes another", "a dog", "a dig", false, true},
		{"a word falls into two", "a kitchen", "a kit chen", false, true},
		{"a word falls into more than before", "the kitchen", "the kit hen", false, false},
		{"two words become none", "a kit hen", "a kithen", true, true},
		{"one of two equal words", "dog and dog", "dog and dxg", false, true},
		{"a typo outside the dictionary", "two cars", "two crs", false, true},
		{"a letter on its own is a word", "kitchen", "k tchen", false, true},
		{"no words", "1234", "12x34", false, true},
		{"nothing", "", "x", false, false},
		{"case does not count", "A DOG", "a dog", false, true},
		{"a final period is cut off", "a dog", "a dog.", false, true},
		{"a period elsewhere is not", "a dog walk", "a dog .walk", true, true},
		{"capitals are lower-cased first", "london", "London", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := lexicon.English()
			for constraint, want := range map[string]bool{
				attack.Strict: tc.strict, attack.NoIncrease: tc.noIncrease, attack.None: true,
			} {
				if got := attack.Valid(d, constraint, tc.before, tc.after); got != want {
					t.Errorf("Valid(%s, %q, %q) = %v, want %v", constraint, tc.before, tc.after, got, want)
				}
			}
		})
	}
}
