package lexicon

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fix is one change that Correct made.
type Fix struct {
	At   int    // code point of the text before, where From begins
	From string // one word, or two with the sign between them
	To   string // one word, or two and a blank
}

// Correct gives text with its misspelled words put right, and what it changed,
// in order. It is a noisy channel (Kernighan, Church and Gale 1990): of the
// known words within two edits it takes the one for which the word's frequency
// and the likelihood of such a typo are highest together; a word of three or
// four letters may be one edit wrong. It also takes a word apart ("onthe") and
// joins two that one sign keeps apart ("kit chen", "back-ground") where that is
// likelier still. Case and all signs between words stay.
//
// It leaves alone: known words; words of one or two letters; numbers and words
// that begin or end with a digit; words over 40 letters; names, that is unknown
// words with a capital that do not begin a sentence; words of up to four
// capitals; and words with accents or in another script. One that mixes Latin
// with another script, or has a digit or a capital inside, is taken for one edit
// wrong there.
func (d *Dictionary) Correct(text string) (corrected string, fixes []Fix) {
	words := splitWords(text)
	var out strings.Builder
	done, runes := 0, 0 // bytes written, code points of text before them
	for i := 0; i < len(words); i++ {
		w, from, to := words[i], words[i].from, words[i].to
		meant, ok := "", false
		if i+1 < len(words) {
			if meant, ok = d.join(text, w, words[i+1]); ok {
				to = words[i+1].to
				i++
			}
		}
		if !ok {
			if meant, ok = d.repair(w); !ok {
				continue
			}
		}
		meant = likeCase(text[from:to], meant)
		runes += utf8.RuneCountInString(text[done:from])
		fixes = append(fixes, Fix{runes, text[from:to], meant})
		runes += utf8.RuneCountInString(text[from:to])
		out.WriteString(text[done:from] + meant)
		done = to
	}
	return out.String() + text[done:], fixes
}

// Suggest gives what a misspelled word was likely meant to be, in lower case;
// ok is false where Correct would leave the word alone.
func (d *Dictionary) Suggest(word string) (meant string, ok bool) {
	words := splitWords(word)
	if len(words) != 1 || words[0].text != word {
		return "", false
	}
	return d.repair(words[0])
}

// word is a run of letters, digits and, inside, apostrophes.
type word struct {
	from, to int // bytes
	text     string
	low      string // in lower case, with ' for ’
	opens    bool   // begins the text or a sentence
	loud     bool   // the text is in capitals
}

func splitWords(text string) []word {
	var words []word
	opens, loud := true, styleOf(text) == capitals
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		if !inWord(r) {
			opens = opens || strings.ContainsRune(".!?\n", r)
			at += size
			continue
		}
		end := wordEnd(text, at)
		low := strings.ReplaceAll(strings.ToLower(text[at:end]), "’", "'")
		words = append(words, word{at, end, text[at:end], low, opens, loud})
		at, opens = end, false
	}
	return words
}

// wordEnd gives the byte after the word that begins at at.
func wordEnd(text string, at int) int {
	end := at
	for i, r := range text[at:] {
		switch {
		case inWord(r):
			end = at + i + utf8.RuneLen(r)
		case r != '\'' && r != '’' || at+i > end: // an apostrophe is inside if a letter follows
			return end
		}
	}
	return end
}

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

// likeCase writes meant as text is written: in capitals, with a first capital,
// or in lower case.
func likeCase(text, meant string) string {
	first, _ := utf8.DecodeRuneInString(text)
	switch {
	case styleOf(text) == capitals:
		return strings.ToUpper(meant)
	case unicode.IsUpper(first):
		return strings.ToUpper(meant[:1]) + meant[1:]
	}
	return meant
}

// unknownLogP stands for the frequency of a word that is not in the list: less
// than the rarest's.
const unknownLogP = -18

// prior gives the logarithm of a word's frequency.
func (d *Dictionary) prior(low string) (logP float32, known bool) {
	if i := d.known.find(low); i >= 0 {
		return d.logP[i], true
	}
	return unknownLogP, false
}

