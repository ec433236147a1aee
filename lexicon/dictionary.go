package lexicon

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Dictionary is a set of words with their counts. It does not change and may
// be used by many goroutines.
type Dictionary struct {
	words  *list     // for Has
	known  *list     // for Known and Correct
	logP   []float32 // natural logarithm of each known word's share of all counts
	shared []uint8   // shared prefixes of known
}

//go:embed data/web2.gz
var web2 []byte // sorted, one word a line

//go:embed data/counts.gz
var counts []byte // sorted, "word count" a line

//go:embed data/modern.txt
var modern []byte // as counts

// English gives the dictionary inside the program: 210,768 words for Has and
// 82,904 with counts for Known and Correct. It is made at the first call, in
// about 50 ms, and holds 7 MB.
func English() *Dictionary { return english() }

var english = sync.OnceValue(func() *Dictionary {
	d, err := Read(io.MultiReader(unzip(counts), bytes.NewReader(modern)))
	if err != nil {
		panic(err) // the file is part of the program
	}
	text, err := io.ReadAll(unzip(web2))
	if err != nil {
		panic(err)
	}
	d.words = newList(strings.Split(string(text), "\n"))
	return d
})

func unzip(b []byte) io.Reader {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		panic(err) // the file is part of the program
	}
	return z
}

// maxWord is the longest word that Read takes, in bytes.
const maxWord = 200

// Read makes a dictionary of a list in UTF-8: a line is a word, or a word, a
// blank and how often it is met (1 to 2^63−1; without, 1). Case is kept, though
// nothing but lower case is ever looked up by this package; blank lines are
// skipped and of a repeated word the last line counts. An error names the line.
func Read(r io.Reader) (*Dictionary, error) {
	type entry struct {
		word  string
		count float64
	}
	var entries []entry
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		word, count, err := parseLine(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if word != "" {
			entries = append(entries, entry{word, count})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.word, b.word) })
	words, last := make([]string, 0, len(entries)), make([]float64, 0, len(entries))
	for i, e := range entries {
		if i+1 < len(entries) && entries[i+1].word == e.word {
			continue
		}
		words, last = append(words, e.word), append(last, e.count)
	}
	l := newList(words)
	return &Dictionary{words: l, known: l, logP: logShares(last), shared: l.sharedPrefixes()}, nil
}

// parseLine gives "" for a blank line.
func parseLine(line string) (word string, count float64, err error) {
	if !utf8.ValidString(line) {
		return "", 0, fmt.Errorf("%.64q is not UTF-8", line)
	}
	fields := strings.Fields(line)
	switch {
	case len(fields) == 0:
		return "", 0, nil
	case len(fields) > 2:
		return "", 0, fmt.Errorf("%.64q has %d fields, want a word or a word and its count", line, len(fields))
	case len(fields[0]) > maxWord:
		return "", 0, fmt.Errorf("a word of %d bytes, want %d at most", len(fields[0]), maxWord)
	case len(fields) == 1:
		return fields[0], 1, nil
	}
	whole, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || whole < 1 {
		return "", 0, fmt.Errorf("count is %.64q, want a whole number of at least 1", fields[1])
	}
	return fields[0], float64(whole), nil
}

func logShares(counts []float64) []float32 {
	total := 0.0
	for _, c := range counts {
		total += c
	}
	shares := make([]float32, len(counts))
	for i, c := range counts {
		shares[i] = float32(math.Log(c / total))
	}
	return shares
}

// Has says whether the long list has exactly this word. English's has lower
// case only: the names among web2's entries are left out, since LEAF lower-cases
// before it looks up.
func (d *Dictionary) Has(word string) bool { return d.words.find(word) >= 0 }

// Known says whether exactly this word is among those with counts.
func (d *Dictionary) Known(word string) bool { return d.known.find(word) >= 0 }
