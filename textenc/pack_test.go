package textenc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// batchOf numbers sequences.
func batchOf(sequences [][]int, group []int) batch {
	var b batch
	for i, ids := range sequences {
		b.add(i, group[i], ids)
	}
	return b
}

func TestPacked(t *testing.T) {
	for _, tc := range []struct {
		name      string
		sequences [][]int
		group     []int
		ids       [][]int   // of each pack
		branches  [][][]int // nodes
		texts     [][]int
	}{
		{name: "nothing"},
		{name: "equal beginnings once", sequences: [][]int{{1, 2, 3}, {1, 2, 4, 5}, {1, 6}}, group: []int{0, 0, 0},
			ids: [][]int{{1, 2, 3, 4, 5, 6}}, branches: [][][]int{{{0, 1, 2}, {0, 1, 3, 4}, {0, 5}}}, texts: [][]int{{0}, {1}, {2}}},
		{name: "equal sequences once", sequences: [][]int{{1, 3}, {1, 2}, {1, 3}}, group: []int{0, 0, 0},
			ids: [][]int{{1, 2, 3}}, branches: [][][]int{{{0, 1}, {0, 2}}}, texts: [][]int{{1}, {0, 2}}},
		{name: "one ends where another goes on", sequences: [][]int{{1, 2, 3}, {1, 2}}, group: []int{0, 0},
			ids: [][]int{{1, 2, 3}}, branches: [][][]int{{{0, 1}, {0, 1, 2}}}, texts: [][]int{{1}, {0}}},
		{name: "groups apart", sequences: [][]int{{1, 2}, {1, 2}, {1, 3}}, group: []int{1, 0, 1},
			ids: [][]int{{1, 2}, {1, 2, 3}}, branches: [][][]int{{{0, 1}}, {{0, 1}, {0, 2}}}, texts: [][]int{{1}, {0}, {2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packs := packed(batchOf(tc.sequences, tc.group))
			var ids, texts [][]int
			var branches [][][]int
			for _, p := range packs {
				ids = append(ids, p.ids)
				var nodes [][]int
				for _, b := range p.branches {
					nodes, texts = append(nodes, b.nodes), append(texts, b.texts)
				}
				branches = append(branches, nodes)
			}
			same := func(a, b [][]int) bool { return slices.EqualFunc(a, b, slices.Equal[[]int]) }
			if !same(ids, tc.ids) || !same(texts, tc.texts) || !slices.EqualFunc(branches, tc.branches, same) {
				t.Errorf("packed = ids %v, nodes %v, texts %v, want %v, %v, %v", ids, branches, texts, tc.ids, tc.branches, tc.texts)
			}
		})
	}
}

// TestPackedKeepsEverySequence: whatever the packs, a branch's nodes spell its
// texts' sequence, each at its position, and no pack is too large.
func TestPackedKeepsEverySequence(t *testing.T) {
	tok := clipTokenizer(t, "")
	texts, owner := neighbours(7, 60)
	cut := tok.newCutter()
	sequences := make([][]int, len(texts))
	for i, text := range texts {
		sequences[i] = cut.window(text).ids
	}
	seen := make([]int, len(texts))
	branches := map[string]int{} // of each owner's different sequences
	packs := packed(batchOf(sequences, owner))
	for _, p := range packs {
		if len(p.ids) > packNodes+2*77 {
			t.Errorf("a pack of %d nodes", len(p.ids))
		}
		for _, b := range p.branches {
			branches[fmt.Sprint(owner[b.texts[0]], sequences[b.texts[0]])]++
			for _, text := range b.texts {
				seen[text]++
				for position, node := range b.nodes {
					if p.ids[node] != sequences[text][position] || p.positions[node] != position {
						t.Fatalf("%q has id %d at %d of position %d", texts[text], p.ids[node], position, p.positions[node])
					}
				}
				if len(b.nodes) != len(sequences[text]) || owner[text] != owner[p.branches[0].texts[0]] {
					t.Errorf("%q has %d nodes, or shares a pack with another's", texts[text], len(b.nodes))
				}
			}
		}
	}
	for key, n := range branches {
		if n != 1 {
			t.Errorf("owner and sequence %s are in %d branches", key, n)
		}
	}
	if slices.Max(seen) != 1 || slices.Min(seen) != 1 || len(packs) < 2*len(captions) {
		t.Errorf("texts were packed %v times, in %d packs", seen, len(packs))
	}
}

// TestMask: of a chain it is the causal mask; of a tree a node sees its
// ancestors and itself.
func TestMask(t *testing.T) {
	chain := packed(batchOf([][]int{{5, 6, 7}}, []int{0}))[0]
	if got := chain.mask().Data; !slices.Equal(got, causalMask(3)) {
		t.Errorf("the mask of a chain is %v, want %v", got, causalMask(3))
	}
	tree := packed(batchOf([][]int{{1, 2}, {1, 2, 3}, {1, 4, 5}}, []int{0, 0, 0}))[0]
	want := []string{"x....", "xx...", "xxx..", "x..x.", "x..xx"}
	var got []string
	for row := range slices.Chunk(tree.mask().Data, 5) {
		line := strings.Repeat(".", 5)
		for i, v := range row {
			if v == 0 {
				line = line[:i] + "x" + line[i+1:]
			}
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the mask of a tree is %v, want %v", got, want)
	}
}

// FuzzCutter: whatever it has cut before, a cutter gives what Encode and Window
// give.
func FuzzCutter(f *testing.F) {
	for _, text := range append(slices.Clone(captions), "\xff\xe4", "don't DON'T", "a!b", "İ ß 中文", strings.Repeat("é\u0301", 50)) {
		f.Add(text, 1, "b")
	}
	plain, bang := clipTokenizer(f, ""), clipTokenizer(f, "!")
	f.Fuzz(func(t *testing.T, text string, at int, edit string) {
		at = max(0, min(at, len(text)))
		for _, tok := range []*Tokenizer{plain, bang} {
			cut := tok.newCutter()
			for _, s := range []string{text, text[:at] + edit + text[at:], text[at:], text, strings.Repeat(text, 1+800/(len(text)+1)) + edit + text} {
				e := tok.Encode(s)
				ids, _ := tok.Window(e)
				if w := cut.window(s); !slices.Equal(w.ids, ids) {
					t.Fatalf("window of %q = %v, want %v", s, w.ids, ids)
				}
			}
		}
	})
}

// TestCutterOfEdits runs the fuzz target's check on edited captions.
func TestCutterOfEdits(t *testing.T) {
	tok := clipTokenizer(t, "!")
	cut := tok.newCutter()
	texts, _ := neighbours(8, 200)
	for _, text := range texts {
		ids, _ := tok.Window(tok.Encode(text))
		if w := cut.window(text); !slices.Equal(w.ids, ids) {
			t.Fatalf("window of %q = %v, want %v", text, w.ids, ids)
		}
	}
}
