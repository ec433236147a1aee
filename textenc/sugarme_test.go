package textenc

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	sugarme "github.com/sugarme/tokenizer/model/bpe"
)

// sugarmeDiffers lists the vectors, as character and length, that come out
// otherwise from sugarme/tokenizer's merge loop: its heap does not take pairs of
// equal rank from left to right. On the other 3,609 of 3,613 it agrees. The
// parts of it that a prompt passes before the merge loop are wrong too
// (docs/decisions.md), so our normaliser and word pattern stand in for them.
var sugarmeDiffers = map[string]bool{
	strings.Repeat("a", 30):  true,
	strings.Repeat("a", 100): true,
	strings.Repeat("!", 100): true,
	strings.Repeat(".", 77):  true,
}

func TestSugarmeAgrees(t *testing.T) {
	tok := clipTokenizer(t, "")
	oracle := newSugarmeOracle(t, tok)
	for _, v := range readVectors(t, "vectors.jsonl.gz") {
		want, got := oracle.encode(v.Text), tok.Encode(v.Text).IDs
		if slices.Equal(got, want) == sugarmeDiffers[v.Text] {
			t.Errorf("Encode(%+q) = %v, sugarme/tokenizer has %v; expected to differ: %v", v.Text, got, want, sugarmeDiffers[v.Text])
		}
	}
}

// sugarmeOracle merges with sugarme/tokenizer's BPE model.
type sugarmeOracle struct {
	tok   *Tokenizer
	model *sugarme.BPE
}

// lastByte is a private-use rune that stands for byte 0 at a word's end. The
// model never adds "</w>" to the last byte of a word, so that byte is given as a
// rune of its own, which the vocabulary maps to the piece with "</w>".
const lastByte = 0xF0000

func newSugarmeOracle(t *testing.T, tok *Tokenizer) sugarmeOracle {
	t.Helper()
	vocab := map[string]int{}
	if err := json.Unmarshal(unzip(t, "vocab.json.gz"), &vocab); err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		vocab[string(rune(lastByte+i))] = int(tok.last[i])
	}
	merges := sugarme.Merges{}
	for key, m := range tok.merges {
		merges[sugarme.Pair{C1: int(key >> 32), C2: int(uint32(key))}] = sugarme.PairVal{Rank: int(m.rank), NewId: int(m.id)}
	}
	return sugarmeOracle{tok, sugarme.NewBPE(vocab, merges)}
}

func (o sugarmeOracle) encode(text string) []int {
	ids := []int{o.tok.bos}
	alphabet := byteAlphabet()
	eachPart(normalize(text), o.tok.folded, func(s special) { ids = append(ids, s.id) }, func(part string) {
		for word, rest := nextWord(part); word != ""; word, rest = nextWord(rest) {
			var symbols []rune
			for _, b := range []byte(word) {
				symbols = append(symbols, alphabet[b])
			}
			symbols[len(symbols)-1] = lastByte + rune(word[len(word)-1])
			for _, s := range o.model.MergeWord(string(symbols)).Symbols {
				ids = append(ids, s.C)
			}
		}
	})
	return append(ids, o.tok.eos)
}