// Two words are joined if one is so many nats likelier than the two apart, and
// at most so many nats rarer than the rarer of the two: "background" is as
// common as "ground", but "honeypot" much rarer than "honey" and "pot".
const (
	joinGain  = 5
	joinRarer = 1
)

// join gives the word that a and b make together, if only a blank or one other
// sign is between them and they are likelier one word than two.
func (d *Dictionary) join(text string, a, b word) (string, bool) {
	if gap := text[a.to:b.from]; utf8.RuneCountInString(gap) != 1 || gap == "\n" || a.low == b.low {
		return "", false
	}
	logP, known := d.prior(a.low + b.low)
	if !known {
		return "", false
	}
	logA, _ := d.prior(a.low)
	logB, _ := d.prior(b.low)
	return a.low + b.low, logP-logA-logB > joinGain && logP > min(logA, logB)-joinRarer
}

// repair gives what w was meant to be, if it is wrong.
func (d *Dictionary) repair(w word) (string, bool) {
	if _, known := d.prior(w.low); known {
		return "", false
	}
	base, ending := w.low, ""
	if owned := strings.TrimSuffix(w.low, "'s"); owned != w.low {
		if _, known := d.prior(owned); known {
			return "", false
		}
		base, ending = owned, "'s"
	}
	key, edits := searchKey(w, base)
	if edits == 0 {
		return "", false
	}
	meant, score := d.closest(key, edits)
	if apart, s := d.apart(base); s > score {
		meant = apart
	}
	return meant + ending, meant != ""
}

// searchKey gives base with one byte for every letter of another script, and
// how many edits it may be wrong; 0 leaves it alone.
func searchKey(w word, base string) (key string, edits int) {
	first, _ := utf8.DecodeRuneInString(w.text)
	last, _ := utf8.DecodeLastRuneInString(w.text)
	style := styleOf(w.text)
	switch letters := utf8.RuneCountInString(base); {
	case letters < 3, letters > 40, unicode.IsDigit(first), unicode.IsDigit(last),
		style == capitals && letters <= 4 && !w.loud, style == title && !w.opens:
		return "", 0
	case letters < 5, style == mixed, strings.ContainsFunc(base, unicode.IsDigit):
		edits = 1
	default:
		edits = 2
	}
	ascii, accents := false, false
	key = strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			ascii = true
			return r
		}
		accents = accents || unicode.Is(unicode.Latin, r) || unicode.IsMark(r)
		return 0
	}, base)
	if accents || !ascii { // another language
		return "", 0
	}
	return key, edits
}

// style is how a word's capitals are set.
type style int

const (
	small    style = iota
	title          // the first only
	capitals       // most, and more than one
	mixed          // others
)

func styleOf(text string) style {
	upper, lower, first := 0, 0, false
	for i, r := range text {
		switch {
		case unicode.IsUpper(r):
			upper++
			first = first || i == 0
		case unicode.IsLower(r):
			lower++
		}
	}
	switch {
	case upper == 0:
		return small
	case upper > 1 && upper > lower:
		return capitals
	case upper == 1 && first:
		return title
	}
	return mixed
}

// closest gives the best known word within edits of key, "" if there is none.
// Two edits are tried only where one does not do.
func (d *Dictionary) closest(key string, edits int) (meant string, score float32) {
	score = 2 * unknownLogP
	for n := 1; n <= edits && meant == ""; n++ {
		for _, m := range d.near(key, n) {
			w := d.known.word(m.word)
			if s := d.logP[m.word] - typoCost(key, w); s > score {
				meant, score = w, s
			}
		}
	}
	return meant, score
}

// apart gives the likeliest two known words that low is without a blank.
func (d *Dictionary) apart(low string) (words string, score float32) {
	score = 3 * unknownLogP
	for i := 1; i < len(low); i++ {
		if !part(low[:i]) || !part(low[i:]) {
			continue
		}
		a, knownA := d.prior(low[:i])
		b, knownB := d.prior(low[i:])
		if s := a + b - costSlip; knownA && knownB && s > score {
			words, score = low[:i]+" "+low[i:], s
		}
	}
	return words, score
}

// part says whether s may be half of a word taken apart.
func part(s string) bool { return len(s) > 1 || slices.Contains([]string{"a", "i"}, s) }
