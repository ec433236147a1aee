package report

import (
	"math"
	"strings"
	"testing"
	"time"

	"leafserve"
)

func TestNumber(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"rounds", number(0.126, 2), "0.13"},
		{"minus", number(-0.5, 1), "−0.5"},
		{"no minus zero", number(-0.001, 2), "0.00"},
		{"missing", number(math.NaN(), 2), "–"},
		{"infinite", number(math.Inf(1), 2), "–"},
		{"plus", signed(0.5, 2), "+0.50"},
		{"plus of nothing", signed(0.001, 2), "0.00"},
		{"signed minus", signed(-0.5, 2), "−0.50"},
		{"signed missing", signed(math.NaN(), 2), "–"},
		{"likeness under the threshold", likeness(0.7999), "0.79"},
		{"likeness at the threshold", likeness(0.8), "0.80"},
		{"likeness of decimals that floats lack", likeness(0.29), "0.29"},
		{"interval", interval(leafserve.Estimate{Low: -0.25, High: 1}, 2), "−0.25 to 1.00"},
		{"one", counted(1, "edit", "edits"), "1 edit"},
		{"more", counted(3, "edit", "edits"), "3 edits"},
		{"place", percent(0.25, 0, 1), "25.00%"},
		{"place before the plot", percent(-3, 0, 1), "0.00%"},
		{"place after the plot", percent(3, 0, 1), "100.00%"},
		{"end", end(0.30000000000000004), "0.3"},
		{"end below zero", end(-2), "−2"},
		{"moment", took(1234 * time.Millisecond), "1.2 s"},
		{"a minute", took(61 * time.Second), "61 s"},
		{"an hour", took(time.Hour), "60 min"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

func TestScale(t *testing.T) {
	for _, tc := range []struct {
		name      string
		values    []float64
		low, high float64
	}{
		{"nothing", nil, 0, 1},
		{"no numbers", []float64{math.NaN(), math.Inf(1)}, 0, 1},
		{"far from zero", []float64{0.295, 0.322}, 0.29, 0.33},
		{"near zero", []float64{0.02, 0.13}, 0, 0.15},
		{"below zero", []float64{-0.013, 0.02}, -0.02, 0.02},
		{"one value", []float64{0.3}, 0.3, 0.31},
		{"large", []float64{43, 81}, 40, 90},
	} {
		t.Run(tc.name, func(t *testing.T) {
			low, high := scale(tc.values)
			if math.Abs(low-tc.low) > 1e-9 || math.Abs(high-tc.high) > 1e-9 {
				t.Errorf("scale(%v) = %v, %v, want %v, %v", tc.values, low, high, tc.low, tc.high)
			}
		})
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		low, high float64
		fifths    int
		want      string
	}{
		{0, 1, 5, "0 at 0.00%, 0.2 at 20.00%, 0.4 at 40.00%, 0.6 at 60.00%, 0.8 at 80.00%, 1 at 100.00%"},
		{-0.2, 1, 6, "−0.2 at 0.00%, 0 at 16.67%, 0.2 at 33.33%, 0.4 at 50.00%, 0.6 at 66.67%, 0.8 at 83.33%, 1 at 100.00%"},
		{-1, 1, 10, "−0.8 at 10.00%, −0.4 at 30.00%, 0 at 50.00%, 0.4 at 70.00%, 0.8 at 90.00%"},
		{0, 1.4, 7, "0 at 0.00%, 0.4 at 28.57%, 0.8 at 57.14%, 1.2 at 85.71%"},
	} {
		var got []string
		named, fifths := ticks(tc.low, tc.high)
		for _, tick := range named {
			got = append(got, tick.Text+" at "+tick.X)
		}
		if text := strings.Join(got, ", "); text != tc.want || fifths != tc.fifths {
			t.Errorf("ticks(%v, %v) = %s, %d, want %s, %d", tc.low, tc.high, text, fifths, tc.want, tc.fifths)
		}
	}
}

func TestPieceText(t *testing.T) {
	for _, tc := range []struct{ piece, want string }{
		{"cat</w>", "cat"}, {"sna", "sna"}, {"Ã©</w>", "é"}, {"ðŁļĢ</w>", "🚀"}, {"ðŁ", "f0 9f"}, {"</w>", ""}, {"猫", "猫"},
	} {
		if got := pieceText(tc.piece); got != tc.want {
			t.Errorf("pieceText(%q) = %q, want %q", tc.piece, got, tc.want)
		}
	}
}

func TestPairOf(t *testing.T) {
	tokens := func(text string) []leafserve.Token {
		var out []leafserve.Token
		for w, word := range strings.Fields(text) {
			for piece := range strings.SplitSeq(word, "+") {
				out = append(out, leafserve.Token{Piece: piece, Word: w})
			}
		}
		return out
	}
	for _, tc := range []struct{ name, clean, attacked, before, after string }{
		{"a word falls apart", "a snail sleeps", "a sna+ql sleeps", "snail", "sna+ql"},
		{"a word is cut in two", "a snail sleeps", "a sna il sleeps", "snail", "sna il"},
		{"the same word elsewhere", "a cat and a cat", "a cat and a cot", "cat", "cot"},
		{"a word goes", "a a cat", "a cat", "a", ""},
		{"two words", "a cat on a mat", "a cot on a mot", "cat mat", "cot mot"},
		{"words change places", "a cat b", "b cat a", "a cat b", "b cat a"},
		{"nothing changes", "a cat", "a cat", "", ""},
		{"nothing known", "", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, after := pairOf(leafserve.TokenPair{Clean: tokens(tc.clean), Attacked: tokens(tc.attacked)})
			write := func(words []word) string {
				var out []string
				for _, w := range changed(words) {
					out = append(out, strings.Join(w.Pieces, "+"))
				}
				return strings.Join(out, " ")
			}
			if b, a := write(before), write(after); b != tc.before || a != tc.after {
				t.Errorf("changed %q to %q, want %q to %q", b, a, tc.before, tc.after)
			}
		})
	}
}

