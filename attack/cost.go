package attack

import (
	"unicode/utf8"

	"leafserve"
)

// Cost bounds how many texts Score is asked about for one prompt by a resolved
// attack, so that a server can refuse what would take too long before it starts.
func Cost(prompt string, a leafserve.Attack) int {
	slots := 2*(utf8.RuneCountInString(prompt)+a.Edits) + 1 // of the longest text on the way
	switch a.Method {
	case Leaf:
		return a.Edits * 2 * a.Rho
	case Charmer:
		return a.Edits * (slots + min(a.Rho, slots)*len(asciiSymbols))
	}
	return 0
}
