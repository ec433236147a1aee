package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"leafserve"
	"leafserve/internal/leaftest/browser"
)

// TestLink opens links after the server has forgotten what they show: what is
// made again must be the same, also of what other programs asked for.
func TestLink(t *testing.T) {
	runAll(t, []scenario{
		{"comparison of another program", "", linkComparison},
		{"pictures of another program", "", linkPictures},
		{"more than a link holds", "", linkTooLong},
		{"broken", "", linkBroken},
		{"keys that a link may not set", `#p=a+crab&seed=7&job=expired&r={"prompt":"a whale","webhook_url":"http://x","priority":3,"eta":0.5}`, linkForbidden},
		{"without a seed", "#p=a+crab&job=expired", linkWithoutSeed},
		{"without a seed of the typo", "#p=a+crab&seed=7&verb=break&job=expired", linkWithoutSeed},
		{"unknown method", "#p=a+crab&seed=7&method=constructor&verb=break&job=expired", linkUnknownMethod},
	})
}

// ask asks for a job as another program does.
func (s *server) ask(kind, body string) *job {
	s.t.Helper()
	r, err := http.Post(s.url()+"/"+kind, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(r.Body)
		s.t.Fatalf("POST /%s of %s = %s: %s", kind, body, r.Status, text)
	}
	return s.next()
}

// goTo follows a link within the page.
func (p *page) goTo(fragment string) {
	p.T.Helper()
	browser.Eval[bool](p.Page, fmt.Sprintf(`(location.hash = %q, true)`, fragment))
}

// copiedLink gives the fragment that "Copy link" copies of the job on show.
func (p *page) copiedLink() string {
	p.T.Helper()
	browser.Eval[bool](p.Page, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.Click("Copy link")
	link := browser.Eval[string](p.Page, `document.querySelector('#copybox-text').value`)
	return link[strings.Index(link, "#"):]
}

// sameAgain checks that a link makes j's request again when the server has
// forgotten j, in a tab that was open already and after a reload.
func sameAgain(t *testing.T, s *server, p *page, j *job, link string) {
	t.Helper()
	s.forget()
	other := openPage(t, p.Ctx, s, "")
	other.goTo(link)
	other.WaitText("#result", "making it again gives the same. Some of them have no field above; “Make it again” uses all.")
	other.Shot(*shots, "expired-full")
	other.reload()
	other.WaitText("#result", "This result is no longer kept")
	other.Click("Make it again")
	again := s.next()
	a, b := j.Request, again.Request
	a.Previews, b.Previews = 0, 0
	if again.Kind != j.Kind || !reflect.DeepEqual(a, b) {
		t.Errorf("%s made %s %+v attack %+v, want %s %+v attack %+v", link, again.Kind, b, b.Attack, j.Kind, a, a.Attack)
	}
}

func linkComparison(t *testing.T, s *server, p *page) {
	j := s.ask("compare", `{"prompt": "a 3d owl on orange owl", "scheduler": "ddim", "sigmas": "karras", "rng": "philox", "clip_skip": 2, "eta": 0.25,
		"seed": 18446744073709551615, "arms": ["robust", "standard"], "attacked_per_arm": true,
		"attack": {"method": "charmer", "rho": 7, "objective": "hidden", "constraint": "none", "against": "robust", "seed": 18446744073709551614}}`)
	p.goTo("#job=" + j.ID)
	p.WaitText(".progress", "Waiting")
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	sameAgain(t, s, p, j, p.copiedLink())
}

func linkPictures(t *testing.T, s *server, p *page) {
	j := s.ask("generate", `{"prompt": "a crab", "negative_prompt": " legs ", "seeds": [3, 18446744073709551615], "scheduler": "ddim", "rng": "philox",
		"scheduler_config": {"beta_end": 0.02}, "guidance_rescale": 0.5, "output_format": "jpeg", "response": "b64_json"}`)
	j.Request.Response = "url" // where the picture goes is not the link's to say
	p.goTo("#job=" + j.ID)
	p.WaitText(".progress", "Waiting")
	j.succeed()
	p.WaitText(".facts", "Seed")
	sameAgain(t, s, p, j, p.copiedLink())
}

func linkTooLong(t *testing.T, s *server, p *page) {
	j := s.ask("generate", `{"prompt": "a crab", "scheduler_config": {"note": "`+strings.Repeat("x", 2000)+`"}}`)
	p.goTo("#job=" + j.ID)
	p.WaitText(".progress", "Waiting")
	j.succeed()
	p.WaitText(".facts", "Seed")
	if link := p.copiedLink(); link != "#job=j1" {
		t.Errorf("link = %s, want one that only shows the job", link)
	}
}

func linkBroken(t *testing.T, s *server, p *page) {
	for i, r := range []string{`{"eta":0.`, `[1]`, `7`, `null`, ``, `{"eta":0.5,"x":"` + strings.Repeat("x", 2000) + `"}`} {
		p.goTo(fmt.Sprintf("#p=crab+%d&seed=7&job=expired&r=%s", i, url.QueryEscape(r)))
		p.WaitText("#result", "A part of the link is broken and was left out: what is made again may differ.")
		p.Click("Make it again")
		if got := s.next().Request; got.Prompt != fmt.Sprintf("crab %d", i) || *got.Seed != 7 || *got.Eta != 0 {
			t.Errorf("r=%.20s: request = %+v, want that of the link without its broken part", r, got)
		}
		s.nextListen()
	}
}

func linkForbidden(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "This result is no longer kept")
	p.Click("Make it again")
	if r := s.next().Request; r.Prompt != "a crab" || r.WebhookURL != "" || r.Priority != 0 || *r.Eta != 0.5 {
		t.Errorf("request = %+v, want the prompt on show, η 0.5 and nothing else of the link", r)
	}
}

func linkWithoutSeed(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "The link holds no seed, so making it again gives another result.")
	p.Click("Make it again")
	if r := s.next().Request; r.Prompt != "a crab" {
		t.Errorf("prompt = %q, want a crab", r.Prompt)
	}
}

func linkUnknownMethod(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "This result is no longer kept")
	p.Click("Make it again")
	if a := s.next().Request.Attack; a.Method != "leaf" {
		t.Errorf("method = %q, want leaf", a.Method)
	}
}

func impossibleTypo(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.choose("method", "keyboard")
	j := startBreak(s, p, "123")
	j.run()
	none := leafserve.AttackResult{Method: "keyboard", Prompt: "123", Edits: []leafserve.Edit{}, Diff: []leafserve.DiffPart{{T: "same", S: "123"}}, Drift: map[string]leafserve.Drift{}}
	j.found(none)
	p.WaitText(".edit .note", "No typo of this kind is possible here: the prompt has no letter for it. The pictures are of the prompt as it is.")
	browser.Is(p.Page, `live.textContent`, "No typo is possible here.")
}

func cutComparison(t *testing.T, s *server, p *page) {
	clean, typo := []rune(strings.Repeat("w", 77)), []rune(strings.Repeat("w", 76)+"x")
	j := startBreak(s, p, string(clean))
	a := owl()
	a.Prompt, a.Tokens = string(typo), leafserve.TokenPair{Clean: runeTokens(clean), Attacked: runeTokens(typo)}
	j.compared(a, [2]float64{0.3, 0.9}, robustHeld, true)
	p.WaitText(".panel .warn", "Prompt cut at 77 tokens, start and end mark included: what comes after was not read.")
	browser.Is(p.Page, `document.querySelectorAll('.panel s.chip').length`, 4) // two of the clean prompt, two of the typo
	p.Shot(*shots, "typo-cut")
}
