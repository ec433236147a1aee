package eval

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"leafserve"
	"leafserve/attack"
	"leafserve/eval/data"
	"leafserve/textenc"
)

// damaged is a text after 0, 1, 2 … edits: damaged[0] is the text itself.
type damaged []string

// together is how many texts are attacked at once; more fill a batch of the
// encoder better, fewer lose less when a run is stopped.
const together = 8

// most is the largest number of edits asked for, 0 where texts stay clean.
func (r *Run) most() int { return slices.Max(append([]int{0}, r.Edits...)) }

// defaultRho is what the LEAF paper uses.
var defaultRho = map[string]int{attack.Leaf: 50, attack.Charmer: 20}

// search is set up for a method, leaf or charmer, as the settings say.
func (r *Run) search(method string) attack.Config {
	cfg := attack.Config{Method: method, Rho: r.Rho, Constraint: r.Constraint}
	if r.Alphabet != "" {
		cfg.Alphabet = alphabet([]string{r.Alphabet})
	}
	if cfg.Rho == 0 {
		cfg.Rho = defaultRho[method]
	}
	return cfg
}

// alphabet lists every character of the texts, sorted.
func alphabet(texts []string) []rune {
	seen := map[rune]bool{}
	for _, t := range texts {
		for _, c := range t {
			seen[c] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// scorer gives the score of the texts with the given indices, which an attack
// then numbers from 0.
type scorer func(items []int) attack.Score

// damage attacks every text on an arm, as often as the largest number of edits.
// All methods are greedy: the first k edits are the attack with k edits.
func (r *Run) damage(ctx context.Context, name, arm string, texts []string, cfg attack.Config, score scorer) ([]damaged, error) {
	cfg.Edits, cfg.Seed = r.most(), r.Seed
	if cfg.Edits == 0 {
		r.step(len(texts))
		return clean(texts), nil
	}
	ids := make([]string, len(texts))
	for i := range ids {
		ids[i] = fmt.Sprintf("%s %d on %s: %d", name, cfg.Edits, arm, i)
	}
	return cases(ctx, r, ids, together, func(ctx context.Context, missing []int) ([]damaged, error) {
		batch := make([]string, len(missing))
		for b, i := range missing {
			batch[b] = texts[i]
		}
		found, err := attack.Run(ctx, batch, score(missing), cfg)
		if err != nil {
			return nil, err
		}
		out := make([]damaged, len(found))
		for b, f := range found {
			out[b] = levels(batch[b], f.Edits, cfg.Edits)
		}
		return out, nil
	})
}

// clean are texts before any edit.
func clean(texts []string) []damaged {
	out := make([]damaged, len(texts))
	for i, t := range texts {
		out[i] = damaged{t}
	}
	return out
}

// searches counts the searches that attackArm makes for all arms.
func (r *Run) searches() int {
	n := len(r.arms)
	for _, arm := range r.arms {
		if arm.Correct != nil {
			n++
		}
	}
	return n
}

// attackArm gives what a search finds on an arm and, if that has a corrector,
// what it finds on the encoder alone, which the corrector may undo.
func (r *Run) attackArm(name string, arm Arm, search func(Arm) ([]damaged, error)) ([]attacked, error) {
	own, err := search(arm)
	if err != nil || arm.Correct == nil {
		return []attacked{{name, own}}, err
	}
	bare, err := search(arm.bare())
	return []attacked{{name, own}, {name + transferred, bare}}, err
}

// transferred ends the name of an attack that was found on the bare encoder.
const transferred = " transferred"

// levels gives a text after each of its edits; where an attack found fewer than
// k edits, the last form stays.
func levels(text string, edits []leafserve.Edit, k int) damaged {
	out := damaged{text}
	for i := range k {
		if i < len(edits) {
			text = apply(text, edits[i])
		}
		out = append(out, text)
	}
	return out
}

// apply carries out one edit.
func apply(text string, e leafserve.Edit) string {
	runes := []rune(text)
	return string(runes[:e.At]) + e.To + string(runes[e.At+len([]rune(e.From)):])
}

// typos gives random typos: those of the data where every text has enough,
// otherwise our own (insert, delete, replace or swap at random).
func (r *Run) typos(ctx context.Context, texts []string, own []data.Typos) ([]damaged, error) {
	return r.someTypos(ctx, texts, own, r.most())
}

// someTypos gives typos for at least k edits.
func (r *Run) someTypos(ctx context.Context, texts []string, own []data.Typos, k int) ([]damaged, error) {
	enough := !slices.ContainsFunc(own, func(t data.Typos) bool { return len(t) < k })
	if len(own) > 0 && enough {
		out := make([]damaged, len(texts))
		for i, t := range texts {
			out[i] = append(damaged{t}, own[i][:k]...)
		}
		r.step(len(texts))
		return out, nil
	}
	return r.damage(ctx, "random", "any", texts, attack.Config{Method: attack.Random, Constraint: attack.NoIncrease}, func([]int) attack.Score { return nil })
}

// away scores texts by their drift from the clean ones of items, which were
// anchored before.
func (a Arm) away(o textenc.Objective, anchors []textenc.Anchor) scorer {
	return func(items []int) attack.Score {
		own := make([]textenc.Anchor, len(items))
		for b, i := range items {
			own[b] = anchors[i]
		}
		return a.drift(o, own)
	}
}

// attacked are all texts of a run, damaged by one attack.
type attacked struct {
	name  string
	forms []damaged
}

// figure is one number of each item.
type figure struct {
	name   string
	values []float64
}

// measure gives the series of an arm: of clean texts, then of each attack at
// each strength that it has. figures measures one form of all texts.
func measure(edits []int, arm Arm, attacks []attacked, figures func(texts []string) ([]figure, error)) ([]Series, error) {
	var out []Series
	add := func(attack string, k int, forms []damaged) error {
		found, err := figures(at(forms, k))
		for _, f := range found {
			out = append(out, Series{f.name, arm.Name, attack, k, f.values})
		}
		return err
	}
	if err := add("", 0, attacks[0].forms); err != nil {
		return nil, err
	}
	for _, a := range attacks {
		for _, k := range edits {
			if k >= len(a.forms[0]) {
				break
			}
			if err := add(a.name, k, a.forms); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// at gives every text after k edits.
func at(forms []damaged, k int) []string {
	out := make([]string, len(forms))
	for i, f := range forms {
		out[i] = f[k]
	}
	return out
}
