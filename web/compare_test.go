package web_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"leafserve"
	"leafserve/internal/leaftest/browser"
)

// The scenarios of TestTypo in which comparisons are asked for, end, get lost
// and are shared.

func ownTypo(t *testing.T, s *server, p *page) {
	p.Fill("prompt", owlPrompt)
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	browser.Is(p.Page, `own.checkVisibility()`, false)
	p.choose("method", "manual")
	browser.Is(p.Page, `own.value`, owlPrompt)
	browser.Is(p.Page, `edits.checkVisibility() || against.checkVisibility() || typo_seed.checkVisibility()`, false)
	p.WaitText("#break-note", "sets your own typo against the prompt and shows what it does")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Click("Break it")
	p.WaitText("#problem", "attack.prompt equals prompt: there is no typo to compare (Request req-1.)")
	browser.Is(p.Page, `settings.open`, true)
	browser.Is(p.Page, `document.activeElement.id`, "own")
	browser.Is(p.Page, `own.getAttribute('aria-invalid')`, "true")
	p.Shot(*shots, "typo-own-refused")
	p.Fill("own", "a 3d oawl on orange owl")
	browser.Is(p.Page, `own.hasAttribute('aria-invalid') || problem.hasChildNodes()`, false)
	p.Press(kb.Enter, chromedp.ModifierCtrl|chromedp.ModifierShift)
	j := shown(s, p)
	if a := j.Request.Attack; a.Method != "manual" || a.Prompt != "a 3d oawl on orange owl" || a.Edits != 0 {
		t.Errorf("attack = %+v, want the manual typo and nothing else", a)
	}
	j.run()
	p.WaitText(".progress", "Reading the prompt…")
	a := owl()
	a.Method = "manual"
	j.compared(a, [2]float64{0.3, 0.9}, robustHeld, true)
	p.WaitText(".panel", "Your own typo.")
	browser.Is(p.Page, `[...document.querySelectorAll('button')].some(b => b.textContent === 'Another typo')`, false)
}

func ownTypoFromPicture(t *testing.T, s *server, p *page) {
	start(s, p, "a 3d owl").succeed()
	p.WaitText(".facts", "Seed")
	p.Do(chromedp.Click(chromedp.CSS(".card .break")))
	if a := s.next().Request.Attack; a.Method != "manual" || a.Prompt != "a 3d oawl" {
		t.Errorf("attack = %+v, want the typo of the address", a)
	}
}

func typoSettings(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.choose("method", "charmer")
	browser.Is(p.Page, `typo_seed.checkVisibility()`, false) // Charmer takes no chances
	p.choose("against", "each")
	p.choose("method", "keyboard")
	browser.Is(p.Page, `against.checkVisibility()`, false)
	p.Fill("edits", "3")
	p.WaitText("#break-note", "hits a neighbouring key, 3 letters in all, and shows what it does")
	p.Fill("typo_seed", "18446744073709551615")
	p.Fill("n", "4")
	p.Shot(*shots, "typo-settings")
	j := startBreak(s, p, "a rocket")
	if a := j.Request.Attack; a.Method != "keyboard" || a.Edits != 3 || *a.Seed != 1<<64-1 || j.Request.AttackedPerArm || *j.Request.N != 1 {
		t.Errorf("attack = %+v per arm %t of %d pictures, want keyboard, 3 edits, seed 2^64-1, not per arm, 1", a, j.Request.AttackedPerArm, *j.Request.N)
	}
	p.advance(400)
	browser.Is(p.Page, `location.hash`, "#p=a+rocket&n=4&method=keyboard&edits=3&against=each&typo_seed=18446744073709551615&verb=break&job=j1")
	p.reload()
	browser.Is(p.Page, `[method.value, edits.value, against.value, typo_seed.value].join()`, "keyboard,3,each,18446744073709551615")
}

