package web_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "folder to leave pictures of the page in")

// startBrowser starts Chromium with a fresh profile; it ends with the test.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("no chromium in PATH: install it (apt-get install chromium), the page must be tested in a browser")
	} else if err != nil {
		t.Skip("no chromium in PATH, so the page was not tested: apt-get install chromium")
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WindowSize(1000, 900)}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"} {
		opts = append(opts, chromedp.Flag(name, true))
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	return ctx
}

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

// page is one tab with its own cookies and storage. A console error, an
// uncaught exception, a breach of the policy or a request to another site
// fails its test.
type page struct {
	t    *testing.T
	ctx  context.Context
	site string
}

func openPage(t *testing.T, browser context.Context, s *server, fragment string) *page {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	p := &page{t, ctx, s.url()}
	p.watch()
	if _, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: clock}); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(p.site + "/" + fragment))
	p.wait(`document.querySelector('#model').value`)
	return p
}

// watch collects what must not happen and reports it when the test ends.
func (p *page) watch() {
	var mu sync.Mutex
	var faults []string
	err := chromedp.Listen(p.ctx, func(ev any) {
		if fault := p.fault(ev); fault != "" {
			mu.Lock()
			defer mu.Unlock()
			faults = append(faults, fault)
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range faults {
			p.t.Error(f)
		}
	})
}

func (p *page) fault(ev any) string {
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b, _ := json.Marshal(ev.ExceptionDetails)
		return fmt.Sprintf("uncaught exception: %s", b)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == "error" {
			b, _ := json.Marshal(ev.Args)
			return fmt.Sprintf("console.error: %s", b)
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == "error" && ev.Entry.Source != "network" { // refusals of the server are part of the tests
			return "console: " + ev.Entry.Text
		}
	case *network.EventRequestWillBeSent:
		if u := ev.Request.URL; !strings.HasPrefix(u, p.site+"/") && !strings.HasPrefix(u, "data:") {
			return "request to another site: " + u
		}
	}
	return ""
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval gives the value of an expression in the page.
func eval[T any](p *page, js string) T {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// wait returns when the expression is true in the page.
func (p *page) wait(js string) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void]("!!("+js+")", chromedp.WithPollingTimeout(0))); err != nil {
		p.t.Fatalf("waiting for %s: %v\nthe page says:\n%s", js, err, eval[string](p, `document.body.innerText`))
	}
}

// waitText returns when the first element that sel names shows text.
func (p *page) waitText(sel, text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%s)`, sel, quote(text)))
}

// fill replaces what is in a field, as typing does.
func (p *page) fill(id, text string) {
	p.t.Helper()
	eval[bool](p, fmt.Sprintf(`(e => (e.focus(), e.select(), true))(document.getElementById(%q))`, id))
	if _, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.t.Fatal(err)
	}
}

// click clicks the first visible button or link with this text.
func (p *page) click(text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`window.hit = [...document.querySelectorAll('button, a')].find(e => e.innerText.trim() === %s && e.checkVisibility())`, quote(text)))
	at := eval[[2]float64](p, `(hit.scrollIntoView({ block: 'nearest' }), (r => [r.x + r.width / 2, r.y + r.height / 2])(hit.getBoundingClientRect()))`)
	p.do(chromedp.MouseClickXY(at[0], at[1]))
}

func (p *page) press(key string, modifiers ...chromedp.Modifier) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(key, chromedp.KeyModifiers(modifiers...)))
}

// typeKey sends a key the way a keyboard does: its text comes only when the
// page lets the key pass.
func (p *page) typeKey(key string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: "keyDown", Key: key, Text: key}); err != nil {
		p.t.Fatal(err)
	}
}

// advance lets time pass in the page.
func (p *page) advance(ms int) { p.t.Helper(); eval[bool](p, fmt.Sprintf(`(advance(%d), true)`, ms)) }

func (p *page) reload() {
	p.t.Helper()
	p.do(chromedp.Reload())
	p.wait(`document.querySelector('#model').value`)
}

// is checks an expression that is settled already.
func is[T comparable](p *page, js string, want T) {
	p.t.Helper()
	if got := eval[T](p, js); got != want {
		p.t.Errorf("%s = %v, want %v", js, got, want)
	}
}

// shot leaves a picture of the whole page where -shots says.
func (p *page) shot(name string) {
	p.t.Helper()
	if *shots == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// quote writes s as a JavaScript string.
func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
