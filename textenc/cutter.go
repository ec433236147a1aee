package textenc

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// cutter gives the windows of many near-equal texts, as Tokenizer's Encode and
// Window do, but reads of a long text only the beginning, as far as the window
// needs it, and cuts a word that it has seen before only once: of an edited
// sentence, the word with the edit. It remembers as much as it is given, so it is
// made for one call, and belongs to one goroutine.
type cutter struct {
	splitter
	t      *Tokenizer
	seen   map[string][]int32 // ids of a word's pieces
	pieces []int32            // of the last long word
	parts  []part             // of the last text
	margin int                // bytes at the end of a beginning whose words may be cut otherwise in the whole text
	ids    []int
}

// part is the normalised text between two special tokens, or a special token.
type part struct {
	text  string
	id    int // of a special token
	words bool
}

const (
	// firstBytes of a text are read for each id of a window: twice what English takes.
	firstBytes = 10
	// seenBytes is the length of words that are remembered.
	seenBytes = 64
)

func (t *Tokenizer) newCutter() *cutter {
	c := &cutter{splitter: splitter{bpe: &t.bpe}, t: t, seen: map[string][]int32{}}
	// A special token that is cut in two: in raw text it may grow, but not to
	// eightfold, when it is normalised. "'ll" is told from "'" by what follows.
	c.margin = len("'ll")
	for _, list := range [][]special{t.raw, t.folded} {
		for _, s := range list {
			c.margin = max(c.margin, 8*len(s.text))
		}
	}
	c.margin += utf8.UTFMax
	return c
}

// window tokenizes text.
func (c *cutter) window(text string) window {
	for n := firstBytes * c.t.context; ; n *= 4 {
		head := beginning(text, n)
		margin := c.margin
		if len(head) == len(text) {
			margin = 0
		}
		if c.read(head, margin); len(c.ids) >= c.t.context || margin == 0 {
			break
		}
	}
	c.ids = append(c.ids, c.t.eos)
	ids, _ := c.t.Window(Encoding{IDs: c.ids})
	return c.t.windowOf(ids)
}

// beginning gives the first n bytes of text, or a few more: it ends where text
// can be cut without a change to how either part is normalised.
func beginning(text string, n int) string {
	for ; n < len(text); n++ {
		if utf8.RuneStart(text[n]) && norm.NFC.PropertiesString(text[n:]).BoundaryBefore() {
			return text[:n]
		}
	}
	return text
}

// read sets ids to BOS and the ids of text until there are enough for a window.
// With a margin, text is the beginning of a longer one, and ids that could be
// others in that, as the last margin bytes of text could, are left out.
func (c *cutter) read(text string, margin int) {
	c.ids, c.parts = append(c.ids[:0], c.t.bos), c.parts[:0]
	c.t.walk(text, func(s special) {
		c.parts = append(c.parts, part{text: s.text, id: s.id})
	}, func(s string) {
		c.parts = append(c.parts, part{text: s, words: true})
	})
	after := 0 // bytes after a part
	for _, p := range c.parts {
		after += len(p.text)
	}
	for _, p := range c.parts {
		after -= len(p.text)
		switch {
		case len(c.ids) >= c.t.context:
			return
		case p.words:
			c.words(p.text, margin-after)
		case after >= margin:
			c.ids = append(c.ids, p.id)
		}
	}
}

// words adds the words of s until there are enough ids for a window; not those
// that reach into the last open bytes of s, but what is certain of the first of
// them.
func (c *cutter) words(s string, open int) {
	for word, rest := nextWord(s); word != "" && len(c.ids) < c.t.context; word, rest = nextWord(rest) {
		if over := open - len(rest); over > 0 {
			if over < len(word) {
				c.pieces = c.splitOpen(c.pieces[:0], word[:len(word)-over])
				c.add(c.pieces)
			}
			return
		}
		c.add(c.split(word))
	}
}

// split gives the ids of a word's pieces, until the next call.
func (c *cutter) split(word string) []int32 {
	if len(word) > seenBytes {
		c.pieces = c.splitter.split(c.pieces[:0], word)
		return c.pieces
	}
	pieces, ok := c.seen[word]
	if !ok {
		pieces = c.splitter.split(nil, word)
		c.seen[strings.Clone(word)] = pieces // a part of text would keep all of it
	}
	return pieces
}

func (c *cutter) add(pieces []int32) {
	for _, id := range pieces {
		c.ids = append(c.ids, int(id))
	}
}
