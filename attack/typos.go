package attack

import (
	"context"
	"math/rand/v2"
	"strings"
	"unicode"

	"leafserve/lexicon"
)

// typist draws one edit of a text, not yet checked; ok is false where the draw
// has no edit. Letters are the places of the text's letters.
type typist func(rng *rand.Rand, t *sentence, letters []int) (e edit, ok bool)

var typists = map[string]typist{
	Random: typo, Keyboard: keyTypo, Swap: swapTypo, Homoglyph: lookAlike,
}

// draws bounds how often a typist tries for a valid edit before the text is
// given up. Of all letters in prompts more than half can be edited.
const draws = 200

// typeAll makes cfg.Edits typos in every text. An edit is taken if it changes
// more than case, is valid and brings no word of either list of the dictionary
// that the text does not have.
func typeAll(ctx context.Context, victims []*victim, cfg Config) error {
	for _, v := range victims {
		if err := ctx.Err(); err != nil {
			return err
		}
		for range cfg.Edits {
			if !v.mistype(typists[cfg.Method], cfg) {
				break
			}
		}
	}
	return nil
}

// mistype makes one edit; false if no valid one was found.
func (v *victim) mistype(draw typist, cfg Config) bool {
	letters := places(v.text, unicode.IsLetter)
	if len(letters) == 0 {
		return false
	}
	listed, known := newChecker(cfg.Dictionary.Has, v.text), newChecker(cfg.Dictionary.Known, v.text)
	for range draws {
		v.Candidates++
		e, ok := draw(v.rng, v.text, letters)
		if !ok || strings.EqualFold(v.text.edited(e), v.Prompt) || !allowsTypo(listed, known, cfg.Constraint, e) {
			continue
		}
		v.Valid++
		v.apply(e)
		return true
	}
	return false
}

func allowsTypo(listed, known *checker, constraint string, e edit) bool {
	if constraint == None {
		return true
	}
	lost, gained := listed.change(e)
	_, alsoGained := known.change(e)
	return allows(constraint, lost, gained) && gained == 0 && alsoGained == 0
}

// places gives the code points of t that are in.
func places(t *sentence, in func(rune) bool) []int {
	var at []int
	for i := range t.len() {
		if in(t.rune(i)) {
			at = append(at, i)
		}
	}
	return at
}

// typo is an edit of a hasty typist: at a random letter, each as likely, swap it
// with the letter after it, drop it, double it, or insert or replace by one of
// a…z.
func typo(rng *rand.Rand, t *sentence, letters []int) (edit, bool) {
	at := letters[rng.IntN(len(letters))]
	random := string(rune('a' + rng.IntN(26)))
	switch rng.IntN(5) {
	case 0:
		return swapAt(t, at)
	case 1:
		return edit{at, 1, ""}, true
	case 2:
		return edit{at, 0, t.sub(at, at+1)}, true
	case 3:
		return edit{at, 1, random}, true
	}
	return edit{at, 0, random}, true
}

// swapAt swaps code point at with the next if both are letters and differ.
func swapAt(t *sentence, at int) (edit, bool) {
	if at+1 >= t.len() || !unicode.IsLetter(t.rune(at+1)) || t.rune(at) == t.rune(at+1) {
		return edit{}, false
	}
	return edit{at, 2, t.sub(at+1, at+2) + t.sub(at, at+1)}, true
}

func swapTypo(rng *rand.Rand, t *sentence, letters []int) (edit, bool) {
	return swapAt(t, letters[rng.IntN(len(letters))])
}

// keyTypo hits a key beside the right one on a QWERTY keyboard; case is kept.
func keyTypo(rng *rand.Rand, t *sentence, letters []int) (edit, bool) {
	at := letters[rng.IntN(len(letters))]
	r := t.rune(at)
	beside := lexicon.Beside(unicode.ToLower(r))
	if beside == "" {
		return edit{}, false
	}
	put := beside[rng.IntN(len(beside)):][:1]
	if unicode.IsUpper(r) {
		put = strings.ToUpper(put)
	}
	return edit{at, 1, put}, true
}

// lookAlike puts a letter of another script that most fonts draw the same.
func lookAlike(rng *rand.Rand, t *sentence, letters []int) (edit, bool) {
	at := letters[rng.IntN(len(letters))]
	alike := []rune(lookAlikes[t.rune(at)])
	if len(alike) == 0 {
		return edit{}, false
	}
	return edit{at, 1, string(alike[rng.IntN(len(alike))])}, true
}

// lookAlikes has Cyrillic, Greek, Armenian and other letters by the Latin
// letter they look like (a choice of Unicode's confusables, UTS 39).
var lookAlikes = map[rune]string{
	'a': "аɑ", 'b': "Ьƅ", 'c': "сϲ", 'd': "ԁ", 'e': "еҽ", 'g': "ɡց", 'h': "һհ", 'i': "іɩ", 'j': "јϳ", 'k': "κ", 'l': "ӏ",
	'n': "ո", 'o': "оοօ", 'p': "рρ", 'q': "ԛգ", 'r': "г", 's': "ѕ", 'u': "υս", 'v': "νѵ", 'w': "ԝա", 'x': "х", 'y': "уγ", 'z': "ᴢ",
	'A': "АΑ", 'B': "ВΒ", 'C': "СϹ", 'E': "ЕΕ", 'H': "НΗ", 'I': "ІΙ", 'J': "ЈͿ", 'K': "КΚ", 'M': "МΜ", 'N': "Ν", 'O': "ОΟ", 'P': "РΡ",
	'S': "Ѕ", 'T': "ТΤ", 'X': "ХΧ", 'Y': "ҮΥ", 'Z': "Ζ",
}
