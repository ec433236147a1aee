package attack

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// eachToken cuts one blank-separated word into tokens as NLTK's word_tokenize
// does (nltk 3.10, NLTKWordTokenizer after Punkt without a trained model), and
// hands them over in order. word is in lower case; next is the first character
// of the word after it, 0 if there is none. Of neighbours a word's tokens
// depend on nothing else. NLTK turns quotes into “ and ”; here they stay.
func eachToken(word string, next rune, yield func(token string)) {
	if plain(word) {
		yield(word)
		return
	}
	cutToken(word, next, yield)
}

// cutToken is eachToken by the rules.
func cutToken(word string, next rune, yield func(token string)) {
	c := newCutter(word)
	c.startingQuotes()
	c.periods(next)
	c.punctuation(next)
	c.endingQuotes()
	c.contractions()
	from := 0
	for i := 1; i <= len(c.text); i++ {
		if c.cut[i] {
			yield(string(c.text[from:i]))
			from = i
		}
	}
}

// plain says that no rule cuts word: it has none of their signs, and no
// contraction. A long word in another script is, or a row of emoji.
func plain(word string) bool {
	for _, r := range word {
		if r < utf8.RuneSelf && !isWord(r) || r <= lastSign && strings.ContainsRune("«»‘’“”„\u2012\u2013\u2014\u2015", r) {
			return false
		}
	}
	for contraction := range contracted {
		if strings.Contains(word, contraction) {
			return false
		}
	}
	return true
}

// lastSign is the highest character that a rule names.
const lastSign = '„'

// cutter marks where a word is to be cut. The rules are those of the Penn
// Treebank script as NLTK has them, in NLTK's order: later ones see the blanks
// of earlier ones.
type cutter struct {
	text []rune
	cut  []bool // [len(text)+1] a blank before text[i]
}

func newCutter(word string) *cutter {
	text := []rune(word)
	c := &cutter{text: text, cut: make([]bool, len(text)+1)}
	c.cut[0], c.cut[len(text)] = true, true
	return c
}

// apart cuts before from and before to.
func (c *cutter) apart(from, to int) { c.cut[from], c.cut[to] = true, true }

// each cuts around every character of set.
func (c *cutter) each(set string) {
	for i, r := range c.text {
		if r <= lastSign && strings.ContainsRune(set, r) {
			c.apart(i, i+1)
		}
	}
}

// at says whether s, which is ASCII, stands at i with no blank inside.
func (c *cutter) at(i int, s string) bool {
	if i < 0 || i+len(s) > len(c.text) {
		return false
	}
	for k := range len(s) {
		if c.text[i+k] != rune(s[k]) || k > 0 && c.cut[i+k] {
			return false
		}
	}
	return true
}

// run gives the end of the run of characters that are in from i on.
func (c *cutter) run(i int, in func(rune) bool) int {
	for i < len(c.text) && in(c.text[i]) {
		i++
	}
	return i
}

func (c *cutter) startingQuotes() {
	c.each("«“‘„")
	for i := 0; i < len(c.text); i++ {
		if end := c.run(i, func(r rune) bool { return r == '`' }); end > i {
			c.apart(i, end)
			i = end
		}
	}
	for i, r := range c.text {
		if r != '\'' || i > 0 && isWord(c.text[i-1]) {
			continue
		}
		if end := c.run(i+1, isWord); end > i+1 && !clitics[string(c.text[i+1:end])] {
			c.cut[i+1] = true
		}
	}
}

var clitics = map[string]bool{"re": true, "ve": true, "ll": true, "m": true, "t": true, "s": true, "d": true, "n": true}

const (
	closers = `])}>"'»”’`            // may stand between a final period and the end
	nonWord = `)";}]*:@'({[‘’“”«»?!` // Punkt: no word has them inside
)

// periods cuts off the period that ends the text and the one that ends a
// sentence. Other single periods stay.
func (c *cutter) periods(next rune) {
	n := len(c.text)
	if next == 0 {
		end := n
		for end > 0 && strings.ContainsRune(closers, c.text[end-1]) {
			end--
		}
		c.period(end - 1)
	}
	for i := n - 1; i >= 0; i-- {
		if !strings.ContainsRune(".?!", c.text[i]) {
			continue
		}
		after := next
		if i+1 < n {
			after = c.text[i+1]
		}
		if after == 0 || i+1 < n && !strings.ContainsRune(nonWord, after) {
			continue
		}
		if !unicode.IsLower(after) && !strings.ContainsRune(";:,.!?", after) || !c.ordinal(i) {
			c.period(i)
		}
		return // only the last can end a sentence
	}
}

