package textenc

// cutter gives the windows of many near-equal texts, as Tokenizer's Encode and
// Window do, but cuts a word that it has seen before only once: of an edited
// sentence, the word with the edit. It remembers as much as it is given, so it is
// made for one call, and belongs to one goroutine.
type cutter struct {
	splitter
	t    *Tokenizer
	seen map[string][]int32 // ids of a word's pieces
	ids  []int
}

func (t *Tokenizer) newCutter() *cutter {
	return &cutter{splitter: splitter{bpe: &t.bpe}, t: t, seen: map[string][]int32{}}
}

// window tokenizes text.
func (c *cutter) window(text string) window {
	c.ids = append(c.ids[:0], c.t.bos)
	c.t.walk(text, c.special, c.words)
	c.ids = append(c.ids, c.t.eos)
	ids, _ := c.t.Window(Encoding{IDs: c.ids})
	return c.t.windowOf(ids)
}

func (c *cutter) special(s special) { c.ids = append(c.ids, s.id) }

func (c *cutter) words(s string) {
	for word, rest := nextWord(s); word != ""; word, rest = nextWord(rest) {
		pieces, ok := c.seen[word]
		if !ok {
			pieces = c.split(nil, word)
			c.seen[word] = pieces
		}
		for _, id := range pieces {
			c.ids = append(c.ids, int(id))
		}
	}
}
