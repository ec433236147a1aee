package report_test

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"leafserve"
	"leafserve/report"
)

var samples = []struct {
	name  string
	make  func(testing.TB) *sample
	cards int      // cases shown as cards: none for one prompt
	says  []string // texts in order
	not   []string // texts that are nowhere
}{
	{"single", single, 0, []string{
		"leaf-emoji-64 · 1 prompt · 1 wrong letter · 23 November 2026", "Robust held, standard broke", "The robust encoder still draws the same picture.",
		"moves the robust encoder’s reading", "“The same picture” means a likeness of at least 0.8", "fit 0.25 · like 0.47", "How the encoders read it", "snail,", "sna", "ql,",
		"One prompt", "0.470.98+0.50", "One prompt is an example", "The typo was chosen against the standard encoder.", "seed 42, torch-cpu noise, dpmpp_2m, 24 steps, guidance 3, float32 on CPU",
		"LEAF, 1 edit, ρ = 50, constraint strict, objective pooled, against standard, seed 7, one typo for all encoders", "leafserve 1.2.3, 23 November 2026, 14:05 UTC, in 38 s",
		"leafserve compare --model leaf-emoji-64 --request request.json --out report.html", `"prompt": "an icon of a 3d snail, purple background"`,
	}, []string{"could be chance", "95% interval", "Every prompt"}},
	{"twelve", twelve, 12, []string{
		"With one wrong letter, the robust encoder kept 10 of 12 pictures; the standard encoder kept 2.", "stayed closer for 10 of 12 prompts and moved further for 2.",
		"The typical case (median gain): ", "Mean over 12 prompts, 95% interval", "Prompt fit without a typo", "what robustness costs", "10,000 resamples, seed 42", "ties half, with Wilson’s 95% interval: 83% (55 to 95%).",
		"All 12", "Robust broke 2", "Both held 1", "Only robust held 9", "like 0.28", "like 0.79", "12 prompts are few", "All typos were chosen against the standard encoder.", "a second run must give the same",
	}, []string{"Not judged", "No typo found", "One prompt"}},
	{"many", many, leafserve.MaxComparePrompts, []string{"of 256 pictures"}, []string{"prompts are few"}},
	{"odd", odd, 8, []string{"For 1 of the prompts the attack found no valid typo", "No typo found 1", "Not judged 1", "roc removed: k  added:  k et\nin two lines", "The robust encoder drew instead of this: a grey c&t", "picture not kept"}, nil},
	{"unjudged", unjudged, 12, []string{"whether the pictures held was not measured", "Drift of the whole prompt; further left is better.", "No picture was judged"}, []string{"Prompt fit", "kept from here", "Kept"}},
	{"four arms", fourArms, 7, []string{"Typo report: 7 prompts, standard, robust, spell and robust-k3 encoder", "Spell", "Robust-k3", "Robust minus standard", "Drift, robust-k3"}, nil},
}

// TestWrite: every report holds what it must, in order, as HTML that a parser
// reads as it is written, and asks for nothing from outside.
func TestWrite(t *testing.T) {
	for _, tc := range samples {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.make(t)
			text := s.write()
			checkNesting(t, text)
			doc := parse(t, text)
			checkSafe(t, doc)
			checkLinks(t, doc)
			all := textOf(doc)
			rest := strings.ToLower(all)
			for _, want := range tc.says {
				_, after, found := strings.Cut(rest, strings.ToLower(want))
				if !found {
					t.Errorf("%q is missing, or comes before what was looked for last", want)
					continue
				}
				rest = after
			}
			for _, unwanted := range tc.not {
				if strings.Contains(all, unwanted) {
					t.Errorf("%q is there", unwanted)
				}
			}
			if n := len(find(doc, "article")); n != tc.cards {
				t.Errorf("%d cards, want %d", n, tc.cards)
			}
			if n := len(find(doc, "li")); n < tc.cards {
				t.Errorf("%d list items, want a row for each of %d prompts", n, tc.cards)
			}
		})
	}
}

