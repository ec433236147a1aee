package attack

import (
	"slices"
	"unicode/utf8"

	"leafserve"
)

// Diff compares a with b by code points: the runs that stayed, went and came,
// of two that meet the one that went first. It follows the fewest edits (insert,
// delete, replace, swap of neighbours) that make b of a. Two empty texts have no
// parts. Time and memory grow with the product of the lengths between the common
// beginning and the common end: 4,000 characters against 4,000 others take about
// 0.1 s and 16 MB.
func Diff(a, b string) []leafserve.DiffPart {
	var d diff
	before, from := newSentence(a), 0
	for _, e := range edits(before, newSentence(b)) {
		d.same(before.sub(from, e.at))
		if e.cut == 2 { // of two swapped characters the second stays
			first := before.sub(e.at, e.at+1)
			d.gone += first
			d.same(before.sub(e.at+1, e.at+2))
			d.came += first
		} else {
			d.gone += before.sub(e.at, e.at+e.cut)
			d.came += e.put
		}
		from = e.at + e.cut
	}
	d.same(before.sub(from, before.len()))
	d.flush()
	return d.parts
}

// diff gathers runs.
type diff struct {
	parts      []leafserve.DiffPart
	gone, came string // since the last that stayed
}

func (d *diff) same(s string) {
	if s == "" {
		return
	}
	d.flush()
	d.add("same", s)
}

func (d *diff) flush() {
	d.add("del", d.gone)
	d.add("ins", d.came)
	d.gone, d.came = "", ""
}

// add appends a run, to the last part if that is of the same kind.
func (d *diff) add(kind, s string) {
	if s == "" {
		return
	}
	if n := len(d.parts); n > 0 && d.parts[n-1].T == kind {
		d.parts[n-1].S += s
		return
	}
	d.parts = append(d.parts, leafserve.DiffPart{T: kind, S: s})
}

// byHand makes the edits that lead to a text a person wrote.
func (v *victim) byHand(text string) {
	shift := 0
	for _, e := range edits(v.text, newSentence(text)) {
		public := v.text.public(e)
		public.At += shift
		v.Edits = append(v.Edits, public)
		shift += utf8.RuneCountInString(e.put) - e.cut
	}
	v.Prompt, v.Candidates, v.Valid = text, 1, 1
}

// edits gives the fewest edits that make b of a, in order, with places in a.
func edits(a, b *sentence) []edit {
	lead := 0
	for lead < min(a.len(), b.len()) && a.rune(lead) == b.rune(lead) {
		lead++
	}
	tail := 0
	for tail < min(a.len(), b.len())-lead && a.rune(a.len()-1-tail) == b.rune(b.len()-1-tail) {
		tail++
	}
	ra, rb := []rune(a.sub(lead, a.len()-tail)), []rune(b.sub(lead, b.len()-tail))
	steps := align(ra, rb)
	var list []edit
	i, j := lead, lead
	for _, s := range steps {
		if s != keep {
			list = append(list, edit{i, s.cut(), b.sub(j, j+s.put())})
		}
		i, j = i+s.cut(), j+s.put()
	}
	return list
}

// step is one column of an alignment.
type step uint8

const (
	keep step = iota
	replace
	remove
	insert
	swap
)

// cut is how many characters of a the step takes, put how many of b.
func (s step) cut() int { return [...]int{keep: 1, replace: 1, remove: 1, insert: 0, swap: 2}[s] }
func (s step) put() int { return [...]int{keep: 1, replace: 1, remove: 0, insert: 1, swap: 2}[s] }

// align gives the cheapest steps from a to b (optimal string alignment): the
// fewest edits, and of those the ones that keep the most characters.
func align(a, b []rune) []step {
	width := len(b) + 1
	best := make([]step, (len(a)+1)*width)
	row, last, last2 := make([]int, width), make([]int, width), make([]int, width)
	for j := 1; j < width; j++ {
		row[j], best[j] = row[j-1]+shift, insert
	}
	for i, r := range a {
		last2, last, row = last, row, last2
		steps := best[(i+1)*width:][:width]
		row[0], steps[0] = last[0]+shift, remove
		for j, q := range b {
			if r == q {
				row[j+1] = last[j] // best[…] is keep
				continue
			}
			cost, s := last[j]+change, replace
			if c := last[j+1] + shift; c < cost {
				cost, s = c, remove
			}
			if c := row[j] + shift; c < cost {
				cost, s = c, insert
			}
			if i > 0 && j > 0 && r == b[j-1] && a[i-1] == q && last2[j-1]+change <= cost {
				cost, s = last2[j-1]+change, swap
			}
			row[j+1], steps[j+1] = cost, s
		}
	}
	return backtrack(best, len(a), len(b))
}

// Costs of the steps: an edit weighs more than all characters that a text can
// lose and get.
const (
	shift  = 1<<16 + 1 // insert, remove: one character
	change = 1<<16 + 2 // replace, swap: one lost, one got
)

// backtrack follows the best last steps from the ends of both texts.
func backtrack(best []step, i, j int) []step {
	width := j + 1
	var steps []step
	for i > 0 || j > 0 {
		s := best[i*width+j]
		steps = append(steps, s)
		i, j = i-s.cut(), j-s.put()
	}
	slices.Reverse(steps)
	return steps
}
