package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/report"
)

// sample is a report in the making. Its figures are made up.
type sample struct {
	t    testing.TB
	data report.Data
}

// newSample has no cases yet.
func newSample(t testing.TB) *sample {
	return &sample{t, report.Data{
		Model:    leafserve.ModelInfo{Name: "leaf-emoji-64"},
		Encoders: map[string]string{"standard": strings.Repeat("3f9a", 16), "robust": strings.Repeat("a04e", 16)},
		Request: leafserve.Request{
			Model: "leaf-emoji-64", Seed: new(uint64(42)), RNG: "torch-cpu", Scheduler: "dpmpp_2m", Steps: new(24), GuidanceScale: new(3.0),
			Width: new(64), Height: new(64), Arms: []string{"standard", "robust"},
			Attack: &leafserve.Attack{Method: "leaf", Edits: 1, Rho: 50, Constraint: "strict", Objective: "pooled", Against: "standard", Seed: new(uint64(7))},
		},
		Pictures: map[string]report.Picture{},
		Command:  "leafserve compare --model leaf-emoji-64 --request request.json --out report.html",
		Device:   "float32 on CPU", Version: "1.2.3",
		Made: time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC), Took: 38 * time.Second,
	}}
}

// add puts in a case whose prompt has its damage in brackets, as in
// "a roc[k|q]et", with the likeness of each arm.
func (s *sample) add(marked string, likeness ...float64) *leafserve.Case {
	c := leafserve.Case{Seed: 42 + uint64(len(s.data.Cases)), Arms: map[string]leafserve.Arm{}}
	c.Attack = attacked(marked)
	for _, part := range c.Attack.Diff {
		if part.T != "ins" {
			c.Prompt += part.S
		}
	}
	c.Attack.Drift = map[string]leafserve.Drift{}
	for i, name := range s.data.Request.Arms {
		like := likeness[i]
		drift := min(1, max(0, 1.05-like))
		c.Attack.Drift[name] = leafserve.Drift{Pooled: drift * 0.7, Hidden: drift, PooledL2: 9 * drift, HiddenL2: 120 * drift}
		c.Arms[name] = leafserve.Arm{
			Clean:    leafserve.Cell{Prompt: c.Prompt, Image: s.picture(c.Seed, 1, 64), ClipScore: new(0.31 - 0.004*float64(i))},
			Attacked: leafserve.Cell{Prompt: c.Attack.Prompt, Image: s.picture(c.Seed, like, 64), ClipScore: new(0.2 + 0.1*like), Similarity: &like},
		}
	}
	s.data.Cases = append(s.data.Cases, c)
	s.data.Request.Prompts = append(s.data.Request.Prompts, c.Prompt)
	return &s.data.Cases[len(s.data.Cases)-1]
}

// attacked reads the marks of add.
func attacked(marked string) leafserve.AttackResult {
	a := leafserve.AttackResult{Method: "leaf", Edits: []leafserve.Edit{}, Candidates: 212, MS: 71}
	part := func(kind, text string) {
		if text == "" {
			return
		}
		a.Diff = append(a.Diff, leafserve.DiffPart{T: kind, S: text})
		if kind != "del" {
			a.Prompt += text
		}
	}
	clean := ""
	before, rest, edited := strings.Cut(marked, "[")
	part("same", before)
	clean = before
	if edited {
		damage, after, _ := strings.Cut(rest, "]")
		gone, came, _ := strings.Cut(damage, "|")
		part("del", gone)
		part("ins", came)
		part("same", after)
		clean += gone + after
		a.Edits = append(a.Edits, leafserve.Edit{Op: "replace", At: len([]rune(before)), From: gone, To: came})
	}
	a.Tokens = leafserve.TokenPair{Clean: tokens(clean, clean), Attacked: tokens(a.Prompt, clean)}
	return a
}

// tokens cuts words: one with a typo into pieces of three letters, others into
// pieces of eight.
func tokens(text, clean string) []leafserve.Token {
	var out []leafserve.Token
	known := strings.Fields(clean)
	for w, word := range strings.Fields(text) {
		size := 8
		if !slices.Contains(known, word) {
			size = 3
		}
		for letters := range slices.Chunk([]rune(word), size) {
			out = append(out, leafserve.Token{Piece: string(letters), Word: w})
		}
		out[len(out)-1].Piece += "</w>"
	}
	return out
}

// picture stores a disc on a ground, which turns into a square and another
// colour as likeness falls.
func (s *sample) picture(seed uint64, likeness float64, side int) leafserve.Image {
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	ground := color.NRGBA{uint8(seed * 83), uint8(seed * 47), uint8(120 + seed*29), 255}
	ink := color.NRGBA{uint8(255 * likeness), uint8(200 - 90*likeness), uint8(255 - 200*likeness), 255}
	for y := range side {
		for x := range side {
			dx, dy := float64(2*x)/float64(side)-1, float64(2*y)/float64(side)-1
			at := ground
			if round := dx*dx + dy*dy; likeness >= 0.8 && round < 0.5 || likeness < 0.8 && max(dx, -dx, dy, -dy) < 0.6 {
				at = ink
			}
			img.SetNRGBA(x, y, at)
		}
	}
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(file.Bytes())
	name := hex.EncodeToString(sum[:])
	s.data.Pictures[name] = report.Picture{Type: "image/png", Data: file.Bytes()}
	return leafserve.Image{URL: "/images/" + name + ".png", SHA256: name, Seed: seed, Width: side, Height: side}
}

