package web_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"leafserve"
	"leafserve/internal/leaftest/browser"
)

// TestTypo drives the second verb, "Break it", and the typo view.
func TestTypo(t *testing.T) {
	runAll(t, []scenario{
		{"breaks a prompt with progress", "", breaksPrompt},
		{"four verdicts", "", fourVerdicts},
		{"no valid edit", "", noValidEdit},
		{"no possible edit", "", impossibleTypo},
		{"longer than the context", "", cutComparison},
		{"model that cannot judge", "", unjudged},
		{"figures at the threshold", "", threshold},
		{"look-alike letter", "", lookAlike},
		{"own typo", "", ownTypo},
		{"own typo from a picture", "#method=manual&own=a+3d+oawl", ownTypoFromPicture},
		{"typo settings", "", typoSettings},
		{"each encoder its own typo", "#against=each", eachItsOwn},
		{"another typo", "", anotherTypo},
		{"refused, full, not ready", "", compareRefused},
		{"break a picture that was made", "", breakPicture},
		{"one encoder", "#model=large", oneEncoder},
		{"keys of the comparison", "", compareKeys},
		{"cancelled and failed comparison", "", compareEnds},
		{"reload while comparing", "", reloadComparing},
		{"server killed while comparing", "", killedComparing},
		{"expired link of a comparison", "#p=a+blue+whale&seed=7&edits=3&typo_seed=18446744073709551615&verb=break&job=expired", expiredComparison},
		{"share a comparison", "", shareComparison},
		{"comparison of prompts of all kinds", "", compareOddPrompts},
		{"comparison of a list", "", compareList},
		{"comparisons in the session", "", compareSession},
		{"comparison on a phone", "", comparePhone},
		{"large pictures compared", "#width=256&height=128", compareLarge},
		{"comparison printed", "", comparePrint},
		{"health of a prompt", "", promptHealth},
	})
}

var (
	robustHeld   = leafserve.Verdict{Tone: "good", Tag: "Robust held, standard broke", Text: "One wrong letter, and the standard encoder draws something else. The robust encoder still draws the same picture."}
	bothHeld     = leafserve.Verdict{Tag: "Both held", Text: "One wrong letter changes little here: both encoders still draw the same picture."}
	standardHeld = leafserve.Verdict{Tone: "bad", Tag: "Standard held, robust broke", Text: "One wrong letter changes the robust encoder’s picture here; the standard encoder’s stays the same."}
	bothBroke    = leafserve.Verdict{Tone: "bad", Tag: "Both broke", Text: "One wrong letter is too much for both encoders here: neither draws the same picture."}
)

// owlPrompt is the clean prompt of owl.
const owlPrompt = "a 3d owl on orange owl"

// succeedOwl ends a comparison as the paper hopes it does.
func (j *job) succeedOwl() { j.compared(owl(), [2]float64{0.344, 0.961}, robustHeld, true) }

// top is where the pictures begin, for tests that nothing jumps.
const top = `document.querySelector('.four').getBoundingClientRect().top + scrollY`

// gridText is what stands under the four pictures.
const gridText = `[...document.querySelectorAll('.four figcaption')].map(c => c.innerText.replaceAll('\n', ' ')).join(' | ')`

func breaksPrompt(t *testing.T, s *server, p *page) {
	s.ahead = 3
	j := startBreak(s, p, owlPrompt)
	r := j.Request
	if j.Kind != "compare" || r.Previews != 5 || r.Encoder != "" || r.AttackedPerArm || *r.Steps != 25 {
		t.Errorf("request = %+v of %s, want a comparison with 5 previews and the model's settings", r, j.Kind)
	}
	if a := r.Attack; a.Method != "leaf" || a.Edits != 1 || a.Against != "standard" {
		t.Errorf("attack = %+v, want leaf, one edit, against standard", a)
	}
	if h := j.header; h.Get("Prefer") != "respond-async" || len(h.Get("Idempotency-Key")) != 32 {
		t.Errorf("headers = %v, want Prefer: respond-async and an Idempotency-Key", h)
	}
	p.WaitText(".progress", "Waiting: 3 jobs ahead of yours")
	browser.Is(p.Page, `document.querySelector('.diff').textContent`, owlPrompt)
	p.Shot(*shots, "typo-queued")
	j.run()
	p.WaitText(".progress", "Looking for the typo…")
	j.found(owl())
	p.Wait(`document.querySelector('.diff ins')?.innerText.includes('a')`)
	browser.Is(p.Page, `live.textContent`, "Typo found: a 3d oawl on orange owl")
	browser.Is(p.Page, `[...document.querySelectorAll('.words')].map(row => [...row.children].map(w => (w.className.split(' ')[1] ?? '') + [...w.querySelectorAll('.chip')].map(c => c.textContent).join('|')).join(' ')).join(' / ')`,
		"a 3 d wasowl on orange owl / a 3 d hito|aw|l on orange owl")
	p.WaitText(".progress", "Reading the prompt…")
	driftsShown(t, p)
	before := browser.Eval[float64](p.Page, top)
	sharpen(t, j, p)
	p.Shot(*shots, "typo-running")
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held, standard broke")
	browser.Is(p.Page, gridText, "Prompt fit 0.31 | Prompt fit 0.31 | Prompt fit 0.10 Likeness 0.34: broke | Prompt fit 0.29 Likeness 0.96: held")
	browser.Is(p.Page, top, before)
	browser.Is(p.Page, `live.textContent`, robustHeld.Text)
	browser.Is(p.Page, `document.activeElement.id`, "break")
	browser.Is(p.Page, `[...document.querySelectorAll('.four img')].map(i => i.alt).join(' | ')`,
		"Clean prompt, standard encoder | Clean prompt, robust encoder | Typo, standard encoder | Typo, robust encoder")
	browser.Is(p.Page, `[...document.querySelectorAll('.panels .button')].map(a => a.textContent + ' ' + a.getAttribute('href')).join(' | ')`,
		"Report /reports/j1.html | Save the pictures /images/j1-montage.png")
	p.Wait(`[...document.querySelectorAll('.four img')].every(i => i.complete && i.naturalWidth)`)
	p.Shot(*shots, "typo")
}

