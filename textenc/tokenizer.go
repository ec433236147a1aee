package textenc

import "strings"

// The special tokens of every CLIP vocabulary.
const (
	bosPiece = "<|startoftext|>"
	eosPiece = "<|endoftext|>"
)

// wordEnd closes the last piece of a word.
const wordEnd = "</w>"

// defaultContext is the number of positions of every CLIP text model of Stable Diffusion.
const defaultContext = 77

// Token is one piece of a prompt.
type Token struct {
	Piece string `json:"piece"` // as in the vocabulary: GPT-2's byte alphabet, "</w>" marks a word's end
	ID    int    `json:"id"`
	Word  int    `json:"word"` // index of the pre-token (run of letters, digit, run of signs, English ending) it belongs to
}

// Encoding is a tokenized prompt, neither truncated nor padded.
type Encoding struct {
	IDs    []int   // with BOS and EOS
	Tokens []Token // the same without BOS and EOS; never nil
}

// TokenizerConfig is what a tokenizer has besides its vocabulary.
type TokenizerConfig struct {
	// Context is the number of ids in a window, BOS and EOS included; 0 means 77.
	Context int
	// Pad is the piece that fills a window, "" the end-of-text token. One that is
	// neither end nor start of text becomes a special token: it is found in any
	// text, also inside a word ("!" of SD2.x and of SDXL's second tokenizer).
	Pad string
	// PadNormalized has Pad looked for after normalisation, in any letter case.
	PadNormalized bool
}

// Tokenizer cuts prompts as transformers' CLIPTokenizerFast does. It is
// read-only, so any number of goroutines may use it.
type Tokenizer struct {
	bpe
	pieces        []string  // by id
	raw, folded   []special // looked for before and after normalisation
	bos, eos, pad int
	context       int
}

// special is a token that is found in the text before words are cut.
type special struct {
	text string
	id   int
}

// Context gives the number of ids in a window.
func (t *Tokenizer) Context() int { return t.context }

// Piece is the vocabulary's entry for an id that Encode or Window gave.
func (t *Tokenizer) Piece(id int) string { return t.pieces[id] }

// Encode cuts text, which may be any bytes, of any length: what is not UTF-8
// becomes U+FFFD as in Python. The time grows as n log n with its length.
func (t *Tokenizer) Encode(text string) Encoding {
	e := encoding{splitter: splitter{bpe: &t.bpe}, t: t, tokens: make([]Token, 0, len(text)/4+1)}
	t.walk(text, e.special, e.words)
	ids := make([]int, 0, len(e.tokens)+2)
	ids = append(ids, t.bos)
	for _, tok := range e.tokens {
		ids = append(ids, tok.ID)
	}
	return Encoding{IDs: append(ids, t.eos), Tokens: e.tokens}
}

// Window gives the Context ids that the text encoder takes. A longer encoding
// loses its end, EOS excepted, and truncated says so; a shorter one is padded.
func (t *Tokenizer) Window(e Encoding) (ids []int, truncated bool) {
	ids = make([]int, t.context)
	n := copy(ids, e.IDs)
	for i := n; i < len(ids); i++ {
		ids[i] = t.pad
	}
	if len(e.IDs) <= len(ids) {
		return ids, false
	}
	ids[len(ids)-1] = t.eos
	return ids, true
}

// walk calls special for each special token in text and words for the
// normalised text between them, from left to right.
func (t *Tokenizer) walk(text string, special func(special), words func(string)) {
	eachPart(validUTF8(text), t.raw, special, func(part string) {
		eachPart(normalize(part), t.folded, special, words)
	})
}

// encoding is an Encoding in the making.
type encoding struct {
	splitter
	t      *Tokenizer
	tokens []Token
	ids    []int32 // pieces of the last word
	nwords int
}

// words adds the words of s, which is normalised.
func (e *encoding) words(s string) {
	for word, rest := nextWord(s); word != ""; word, rest = nextWord(rest) {
		e.ids = e.split(e.ids[:0], word)
		e.word(e.ids...)
	}
}

// special adds a special token, which counts as a word.
func (e *encoding) special(s special) { e.word(int32(s.id)) }

func (e *encoding) word(ids ...int32) {
	for _, id := range ids {
		e.tokens = append(e.tokens, Token{Piece: e.t.pieces[id], ID: int(id), Word: e.nwords})
	}
	e.nwords++
}

// eachPart walks s from left to right and calls found for each special token in
// it and text for what lies between.
func eachPart(s string, specials []special, found func(special), text func(string)) {
	start := 0
	for i := 0; i < len(s); {
		sp, ok := specialAt(s[i:], specials)
		if !ok {
			i++
			continue
		}
		text(s[start:i])
		found(sp)
		i += len(sp.text)
		start = i
	}
	text(s[start:])
}

func specialAt(s string, specials []special) (special, bool) {
	for _, sp := range specials {
		if strings.HasPrefix(s, sp.text) {
			return sp, true
		}
	}
	return special{}, false
}