func eachItsOwn(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	if a := j.Request.Attack; !j.Request.AttackedPerArm || a.Against != "standard" {
		t.Errorf("per arm = %t, attack = %+v, want a typo an arm", j.Request.AttackedPerArm, a)
	}
	j.s.mu.Lock()
	drift := leafserve.Drift{Pooled: 0.33, Hidden: 0.44}
	arms := map[string]leafserve.Arm{"standard": {Clean: j.cell("clean", owlPrompt), Attacked: j.cell("typo", owl().Prompt)},
		"robust": {Clean: j.cell("clean", owlPrompt), Attacked: j.cell("typo", "a 3d owx on orange owl")}}
	robust := arms["robust"]
	robust.Attacked.Drift = &drift
	arms["robust"] = robust
	j.finish(leafserve.Comparison{Case: &leafserve.Case{Attack: owl(), Arms: arms, Verdict: bothBroke}})
	j.s.mu.Unlock()
	p.WaitText(".four .own", "a 3d owx on orange owl")
	browser.Is(p.Page, `document.querySelectorAll('.four .own').length`, 1)
	browser.Is(p.Page, `[...document.querySelectorAll('.meter dd:first-of-type')].map(d => d.textContent).join(' ')`, "0.61 0.33 0.72 0.44")
}

func anotherTypo(t *testing.T, s *server, p *page) {
	first := startBreak(s, p, owlPrompt)
	first.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	p.Click("Another typo")
	second := shown(s, p)
	if a, b := first.Request, second.Request; *a.Seed != *b.Seed || *a.Attack.Seed == *b.Attack.Seed || b.Attack.Method != "leaf" {
		t.Errorf("requests = %+v, then %+v, want the same noise and another seed of the typo", a.Attack, b.Attack)
	}
}

func compareRefused(t *testing.T, s *server, p *page) {
	s.refuse(refusal{status: http.StatusBadRequest, message: "attack.edits is 9, want 1 to 8", param: "attack.edits"})
	p.Fill("prompt", owlPrompt)
	p.Click("Break it")
	p.WaitText("#problem", "attack.edits is 9, want 1 to 8 (Request req-1.)")
	browser.Is(p.Page, `settings.open && edits.getAttribute('aria-invalid') === 'true' && document.activeElement === edits`, true)
	s.refuse(refusal{status: http.StatusTooManyRequests, message: "64 jobs are waiting.", retryAfter: 8},
		refusal{status: http.StatusServiceUnavailable, message: "The queue does not answer.", retryAfter: 2})
	p.Click("Break it")
	p.WaitText("#problem", "64 jobs are waiting. Trying again in 8 s.")
	p.advance(8000)
	p.WaitText("#problem", "The server is not ready")
	p.Click("Make picture") // another verb with the same prompt takes over
	if j := s.next(); j.Kind != "generate" {
		t.Errorf("kind = %s, want the last one asked for, generate", j.Kind)
	}
	p.advance(60_000)
	if len(s.created) > 0 {
		t.Error("the comparison that was given up came after all")
	}
}

func breakPicture(t *testing.T, s *server, p *page) {
	made := start(s, p, "a 3d owl")
	made.succeed()
	p.WaitText(".facts", "Seed")
	p.Fill("prompt", "something else")
	p.Do(chromedp.Click(chromedp.CSS(".card .break")))
	j := shown(s, p)
	if a, b := made.Request, j.Request; j.Kind != "compare" || b.Prompt != a.Prompt || *b.Seed != *a.Seed || b.Attack.Method != "leaf" {
		t.Errorf("request = %+v, want the comparison of the picture's prompt and seed", b)
	}
	browser.Is(p.Page, `document.querySelector("#prompt").value`, "something else")
}

func oneEncoder(t *testing.T, s *server, p *page) {
	p.WaitText("#break-note", "needs a model with two text encoders; large has one")
	browser.Is(p.Page, `document.querySelector('#break').disabled && typo.hidden`, true)
	p.Shot(*shots, "one-encoder")
	p.Fill("prompt", "a rocket")
	p.Press(kb.Enter, chromedp.ModifierCtrl|chromedp.ModifierShift)
	p.WaitText("#problem", "“Break it” needs a model with two text encoders; large has one.")
	browser.Is(p.Page, `document.activeElement.id`, "model")
	start(s, p, "a rocket").succeed()
	p.WaitText(".facts", "Seed")
	browser.Is(p.Page, `!!document.querySelector('.card .break')`, false)
	p.choose("model", "large")
	p.Press(kb.ArrowUp)
	p.WaitText("#break-note", "finds the typo that hurts most and shows what it does")
	browser.Is(p.Page, `document.querySelector('#break').disabled || typo.hidden`, false)
}

func compareKeys(t *testing.T, s *server, p *page) {
	p.Fill("prompt", owlPrompt)
	p.Press(kb.Enter, chromedp.ModifierCtrl|chromedp.ModifierShift)
	if j := shown(s, p); j.Kind != "compare" {
		t.Errorf("kind = %s, want compare", j.Kind)
	}
	browser.Is(p.Page, `document.activeElement.id`, "prompt")
	p.Press(kb.Escape)
	p.WaitText("#result", "Stopped before the first step.")
}

