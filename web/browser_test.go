package web_test

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"leafserve/internal/leaftest/browser"
)

var shots = flag.String("shots", "", "folder to leave pictures of the page in")

// clock stops the page's time. advance(ms) lets it pass; realTime(f) runs f,
// which may be asynchronous, with the browser's own timers.
const clock = `(() => {
	const real = { setTimeout, clearTimeout };
	let now = Date.now(), id = 0;
	const due = new Map();
	window.setTimeout = (f, ms = 0, ...args) => (due.set(++id, { at: now + ms, f: () => f(...args) }), id);
	window.setInterval = (f, every, ...args) => (due.set(++id, { at: now + every, every, f: () => f(...args) }), id);
	window.clearTimeout = window.clearInterval = id => due.delete(id);
	Date.now = () => now;
	window.advance = ms => {
		const end = now + ms, next = () => [...due].filter(([, d]) => d.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
		for (let d; (d = next());) {
			now = d[1].at;
			if (d[1].every) d[1].at += d[1].every; else due.delete(d[0]);
			d[1].f();
		}
		now = end;
	};
	window.realTime = async f => {
		const stopped = { setTimeout, clearTimeout };
		Object.assign(window, real);
		try { return await f(); } finally { Object.assign(window, stopped); }
	};
})()`

// page is a tab whose time stands still until advance.
type page struct{ *browser.Page }

func openPage(t *testing.T, b context.Context, s *server, fragment string) *page {
	t.Helper()
	return &page{browser.Open(t, b, s.url(), fragment, clock)}
}

// typeKey sends a key the way a keyboard does: its text comes only when the
// page lets the key pass.
func (p *page) typeKey(key string) {
	p.T.Helper()
	if _, err := chromedp.Call(p.Ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "keyDown", Key: key, Text: key}); err != nil {
		p.T.Fatal(err)
	}
}

// advance lets time pass in the page.
func (p *page) advance(ms int) {
	p.T.Helper()
	browser.Eval[bool](p.Page, fmt.Sprintf(`(advance(%d), true)`, ms))
}

func (p *page) reload() {
	p.T.Helper()
	p.Do(chromedp.Reload())
	p.Wait(`document.querySelector('#model').value`)
}

// choose picks an option as a person does with the arrow keys.
func (p *page) choose(id, value string) {
	p.T.Helper()
	p.Do(chromedp.Focus(chromedp.ID(id)))
	down := browser.Eval[int](p.Page, fmt.Sprintf(`[...document.getElementById(%[1]q).options].findIndex(o => o.value === %[2]q) - document.getElementById(%[1]q).selectedIndex`, id, value))
	for ; down > 0; down-- {
		p.Press(kb.ArrowDown)
	}
	for ; down < 0; down++ {
		p.Press(kb.ArrowUp)
	}
	browser.Is(p.Page, fmt.Sprintf(`document.getElementById(%q).value`, id), value)
}

// fits checks that nothing is wider than a phone of 320 pixels and no target
// lower than 44.
func (p *page) fits(state string) {
	p.T.Helper()
	if wide := browser.Eval[string](p.Page, `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 320 && !e.closest('.strip, .vh')).map(e => e.outerHTML.slice(0, 80)).join('\n')`); wide != "" {
		p.T.Errorf("%s: wider than 320 pixels:\n%s", state, wide)
	}
	if low := browser.Eval[string](p.Page, `[...document.querySelectorAll('button, a[href], input, select, summary')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 44).map(e => e.outerHTML.slice(0, 80)).join('\n')`); low != "" {
		p.T.Errorf("%s: targets lower than 44 pixels:\n%s", state, low)
	}
	p.Shot(*shots, "phone-"+state)
}
