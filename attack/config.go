package attack

import (
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"leafserve"
	"leafserve/lexicon"
)

// The methods of an attack.
const (
	Leaf      = "leaf"      // ρ slots, then ρ symbols, the worst by Score
	Charmer   = "charmer"   // every slot, then every symbol at the worst ones
	Random    = "random"    // a hasty typist: swaps, drops, doubles, replaces, inserts a letter
	Keyboard  = "keyboard"  // hits the key beside
	Swap      = "swap"      // swaps two letters of a word
	Homoglyph = "homoglyph" // puts a letter of another script that looks the same
	Manual    = "manual"    // by a person
)

// hidden is the objective whose texts cost more.
const hidden = "hidden"

var (
	methods     = []string{Leaf, Charmer, Random, Keyboard, Swap, Homoglyph, Manual}
	constraints = []string{Strict, NoIncrease, None}
	objectives  = []string{"pooled", "cosine", hidden}
)

// Config says how Run edits.
type Config struct {
	Method     string
	Edits      int    // edits, one after the other, at least 1; manual ignores it
	Rho        int    // leaf: slots and symbols tried a round; charmer: slots kept, of which 2n+1 make it brute force
	Constraint string // Strict, NoIncrease or None; manual has none

	OffByOne   bool                // charmer: pass over the last candidate of each stage, as the published code does
	Alphabet   []rune              // leaf, charmer: characters to put in, beside deletion; nil is printable ASCII
	Dictionary *lexicon.Dictionary // of the constraint; nil is lexicon.English()
	Seed       uint64              // of every random choice
	Manual     string              // manual: the damaged text

	// Stop, where not nil, ends leaf and charmer for one sentence: it is called
	// after every edit with the index of the sentence, its text and its score.
	// With a margin as score, "score > 0" stops when the label has changed.
	Stop func(sentence int, text string, score float64) bool
}

// ConfigOf gives the configuration of a resolved attack.
func ConfigOf(a leafserve.Attack) Config {
	return Config{
		Method: a.Method, Edits: a.Edits, Rho: a.Rho, Constraint: a.Constraint,
		Seed: *a.Seed, Manual: a.Prompt,
	}
}

// Resolve checks a and fills what was not given, a random seed included, so
// that the result names every choice: resolving it again changes nothing. A
// field that the method does not read is refused. Errors are Invalid and name
// the field; the names of encoders are left to whoever has them.
func Resolve(a leafserve.Attack) (leafserve.Attack, error) {
	if a.Method == "" {
		a.Method = Leaf
	}
	if err := oneOf("attack.method", a.Method, methods); err != nil {
		return a, err
	}
	if err := refuseUnread(a); err != nil {
		return a, err
	}
	fillAttack(&a)
	return a, checkAttack(a)
}

// searches says whether a method asks a Score.
func searches(method string) bool { return method == Leaf || method == Charmer }

// refuseUnread refuses the fields that a's method does not read.
func refuseUnread(a leafserve.Attack) error {
	for _, f := range []struct {
		name  string
		given bool
		read  bool
		by    string
	}{
		{"rho", a.Rho != 0, searches(a.Method), "leaf and charmer"},
		{"objective", a.Objective != "", searches(a.Method), "leaf and charmer"},
		{"against", a.Against != "", searches(a.Method), "leaf and charmer"},
		{"edits", a.Edits != 0, a.Method != Manual, "all methods but manual"},
		{"constraint", a.Constraint != "", a.Method != Manual, "all methods but manual"},
		{"prompt", a.Prompt != "", a.Method == Manual, "manual"},
	} {
		if f.given && !f.read {
			return leafserve.InvalidField("attack."+f.name, "attack.%s is for %s, the method is %s: leave it out", f.name, f.by, a.Method)
		}
	}
	return nil
}

func fillAttack(a *leafserve.Attack) {
	if a.Seed == nil {
		a.Seed = new(uint64(rand.Uint32())) // short seeds are easier to pass on
	}
	if a.Method == Manual {
		return
	}
	fill(&a.Edits, 1)
	if searches(a.Method) {
		fill(&a.Constraint, Strict)
		fill(&a.Objective, objectives[0])
		fill(&a.Against, "standard")
		fill(&a.Rho, map[string]int{Leaf: 50, Charmer: 20}[a.Method])
	}
	fill(&a.Constraint, NoIncrease)
}

// fill puts v where nothing was given.
func fill[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func checkAttack(a leafserve.Attack) error {
	if a.Method == Manual {
		return checkManual(a.Prompt)
	}
	if err := inRange("attack.edits", a.Edits, leafserve.MaxEdits); err != nil {
		return err
	}
	if err := oneOf("attack.constraint", a.Constraint, constraints); err != nil || !searches(a.Method) {
		return err
	}
	if err := inRange("attack.rho", a.Rho, leafserve.MaxRho); err != nil {
		return err
	}
	return oneOf("attack.objective", a.Objective, objectives)
}

func checkManual(prompt string) error {
	const name = "attack.prompt"
	switch {
	case prompt == "":
		return leafserve.InvalidField(name, "attack.prompt is missing: method manual takes the damaged prompt from it")
	case !utf8.ValidString(prompt):
		return leafserve.InvalidField(name, "attack.prompt is not valid UTF-8")
	case utf8.RuneCountInString(prompt) > leafserve.MaxPromptRunes:
		return leafserve.InvalidField(name, "attack.prompt has %d characters, want %d at most", utf8.RuneCountInString(prompt), leafserve.MaxPromptRunes)
	}
	return nil
}

func inRange(name string, v, most int) error {
	if v < 1 || v > most {
		return leafserve.InvalidField(name, "%s is %d, want 1 to %d", name, v, most)
	}
	return nil
}

func oneOf(name, v string, want []string) error {
	if !slices.Contains(want, v) {
		return leafserve.InvalidField(name, "%s is %.64q, want one of: %s", name, v, strings.Join(want, ", "))
	}
	return nil
}
