package pipeline

import (
	"bytes"
	"image"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/gallery"
)

// A montage has room for the beginning of a prompt: of a longer one it shows
// the place of the typo.
func TestAround(t *testing.T) {
	long := strings.Repeat("é", 200)
	for _, tc := range []struct{ name, other, text, want string }{
		{"short", "a cat", "a cta", "a cta"},
		{"typo at the start", long, "x" + long, "x" + long},
		{"typo far in", long, long[:2*100] + "x" + long[2*100:], "…" + strings.Repeat("é", 30) + "x" + strings.Repeat("é", 100)},
		{"cut off", long, long[:2*150], "…" + strings.Repeat("é", 30)},
		{"no typo", long, long, long},
		{"nothing", "", "", ""},
	} {
		if got := around(tc.other, tc.text); got != tc.want {
			t.Errorf("%s: around = %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestMontageLines(t *testing.T) {
	cell := func(prompt string, similarity float64, own bool) leafserve.Arm {
		c := leafserve.Cell{Prompt: prompt}
		if similarity != 0 {
			c.Similarity = &similarity
		}
		if own {
			c.Drift = &leafserve.Drift{}
		}
		return leafserve.Arm{Attacked: c}
	}
	arms := []string{"standard", "robust"}
	for _, tc := range []struct {
		name             string
		standard, robust leafserve.Arm
		want             []string
	}{
		{"one typo", cell("a cta", -0.2, false), cell("a cta", 0.798, false),
			[]string{"clean: a cat", "typo: a cta", "likeness of the two pictures: standard -0.20, robust 0.79"}},
		{"one each", cell("a cta", 0.5, true), cell("a caat", 1, true),
			[]string{"clean: a cat", "standard, typo: a cta", "robust, typo: a caat", "likeness of the two pictures: standard 0.50, robust 1.00"}},
		{"no edit, no judge", cell("a cat", 0, false), cell("a cat", 0, false), []string{"clean: a cat", "no valid edit was found"}},
	} {
		one := leafserve.Case{Prompt: "a cat", Attack: leafserve.AttackResult{Prompt: tc.standard.Attacked.Prompt}, Arms: map[string]leafserve.Arm{"standard": tc.standard, "robust": tc.robust}}
		if got := montageLines(one, arms); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// layOut draws what is the same once, in the order of the cases, clean first.
func TestLayOut(t *testing.T) {
	seed := uint64(5)
	r := leafserve.Request{Prompts: []string{"a cat", "12", "a cat"}, Seeds: []uint64{1, 2, 1}, Arms: []string{"standard", "robust"}, Attack: &leafserve.Attack{Seed: &seed}, N: ptr(1)}
	s := layOut(r, func(i, _ int) string { return []string{"a cta", "12", "a cta"}[i] })
	var got []string
	for _, d := range s.drawings {
		got = append(got, d.request.Encoder+" "+d.request.Prompt)
		if d.request.Attack != nil || d.request.Prompts != nil || d.request.Arms != nil || len(d.request.ImageSeeds()) != 1 {
			t.Errorf("%+v is no request for a picture", d.request)
		}
	}
	if want := []string{"standard a cat", "robust a cat", "standard a cta", "robust a cta", "standard 12", "robust 12"}; !slices.Equal(got, want) {
		t.Errorf("drawings %q, want %q", got, want)
	}
	if want := [][]pair{{{0, 2}, {1, 3}}, {{4, 4}, {5, 5}}, {{0, 2}, {1, 3}}}; !slices.EqualFunc(s.pairs, want, slices.Equal) {
		t.Errorf("pairs %v, want %v", s.pairs, want)
	}
	if got, want := s.drawings[4].cells, []string{"cleanstandard", "attackedstandard"}; !slices.Equal(got, want) {
		t.Errorf("the picture without a typo fills %q, want %q", got, want)
	}
}

// Reports carry small pictures as they are and large ones scaled down.
func TestInline(t *testing.T) {
	for _, tc := range []struct {
		width int
		kind  string
		size  image.Point
	}{{256, "webp", image.Pt(256, 128)}, {512, "jpeg", image.Pt(256, 64)}} {
		img := image.NewNRGBA(image.Rect(0, 0, tc.width, 128))
		var file bytes.Buffer
		if err := gallery.Encode(&file, img, "webp", ""); err != nil {
			t.Fatal(err)
		}
		p, err := inline(File{Picture: img, Data: file.Bytes()}, "webp", gallery.Thumbnail(img))
		if err != nil {
			t.Fatal(err)
		}
		config, kind, err := image.DecodeConfig(bytes.NewReader(p.Data))
		if err != nil || kind != tc.kind || p.Type != "image/"+tc.kind || config.Width != tc.size.X || config.Height != tc.size.Y {
			t.Errorf("%d pixels wide: %s that is %s of %d×%d, %v", tc.width, p.Type, kind, config.Width, config.Height, err)
		}
	}
}
