// Package report writes what a comparison found as one HTML file: the verdict,
// a typical case, means with intervals, a row for every prompt, all pictures
// with the worst for the robust encoder first, what the figures do not show,
// and how to make them again.
//
// The file needs nothing else and runs no script: styles are inline, pictures
// are data URLs, plots are SVG, filtering is radio buttons and :has(). It may be
// served under the policy that its head names. Whatever a prompt holds is text.
//
// Write is the function to start with. Fingerprint tells whether two runs gave
// the same figures.
package report

import (
	_ "embed"
	"html/template"
	"io"
	"time"

	"leafserve"
)

// Data is what a report tells.
type Data struct {
	Model    leafserve.ModelInfo
	Encoders map[string]string  // SHA-256 of each encoder's weights, by arm, in hex; one may be missing
	Request  leafserve.Request  // resolved; its Arms are the columns
	Cases    []leafserve.Case   // at least one, in any order
	Pictures map[string]Picture // by Image.SHA256 of a cell; one that is missing is said to be
	Command  string             // makes the report again from request.json
	Device   string             // what computed, as in "float32 on CPU"; may be empty
	Version  string             // of leafserve
	Made     time.Time
	Took     time.Duration
}

// Picture is a picture as it goes into the file; one over 256 pixels is best
// given scaled down to that.
type Picture struct {
	Type string // image/png, image/jpeg or image/webp
	Data []byte
}

var (
	//go:embed report.html
	source string
	//go:embed style.css
	style string

	page = template.Must(template.New("report").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) },
	}).Parse(source))
)

// Write writes the report. It is Invalid without cases, with fewer than two
// arms, or with a picture of another type; other errors are w's. The figures
// come from the cases alone, whatever verdicts they carry.
func Write(w io.Writer, d Data) error {
	if len(d.Cases) == 0 {
		return leafserve.Errorf(leafserve.Invalid, "a report needs at least one case")
	}
	if n := len(d.Request.Arms); n < 2 {
		return leafserve.Errorf(leafserve.Invalid, "a report compares two encoders or more, the request names %d", n)
	}
	for name, p := range d.Pictures {
		switch p.Type {
		case "image/png", "image/jpeg", "image/webp":
		default:
			return leafserve.Errorf(leafserve.Invalid, "picture %.64q is %.64q: a report takes image/png, image/jpeg and image/webp", name, p.Type)
		}
	}
	return page.Execute(w, newView(d))
}
