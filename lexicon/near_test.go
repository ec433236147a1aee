package lexicon

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// distance is the optimal string alignment distance, from its definition.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = d[i-1][j-1] + 1
			}
			d[i][j] = min(d[i][j], d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// TestNear compares the walk through the trie with a look at every word.
func TestNear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	text := func(letters string, most int) string {
		b := make([]byte, 1+rng.IntN(most))
		for i := range b {
			b[i] = letters[rng.IntN(len(letters))]
		}
		return string(b)
	}
	for range 300 {
		var list strings.Builder
		for range 1 + rng.IntN(200) {
			fmt.Fprintln(&list, text("abc", 7))
		}
		d, err := Read(strings.NewReader(list.String()))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			word, edits := text("abcd", 8), 1+rng.IntN(2)
			var want []match
			for i := range d.known.len() {
				if n := distance(word, d.known.word(i)); n <= edits {
					want = append(want, match{i, n})
				}
			}
			if got := d.near(word, edits); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("near(%q, %d) = %v, want %v in %q", word, edits, got, want, list.String())
			}
		}
	}
}

func TestTypoCost(t *testing.T) {
	for _, tc := range []struct {
		typed, meant string
		want         float32
	}{
		{"cat", "cat", 0},
		{"yelllow", "yellow", costSlip},                          // doubled
		{"yelow", "yellow", costSlip},                            // dropped
		{"yellwo", "yellow", costSlip},                           // swapped
		{"yel4low", "yellow", costSlip},                          // no letter
		{"yel4ow", "yellow", costSlip},                           // no letter for one
		{"yekkow", "yellow", 2 * costNear},                       // k is beside l
		{"yeqlow", "yellow", costOther},                          // replaced
		{"yelqlow", "yellow", costOther},                         // put in
		{"qellow", "yellow", costOther + costFirst},              // at the first letter
		{"ellow", "yellow", costSlip + costFirst},                //
		{"eyllow", "yellow", costSlip + costFirst},               //
		{"", "ab", 2*costSlip + costFirst},                       //
		{"qx", "", 2*costOther + costFirst},                      //
		{"backgorudn", "background", 2 * costSlip},               //
		{"tellow", "yellow", costNear + costFirst},               // t is beside y
		{"a yellow", "yellow", costSlip + costOther + costFirst}, // a blank is no letter
	} {
		if got := typoCost(tc.typed, tc.meant); got != tc.want {
			t.Errorf("typoCost(%q, %q) = %v, want %v", tc.typed, tc.meant, got, tc.want)
		}
	}
}

// TestBeside: if one key touches another, that touches it too.
func TestBeside(t *testing.T) {
	for c := 'a'; c <= 'z'; c++ {
		for _, n := range Beside(c) {
			if !strings.ContainsRune(Beside(n), c) {
				t.Errorf("%c is beside %c, but not the other way", n, c)
			}
		}
	}
	for _, c := range "A1 é" {
		if got := Beside(c); got != "" {
			t.Errorf("Beside(%c) = %q, want none", c, got)
		}
	}
}

func TestEnglishIsWhole(t *testing.T) {
	d := English()
	if d.words.len() != 210768 || d.known.len() != 82904 {
		t.Errorf("%d and %d words, want 210768 and 82904", d.words.len(), d.known.len())
	}
	for _, l := range []*list{d.words, d.known} {
		for i := range l.len() {
			if i > 0 && l.word(i-1) >= l.word(i) {
				t.Fatalf("%q stands before %q", l.word(i-1), l.word(i))
			}
			if l.find(l.word(i)) != i {
				t.Fatalf("%q is word %d, found at %d", l.word(i), i, l.find(l.word(i)))
			}
		}
	}
}

func BenchmarkNear(b *testing.B) {
	d := English()
	for edits := 1; edits <= 2; edits++ {
		b.Run(fmt.Sprint(edits), func(b *testing.B) {
			for b.Loop() {
				d.near("backgorund", edits)
			}
		})
	}
}