func TestEditedWord(t *testing.T) {
	for _, tc := range []struct {
		name   string
		prompt string
		diff   []leafserve.DiffPart
		want   string
	}{
		{"inside", "", []leafserve.DiffPart{{T: "same", S: "a sna"}, {T: "del", S: "i"}, {T: "ins", S: "q"}, {T: "same", S: "l, purple"}}, "snail"},
		{"at the end", "", []leafserve.DiffPart{{T: "same", S: "a cat"}, {T: "ins", S: "s"}}, "cat"},
		{"at the beginning", "", []leafserve.DiffPart{{T: "ins", S: "x"}, {T: "same", S: "cat here"}}, "cat"},
		{"the first of two", "", []leafserve.DiffPart{{T: "same", S: "a c"}, {T: "del", S: "a"}, {T: "same", S: "t or d"}, {T: "del", S: "o"}, {T: "same", S: "g"}}, "cat"},
		{"no edit", "a crab", nil, "a crab"},
		{"no edit in a diff", "a crab", []leafserve.DiffPart{{T: "same", S: "a crab"}}, "a crab"},
		{"long", strings.Repeat("x", 50), nil, strings.Repeat("x", 40) + "…"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := editedWord(leafserve.Case{Prompt: tc.prompt, Attack: leafserve.AttackResult{Diff: tc.diff}}); got != tc.want {
				t.Errorf("editedWord = %q, want %q", got, tc.want)
			}
		})
	}
}

// TestSize: small pictures grow by whole multiples, large ones shrink to fit.
func TestSize(t *testing.T) {
	for _, tc := range []struct{ width, height, side, wide, high int }{
		{64, 64, 128, 128, 128}, {64, 32, 192, 192, 96}, {48, 48, 128, 96, 96}, {100, 100, 128, 100, 100},
		{768, 512, 192, 192, 128}, {1, 4000, 128, 1, 128}, {0, 0, 128, 128, 128},
	} {
		if w, h := (cellView{Width: tc.width, Height: tc.height}).in(tc.side); w != tc.wide || h != tc.high {
			t.Errorf("%d × %d in %d is shown as %d × %d, want %d × %d", tc.width, tc.height, tc.side, w, h, tc.wide, tc.high)
		}
	}
}
