package attack

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// tokens gives all tokens of a text.
func tokens(text string) []string {
	var all []string
	none := newChecker(func(string) bool { return false }, newSentence(""))
	none.eachAfter(edit{put: text}, 0, 0, func(token string) { all = append(all, token) })
	return all
}

// TestTokens: what a character does inside a word and before one, as measured
// with nltk 3.10.4.
func TestTokens(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"a contraction", "don't", []string{"do", "n't"}},
		{"cannot", "cannot", []string{"can", "not"}},
		{"a possessive", "dog's", []string{"dog", "'s"}},
		{"wanna", "wanna go", []string{"wan", "na", "go"}},
		{"a hyphen", "well-known", []string{"well-known"}},
		{"a decimal comma", "3,5", []string{"3,5"}},
		{"the final period", "a dog.", []string{"a", "dog", "."}},
		{"a final period and a quote", "a dog.'", []string{"a", "dog", ".", "'"}},
		{"a period before a sentence", "a dog. a cat", []string{"a", "dog", ".", "a", "cat"}},
		{"a period after one letter", "a. dog", []string{"a.", "dog"}},
		{"a period inside", "do.g", []string{"do.g"}},
		{"capitals", "A DOG", []string{"a", "dog"}},
		{"nothing", "", nil},
		{"blanks", " \t\n", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tokens(tc.text); !slices.Equal(got, tc.want) {
				t.Errorf("tokens(%q) = %q, want %q", tc.text, got, tc.want)
			}
		})
	}
	const whole, parts = `'+-./=\^_|~0qz`, "!\"#$%&()*,:;<>?@[]{}` "
	for _, c := range whole + parts {
		text := "kit" + string(c) + "chen tea" // not the last word, or a period would be final
		if in := tokens(text)[0] == text[:len(text)-4]; in != strings.ContainsRune(whole, c) {
			t.Errorf("tokens(%q) = %q: one token is %v", text, tokens(text), in)
		}
	}
	for _, c := range whole + parts {
		breaks := strings.ContainsRune(`+-./=\^_|~0qz`, c)
		text := string(c) + "kitchen tea"
		if got := !slices.Contains(tokens(text), "kitchen"); got != breaks {
			t.Errorf("tokens(%q) = %q: the word is broken: %v, want %v", text, tokens(text), got, breaks)
		}
	}
}

// TestTokensAsNLTK compares with testdata/tokens.py.
func TestTokensAsNLTK(t *testing.T) {
	file, err := os.Open("testdata/tokens.jsonl.gz")
	if err != nil {
		t.Fatalf("%v: make it with testdata/tokens.py", err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unzipped)
	lines.Scan() // versions
	n := 0
	for ; lines.Scan(); n++ {
		var row [2]json.RawMessage
		var text string
		var want []string
		for _, err := range []error{json.Unmarshal(lines.Bytes(), &row), json.Unmarshal(row[0], &text), json.Unmarshal(row[1], &want)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := unquoted(tokens(text)); !slices.Equal(got, unquoted(want)) {
			t.Errorf("tokens(%q) = %q, want %q", text, got, want)
		}
	}
	if n != 520 || lines.Err() != nil {
		t.Errorf("read %d texts, %v, want 520", n, lines.Err())
	}
}

// unquoted leaves out quotes, which NLTK renames.
func unquoted(tokens []string) []string {
	return slices.DeleteFunc(slices.Clone(tokens), func(s string) bool { return strings.Trim(s, "`'\"") == "" })
}

// TestPlainWords: the rules would not cut a word that is plain.
func TestPlainWords(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	pieces := append([]string{"cannot", "gimme", "x", "7", "_", "é", "猫", "🐱", "’", "—", "…", "„", "\u0301"}, parts...)
	plains := 0
	for range 20000 {
		var word string
		for range 1 + rng.IntN(4) {
			word += strings.Join(strings.FieldsFunc(strings.ToLower(pieces[rng.IntN(len(pieces))]), isSpace), "")
		}
		if word == "" || !plain(word) {
			continue
		}
		plains++
		for _, next := range []rune{0, 'a', '.', '\''} {
			var got []string
			cutToken(word, next, func(token string) { got = append(got, token) })
			if !slices.Equal(got, []string{word}) {
				t.Fatalf("%q is plain, but before %q the rules make %q", word, next, got)
			}
		}
	}
	if plains < 2000 {
		t.Errorf("only %d words were plain", plains)
	}
	for _, word := range []string{"cannot", "🐱cannot", "don't", "“a", "a—b", "a.", "--"} {
		if plain(word) {
			t.Errorf("%q is plain", word)
		}
	}
	for _, word := range []string{"cat", "猫", strings.Repeat("🐱", 5), "a🐱b", "3d"} {
		if !plain(word) {
			t.Errorf("%q is not plain", word)
		}
	}
}