// period cuts off text[i] if it is a single period.
func (c *cutter) period(i int) {
	if i >= 0 && c.text[i] == '.' && (i == 0 || c.text[i-1] != '.') {
		c.apart(i, i+1)
	}
}

// ordinal says whether the period text[i] follows a single letter or a number
// ("a.", "3."): before lower case or punctuation that does not end a sentence.
func (c *cutter) ordinal(i int) bool {
	from := i
	for from > 0 && !strings.ContainsRune(nonWord, c.text[from-1]) && !c.at(from-2, "..") {
		from--
	}
	if from > 0 && c.text[from-1] != '.' {
		if !strings.ContainsRune(`)";}]*:@({[`, c.text[from-1]) || slices.Contains(c.text[:from-1], '.') {
			return false // a quote is part of the token; a sentence has ended inside the word
		}
	}
	token := []rune(strings.TrimLeft(string(c.text[from:i]), "`&#-,"))
	if len(token) == 1 && isWord(token[0]) {
		return true
	}
	if len(token) > 1 && (token[0] == '.' || token[0] == ',') {
		token = token[1:]
	}
	return len(token) > 0 && unicode.IsDigit(token[0]) && !slices.ContainsFunc(token, func(r rune) bool { return !isNumeric(r) })
}

func isNumeric(r rune) bool { return unicode.IsDigit(r) || strings.ContainsRune(",.-", r) }

func (c *cutter) punctuation(next rune) {
	c.commas()
	for i := 0; i < len(c.text); i++ {
		if end := c.run(i, func(r rune) bool { return r == '.' }); end > i+1 {
			c.apart(i, end)
			i = end
		}
	}
	c.each(";@#$%&\u2012\u2013\u2014\u2015?!")
	c.lastApostrophes(next)
	c.each("*[](){}<>")
	c.pairs("--")
}

// commas cuts around commas and colons before anything but a digit. The
// character after one is passed over, as NLTK does.
func (c *cutter) commas() {
	n := len(c.text)
	for i := 0; i < n; i++ {
		if r := c.text[i]; r != ',' && r != ':' {
			continue
		}
		blank := c.cut[i+1]
		if !blank && unicode.IsDigit(c.text[i+1]) {
			continue
		}
		c.apart(i, i+1)
		if !blank {
			i++
		}
	}
}

// lastApostrophes cuts before an apostrophe that a blank follows; the end of the
// text is none.
func (c *cutter) lastApostrophes(next rune) {
	for i, r := range c.text {
		if blank := c.cut[i+1] && (i+1 < len(c.text) || next != 0); r == '\'' && blank && i > 0 && c.text[i-1] != '\'' {
			c.cut[i] = true
		}
	}
}

// pairs cuts around each two characters that are pair.
func (c *cutter) pairs(pair string) {
	for i := 0; i+1 < len(c.text); i++ {
		if c.at(i, pair) {
			c.apart(i, i+2)
			i++
		}
	}
}

func (c *cutter) endingQuotes() {
	c.each("»”’")
	c.pairs("''")
	c.each(`"`)
	c.suffixes("'s", "'m", "'d", "'")
	c.suffixes("'ll", "'re", "'ve", "n't")
}

// suffixes cuts off the first of endings that stands before a blank, unless a
// blank or an apostrophe is before it.
func (c *cutter) suffixes(endings ...string) {
	for i := 1; i < len(c.text); i++ {
		if c.cut[i] || c.text[i-1] == '\'' {
			continue
		}
		for _, end := range endings {
			if c.at(i, end) && c.cut[i+len(end)] {
				c.cut[i] = true
				break
			}
		}
	}
}

// contracted has the words that are two, and where they are cut.
var contracted = map[string]int{
	"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3, "d'ye": 1, "more'n": 4,
}

func (c *cutter) contractions() {
	for i, r := range c.text {
		if r >= utf8.RuneSelf || i > 0 && isWord(c.text[i-1]) && !c.cut[i] {
			continue
		}
		for word, middle := range contracted {
			end := i + len(word)
			if !c.at(i, word) || end < len(c.text) && isWord(c.text[end]) && !c.cut[end] {
				continue
			}
			if word != "wanna" || c.cut[end] {
				c.apart(i, end)
				c.cut[i+middle] = true
			}
		}
	}
}

// isWord is \w of Python's regular expressions.
func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || r == '_' }

// isSpace is what Python splits at.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
