package pipeline

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"strings"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/report"
	"leafserve/stats"
)

// page writes the report.
func (c *comparison) page(cases []leafserve.Case) ([]byte, error) {
	d := report.Data{
		Model: c.m.Info, Encoders: map[string]string{}, Request: c.request, Cases: cases, Pictures: map[string]report.Picture{},
		Command: "leafserve compare --model " + c.m.Info.Name + " --request request.json --out report.html",
		Device:  "float32 on " + strings.ToUpper(c.m.Runtime.Provider),
		Version: cmp.Or(strings.TrimPrefix(strings.TrimPrefix(gallery.Version(), "leafserve"), " "), "of unknown version"),
		Made:    time.Now().UTC(), Took: time.Since(c.start),
	}
	for _, name := range c.request.Arms {
		d.Encoders[name] = c.m.Encoders[name].Hash
	}
	for _, one := range c.sheet.drawings {
		d.Pictures[one.image.SHA256] = one.inline
	}
	var b bytes.Buffer
	err := report.Write(&b, d)
	return b.Bytes(), err
}

// maxStrips is how many cases a montage shows.
const maxStrips = 8

// montage draws the first cases as one PNG: a strip each, all arms side by side.
func (c *comparison) montage(cases []leafserve.Case) ([]byte, error) {
	small := map[string]image.Image{}
	for _, d := range c.sheet.drawings {
		small[d.image.URL] = d.small
	}
	var strips []gallery.Strip
	for _, one := range cases[:min(len(cases), maxStrips)] {
		s := gallery.Strip{Lines: montageLines(one, c.request.Arms)}
		for _, name := range c.request.Arms {
			arm := one.Arms[name]
			s.Panels = append(s.Panels,
				gallery.Panel{Image: small[arm.Clean.Image.URL], Caption: name},
				gallery.Panel{Image: small[arm.Attacked.Image.URL], Caption: name + ", typo"})
		}
		strips = append(strips, s)
	}
	img, err := gallery.Montage(strips)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	err = gallery.Encode(&file, img, "png", "")
	return file.Bytes(), err
}

// montageLines are the prompt, what became of it, and how alike the pictures are.
func montageLines(one leafserve.Case, arms []string) []string {
	typos, likeness := []string{}, []string{}
	for _, name := range arms {
		attacked := one.Arms[name].Attacked
		line := "typo: " + around(one.Prompt, attacked.Prompt)
		switch {
		case attacked.Prompt == one.Prompt:
			line = "no valid edit was found"
		case attacked.Prompt != one.Attack.Prompt || attacked.Drift != nil:
			line = name + ", " + line
		}
		if len(typos) == 0 || line != typos[len(typos)-1] {
			typos = append(typos, line)
		}
		if attacked.Similarity != nil {
			likeness = append(likeness, fmt.Sprintf("%s %.2f", name, stats.CutOff(*attacked.Similarity)))
		}
	}
	lines := append([]string{"clean: " + around(one.Attack.Prompt, one.Prompt)}, typos...)
	if len(likeness) > 0 {
		lines = append(lines, "likeness of the two pictures: "+strings.Join(likeness, ", "))
	}
	return lines
}

// Characters of a prompt that a montage shows at least, and those kept before a
// typo that comes later.
const shownRunes, runesBefore = 90, 30

// around gives text from a little before the place where it leaves other.
func around(other, text string) string {
	a, b := []rune(other), []rune(text)
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	if at < shownRunes || at == len(b) && at == len(a) {
		return text
	}
	return "…" + string(b[at-runesBefore:])
}
