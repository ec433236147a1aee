package lexicon_test

import (
	"slices"
	"testing"

	"leafserve/lexicon"
)

func TestCorrect(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"swapped", "a cat on a blue backgorund", "a cat on a blue background"},
		{"dropped", "a cat on a blue backgrund", "a cat on a blue background"},
		{"doubled", "a yelllow cat", "a yellow cat"},
		{"replaced", "an eleohant", "an elephant"},
		{"put in", "an eleXphant and a micxrophone", "an elephant and a microphone"},
		{"two edits", "a bcakgorund", "a background"},
		{"short", "teh cat", "the cat"},
		{"split", "a kit chen", "a kitchen"},
		{"split by a sign", "a kit-chen with el/ephants", "a kitchen with elephants"},
		{"split and both known", "a blue back ground", "a blue background"},
		{"not joined", "the cat is in to it every day on a way", "the cat is in to it every day on a way"},
		{"joined", "the cat onthe mat", "the cat on the mat"},
		{"case", "Elepant. A BACKGROUDN. Yelow", "Elephant. A BACKGROUND. Yellow"},
		{"signs stay", "(a  yelow, \"elepant\")!", "(a  yellow, \"elephant\")!"},
		{"possessive", "the elepant's trunk, the elephant's trunk", "the elephant's trunk, the elephant's trunk"},
		{"apostrophe", "i dont’t know, he doesn’t", "i don't know, he doesn’t"},
		{"names", "by Greg Rutkowski and Mucha", "by Greg Rutkowski and Mucha"},
		{"numbers", "3d 1980s 4k mp3 3,5 route66", "3d 1980s 4k mp3 3,5 route66"},
		{"digit inside", "an eleph4ant", "an elephant"},
		{"homoglyph", "an elephаnt", "an elephant"}, // a Cyrillic а
		{"accents", "a café, naïve", "a café, naïve"},
		{"other scripts", "кошка 猫 חתול", "кошка 猫 חתול"},
		{"short words", "xq zt a i", "xq zt a i"},
		{"acronyms", "a photo of the rover in UXD, NASA", "a photo of the rover in UXD, NASA"},
		{"all in capitals", "A RDE CAT AND A YELLOhW DOG", "A RED CAT AND A YELLOW DOG"},
		{"nothing", "", ""},
		{"not UTF-8", "a \xff yelow", "a \xff yellow"},
		{"no letters", "?! ...", "?! ..."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _ := lexicon.English().Correct(tc.text)
			if got != tc.want {
				t.Errorf("Correct(%q) = %q, want %q", tc.text, got, tc.want)
			}
		})
	}
}

func TestCorrectTellsWhatItChanged(t *testing.T) {
	got, fixes := lexicon.English().Correct("É: a  kit chen, teh Yelow cat")
	want := []lexicon.Fix{{At: 6, From: "kit chen", To: "kitchen"}, {At: 16, From: "teh", To: "the"}}
	if got != "É: a  kitchen, the Yelow cat" || !slices.Equal(fixes, want) {
		t.Errorf("Correct = %q, %+v, want %+v", got, fixes, want)
	}
}

func TestSuggest(t *testing.T) {
	for _, tc := range []struct{ word, want string }{
		{"backgorund", "background"}, {"Backgorund", "background"}, {"onthe", "on the"}, {"background", ""}, {"xq", ""},
		{"", ""}, {"two words", ""}, {"zzzzzzzzzzz", ""}, {" teh", ""}, {"kit-chen", ""},
	} {
		got, ok := lexicon.English().Suggest(tc.word)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("Suggest(%q) = %q, %v, want %q", tc.word, got, ok, tc.want)
		}
	}
}

func FuzzCorrect(f *testing.F) {
	for _, s := range []string{"a kit chen onthe blue backgorund", "É’s don’t 'x' \xff\xfe", "İſ K é́", "a\u0301b", "🐱yelow猫", "''''", "A.B-c_d"} {
		f.Add(s)
	}
	d := lexicon.English()
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 300 {
			t.Skip()
		}
		got, fixes := d.Correct(text)
		runes, shift := []rune(text), 0
		var out []rune
		done := 0
		for _, fix := range fixes {
			from := []rune(fix.From)
			if fix.At < done || fix.At+len(from) > len(runes) || string(runes[fix.At:fix.At+len(from)]) != string(from) || fix.To == "" {
				t.Fatalf("Correct(%q): %+v does not fit", text, fix)
			}
			out = append(append(out, runes[done:fix.At]...), []rune(fix.To)...)
			done = fix.At + len(from)
			shift += len(fix.To) - len(fix.From)
		}
		out = append(out, runes[done:]...)
		if string(out) != string([]rune(got)) || len(got) != len(text)+shift {
			t.Errorf("Correct(%q) = %q, the fixes %+v give %q", text, got, fixes, string(out))
		}
		if len(fixes) == 0 && got != text {
			t.Errorf("Correct(%q) = %q without a fix", text, got)
		}
	})
}