func compareEnds(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	j.run()
	j.found(owl())
	j.step(7, 900)
	p.WaitText(".progress", "Step 7 of 25")
	p.Click("Cancel")
	p.WaitText("#result", "Stopped at step 7 of 25. Nothing was kept.")
	browser.Is(p.Page, `document.activeElement.className`, "card compare")
	browser.Is(p.Page, `document.querySelector('.four').checkVisibility()`, false)
	p.Shot(*shots, "typo-cancelled")
	p.Click("Start again")
	again := shown(s, p)
	if a, b := j.Request.Attack, again.Request.Attack; *a.Seed != *b.Seed {
		t.Errorf("seed of the typo = %d, want %d", *b.Seed, *a.Seed)
	}
	again.fail("The model ran out of memory.")
	p.WaitText("#result", "The model ran out of memory. (Job j2.)")
	browser.Is(p.Page, `document.querySelector('.diff').textContent`, owlPrompt)
}

func reloadComparing(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	j.run()
	j.found(owl())
	j.step(3, 100)
	p.WaitText(".progress", "Step 3 of 25")
	p.reload()
	if l := s.nextListen(); l != (listen{j.ID, ""}) {
		t.Errorf("stream opened = %+v, want all events of %s again", l, j.ID)
	}
	p.Wait(`document.querySelector('.diff ins') && document.querySelector('.meter').checkVisibility()`)
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	p.reload() // a finished comparison needs no question
	p.WaitText(".verdict", "Robust held")
	browser.Is(p.Page, gridText, "Prompt fit 0.31 | Prompt fit 0.31 | Prompt fit 0.10 Likeness 0.34: broke | Prompt fit 0.29 Likeness 0.96: held")
}

func killedComparing(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	j.run()
	j.found(owl())
	p.Wait(`document.querySelector('.diff ins')`)
	s.stop()
	p.WaitText("#conn", "No connection to the server. Your job goes on there; this page picks it up again.")
	s.start()
	p.Click("Try now")
	if l := s.nextListen(); l != (listen{j.ID, "3"}) {
		t.Errorf("stream opened again = %+v, want job %s after event 3", l, j.ID)
	}
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
}

func expiredComparison(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "This result is no longer kept")
	p.Click("Make it again")
	j := s.next()
	if r := j.Request; j.Kind != "compare" || r.Prompt != "a blue whale" || *r.Seed != 7 || r.Attack.Edits != 3 || *r.Attack.Seed != 1<<64-1 {
		t.Errorf("%s request = %+v, attack %+v, want the link's comparison", j.Kind, r, r.Attack)
	}
}

func shareComparison(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("typo_seed", "18446744073709551615")
	j := startBreak(s, p, "it's a 3d owl")
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	browser.Eval[bool](p.Page, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.Click("Copy link")
	link := browser.Eval[string](p.Page, `document.querySelector('#copybox-text').value`)
	for _, want := range []string{"/#p=it%27s+a+3d+owl&", fmt.Sprintf("&seed=%d&", *j.Request.Seed), "&method=leaf&edits=1&against=standard&typo_seed=18446744073709551615&verb=break&job=j1"} {
		if !strings.Contains(link, want) {
			t.Errorf("link = %s, want %s in it", link, want)
		}
	}
	p.Press(kb.Escape)
	p.Wait(`!copybox.open`)
	p.Click("Copy as curl")
	command := browser.Eval[string](p.Page, `document.querySelector('#copybox-text').value`)
	shell := exec.Command("sh", "-c", command)
	shell.Dir = t.TempDir()
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v: %s", command, err, out)
	}
	again := s.next()
	if a, b := j.Request, again.Request; again.Kind != "compare" || *a.Seed != *b.Seed || *b.Attack.Seed != 1<<64-1 || b.Prompt != a.Prompt {
		t.Errorf("the command asked for %s %+v, want that of the page", again.Kind, b)
	}
	p.Press(kb.Escape)
	other := openPage(t, p.Ctx, s, link[strings.Index(link, "#"):])
	other.WaitText(".verdict", "Robust held")
	browser.Is(other.Page, `document.querySelector('#typo_seed').value`, "18446744073709551615")
}

