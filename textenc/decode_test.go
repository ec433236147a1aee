package textenc

import (
	"path/filepath"
	"testing"

	"leafserve/internal/leaftest"
)

// TestDecode: texts are those of transformers 4.57.6, CLIPTokenizer.decode
// without clean_up_tokenization_spaces.
func TestDecode(t *testing.T) {
	tok, err := LoadTokenizer(filepath.Join(leaftest.DefaultModel(), "tokenizer"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		ids  []int
		want string
	}{
		{"words", []int{320, 1125, 539, 320, 2368}, "a photo of a cat"},
		{"bytes of several pieces", []int{15304, 7334, 163, 234, 360}, "café 😀 猫"},
		{"signs are words", []int{847, 713, 1691, 995}, "don 't stop !!!"},
		{"special tokens", []int{2368, 49406, 49407}, "cat <|startoftext|><|endoftext|>"},
		{"a special token before a word", []int{320, 49407, 2368}, "a <|endoftext|>cat"},
		{"pieces without an end", []int{320, 3, 64, 2368}, "a $acat"},
		{"the start of a character", []int{162, 320}, "\uFFFDa"},
		{"two starts", []int{162, 162, 320}, "\uFFFD\uFFFDa"},
		{"nothing", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tok.Decode(tc.ids); got != tc.want {
				t.Errorf("Decode(%v) = %q, want %q", tc.ids, got, tc.want)
			}
		})
	}
}
