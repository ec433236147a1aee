package web_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// axeSource gives axe-core's script, which the environment variable
// LEAFSERVE_AXE names: axe.min.js of the npm package axe-core.
func axeSource(t *testing.T) string {
	t.Helper()
	path := os.Getenv("LEAFSERVE_AXE")
	if path == "" && os.Getenv("CI") == "true" {
		t.Fatal("LEAFSERVE_AXE is not set: install npm's axe-core and give the path of its axe.min.js")
	} else if path == "" {
		t.Skip("LEAFSERVE_AXE is not set, so accessibility was not tested: npm install axe-core, then give the path of its axe.min.js")
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// TestAccessible runs axe-core, all rules for WCAG 2.2 AA and best practice,
// in every state of the page and in both themes.
func TestAccessible(t *testing.T) {
	source := axeSource(t)
	s := newServer(t)
	p := openPage(t, startBrowser(t), s, "")
	eval[bool](p, source+"; true")
	clean := func(state string) {
		t.Helper()
		for _, theme := range []string{"light", "dark"} {
			t.Run(state+" "+theme, func(t *testing.T) {
				for _, v := range p.violations(theme) {
					t.Error(v)
				}
				p.shot(strings.ReplaceAll(state, " ", "-") + "-" + theme)
			})
		}
	}

	clean("empty")
	s.refuse(refusal{status: http.StatusBadRequest, message: "steps is 0, want a whole number from 1 to 1000", param: "steps"})
	p.fill("prompt", "a 3d rockett")
	p.click("Make picture")
	p.waitText("#problem", "steps is 0")
	clean("refused")

	s.ahead = 3
	j := start(s, p, "a 3d rockett")
	p.waitText(".progress", "Waiting")
	clean("queued")
	j.run()
	j.step(10, 2000)
	j.preview()
	p.waitText(".progress", "Step 10")
	clean("running")
	s.stop()
	p.waitText("#conn", "No connection")
	clean("lost")
	s.start()
	p.click("Try now")
	p.waitText("#conn", "Connected again")
	clean("connected")
	j.succeed()
	p.waitText(".facts", "Seed")
	clean("done")
	eval[bool](p, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.click("Copy link")
	clean("copy box")
	p.click("Close")

	s.refuse(refusal{status: http.StatusTooManyRequests, message: "64 jobs are waiting.", retryAfter: 60})
	p.fill("prompt", strings.Repeat("long ", 300))
	p.click("Make picture")
	p.waitText("#problem", "The queue is full")
	clean("full")
	p.click("Try now")
	j = s.next()
	p.wait(`document.querySelector('.progress').checkVisibility()`)
	p.click("Cancel")
	p.waitText("#result", "Cancelled")
	clean("canceled")
	j = start(s, p, "a crab")
	j.fail("The model ran out of memory.")
	p.waitText("#result", "out of memory")
	clean("failed")
	eval[bool](p, `(location.hash = '#p=a+crab&job=expired', true)`)
	p.waitText("#result", "no longer kept")
	clean("expired")
	eval[bool](p, `(location.hash = '#p=a+crab&n=3', true)`)
	p.waitText("#recap", "3 pictures")
	j = start(s, p, "three crabs "+strings.Repeat("very ", 100))
	j.succeed()
	p.waitText(".facts", "Seed")
	clean("several pictures")
}

// violations gives what axe finds in the page, one text a rule.
func (p *page) violations(theme string) []string {
	p.t.Helper()
	return eval[[]string](p, fmt.Sprintf(`(async () => {
		document.documentElement.dataset.theme = %q;
		const found = await realTime(() => axe.run({ resultTypes: ['violations'] }));
		return found.violations.map(v => v.id + ': ' + v.help + '\n' + v.nodes.map(n => n.html + '\n' + n.failureSummary).join('\n'));
	})()`, theme))
}