// TestWriteWorstFirst: the worst likeness of the robust encoder comes first.
func TestWriteWorstFirst(t *testing.T) {
	var likes []float64
	pattern := regexp.MustCompile(`like ([0-9.−]+)`)
	for _, card := range find(parse(t, twelve(t).write()), "article") {
		found := pattern.FindAllStringSubmatch(textOf(card), -1)
		like, err := strconv.ParseFloat(found[len(found)-1][1], 64)
		if err != nil {
			t.Fatal(err)
		}
		likes = append(likes, like)
	}
	if len(likes) != 12 || !slices.IsSorted(likes) {
		t.Errorf("likenesses of the robust encoder come as %v, want 12 rising", likes)
	}
}

// TestWriteScales: values beyond 0 and 1 are shown where they are.
func TestWriteScales(t *testing.T) {
	for _, tc := range []struct {
		name             string
		standard, robust float64
		lines            string // class of the rows
		says             string
	}{
		{"inside", 0.1, 1, "rows of-5", "00.20.40.60.81"},
		{"likeness below 0", -0.3, 0.9, "rows of-7", "−0.400.40.8"},
		{"likeness of the opposite", -1, 1, "rows of-10", "−0.8−0.400.40.8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSample(t)
			s.add("a c[a|o]t", tc.standard, tc.robust)
			s.add("a d[o|]g", tc.standard, tc.robust)
			doc := parse(t, s.write())
			if class := attr(find(doc, "ol")[0], "class"); class != tc.lines {
				t.Errorf("class is %q, want %q", class, tc.lines)
			}
			if text := textOf(doc); !strings.Contains(text, "kept from here →"+tc.says) {
				t.Errorf("the plot's scale does not read %s", tc.says)
			}
		})
	}
}

// TestWriteSize: a case costs its pictures and little more.
func TestWriteSize(t *testing.T) {
	s := many(t)
	bytes := 0
	for _, c := range s.data.Cases {
		for _, arm := range c.Arms {
			bytes += len(s.data.Pictures[arm.Clean.Image.SHA256].Data) + len(s.data.Pictures[arm.Attacked.Image.SHA256].Data)
		}
	}
	over := (len(s.write()) - bytes*4/3) / len(s.data.Cases)
	if over > 5000 {
		t.Errorf("a case costs %d bytes beside its pictures, want at most 5000", over)
	}
}

func TestWriteTwice(t *testing.T) {
	s := newSample(t)
	for i, word := range []string{"c[a|o]t", "d[o|]g", "cr[|q]ab", "sh[i|l]p", "b[i|o]rd", "f[i|]sh"} {
		s.add("a "+word, float64(i)/7, 1-float64(i)/9)
	}
	first := s.write()
	slices.Reverse(s.data.Cases)
	if strip(first) != strip(s.write()) {
		t.Error("the order of the cases changes the report")
	}
}

// strip leaves out the request, which keeps the order of the prompts.
func strip(text string) string {
	before, _, _ := strings.Cut(text, "<details>")
	return before
}

func TestWriteMethods(t *testing.T) {
	for _, tc := range []struct {
		name   string
		attack *leafserve.Attack
		perArm bool
		says   []string
	}{
		{"manual", &leafserve.Attack{Method: "manual", Prompt: "x"}, false, []string{"own typo", "typed by hand"}},
		{"random", &leafserve.Attack{Method: "random", Edits: 2, Constraint: "no-increase", Seed: new(uint64(3))}, false,
			[]string{"2 wrong letters each", "not chosen for the harm they do", "random edits, 2 edits, constraint no-increase, seed 3"}},
		{"an own typo each", &leafserve.Attack{Method: "charmer", Edits: 1, Rho: 20, Against: "robust"}, true,
			[]string{"so they did not read the same text", "Charmer, 1 edit, ρ = 20, each encoder its own worst typo"}},
		{"a new method", &leafserve.Attack{Method: "magic", Edits: 1}, false, []string{"magic, 1 edit"}},
		{"not told", nil, false, []string{"leaf"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := twelve(t)
			s.data.Request.Attack, s.data.Request.AttackedPerArm = tc.attack, tc.perArm
			text := textOf(parse(t, s.write()))
			for _, want := range tc.says {
				if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
					t.Errorf("%q is missing", want)
				}
			}
		})
	}
}

