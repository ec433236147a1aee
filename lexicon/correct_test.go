package lexicon_test

import (
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
		{"acronyms", "a photo of the rover in UHD, NASA", "a photo of the rover in UHD, NASA"},
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