func (s *sample) write() string {
	s.t.Helper()
	var out strings.Builder
	if err := report.Write(&out, s.data); err != nil {
		s.t.Fatal(err)
	}
	return out.String()
}

// twelve is a list of all outcomes.
func twelve(t testing.TB) *sample {
	s := newSample(t)
	for _, c := range []struct {
		prompt           string
		standard, robust float64
	}{
		{"a 3d o[|a]wl on an orange background", 0.34, 0.96}, {"a cartoon gu[i|v]tar on a white background", 0.41, 0.97},
		{"a flat sai[l|1]boat on a cyan background", 0.22, 0.95}, {"an icon of a 3d sna[i|q]l, purple background", 0.47, 0.98},
		{"a glossy 3d strawberr[y|v] on white", 0.68, 0.97}, {"a picture of a flat pengu[i|l]n on a blue background", 0.49, 0.93},
		{"show me a cartoon cas[|x]tle in front of a pink background", 0.38, 0.96}, {"a drawing of a hedgeh[o|0]g against a green background", 0.43, 0.94},
		{"a flat umbrel[l|]a on a yellow background", 0.93, 0.97}, {"a 3d roc[k|q]et on a black background", 0.3, 0.28},
		{"an octopus on a r[|p]ed background, cartoon style", 0.74, 0.97}, {"3d ice cre[|h]am on a brown background", 0.95, 0.798},
	} {
		s.add(c.prompt, c.standard, c.robust)
	}
	return s
}

// single is one prompt.
func single(t testing.TB) *sample {
	s := newSample(t)
	s.add("an icon of a 3d sna[i|q]l, purple background", 0.478, 0.98)
	s.data.Request.Prompt, s.data.Request.Prompts = s.data.Request.Prompts[0], nil
	return s
}

// odd has prompts of strangers, a case without a typo, a case without figures
// and one without pictures.
func odd(t testing.TB) *sample {
	s := newSample(t)
	s.data.Request.Attack.Edits = 2
	s.add(`<img src=x onerror=alert(1)> "quo[t|]ed" & 'so' <scr[i|]ipt>alert(2)</script> https://example.org/x.png`, 0.3, 0.9)
	s.add("חתול [כ|ב]תום על רקע לבן", 0.95, 0.99)
	s.add("🚀 an emoji roc[k| k]et\nin two lines", 0.9, 0.2)
	s.add(strings.Repeat("very ", 400)+"lo[n|m]g", 0.85, 0.9)
	s.add(strings.Repeat("x", 900)+"[|y]", 0.2, 0.3)
	s.add("a crab", 1, 1)
	unjudged := s.add("a bl[u|v]e whale", 0.5, 0.6)
	for name, arm := range unjudged.Arms {
		arm.Clean.ClipScore, arm.Attacked.ClipScore, arm.Attacked.Similarity = nil, nil, nil
		arm.Attacked.Image.SHA256 = "gone"
		unjudged.Arms[name] = arm
	}
	own := s.add("a gre[y|u] cat", 0.5, 0.85)
	arm := own.Arms["robust"]
	arm.Attacked.Prompt, arm.Attacked.Drift = "a grey c&t", &leafserve.Drift{Pooled: 0.2, Hidden: 0.3}
	own.Arms["robust"] = arm
	return s
}

// many is as large as a comparison can be.
func many(t testing.TB) *sample {
	s := newSample(t)
	for i := range leafserve.MaxComparePrompts {
		s.add(fmt.Sprintf("picture number %d of a c[a|]t on a wall", i), float64(i%97)/97, float64(i%41+57)/98)
	}
	return s
}

// unjudged is a list of a model without a CLIP.
func unjudged(t testing.TB) *sample {
	s := twelve(t)
	for _, c := range s.data.Cases {
		for name, arm := range c.Arms {
			arm.Clean.ClipScore, arm.Attacked.ClipScore, arm.Attacked.Similarity = nil, nil, nil
			c.Arms[name] = arm
		}
	}
	return s
}

// fourArms compares as many encoders as a request may name, in large pictures.
func fourArms(t testing.TB) *sample {
	s := newSample(t)
	s.data.Request.Arms = []string{"standard", "robust", "spell", "robust-k3"}
	for i, word := range []string{"c[a|o]t", "d[o|]g", "cr[|q]ab", "sh[i|l]p", "b[i|o]rd", "f[i|]sh", "l[i|]on"} {
		at := float64(i) / 20
		c := s.add("a "+word+" in the rain", 0.3+at, 0.9-at, 0.7, 0.8+at/2)
		for name, arm := range c.Arms {
			arm.Clean.Image, arm.Attacked.Image = s.picture(c.Seed, 1, 256), s.picture(c.Seed, *arm.Attacked.Similarity, 256)
			arm.Clean.Image.Width, arm.Clean.Image.Height = 768, 512 // given scaled down
			c.Arms[name] = arm
		}
	}
	return s
}
