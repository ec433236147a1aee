package textenc

import "strings"

// bytesOf is the inverse of byteAlphabet.
var bytesOf = func() map[rune]byte {
	out := map[rune]byte{}
	for b, r := range byteAlphabet() {
		out[r] = byte(b)
	}
	return out
}()

// Decode gives the text that ids of the vocabulary stand for, as transformers'
// CLIPTokenizer does: a blank after each word, none at the ends, special tokens
// by their names, U+FFFD for bytes that are no UTF-8. Encoding it again need not
// give the same ids: pieces of words may join in other ways.
func (t *Tokenizer) Decode(ids []int) string {
	var text []byte
	for _, id := range ids {
		piece, ends := strings.CutSuffix(t.pieces[id], wordEnd)
		for _, r := range piece {
			text = append(text, bytesOf[r])
		}
		if ends {
			text = append(text, ' ')
		}
	}
	return strings.TrimSpace(validUTF8(string(text)))
}
