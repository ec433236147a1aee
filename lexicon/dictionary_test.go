package lexicon_test

import (
	"strings"
	"testing"

	"leafserve/lexicon"
)

func TestEnglish(t *testing.T) {
	d := lexicon.English()
	for _, tc := range []struct {
		word       string
		has, known bool
	}{
		{"kitchen", true, true},
		{"cars", false, true}, // web2 lacks most inflected forms
		{"walked", false, true},
		{"has", false, true},
		{"dogs", true, true},
		{"running", true, true},
		{"is", true, true},
		{"an", true, true},
		{"q", true, false}, // all 26 letters are words of web2
		{"a", true, true},
		{"zythum", true, false}, // the last but one
		{"aa", true, false},
		{"London", false, false}, // case counts
		{"Kitchen", false, false},
		{"can't", false, true},
		{"kit chen", false, false},
		{"", false, false},
		{"\xff", false, false},
	} {
		t.Run(tc.word, func(t *testing.T) {
			if got := d.Has(tc.word); got != tc.has {
				t.Errorf("Has(%q) = %v, want %v", tc.word, got, tc.has)
			}
			if got := d.Known(tc.word); got != tc.known {
				t.Errorf("Known(%q) = %v, want %v", tc.word, got, tc.known)
			}
		})
	}
}

func TestRead(t *testing.T) {
	d, err := lexicon.Read(strings.NewReader("zebra\nant 7\n\n  bee\t3  \r\nant 9\nschön 1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"zebra", "ant", "bee", "schön"} {
		if !d.Has(w) || !d.Known(w) {
			t.Errorf("Has, Known(%q) = %v, %v, want true", w, d.Has(w), d.Known(w))
		}
	}
	if d.Has("7") || d.Has("") {
		t.Error("a count or a blank line became a word")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, tc := range []struct{ name, list, want string }{
		{"three fields", "a 1\nb 2 3\n", `line 2: "b 2 3" has 3 fields, want a word or a word and its count`},
		{"no number", "a\n\nb x\n", `line 3: count is "x", want a whole number of at least 1`},
		{"zero", "a 0", `line 1: count is "0", want a whole number of at least 1`},
		{"a fraction", "a 1.5", `line 1: count is "1.5", want a whole number of at least 1`},
		{"not UTF-8", "a\n\xff\xfe\n", `line 2: "\xff\xfe" is not UTF-8`},
		{"a long word", strings.Repeat("a", 201), "line 1: a word of 201 bytes, want 200 at most"},
		{"a long line", "a\n" + strings.Repeat("a", 1<<17), "line 2: bufio.Scanner: token too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := lexicon.Read(strings.NewReader(tc.list))
			if err == nil || err.Error() != tc.want {
				t.Errorf("Read: %v, want %s", err, tc.want)
			}
		})
	}
}

func TestReadNothing(t *testing.T) {
	d, err := lexicon.Read(strings.NewReader(""))
	if err != nil || d.Has("a") || d.Known("a") {
		t.Errorf("an empty list: %v, Has %v", err, d.Has("a"))
	}
}

func BenchmarkHas(b *testing.B) {
	d := lexicon.English()
	for b.Loop() {
		d.Has("kitchen")
		d.Has("kitchfen")
	}
}
