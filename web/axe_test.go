package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"leafserve"
	"leafserve/internal/leaftest/browser"
)

// TestAccessible runs axe-core, all rules for WCAG 2.2 AA and best practice,
// in every state of the page and in both themes.
func TestAccessible(t *testing.T) {
	source := browser.AxeSource(t)
	s := newServer(t)
	p := openPage(t, browser.Start(t), s, "")
	clean := axe(p, source)

	clean("empty")
	s.refuse(refusal{status: http.StatusBadRequest, message: "steps is 0, want a whole number from 1 to 1000", param: "steps"})
	p.Fill("prompt", "a 3d rockett")
	p.Click("Make picture")
	p.WaitText("#problem", "steps is 0")
	clean("refused")

	s.ahead = 3
	j := start(s, p, "a 3d rockett")
	p.WaitText(".progress", "Waiting")
	clean("queued")
	j.run()
	j.step(10, 2000)
	j.preview("")
	p.WaitText(".progress", "Step 10")
	clean("running")
	s.stop()
	p.WaitText("#conn", "No connection")
	clean("lost")
	s.start()
	p.Click("Try now")
	p.WaitText("#conn", "Connected again")
	clean("connected")
	j.succeed()
	p.WaitText(".facts", "Seed")
	clean("done")
	browser.Eval[bool](p.Page, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.Click("Copy link")
	clean("copy box")
	p.Click("Close")

	s.refuse(refusal{status: http.StatusTooManyRequests, message: "64 jobs are waiting.", retryAfter: 60})
	p.Fill("prompt", strings.Repeat("long ", 300))
	p.Click("Make picture")
	p.WaitText("#problem", "The queue is full")
	clean("full")
	p.Click("Try now")
	j = s.next()
	p.Wait(`document.querySelector('.progress').checkVisibility()`)
	p.Click("Cancel")
	p.WaitText("#result", "Cancelled")
	clean("canceled")
	j = start(s, p, "a crab")
	j.fail("The model ran out of memory.")
	p.WaitText("#result", "out of memory")
	clean("failed")
	browser.Eval[bool](p.Page, `(location.hash = '#p=a+crab&job=expired', true)`)
	p.WaitText("#result", "no longer kept")
	clean("expired")
	browser.Eval[bool](p.Page, `(location.hash = '#p=a+crab&n=3', true)`)
	p.WaitText("#recap", "3 pictures")
	j = start(s, p, "three crabs "+strings.Repeat("very ", 100))
	j.succeed()
	p.WaitText(".facts", "Seed")
	clean("several pictures")
}

// TestTypoAccessible is TestAccessible for the typo view and the gallery.
func TestTypoAccessible(t *testing.T) {
	source := browser.AxeSource(t)
	s := newServer(t)
	s.gallery.set(refusal{}, whales(5)...)
	p := openPage(t, browser.Start(t), s, "#method=manual")
	clean := axe(p, source)

	p.Fill("prompt", owlPrompt)
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("own", owlPrompt)
	p.Click("Break it")
	p.WaitText("#problem", "there is no typo")
	clean("own typo refused")
	p.choose("method", "leaf")
	clean("typo settings")
	j := startBreak(s, p, owlPrompt)
	p.WaitText(".progress", "Waiting")
	clean("typo queued")
	j.run()
	j.found(owl())
	sharpenAll(j)
	p.WaitText(".progress", "Step 10")
	clean("typo running")
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	clean("typo done")
	startBreak(s, p, owlPrompt).compared(owl(), [2]float64{0.3, 0.4}, bothBroke, true)
	p.WaitText(".verdict", "too much")
	clean("typo both broke")
	startBreak(s, p, owlPrompt).compared(owl(), [2]float64{0.9, 0.9}, bothHeld, true)
	p.WaitText(".verdict", "little")
	clean("typo both held")
	long, typo := strings.Repeat("w", 77), strings.Repeat("w", 76)+"x"
	cut := owl()
	cut.Prompt, cut.Tokens = typo, leafserve.TokenPair{Clean: runeTokens([]rune(long)), Attacked: runeTokens([]rune(typo))}
	startBreak(s, p, long).compared(cut, [2]float64{0.9, 0.9}, bothHeld, true)
	p.WaitText(".panel .warn", "Prompt cut")
	clean("typo cut")
	startBreak(s, p, owlPrompt)
	p.Click("Cancel")
	p.WaitText("#result", "Cancelled")
	clean("typo cancelled")
	browser.Eval[bool](p.Page, `(location.hash = '#model=large', true)`)
	p.WaitText("#break-note", "needs a model")
	clean("one encoder")
	browser.Eval[bool](p.Page, `(location.hash = '#view=gallery', true)`)
	p.WaitText("#gallery-note", "5 pictures")
	clean("gallery")
	browser.Eval[bool](p.Page, `(location.hash = '#view=gallery&q=nothing', true)`)
	p.WaitText("#gallery-note", "Nothing looks like")
	clean("gallery nothing")
}

// axe loads axe-core's script and gives the check of a state in both themes.
func axe(p *page, source string) (clean func(state string)) {
	browser.Eval[bool](p.Page, source+"; true")
	t := p.T.(*testing.T)
	return func(state string) {
		t.Helper()
		for _, theme := range []string{"light", "dark"} {
			t.Run(state+" "+theme, func(t *testing.T) {
				for _, v := range p.violations(theme) {
					t.Error(v)
				}
				p.Shot(*shots, strings.ReplaceAll(state, " ", "-")+"-"+theme)
			})
		}
	}
}

// violations gives what axe finds in the page, one text a rule.
func (p *page) violations(theme string) []string {
	p.T.Helper()
	return browser.Eval[[]string](p.Page, fmt.Sprintf(`(async () => {
		document.documentElement.dataset.theme = %q;
		const found = await realTime(() => axe.run({ resultTypes: ['violations'] }));
		return found.violations.map(v => v.id + ': ' + v.help + '\n' + v.nodes.map(n => n.html + '\n' + n.failureSummary).join('\n'));
	})()`, theme))
}
