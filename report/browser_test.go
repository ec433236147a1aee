package report_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"leafserve/internal/leaftest/browser"
)

var shots = flag.String("shots", "", "folder to leave pictures of the reports in")

// open shows a report in a new tab, served under the policy that the server
// sets too.
func open(t *testing.T, chromium context.Context, text string) *browser.Page {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, text)
	}))
	t.Cleanup(site.Close)
	return browser.Visit(t, chromium, site.URL, "")
}

// emulate chooses the medium and the colours that the reader prefers.
func emulate(p *browser.Page, medium, theme string) {
	p.T.Helper()
	params := emulation.SetEmulatedMediaParams{Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}
	if _, err := chromedp.Call(p.Ctx, emulation.SetEmulatedMedia, params); err != nil {
		p.T.Fatal(err)
	}
}

// tooWide lists what reaches over the right edge of the window and is no part
// of something that scrolls or is cut by itself. Spaces at the end of a line of
// a prompt may hang over.
const tooWide = `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + .5 && !e.closest('.scroll, pre, .vh, .label, .diff')).map(e => e.outerHTML.slice(0, 80)).join('\n')`

// TestFits: no report needs scrolling sideways on a phone of 320 pixels, or
// with four arms on a small screen.
func TestFits(t *testing.T) {
	chromium := browser.Start(t)
	for _, tc := range samples {
		if tc.name == "many" {
			continue // as twelve
		}
		t.Run(tc.name, func(t *testing.T) {
			p := open(t, chromium, tc.make(t).write())
			for _, width := range []int64{1280, 700, 320} {
				p.Do(chromedp.EmulateViewport(width, 800))
				if found := browser.Eval[string](p, tooWide); found != "" {
					t.Errorf("wider than %d pixels:\n%s", width, found)
				}
				browser.Is(p, `document.documentElement.scrollWidth <= innerWidth`, true)
				p.Shot(*shots, fmt.Sprintf("%s-%d", tc.name, width))
			}
		})
	}
}

// TestPictures: pixels of small pictures are shown as squares, at a whole
// multiple, and all pictures load.
func TestPictures(t *testing.T) {
	p := open(t, browser.Start(t), twelve(t).write())
	p.Do(chromedp.EmulateViewport(1280, 800))
	browser.Is(p, `[...document.images].every(i => i.complete && i.naturalWidth === 64)`, true)
	browser.Is(p, `document.querySelector('.case img').getBoundingClientRect().width`, 128)
	browser.Is(p, `getComputedStyle(document.querySelector('.case img')).imageRendering`, "pixelated")
	browser.Is(p, `document.images.length`, 4*12+4)
}

// TestFilter clicks through the groups: only their cases stay.
func TestFilter(t *testing.T) {
	p := open(t, browser.Start(t), odd(t).write())
	visible := `[...document.querySelectorAll('.case')].filter(c => c.checkVisibility()).map(c => c.id).join(' ')`
	for _, tc := range []struct{ group, want string }{
		{"f-lost", "case-1 case-2"}, {"f-both", "case-5 case-6"}, {"f-won", "case-3 case-4"}, {"f-none", "case-7"}, {"f-open", "case-8"},
		{"f-all", "case-1 case-2 case-3 case-4 case-5 case-6 case-7 case-8"},
	} {
		p.Do(chromedp.Click(chromedp.CSS("label:has(#" + tc.group + ")")))
		if got := browser.Eval[string](p, visible); got != tc.want {
			t.Errorf("%s shows %s, want %s", tc.group, got, tc.want)
		}
	}
}

// TestRowsLead: a row of the plot leads to its case, which shows it.
func TestRowsLead(t *testing.T) {
	p := open(t, browser.Start(t), twelve(t).write())
	p.Do(chromedp.Click(chromedp.CSS(".rows li:nth-child(9) a")))
	browser.Is(p, `location.hash`, "#case-9")
	browser.Is(p, `document.querySelector(':target h3').innerText.includes('strawberr')`, true)
	browser.Is(p, `document.querySelector(':target').getBoundingClientRect().top < innerHeight`, true)
}

// TestTextStaysText: what a prompt holds is shown, not run; a prompt from right
// to left reads so.
func TestTextStaysText(t *testing.T) {
	p := open(t, browser.Start(t), odd(t).write())
	browser.Is(p, `document.body.innerText.includes('<img src=x onerror=alert(1)>')`, true)
	browser.Is(p, `[...document.images].every(i => i.src.startsWith('data:image/png;base64,'))`, true)
	browser.Is(p, `getComputedStyle([...document.querySelectorAll('h3 bdi')].find(b => b.innerText.includes('חתול'))).direction`, "rtl")
	browser.Is(p, `getComputedStyle([...document.querySelectorAll('h3 bdi')].find(b => b.innerText.includes('very'))).direction`, "ltr")
}

// TestPrint: on paper it is black on white in both themes, filters are gone and
// what they hid is back.
func TestPrint(t *testing.T) {
	p := open(t, browser.Start(t), twelve(t).write())
	p.Do(chromedp.Click(chromedp.CSS("label:has(#f-both)")))
	emulate(p, "print", "dark")
	browser.Is(p, `getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color`, "rgb(255, 255, 255)rgb(22, 26, 23)")
	browser.Is(p, `document.querySelector('.filter').checkVisibility() || document.querySelector('details').checkVisibility()`, false)
	browser.Is(p, `[...document.querySelectorAll('.case')].every(c => c.checkVisibility() && getComputedStyle(c).breakInside === 'avoid')`, true)
	p.Do(chromedp.EmulateViewport(718, 1000)) // A4 without its margins
	if found := browser.Eval[string](p, tooWide+`+ [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 8).map(e => e.ariaLabel).join()`); found != "" {
		t.Errorf("wider than the paper:\n%s", found)
	}
	p.Shot(*shots, "print")
}

// TestAccessible runs axe-core, all rules for WCAG 2.2 AA and best practice,
// over every report in both themes. The environment variable LEAFSERVE_AXE
// names its script: axe.min.js of the npm package axe-core.
func TestAccessible(t *testing.T) {
	source := browser.AxeSource(t)
	chromium := browser.Start(t)
	for _, tc := range samples {
		if tc.name == "many" {
			continue // as twelve
		}
		t.Run(tc.name, func(t *testing.T) {
			p := open(t, chromium, tc.make(t).write())
			browser.Eval[bool](p, source+"; true")
			for _, theme := range []string{"light", "dark"} {
				emulate(p, "screen", theme)
				found := browser.Eval[[]string](p, `axe.run({ resultTypes: ['violations'] }).then(found => found.violations.map(v => v.id + ': ' + v.help + '\n' + v.nodes.map(n => n.html + '\n' + n.failureSummary).join('\n')))`)
				if len(found) > 0 {
					t.Errorf("%s: %s", theme, strings.Join(found, "\n"))
				}
				p.Shot(*shots, tc.name+"-"+theme)
			}
		})
	}
}
