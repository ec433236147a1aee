package web_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"leafserve/internal/leaftest/browser"
)

// The scenarios of TestPage in which connections, servers and pages go away
// while jobs run.

func killedServer(t *testing.T, s *server, p *page) {
	first := start(s, p, "a crab")
	second := start(s, p, "a rocket")
	second.run()
	second.step(5, 4000) // event 3
	p.WaitText(".progress", "Step 5 of 25")
	s.stop()
	p.WaitText("#conn", "No connection to the server. Your job goes on there; this page picks it up again.")
	p.WaitText(".progress", "Step 5 of 25 when the connection broke")
	p.Shot(*shots, "lost")
	p.advance(1000) // in vain
	p.WaitText("#conn", "Next try in 2 s")
	first.succeed()
	s.start()
	p.Click("Try now")
	if l := s.nextListen(); l != (listen{second.ID, "3"}) {
		t.Errorf("stream opened again = %+v, want job %s after event 3", l, second.ID)
	}
	p.WaitText("#conn", "Connected again. Nothing was lost.")
	second.step(6, 3000)
	p.WaitText(".progress", "Step 6 of 25")
	second.succeed()
	p.WaitText(".facts", "Seed")
	p.advance(4000)
	browser.Is(p.Page, `conn.hidden`, true)
	p.Wait(`document.querySelectorAll('#strip img').length === 2`) // the job that was not on show, too
}

func killedBeforeAnswer(t *testing.T, s *server, p *page) {
	s.stop()
	p.Fill("prompt", "a crab")
	p.Click("Make picture")
	p.WaitText("#conn", "No connection to the server. Your prompt is kept; this page tries again.")
	p.Press(kb.Escape)
	p.Wait(`conn.hidden`)
	p.Click("Make picture")
	p.Wait(`!conn.hidden`)
	s.start()
	p.Click("Make picture") // the same again means: try now
	if j := s.next(); j.Request.Prompt != "a crab" {
		t.Errorf("prompt = %q, want %q", j.Request.Prompt, "a crab")
	}
	if len(s.created) > 0 {
		t.Error("one prompt made two jobs")
	}
}

func answerCut(t *testing.T, s *server, p *page) {
	s.refuse(refusal{status: 0})
	p.Fill("prompt", "a crab")
	p.Click("Make picture")
	j := s.next()
	p.Wait(`location.hash.includes("job=j1") || advance(1000)`) // the browser itself may try again before the page does
	j.succeed()
	p.WaitText(".facts", "Seed")
	if len(s.created) > 0 || len(s.keys) != 2 || s.keys[0] != s.keys[1] {
		t.Errorf("Idempotency-Keys = %q, want two equal ones and no second job", s.keys)
	}
}

func forgottenJob(t *testing.T, s *server, p *page) {
	j := start(s, p, "a crab")
	s.stop()
	p.WaitText("#conn", "No connection to the server.")
	s.forget()
	s.start()
	p.Click("Try now")
	p.WaitText("#result", "This result is no longer kept")
	p.WaitText("#conn", "Connected again.")
	p.reload() // its prompt and seed are still known
	p.Click("Make it again")
	if again := s.next(); *again.Request.Seed != *j.Request.Seed {
		t.Errorf("seed = %d, want %d", *again.Request.Seed, *j.Request.Seed)
	}
}

func silentStream(t *testing.T, s *server, p *page) {
	j := start(s, p, "a crab")
	j.run()
	p.WaitText(".progress", "Reading the prompt")
	p.advance(45_000)
	p.WaitText("#conn", "No connection to the server.")
	p.advance(1000)
	if l := s.nextListen(); l != (listen{j.ID, "2"}) {
		t.Errorf("stream opened again = %+v, want job %s after event 2", l, j.ID)
	}
	j.succeed()
	p.WaitText(".facts", "Seed")
}

func reloadRunning(t *testing.T, s *server, p *page) {
	j := start(s, p, "a crab")
	j.run()
	j.step(3, 100)
	p.WaitText(".progress", "Step 3 of 25")
	p.reload()
	s.nextListen()
	browser.Is(p.Page, `document.querySelector("#prompt").value`, "a crab")
	p.WaitText(".progress", "Step 3 of 25")
	j.succeed()
	p.WaitText(".facts", "Seed")
	p.Fill("prompt", "half a pro")
	p.advance(400) // the address follows the typing
	p.reload()     // a finished job needs no question
	p.WaitText(".facts", "Seed")
	browser.Is(p.Page, `document.querySelector("#prompt").value`, "half a pro")
	if len(s.listens) > 0 {
		t.Errorf("stream opened for a finished job: %+v", <-s.listens)
	}
}

func modelsLate(t *testing.T, s *server, p *page) {
	s.hideModels.Store(true)
	p.Do(chromedp.Reload())
	p.WaitText("#conn", "The queue does not answer. Your prompt is kept; this page tries again.")
	browser.Is(p.Page, `recap.textContent`, "the server’s")
	s.hideModels.Store(false)
	p.Click("Try now")
	p.WaitText("#recap", "standard encoder · leaf-emoji-64 · 9 steps")
	p.WaitText("#conn", "Connected again.")
	browser.Is(p.Page, `location.hash`, "#p=a+crab&encoder=standard&steps=9")
}

func storageFull(t *testing.T, s *server, p *page) {
	start(s, p, "a crab").succeed()
	p.WaitText(".facts", "Seed")
	browser.Eval[bool](p.Page, `(() => {
		let room = 5 * 2 ** 20; // too much, then less until it fits
		for (;; room -= 1000) try { sessionStorage.setItem('other', 'x'.repeat(room)); break; } catch {}
		sessionStorage.setItem('other', 'x'.repeat(room - sessionStorage.jobs.length / 2));
		return true;
	})()`)
	start(s, p, "a rocket").succeed()
	p.WaitText(".facts", "Seed")
	p.reload()
	browser.Is(p.Page, `[...document.querySelectorAll('#strip button')].map(b => b.getAttribute('aria-label')).join()`, "a rocket")
}

func session(t *testing.T, s *server, p *page) {
	var jobs []*job
	for i := range 8 { // more than the six connections of a browser
		jobs = append(jobs, start(s, p, fmt.Sprintf("picture %d", i)))
	}
	browser.Is(p.Page, `document.querySelectorAll('#strip li').length`, 8)
	for _, j := range jobs[:7] {
		j.run()
		j.succeed()
	}
	p.advance(3000)
	p.Wait(`document.querySelectorAll('#strip img').length === 7`)
	p.Shot(*shots, "session")
	p.Fill("prompt", "something unsent")
	p.Do(chromedp.Click(chromedp.CSS(`[aria-label="picture 2"]`)))
	p.WaitText(".said", "picture 2")
	browser.Is(p.Page, `document.querySelector("#prompt").value`, "something unsent")
	browser.Is(p.Page, `document.activeElement.getAttribute('aria-label')`, "picture 2")
	browser.Is(p.Page, `document.querySelector('#strip [aria-current]').getAttribute('aria-label')`, "picture 2")
	p.reload()
	browser.Is(p.Page, `document.querySelectorAll('#strip li').length`, 8)
	p.WaitText(".said", "picture 2")
}
