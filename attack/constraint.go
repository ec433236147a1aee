package attack

import (
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"leafserve/lexicon"
)

// The constraints, by how many different dictionary words a text has.
const (
	Strict     = "strict"      // after an edit fewer: what LEAF's code does
	NoIncrease = "no-increase" // no more: what its description says
	None       = "none"        // every edit is valid
)

// Valid says whether a text may become after under a constraint (Strict,
// NoIncrease or None).
func Valid(d *lexicon.Dictionary, constraint, before, after string) bool {
	if constraint == None {
		return true
	}
	a, b := newChecker(d.Has, newSentence(before)), newChecker(d.Has, newSentence(after))
	return allows(constraint, len(a.counts), len(b.counts))
}

func allows(constraint string, before, after int) bool {
	switch constraint {
	case Strict:
		return after < before
	case NoIncrease:
		return after <= before
	}
	return true
}

// checker tells what an edit of one sentence does to its dictionary words. An
// edit can change the tokens of the words it touches and of the word before
// them, whose last period may become final; no others are looked at. It holds
// buffers: not for two goroutines at once.
type checker struct {
	has    func(word string) bool
	text   *sentence
	words  []span         // blank-separated
	found  [][]string     // [words] dictionary words in each
	counts map[string]int // of all of found
	after  []string       // buffer of change
}

// span is code points [from, to).
type span struct{ from, to int }

func newChecker(has func(string) bool, text *sentence) *checker {
	c := &checker{has: has, text: text, counts: map[string]int{}}
	c.words = spans(text)
	c.found = make([][]string, len(c.words))
	for i, w := range c.words {
		eachToken(strings.ToLower(text.sub(w.from, w.to)), c.next(i+1), func(token string) {
			if has(token) {
				c.found[i] = append(c.found[i], token)
				c.counts[token]++
			}
		})
	}
	return c
}

func spans(t *sentence) []span {
	var words []span
	start := -1
	for i := range t.len() {
		switch blank := isSpace(t.rune(i)); {
		case blank && start >= 0:
			words, start = append(words, span{start, i}), -1
		case !blank && start < 0:
			start = i
		}
	}
	if start >= 0 {
		words = append(words, span{start, t.len()})
	}
	return words
}

// next gives the first character of word i in lower case, 0 past the end.
func (c *checker) next(i int) rune {
	if i >= len(c.words) {
		return 0
	}
	return firstLower(c.text.sub(c.words[i].from, c.words[i].from+1))
}

func firstLower(s string) rune {
	r, _ := utf8.DecodeRuneInString(strings.ToLower(s))
	return r
}

// allows says whether e is valid under a constraint.
func (c *checker) allows(constraint string, e edit) bool {
	if constraint == None {
		return true
	}
	lost, gained := c.change(e)
	return allows(constraint, lost, gained)
}

// change counts the different dictionary words that e takes from the text and
// those that it brings.
func (c *checker) change(e edit) (lost, gained int) {
	lo, hi := c.touched(e)
	c.after = c.after[:0]
	c.eachAfter(e, lo, hi, func(token string) {
		if c.has(token) {
			c.after = append(c.after, token)
		}
	})
	before := c.found[lo:hi]
	for i, group := range before {
		for j, w := range group {
			if slices.Contains(group[:j], w) || contains(before[:i], w) {
				continue // counted
			}
			if c.counts[w] == count(before, w) && !slices.Contains(c.after, w) {
				lost++
			}
		}
	}
	for i, w := range c.after {
		if c.counts[w] == 0 && !slices.Contains(c.after[:i], w) {
			gained++
		}
	}
	return lost, gained
}

// touched gives the words [lo, hi) whose tokens e may change.
func (c *checker) touched(e edit) (lo, hi int) {
	lo = sort.Search(len(c.words), func(i int) bool { return c.words[i].to >= e.at })
	hi = lo
	for hi < len(c.words) && c.words[hi].from <= e.at+e.cut {
		hi++
	}
	return max(lo-1, 0), hi
}

// eachAfter hands over the tokens that words [lo, hi) have after e.
func (c *checker) eachAfter(e edit, lo, hi int, yield func(string)) {
	from, to := e.at, e.at+e.cut
	if lo < hi {
		from, to = min(from, c.words[lo].from), max(to, c.words[hi-1].to)
	}
	text := strings.ToLower(c.text.sub(from, e.at) + e.put + c.text.sub(e.at+e.cut, to))
	for text = strings.TrimLeftFunc(text, isSpace); text != ""; {
		word, rest := text, ""
		if end := strings.IndexFunc(text, isSpace); end >= 0 {
			word, rest = text[:end], strings.TrimLeftFunc(text[end:], isSpace)
		}
		next := c.next(hi)
		if rest != "" {
			next, _ = utf8.DecodeRuneInString(rest)
		}
		eachToken(word, next, yield)
		text = rest
	}
}

func contains(groups [][]string, w string) bool { return count(groups, w) > 0 }

func count(groups [][]string, w string) int {
	n := 0
	for _, group := range groups {
		for _, g := range group {
			if g == w {
				n++
			}
		}
	}
	return n
}