// driftsShown checks the meters of owl: four figures on one scale from 0 to 1.
func driftsShown(t *testing.T, p *page) {
	t.Helper()
	browser.Is(p.Page, `[...document.querySelectorAll('.meter')].map(m => m.querySelector('dt').textContent + ' ' + m.querySelector('dd').textContent).join(' | ')`,
		"Standard 0.61 | Robust 0.09 | Standard 0.72 | Robust 0.24")
	browser.Is(p.Page, `[...document.querySelectorAll('.less')].map(l => l.textContent).join('')`, " · 6.8 times less with robust · 3.0 times less with robust")
	browser.Is(p.Page, `(() => {
		const ends = document.getAnimations(); // bars grow; look at where they end
		ends.forEach(a => a.finish());
		return [...document.querySelectorAll('.fill')].map(f => (f.getBoundingClientRect().width / f.parentNode.getBoundingClientRect().width).toFixed(2)).join(' ');
	})()`, "0.61 0.09 0.72 0.24")
}

// sharpen sends a preview to each cell and sees that it comes there.
func sharpen(t *testing.T, j *job, p *page) {
	t.Helper()
	j.step(10, 1800)
	for i, cell := range []string{"cleanstandard", "cleanrobust", "attackedstandard", "attackedrobust"} {
		browser.Is(p.Page, fmt.Sprintf(`document.querySelectorAll('.four img')[%d].checkVisibility()`, i), false)
		j.preview(cell)
		p.Wait(fmt.Sprintf(`document.querySelectorAll('.four img')[%d].checkVisibility()`, i))
	}
	p.WaitText(".progress", "Step 10 of 25 · about 2 s left")
	browser.Is(p.Page, `[...document.querySelectorAll('.four img')].map(i => i.getBoundingClientRect().width).join(' ')`, "192 192 192 192")
	browser.Is(p.Page, `document.querySelector('.four img').alt`, "Clean prompt, standard encoder, unfinished")
}

func fourVerdicts(t *testing.T, s *server, p *page) {
	for _, tc := range []struct {
		verdict    leafserve.Verdict
		similarity [2]float64
		marks      string
	}{
		{robustHeld, [2]float64{0.3, 0.9}, "broke held"},
		{bothHeld, [2]float64{0.9, 0.95}, "held held"},
		{standardHeld, [2]float64{0.9, 0.5}, "held broke"},
		{bothBroke, [2]float64{0.3, 0.4}, "broke broke"},
	} {
		j := startBreak(s, p, owlPrompt)
		j.compared(owl(), tc.similarity, tc.verdict, true)
		p.WaitText(".tag", tc.verdict.Tag)
		p.WaitText(".verdict p", tc.verdict.Text)
		browser.Is(p.Page, `live.textContent`, tc.verdict.Text)
		browser.Is(p.Page, `document.querySelector('.tag').className.trim()`, strings.TrimSpace("tag "+tc.verdict.Tone))
		browser.Is(p.Page, `[...document.querySelectorAll('.four b')].map(b => b.textContent).join(' ')`, tc.marks)
		p.Shot(*shots, "verdict-"+strings.ReplaceAll(tc.verdict.Tag, " ", "-"))
	}
}

func noValidEdit(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, "日本")
	j.run()
	none := leafserve.AttackResult{Method: "leaf", Prompt: "日本", Edits: []leafserve.Edit{}, Diff: []leafserve.DiffPart{{T: "same", S: "日本"}}, Candidates: 1, Drift: map[string]leafserve.Drift{}}
	j.found(none)
	p.WaitText(".edit", "No typo is allowed here: 1 candidate was tried, and the rule “strict” refused all.")
	browser.Is(p.Page, `!!document.querySelector('.diff ins, .diff del') || document.querySelector('.meter').checkVisibility()`, false)
	j.compared(none, [2]float64{1, 1}, bothHeld, true)
	p.WaitText(".verdict", bothHeld.Text)
	p.Shot(*shots, "typo-none")
}

