package lexicon

// match is a word found by near.
type match struct {
	word  int // index in known
	edits int
}

// near gives the known words at most so many edits (insert, delete, replace,
// swap of neighbours; bytes are counted) away from word, in alphabetical order.
// It walks the sorted list as a trie, with one row of the distance table a
// letter, and skips all words that begin with what is too far already.
func (d *Dictionary) near(word string, edits int) []match {
	width := len(word) + 1
	rows := make([]uint8, (len(word)+edits+2)*width) // row i: distances from the first i letters of the list's word
	for j := range width {
		rows[j] = uint8(j)
	}
	var found []match
	far := len(word) + edits + 1 // letters of the last word that are too far, or more than it has
	for i := range d.known.len() {
		shared := int(d.shared[i])
		if shared >= far {
			continue
		}
		w := d.known.word(i)
		far = len(word) + edits + 1
		for n := shared + 1; n <= min(len(w), far); n++ {
			if nextRow(rows, width, word, w, n) > uint8(edits) {
				far = n
			}
		}
		if len(w) < far {
			if dist := rows[len(w)*width+len(word)]; dist <= uint8(edits) {
				found = append(found, match{i, int(dist)})
			}
		}
	}
	return found
}

// nextRow fills row n of the distances (optimal string alignment) between the
// first n letters of w and each beginning of word, and gives the row's least.
func nextRow(rows []uint8, width int, word, w string, n int) uint8 {
	row, last := rows[n*width:(n+1)*width], rows[(n-1)*width:n*width]
	row[0] = uint8(n)
	least := row[0]
	for j := 1; j < width; j++ {
		cost := last[j-1]
		if word[j-1] != w[n-1] {
			cost = 1 + min(cost, last[j], row[j-1])
			if n > 1 && j > 1 && word[j-1] == w[n-2] && word[j-2] == w[n-1] {
				cost = min(cost, 1+rows[(n-2)*width+j-2])
			}
		}
		row[j] = cost
		least = min(least, cost)
	}
	return least
}
