package invert

import (
	"math"
	"regexp"
	"strings"
	"unicode"
)

// Pair is a text and its reconstruction.
type Pair struct{ Reference, Reconstruction string }

// maxGram is the longest n-gram that BLEU counts.
const maxGram = 4

// NGrams counts what BLEU is made of; the counts of several texts add up.
type NGrams struct {
	match, total    [maxGram]int
	written, wanted int // words of the reconstruction and of the reference
}

// NGrams counts for one text.
func (p Pair) NGrams() NGrams {
	hypothesis, reference := words13a(p.Reconstruction), words13a(p.Reference)
	c := NGrams{written: len(hypothesis), wanted: len(reference)}
	for n := range maxGram {
		have := grams(reference, n+1)
		for gram, count := range grams(hypothesis, n+1) {
			c.match[n] += min(count, have[gram])
			c.total[n] += count
		}
	}
	return c
}

// Plus adds up the counts of two sets of texts.
func (c NGrams) Plus(d NGrams) NGrams {
	for n := range maxGram {
		c.match[n] += d.match[n]
		c.total[n] += d.total[n]
	}
	c.written, c.wanted = c.written+d.written, c.wanted+d.wanted
	return c
}

// BLEU is corpus BLEU-4, 0…100 (Papineni et al. 2002), as sacrebleu 2 gives by
// default: tokenizer 13a, letter case kept, exponential smoothing (Chen & Cherry
// 2014, method 3), one reference for each reconstruction.
func (c NGrams) BLEU() float64 {
	if c.match == [maxGram]int{} {
		return 0
	}
	brevity := math.Exp(min(0, 1-float64(c.wanted)/float64(c.written)))
	return 100 * brevity * geometricMean(c.match, c.total)
}

// BLEU is that of some texts together.
func BLEU(pairs []Pair) float64 {
	var all NGrams
	for _, p := range pairs {
		all = all.Plus(p.NGrams())
	}
	return all.BLEU()
}

// geometricMean is that of the n-gram precisions. The first that has no match
// counts as half a match, the next as a quarter, and so on; one without any
// n-gram makes the whole 0.
func geometricMean(match, total [maxGram]int) float64 {
	if total[maxGram-1] == 0 {
		return 0
	}
	sum, smooth := 0.0, 1.0
	for n := range maxGram {
		part := float64(match[n])
		if match[n] == 0 {
			smooth *= 2
			part = 1 / smooth
		}
		sum += math.Log(part/float64(total[n])) / maxGram
	}
	return math.Exp(sum)
}

// grams counts the runs of n words.
func grams(words []string, n int) map[string]int {
	out := map[string]int{}
	for i := n; i <= len(words); i++ {
		out[strings.Join(words[i-n:i], " ")]++
	}
	return out
}

// The rules of mteval-v13a's tokenizer, in order.
var rules13a = []struct {
	at *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`([{-~\[-` + "`" + ` -&(-+:-@/])`), " $1 "}, // signs but ' , - .
	{regexp.MustCompile(`([^0-9])([.,])`), "$1 $2 "},
	{regexp.MustCompile(`([.,])([^0-9])`), " $1 $2"},
	{regexp.MustCompile(`([0-9])(-)`), "$1 $2 "},
}

// entities13a are replaced in this order, one after the other.
var entities13a = [][2]string{{"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}}

// words13a cuts a line as mteval-v13a does.
func words13a(line string) []string {
	line = strings.TrimRightFunc(line, unicode.IsSpace)
	line = strings.ReplaceAll(line, "<skipped>", "")
	line = strings.ReplaceAll(line, "-\n", "")
	for _, e := range entities13a {
		line = strings.ReplaceAll(line, e[0], e[1])
	}
	line = " " + line + " "
	for _, rule := range rules13a {
		line = rule.at.ReplaceAllString(line, rule.to)
	}
	return strings.Fields(line)
}
