package attack

import (
	"unicode/utf8"

	"leafserve"
)

// Cost bounds how many texts Score is asked about for one prompt by a resolved
// attack, so that a server can refuse what would take too long before it starts.
// A text of objective hidden counts as hiddenCost texts.
func Cost(prompt string, a leafserve.Attack) int {
	slots := 2*(utf8.RuneCountInString(prompt)+a.Edits) + 1 // of the longest text on the way
	texts := 0
	switch a.Method {
	case Leaf:
		texts = a.Edits * 2 * a.Rho
	case Charmer:
		texts = a.Edits * (slots + min(a.Rho, slots)*len(asciiSymbols))
	}
	if a.Objective == hidden {
		return texts * hiddenCost
	}
	return texts
}

// hiddenCost is how many texts of another objective an encoder reads in the time
// that one takes for hidden, which reads the padding too: 77 rows of any text.
// Measured on the built-in model in CPU time it is 13 for captions of 35
// characters, 4.5 for prompts of 100, 3 of 200, and 1.2 where the prompt fills
// the window.
const hiddenCost = 8
