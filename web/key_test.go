package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"leafserve/internal/leaftest/browser"
)

// rightKey is what a server with keys takes.
const rightKey = "ls_right"

// TestKey drives the page of a server that wants an API key.
func TestKey(t *testing.T) {
	chromium := browser.Start(t)
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *server, *page)
	}{
		{"asked for once", keyAskedOnce},
		{"not now", keyNotNow},
		{"replaced while the page is open", keyReplaced},
		{"forgotten", keyForgotten},
		{"accessible", keyAccessible},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			s.wants.Store(new(rightKey))
			p := &page{browser.Visit(t, chromium, s.url(), "", clock)}
			p.Wait(`keybox.open`)
			tc.run(t, s, p)
		})
	}
}

// giveKey types a key into the dialog.
func (p *page) giveKey(key string) {
	p.T.Helper()
	p.Fill("apikey", key)
	p.Press(kb.Enter)
}

// enter opens the page with the right key.
func (p *page) enter() {
	p.T.Helper()
	p.giveKey(rightKey)
	p.Wait(`!keybox.open && document.querySelector('#model').value`)
}

// keyAskedOnce: one dialog for all that waits; a wrong key is said to be wrong; a
// right one goes with every request, also after a reload.
func keyAskedOnce(t *testing.T, s *server, p *page) {
	p.WaitText("#keybox-why", "wants an API key")
	browser.Is(p.Page, `document.activeElement.id`, "apikey")
	browser.Is(p.Page, `apikey.hasAttribute('aria-invalid')`, false)
	p.giveKey("ls_wrong")
	p.WaitText("#keybox-why", "nobody has this API key")
	p.Wait(`keybox.open && apikey.value === ''`)
	browser.Is(p.Page, `apikey.getAttribute('aria-invalid')`, "true")
	p.enter()
	j := start(s, p, "an owl")
	j.run()
	j.succeed()
	p.WaitText(".facts", "Seed")
	if got := j.header.Get("Authorization"); got != "Bearer "+rightKey {
		t.Errorf("Authorization = %q", got)
	}
	p.reload()
	browser.Is(p.Page, `keybox.open`, false)
}

// keyNotNow: whoever has no key sees why nothing moves, and is asked again.
func keyNotNow(_ *testing.T, _ *server, p *page) {
	p.Press(kb.Escape)
	p.WaitText("#conn", "wants an API key")
	browser.Is(p.Page, `keybox.open`, false)
	p.Click("Try now")
	p.Wait(`keybox.open`)
	p.Click("Not now")
	p.WaitText("#conn-left", "Next try in 2 s")
	p.Click("Try now")
	p.Wait(`keybox.open`)
	p.enter()
}

// keyReplaced: a key that is revoked while the page is open is asked for again,
// and what waited for it goes on.
func keyReplaced(t *testing.T, s *server, p *page) {
	p.enter()
	s.wants.Store(new("ls_new"))
	p.Fill("prompt", "an owl")
	p.Click("Make picture")
	p.WaitText("#keybox-why", "nobody has this API key")
	p.giveKey("ls_new")
	j := shown(s, p)
	if got := j.header.Get("Authorization"); got != "Bearer ls_new" {
		t.Errorf("Authorization = %q", got)
	}
	if command := browser.Eval[string](p.Page, `import('/settings.js').then(m => m.curl({ kind: 'generate', request: { prompt: 'an owl' } }))`); !strings.Contains(command, `"Authorization: Bearer $LEAFSERVE_KEY"`) || strings.Contains(command, "ls_new") {
		t.Errorf("the command to copy is %s, want it without the key itself", command)
	}
}

func keyForgotten(_ *testing.T, _ *server, p *page) {
	browser.Is(p.Page, `forget.hidden`, true)
	p.enter()
	p.Click("Forget the API key")
	p.WaitText("#toast", "Key forgotten")
	browser.Is(p.Page, `localStorage.getItem('key')`, "")
	browser.Is(p.Page, `forget.hidden`, true)
	p.Fill("prompt", "an owl")
	p.Click("Make picture")
	p.WaitText("#keybox-why", "wants an API key")
}

func keyAccessible(t *testing.T, s *server, p *page) {
	clean := axe(p, browser.AxeSource(t))
	clean("key")
	p.giveKey("ls_wrong")
	p.WaitText("#keybox-why", "nobody has")
	clean("key wrong")
	p.enter()
	s.refuse(refusal{status: http.StatusTooManyRequests, message: "Your key may send 3 jobs a minute.", retryAfter: 20})
	p.Fill("prompt", "an owl")
	p.Click("Make picture")
	p.WaitText("#problem", "Your key may send 3 jobs a minute. Trying again in 20 s")
	clean("key limited")
}
