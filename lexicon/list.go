package lexicon

import (
	"hash/maphash"
	"math/bits"
)

// list is a sorted set of words, held in one string with a hash table of
// positions over it: about 20 bytes a word, and ready in milliseconds.
type list struct {
	text  string   // all words, one after the other
	start []uint32 // [n+1] where word i begins in text
	slots []uint32 // open addressing, i+1, 0 where free
	seed  maphash.Seed
}

// newList takes words that are sorted and all different.
func newList(words []string) *list {
	l := &list{
		start: make([]uint32, 1, len(words)+1),
		slots: make([]uint32, 1<<bits.Len(uint(len(words)*3/2))),
		seed:  maphash.MakeSeed(),
	}
	size := 0
	for _, w := range words {
		size += len(w)
	}
	text := make([]byte, 0, size)
	for i, w := range words {
		text = append(text, w...)
		l.start = append(l.start, uint32(len(text)))
		l.slots[l.free(w)] = uint32(i + 1)
	}
	l.text = string(text)
	return l
}

func (l *list) len() int { return len(l.start) - 1 }

func (l *list) word(i int) string { return l.text[l.start[i]:l.start[i+1]] }

// find gives the place of a word, −1 if it is not in the list.
func (l *list) find(w string) int {
	mask := uint64(len(l.slots) - 1)
	for at := maphash.String(l.seed, w) & mask; l.slots[at] != 0; at = (at + 1) & mask {
		if i := int(l.slots[at] - 1); l.word(i) == w {
			return i
		}
	}
	return -1
}

// free gives the slot that a new word takes.
func (l *list) free(w string) uint64 {
	mask := uint64(len(l.slots) - 1)
	at := maphash.String(l.seed, w) & mask
	for l.slots[at] != 0 {
		at = (at + 1) & mask
	}
	return at
}

// sharedPrefixes gives, for every word, how many bytes it begins with in
// common with the word before it (255 at most): the sorted list read so is a
// trie. The first has 0.
func (l *list) sharedPrefixes() []uint8 {
	shared := make([]uint8, l.len())
	for i := 1; i < len(shared); i++ {
		a, b := l.word(i-1), l.word(i)
		n := 0
		for n < min(len(a), len(b), 255) && a[n] == b[n] {
			n++
		}
		shared[i] = uint8(n)
	}
	return shared
}
