package invert

import (
	"slices"
	"strings"
)

// Overlap counts what reconstructions have of their references, whatever the
// order.
type Overlap struct {
	Words, WordsFound   int // of the references: lower case, cut at blanks, with repeats
	WordsWritten        int // of the reconstructions
	Tokens, TokensFound int // of the references
}

// Compare counts for one text. ids are tokens without BOS and EOS; those of the
// reconstruction are the ones that were found, not those of its text.
func Compare(reference, reconstruction string, referenceIDs, ids []int) Overlap {
	words, written := strings.Fields(strings.ToLower(reference)), strings.Fields(strings.ToLower(reconstruction))
	return Overlap{
		Words: len(words), WordsFound: found(words, written), WordsWritten: len(written),
		Tokens: len(referenceIDs), TokensFound: found(referenceIDs, ids),
	}
}

// found counts the items that are anywhere in a list.
func found[T comparable](items, list []T) int {
	n := 0
	for _, item := range items {
		if slices.Contains(list, item) {
			n++
		}
	}
	return n
}

// Plus adds up the counts of two sets of texts.
func (o Overlap) Plus(p Overlap) Overlap {
	return Overlap{
		o.Words + p.Words, o.WordsFound + p.WordsFound, o.WordsWritten + p.WordsWritten,
		o.Tokens + p.Tokens, o.TokensFound + p.TokensFound,
	}
}

// WordRecall is the share of the references' words that came back, 0…1.
func (o Overlap) WordRecall() float64 { return share(o.WordsFound, o.Words) }

// WordAccuracy is the figure of LEAF's evaluation: words found over words
// written. A reference that repeats a word can bring it above 1.
func (o Overlap) WordAccuracy() float64 { return share(o.WordsFound, o.WordsWritten) }

// TokenRecall is the share of the references' tokens that came back, 0…1; LEAF's
// evaluation calls it token accuracy.
func (o Overlap) TokenRecall() float64 { return share(o.TokensFound, o.Tokens) }

// share is 0 of nothing.
func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