func compareOddPrompts(t *testing.T, s *server, p *page) {
	for name, tc := range map[string]struct{ prompt, typo string }{
		"emoji":         {"👩‍🚀 on the 🌕", "👩‍🚀 on tthe 🌕"},
		"right to left": {"صاروخ ثلاثي الأبعاد", "صاروخ ثلائي الأبعاد"},
		"4,000 runes":   {strings.Repeat("🌕", 2000) + strings.Repeat("x", 2000), strings.Repeat("🌕", 2000) + "q" + strings.Repeat("x", 1999)},
		"markup":        {`<img src=x onerror="document.title='broken'"><b>`, `<img src=x onerrror="document.title='broken'"><b>`},
	} {
		t.Run(name, func(t *testing.T) {
			j := startBreak(s, p, tc.prompt)
			clean, typo := []rune(tc.prompt), []rune(tc.typo)
			at := 0
			for clean[at] == typo[at] {
				at++
			}
			a := leafserve.AttackResult{Method: "random", Prompt: tc.typo, Edits: []leafserve.Edit{{Op: "insert", At: at, To: string(typo[at])}}, Candidates: 1,
				Diff:  []leafserve.DiffPart{{T: "same", S: string(clean[:at])}, {T: "ins", S: string(typo[at])}, {T: "same", S: string(clean[at:])}},
				Drift: owl().Drift, Tokens: leafserve.TokenPair{Clean: runeTokens(clean), Attacked: runeTokens(typo)}}
			j.compared(a, [2]float64{0.3, 0.9}, robustHeld, true)
			p.WaitText(".verdict", "Robust held")
			browser.Is(p.Page, `document.querySelector('.diff ins').lastChild.previousSibling.textContent`, string(typo[at]))
			browser.Is(p.Page, `document.title`, "leafserve")
			browser.Is(p.Page, `document.documentElement.scrollWidth <= innerWidth`, true)
			browser.Is(p.Page, `document.querySelectorAll('.chip').length < 200 && !!document.querySelector('.hit')`, true)
			p.Shot(*shots, "typo-prompt-"+strings.ReplaceAll(name, " ", "-"))
		})
	}
}

// runeTokens pretends that every character is a word of one token.
func runeTokens(text []rune) (tokens []leafserve.Token) {
	for i, r := range text {
		tokens = append(tokens, leafserve.Token{Piece: fmt.Sprintf("%x</w>", r), ID: int(r), Word: i})
	}
	return tokens
}

func compareList(t *testing.T, s *server, p *page) {
	s.mu.Lock()
	steps, seed := 25, uint64(7)
	j := s.enqueue("compare", "list", http.Header{}, leafserve.Request{Prompts: []string{"a crab", "an owl"}, Attack: &leafserve.Attack{Method: "leaf"}, Seed: &seed, Steps: &steps})
	s.mu.Unlock()
	browser.Eval[bool](p.Page, `(location.hash = '#job=j1', true)`)
	p.WaitText(".said", "A comparison of 2 prompts")
	j.run()
	p.WaitText(".progress", "Looking for the typo…")
	j.comparedList(leafserve.Summary{Cases: 2, Held: map[string]int{"standard": 0, "robust": 2}, Verdict: leafserve.Verdict{Tone: "good", Tag: "Robust is better", Text: "Robust held in 2 of 2 cases."}})
	p.WaitText(".verdict", "Robust held in 2 of 2 cases.")
	browser.Is(p.Page, `document.querySelector('.facts').innerText.replaceAll('\n', ' ')`, "Cases 2 Held (likeness 0.80 or more) robust 2, standard 0")
	browser.Is(p.Page, `live.textContent`, "Robust held in 2 of 2 cases.")
	p.Shot(*shots, "typo-list")
}

func compareSession(t *testing.T, s *server, p *page) {
	first := startBreak(s, p, owlPrompt)
	second := start(s, p, "a crab")
	first.succeedOwl()
	second.succeed()
	p.advance(3000)
	p.Wait(`document.querySelectorAll('#strip img').length === 2`)
	browser.Is(p.Page, `[...document.querySelectorAll('#strip button')].map(b => b.getAttribute('aria-label')).join(' | ')`, "a crab | Typo view: "+owlPrompt)
	browser.Is(p.Page, `document.querySelector('#strip .kind').textContent`, "typo")
	p.Do(chromedp.Click(chromedp.CSS(`#strip li:last-child button`)))
	p.WaitText(".verdict", "Robust held")
	browser.Is(p.Page, `location.hash.includes('verb=break&job=j1')`, true)
	p.Shot(*shots, "typo-session")
}
