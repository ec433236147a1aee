package invert

import (
	"math"
	"testing"

	"leafserve/weights"
)

// TestBLEU holds the scores to sacrebleu's (testdata/bleu.json has its version;
// tools/golden/gen_bleu.py makes it).
func TestBLEU(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name  string
			Pairs []Pair
			BLEU  float64
		}
	}
	if err := weights.ReadJSON("testdata/bleu.json", &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Cases) != 20 {
		t.Fatalf("%d cases, want 20", len(golden.Cases))
	}
	for _, tc := range golden.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			if got := BLEU(tc.Pairs); math.Abs(got-tc.BLEU) > 1e-9 {
				t.Errorf("BLEU = %v, want %v", got, tc.BLEU)
			}
		})
	}
	if got := BLEU(nil); got != 0 {
		t.Errorf("BLEU of nothing = %v, want 0", got)
	}
}

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name                      string
		reference, reconstruction string
		referenceIDs, ids         []int
		want                      Overlap
	}{
		{name: "letter case and order do not count", reference: "A Red house", reconstruction: "HOUSE a", referenceIDs: []int{1, 2, 3}, ids: []int{3, 1, 9},
			want: Overlap{Words: 3, WordsFound: 2, WordsWritten: 2, Tokens: 3, TokensFound: 2}},
		{name: "repeats in the reference count each time", reference: "a cat and a dog", reconstruction: "a", referenceIDs: []int{1, 2, 3, 1, 4}, ids: []int{1, 1, 1, 1, 1},
			want: Overlap{Words: 5, WordsFound: 2, WordsWritten: 1, Tokens: 5, TokensFound: 2}},
		{name: "words are cut at blanks only", reference: "cat, dog", reconstruction: "cat dog",
			want: Overlap{Words: 2, WordsFound: 1, WordsWritten: 2}},
		{name: "nothing came back", reference: "cat", want: Overlap{Words: 1}},
		{name: "nothing was there", reconstruction: "cat", want: Overlap{WordsWritten: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Compare(tc.reference, tc.reconstruction, tc.referenceIDs, tc.ids); got != tc.want {
				t.Errorf("Compare = %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestOverlapShares(t *testing.T) {
	sum := Overlap{Words: 3, WordsFound: 2, WordsWritten: 2, Tokens: 3, TokensFound: 1}.
		Plus(Overlap{Words: 5, WordsFound: 2, WordsWritten: 1, Tokens: 5, TokensFound: 2})
	for _, tc := range []struct {
		name      string
		got, want float64
	}{
		{"word recall", sum.WordRecall(), 4.0 / 8},
		{"word accuracy", sum.WordAccuracy(), 4.0 / 3},
		{"token recall", sum.TokenRecall(), 3.0 / 8},
		{"word recall of nothing", Overlap{}.WordRecall(), 0},
		{"word accuracy of nothing", Overlap{}.WordAccuracy(), 0},
		{"token recall of nothing", Overlap{}.TokenRecall(), 0},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is %v, want %v", tc.name, tc.got, tc.want)
		}
	}
}
