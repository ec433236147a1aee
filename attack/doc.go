// Package attack damages prompts by edits of single characters, as a typist
// does by accident or an adversary on purpose, and keeps account of each edit.
//
// [Run] is the function to start with. Its searching methods take a [Score]
// that says how bad a damaged text is; the package knows no model. leaf is the
// search that LEAF trains against (Abad Rocamora et al. 2025), charmer the
// stronger one it is evaluated with (Abad Rocamora et al. 2024). random,
// keyboard, swap and homoglyph draw their edits and need no score; manual takes
// a text that a person damaged and finds the edits. [Resolve] checks what a
// request asks for and fills the defaults.
//
//	results, err := attack.Run(ctx, prompts, score, attack.Config{
//		Method: attack.Leaf, Edits: 1, Rho: 50, Constraint: attack.Strict, Seed: 1,
//	})
//
// Slots: a text of n code points has 2n+1 of them. Slot 2i is the gap before
// character i, slot 2i+1 the character itself. Putting symbol v into a gap
// inserts it; putting it onto a character replaces that, or deletes it where v
// is the same character. The symbol DEL deletes a character and does nothing in
// a gap.
//
// The constraint keeps edits from changing what a prompt says: an edit is valid
// if the text has fewer ([Strict]) or no more ([NoIncrease]) different English
// words after it. Text is lower-cased and cut into words as NLTK's
// word_tokenize does.
//
// The same seed, sentence and configuration give the same result, whatever
// other sentences are in the batch.
package attack
