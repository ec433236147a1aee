package textenc

import (
	"math"
	"slices"
)

// bpe is byte-pair encoding (Sennrich et al. 2016) over the bytes of a word,
// as CLIP has it: the last byte of a word is a piece of its own kind.
// It is read-only after loading.
type bpe struct {
	merges map[uint64]merge // by pairKey
	inside [256]int32       // id of each byte but a word's last
	last   [256]int32       // id of each byte as a word's last
	onward [][]int32        // by id: ranks of the merges with it as the left half, rising; nil if merges are not in order
}

// merge says what a pair of neighbours becomes; the lowest rank goes first.
type merge struct{ rank, id int32 }

func pairKey(left, right int32) uint64 {
	return uint64(uint32(left))<<32 | uint64(uint32(right))
}

// setOnward fills onward from merges of pieces below n. Merges are in order if
// each comes after those that make its halves, as training leaves them.
func (b *bpe) setOnward(n int) {
	made := make([]int32, n) // rank of the last merge that makes a piece
	for _, m := range b.merges {
		made[m.id] = max(made[m.id], m.rank)
	}
	onward := make([][]int32, n)
	for pair, m := range b.merges {
		left, right := pair>>32, pair&math.MaxUint32
		if m.rank <= max(made[left], made[right]) {
			return
		}
		onward[left] = append(onward[left], m.rank)
	}
	for _, ranks := range onward {
		slices.Sort(ranks)
	}
	b.onward = onward
}

// splitter cuts one word at a time. Its memory is reused, so it belongs to one
// goroutine.
type splitter struct {
	*bpe
	symbols []symbol
	queue   mergeQueue
}

// symbol is a piece in the making: a node of a list whose ends are -1. One that
// was joined to its left neighbour has id -1, which no merge knows.
type symbol struct{ id, prev, next int32 }

// split appends the ids of word's pieces to ids. Merges go by rank, equal ones
// from left to right, in O(n log n) for n bytes. word is not empty.
func (s *splitter) split(ids []int32, word string) []int32 {
	s.start(word, &s.last)
	for len(s.queue) > 0 {
		rank, at := s.queue.pop()
		// The pair that was queued is gone if either half was joined since; a
		// rank belongs to one pair only, so comparing ranks tells.
		if m, ok := s.mergeAt(at); ok && m.rank == rank {
			s.join(at, m.id)
		}
	}
	for at := int32(0); at >= 0; at = s.symbols[at].next {
		ids = append(ids, s.symbols[at].id)
	}
	return ids
}

// splitOpen appends those first pieces of a longer word, of which word is a
// beginning, that are the same however it goes on.
//
// What follows can change pieces only by a merge with the last one that is
// certain, the edge. The edge is lost when the lowest rank comes up at which it is
// the left half of any merge, as if the right half were there. Then the piece
// before it is the edge, from that rank on: lower ones came before, with a
// neighbour that was certain, and what the unknown neighbour has become since was
// made at that rank or a higher one, so that merges with it have higher ranks.
func (s *splitter) splitOpen(ids []int32, word string) []int32 {
	if s.onward == nil {
		return ids
	}
	s.start(word, &s.inside)
	edge, lost := int32(len(word)-1), int32(-1)
	for len(s.queue) > 0 {
		rank, at := s.queue.pop()
		edge, lost = s.retreat(edge, lost, rank)
		m, ok := s.mergeAt(at)
		if !ok || m.rank != rank || at >= edge {
			continue
		}
		if s.symbols[at].next == edge {
			edge = at
		}
		s.join(at, m.id)
	}
	edge, _ = s.retreat(edge, lost, math.MaxInt32)
	for at := int32(0); 0 <= at && at <= edge; at = s.symbols[at].next {
		ids = append(ids, s.symbols[at].id)
	}
	return ids
}

// retreat moves the edge of splitOpen, -1 if nothing is certain, to where it is
// when merges of that rank begin; lost is the rank at which the edge was lost
// last.
func (s *splitter) retreat(edge, lost, rank int32) (int32, int32) {
	for edge >= 0 {
		ranks := s.onward[s.symbols[edge].id]
		next, _ := slices.BinarySearch(ranks, lost+1)
		if next == len(ranks) || ranks[next] >= rank {
			break
		}
		edge, lost = s.symbols[edge].prev, ranks[next]
	}
	return edge, lost
}

// start makes a symbol of each byte, of the last one as last has it, and queues
// the pairs that can merge.
func (s *splitter) start(word string, last *[256]int32) {
	s.symbols = s.symbols[:0]
	end := len(word) - 1
	for i := range end {
		s.symbols = append(s.symbols, symbol{s.inside[word[i]], int32(i) - 1, int32(i) + 1})
	}
	s.symbols = append(s.symbols, symbol{last[word[end]], int32(end) - 1, -1})
	for i := range end {
		s.offer(int32(i))
	}
}

// mergeAt looks up what the symbol at and its right neighbour become.
func (s *splitter) mergeAt(at int32) (merge, bool) {
	left := s.symbols[at]
	if left.next < 0 {
		return merge{}, false
	}
	m, ok := s.merges[pairKey(left.id, s.symbols[left.next].id)]
	return m, ok
}

// offer queues the pair that starts at, if it can merge.
func (s *splitter) offer(at int32) {
	if m, ok := s.mergeAt(at); ok {
		s.queue.push(m.rank, at)
	}
}

// join makes the symbol at and its right neighbour one with the given id.
func (s *splitter) join(at, id int32) {
	left := &s.symbols[at]
	right := &s.symbols[left.next]
	left.id, left.next = id, right.next
	right.id = -1
	if right.next >= 0 {
		s.symbols[right.next].prev = at
		s.offer(at)
	}
	if left.prev >= 0 {
		s.offer(left.prev)
	}
}

// mergeQueue is a binary min-heap of rank<<32 | position.
type mergeQueue []uint64

func (q *mergeQueue) push(rank, at int32) {
	h := append(*q, uint64(rank)<<32|uint64(at))
	for child := len(h) - 1; child > 0; {
		parent := (child - 1) / 2
		if h[parent] <= h[child] {
			break
		}
		h[parent], h[child] = h[child], h[parent]
		child = parent
	}
	*q = h
}

// pop takes the lowest rank, and of equals the leftmost. q is not empty.
func (q *mergeQueue) pop() (rank, at int32) {
	h := *q
	top := h[0]
	h[0] = h[len(h)-1]
	h = h[:len(h)-1]
	for parent := 0; ; {
		child := 2*parent + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[parent] <= h[child] {
			break
		}
		h[parent], h[child] = h[child], h[parent]
		parent = child
	}
	*q = h
	return int32(top >> 32), int32(top & 0xFFFFFFFF)
}