func unjudged(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	j.compared(owl(), [2]float64{1, 1}, leafserve.Verdict{Tag: "Not judged", Text: "This model has no CLIP that could judge the pictures."}, false)
	p.WaitText(".verdict", "Not judged")
	browser.Is(p.Page, gridText, " |  |  | ")
}

func threshold(t *testing.T, s *server, p *page) {
	j := startBreak(s, p, owlPrompt)
	j.compared(owl(), [2]float64{0.7999, 0.8}, robustHeld, true)
	p.WaitText(".verdict", "Robust held")
	p.WaitText(".four .typo", "Likeness 0.79: broke") // not 0.80
	browser.Is(p.Page, gridText, "Prompt fit 0.31 | Prompt fit 0.31 | Prompt fit 0.24 Likeness 0.79: broke | Prompt fit 0.24 Likeness 0.80: held")
}

func lookAlike(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.choose("method", "homoglyph")
	p.WaitText("#break-note", "puts in a look-alike letter and shows what it does")
	j := startBreak(s, p, owlPrompt)
	a := owl()
	a.Method, a.Edits = "homoglyph", []leafserve.Edit{{Op: "replace", At: 5, From: "o", To: "о"}}
	a.Diff = []leafserve.DiffPart{{T: "same", S: "a 3d "}, {T: "del", S: "o"}, {T: "ins", S: "о"}, {T: "same", S: "wl on orange owl"}}
	j.compared(a, [2]float64{0.3, 0.9}, robustHeld, true)
	p.WaitText(".panel", "Found by trying look-alikes: 212 candidates tried in 713 ms. “о” is U+043E.")
	browser.Is(p.Page, `document.querySelector('.diff').textContent`, "a 3d  removed: o  added: о wl on orange owl")
}

func comparePhone(t *testing.T, s *server, p *page) {
	p.Do(chromedp.EmulateViewport(320, 640))
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.fits("typo-settings")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	j := startBreak(s, p, owlPrompt)
	j.run()
	j.found(owl())
	sharpenAll(j)
	p.WaitText(".progress", "Step 10")
	p.fits("typo-running")
	j.succeedOwl()
	p.WaitText(".verdict", "Robust held")
	p.fits("typo-done")
	p.Do(chromedp.EmulateViewport(500, 450)) // 1000 pixels at 200 %
	browser.Is(p.Page, `document.documentElement.scrollWidth <= innerWidth`, true)
	p.Do(chromedp.EmulateViewport(390, 800))
	p.Shot(*shots, "phone-390-typo")
}

func compareLarge(t *testing.T, s *server, p *page) {
	startBreak(s, p, owlPrompt).succeedOwl()
	p.WaitText(".verdict", "Robust held")
	p.Wait(`[...document.querySelectorAll('.four img')].every(i => i.complete && i.naturalWidth)`)
	browser.Is(p.Page, `[...document.querySelectorAll('.four img')].every(i => getComputedStyle(i).imageRendering === 'auto' && Math.abs(i.width / i.height - 2) < 0.02)`, true)
	browser.Is(p.Page, `document.documentElement.scrollWidth <= innerWidth`, true)
	p.Shot(*shots, "typo-large")
}

// sharpenAll sends a preview to every cell.
func sharpenAll(j *job) {
	j.step(10, 1800)
	for _, cell := range []string{"cleanstandard", "cleanrobust", "attackedstandard", "attackedrobust"} {
		j.preview(cell)
	}
}

func comparePrint(t *testing.T, s *server, p *page) {
	startBreak(s, p, owlPrompt).succeedOwl()
	p.WaitText(".verdict", "Robust held")
	if _, err := chromedp.Call(p.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}); err != nil {
		t.Fatal(err)
	}
	browser.Is(p.Page, `document.querySelector('.four').checkVisibility() && document.querySelector('.verdict').checkVisibility()`, true)
	browser.Is(p.Page, `composer.checkVisibility() || document.querySelector('.panels .row').checkVisibility()`, false)
	p.Shot(*shots, "typo-print")
}

func promptHealth(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.choose("encoder", "auto")
	p.WaitText("#recap", "auto encoder")
	j := start(s, p, "a 3d oawl, xqz")
	j.s.mu.Lock()
	j.Health = &leafserve.Health{Tokens: 9, Limit: 77, Fragility: 0.153, Damaged: true, Words: []leafserve.HealthWord{
		{Word: "oawl", Pieces: 3, Misspelled: true, Suggestion: "owl"}, {Word: "xqz", Pieces: 3}}}
	j.s.mu.Unlock()
	j.succeed()
	p.WaitText(".facts", "Encoder\nstandard") // that auto chose
	p.WaitText(".facts", "Prompt health\n“oawl” looks misspelled (“owl”?). “xqz” falls into 3 tokens. One random typo would move it by about 0.15 (0: not at all, 1: to something unrelated).")
	p.Shot(*shots, "health")
	j = start(s, p, "a 3d owl")
	j.s.mu.Lock()
	j.Health = &leafserve.Health{Words: []leafserve.HealthWord{}}
	j.s.mu.Unlock()
	j.succeed()
	p.WaitText(".facts", "No word looks damaged.")
}
