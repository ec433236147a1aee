// Package browser drives the web page in Chromium for tests: Start a browser,
// Open a page, and act on it as a person does. What must not happen on any page
// fails the test by itself.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience bounds every wait; a test that passes never spends it.
const Patience = 20 * time.Second

// Start starts Chromium with a fresh profile; it ends with the test. Where
// chromium is not installed the test is skipped, or fails when the environment
// says CI=true.
func Start(t testing.TB) context.Context {
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

// Page is one tab with its own cookies and storage. A console error, an
// uncaught exception, a breach of the policy or a request to another site
// fails its test.
type Page struct {
	T    testing.TB
	Ctx  context.Context // of chromedp
	Site string          // http://host:port
}

// Open opens site/fragment in a new tab of a browser and returns when the page
// knows the models. The scripts run before those of the page.
func Open(t testing.TB, browser context.Context, site, fragment string, scripts ...string) *Page {
	t.Helper()
	p := Visit(t, browser, site, fragment, scripts...)
	p.Wait(`document.querySelector('#model').value`)
	return p
}

// Visit opens any page, site/path, in a new tab and returns when it is loaded.
func Visit(t testing.TB, browser context.Context, site, path string, scripts ...string) *Page {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(stop)
	p := &Page{t, ctx, site}
	p.watch()
	for _, s := range scripts {
		if _, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: s}); err != nil {
			t.Fatal(err)
		}
	}
	p.Do(chromedp.Navigate(p.Site + "/" + path))
	return p
}

// watch collects what must not happen and reports it when the test ends.
func (p *Page) watch() {
	var mu sync.Mutex
	var faults []string
	err := chromedp.Listen(p.Ctx, func(ev any) {
		if fault := p.fault(ev); fault != "" {
			mu.Lock()
			defer mu.Unlock()
			faults = append(faults, fault)
		}
	})
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range faults {
			p.T.Error(f)
		}
	})
}

func (p *Page) fault(ev any) string {
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
		if u := ev.Request.URL; !strings.HasPrefix(u, p.Site+"/") && !strings.HasPrefix(u, "data:") {
			return "request to another site: " + u
		}
	}
	return ""
}

// Do runs actions one after the other.
func (p *Page) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.T.Helper()
	ctx, stop := context.WithTimeout(p.Ctx, Patience)
	defer stop()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.T.Fatal(err)
	}
}

// Eval gives the value of an expression in the page.
func Eval[V any](p *Page, js string) V {
	p.T.Helper()
	ctx, stop := context.WithTimeout(p.Ctx, Patience)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[V](js, chromedp.EvalAwaitPromise))
	if err != nil {
		p.T.Fatalf("%s: %v", js, err)
	}
	return v
}

// Is checks an expression that is settled already.
func Is[V comparable](p *Page, js string, want V) {
	p.T.Helper()
	if got := Eval[V](p, js); got != want {
		p.T.Errorf("%s = %v, want %v", js, got, want)
	}
}

// Wait returns when the expression is true in the page.
func (p *Page) Wait(js string) {
	p.T.Helper()
	ctx, stop := context.WithTimeout(p.Ctx, Patience)
	defer stop()
	if _, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void]("!!("+js+")", chromedp.WithPollingTimeout(0))); err != nil {
		p.T.Fatalf("waiting for %s: %v\nthe page says:\n%s", js, err, Eval[string](p, `document.body.innerText`))
	}
}

// WaitText returns when the first element that sel names shows text.
func (p *Page) WaitText(sel, text string) {
	p.T.Helper()
	p.Wait(fmt.Sprintf(`document.querySelector(%q)?.innerText.includes(%s)`, sel, Quote(text)))
}

// Fill replaces what is in a field, as typing does.
func (p *Page) Fill(id, text string) {
	p.T.Helper()
	Eval[bool](p, fmt.Sprintf(`(e => (e.focus(), e.select(), true))(document.getElementById(%q))`, id))
	if _, err := chromedp.Call(p.Ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.T.Fatal(err)
	}
}

// Click clicks the first visible button or link with this text.
func (p *Page) Click(text string) {
	p.T.Helper()
	p.Wait(fmt.Sprintf(`window.hit = [...document.querySelectorAll('button, a')].find(e => e.innerText.trim() === %s && e.checkVisibility())`, Quote(text)))
	at := Eval[[2]float64](p, `(hit.scrollIntoView({ block: 'nearest' }), (r => [r.x + r.width / 2, r.y + r.height / 2])(hit.getBoundingClientRect()))`)
	p.Do(chromedp.MouseClickXY(at[0], at[1]))
}

// Press presses a key, with modifiers held.
func (p *Page) Press(key string, modifiers ...chromedp.Modifier) {
	p.T.Helper()
	p.Do(chromedp.KeyEvent(key, chromedp.KeyModifiers(modifiers...)))
}

// Quote writes s as a JavaScript string.
func Quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Shot leaves a picture of the whole page in a folder; none if that is "".
func (p *Page) Shot(folder, name string) {
	p.T.Helper()
	if folder == "" {
		return
	}
	png, err := chromedp.Run(p.Ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644)
	}
	if err != nil {
		p.T.Fatal(err)
	}
}

// AxeSource gives axe-core's script, which the environment variable
// LEAFSERVE_AXE names: axe.min.js of the npm package axe-core. Without it the
// test is skipped, or fails when the environment says CI=true.
func AxeSource(t testing.TB) string {
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