func TestWriteSeeds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		seed  *uint64
		seeds []uint64
		want  string
	}{
		{"one", new(uint64(1<<64 - 1)), nil, "seed 18446744073709551615 and one more for each further prompt"},
		{"many", nil, []uint64{1, 2, 3}, "a seed for each prompt"},
		{"list of one", nil, []uint64{9}, "seed 9, "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := twelve(t)
			s.data.Request.Seed, s.data.Request.Seeds = tc.seed, tc.seeds
			if text := textOf(parse(t, s.write())); !strings.Contains(text, tc.want) {
				t.Errorf("%q is missing", tc.want)
			}
		})
	}
}

// TestWriteKeepsSecrets: where an answer goes is nobody's business.
func TestWriteKeepsSecrets(t *testing.T) {
	s := single(t)
	s.data.Request.WebhookURL = "https://example.org/hook?token=secret"
	if strings.Contains(s.write(), "secret") {
		t.Error("the report shows the webhook's address")
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*report.Data)
		want   string
	}{
		{"no cases", func(d *report.Data) { d.Cases = nil }, "at least one case"},
		{"one arm", func(d *report.Data) { d.Request.Arms = d.Request.Arms[:1] }, "names 1"},
		{"picture that could run", func(d *report.Data) { d.Pictures["a"] = report.Picture{Type: "image/svg+xml"} }, `is "image/svg+xml"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := single(t)
			tc.change(&s.data)
			err := report.Write(io.Discard, s.data)
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Errorf("Write = %v, want an Invalid error with %q", err, tc.want)
			}
		})
	}
	t.Run("full disk", func(t *testing.T) {
		full := errors.New("no space left")
		if err := report.Write(failing{full}, single(t).data); !errors.Is(err, full) {
			t.Errorf("Write = %v, want the writer's error", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestWriteLittle: a report of next to nothing is a report.
func TestWriteLittle(t *testing.T) {
	for n := 1; n <= 2; n++ {
		d := report.Data{Request: leafserve.Request{Arms: []string{"a", "b"}}, Cases: make([]leafserve.Case, n)}
		var out strings.Builder
		if err := report.Write(&out, d); err != nil {
			t.Fatal(err)
		}
		checkNesting(t, out.String())
		if text := textOf(parse(t, out.String())); !strings.Contains(text, "Nothing was measured") && !strings.Contains(text, "nothing to compare") {
			t.Errorf("%d empty cases: no word that nothing was measured:\n%s", n, text)
		}
	}
}

// FuzzWrite: whatever a prompt and its typo hold, it stays text.
func FuzzWrite(f *testing.F) {
	f.Add("a cat", "t", "q", "cat</w>", "robust")
	f.Add("</style><script>alert(1)</script>", "\"", "'>", "<b>", "<i>")
	f.Add("{{.Data}} javascript:alert(1) \u202e rtl", "\x00", "\xff", "Ġ", "a b")
	f.Add("חתול", " ", "\n\n", "", "")
	f.Fuzz(func(t *testing.T, prompt, gone, came, piece, arm string) {
		s := newSample(t)
		s.data.Request.Arms = []string{"standard", arm}
		for range 2 {
			c := s.add("x", 0.5, 0.9)
			c.Prompt, c.Attack.Prompt = prompt+gone, prompt+came
			c.Attack.Diff = []leafserve.DiffPart{{T: "same", S: prompt}, {T: "del", S: gone}, {T: "ins", S: came}}
			c.Attack.Tokens.Attacked = []leafserve.Token{{Piece: piece}}
		}
		text := s.write()
		checkNesting(t, text)
		checkSafe(t, parse(t, text))
	})
}
