package web_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"leafserve/internal/leaftest/browser"
)

// TestPage drives the page in a real browser. Each scenario has its own server
// and its own tab, with nothing stored.
func TestPage(t *testing.T) {
	runAll(t, []scenario{
		{"makes a picture with progress", "", makesPicture},
		{"several pictures take turns", "", severalPictures},
		{"another model", "", anotherModel},
		{"keys", "", keys},
		{"cancel while queued", "", cancelQueued},
		{"cancel while running", "", cancelRunning},
		{"failed job", "", failedJob},
		{"refused field", "", refusedField},
		{"empty prompt", "", emptyPrompt},
		{"full queue, then success", "", fullQueue},
		{"full queue, given up", "", fullQueueGivenUp},
		{"server not ready", "", notReady},
		{"server killed and started with two jobs open", "", killedServer},
		{"server killed before it took the prompt", "", killedBeforeAnswer},
		{"answer cut off", "", answerCut},
		{"server that forgot the job", "", forgottenJob},
		{"silent stream", "", silentStream},
		{"reload while running", "", reloadRunning},
		{"models not known yet", "#p=a+crab&encoder=standard&steps=9", modelsLate},
		{"session of many jobs", "", session},
		{"no room for the session", "", storageFull},
		{"expired link", "#p=a+blue+whale&seed=7&job=expired", expiredLink},
		{"expired link without a prompt", "#job=expired", expiredBareLink},
		{"link with settings", "#p=a+crab&seed=18446744073709551615&steps=9&encoder=standard&width=32", linkWithSettings},
		{"seed of 64 bits", "", bigSeed},
		{"copy without clipboard", "", copyWithoutClipboard},
		{"prompts of all kinds", "", oddPrompts},
		{"prompt longer than the context", "", cutPrompt},
		{"phone of 320 pixels", "", phone},
		{"theme is kept", "", themeKept},
		{"print", "", print},
	})
}

// scenario is what a person does with the page.
type scenario struct {
	name     string
	fragment string // of the address that is opened
	run      func(*testing.T, *server, *page)
}

func runAll(t *testing.T, scenarios []scenario) {
	chromium := browser.Start(t)
	for _, tc := range scenarios {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			tc.run(t, s, openPage(t, chromium, s, tc.fragment))
		})
	}
}

// start asks for a picture and gives its job, which the page shows as queued.
func start(s *server, p *page, prompt string) *job {
	s.t.Helper()
	return startBy(s, p, prompt, "Make picture")
}

// startBreak is start for a comparison.
func startBreak(s *server, p *page, prompt string) *job {
	s.t.Helper()
	return startBy(s, p, prompt, "Break it")
}

func startBy(s *server, p *page, prompt, button string) *job {
	s.t.Helper()
	p.Fill("prompt", prompt)
	p.Click(button)
	return shown(s, p)
}

// shown waits until the page shows the next job.
func shown(s *server, p *page) *job {
	s.t.Helper()
	j := s.next()
	p.Wait(fmt.Sprintf(`new URLSearchParams(location.hash.slice(1)).get('job') === %q`, j.ID))
	s.nextListen()
	return j
}

func makesPicture(t *testing.T, s *server, p *page) {
	s.ahead = 2
	p.Shot(*shots, "empty")
	j := start(s, p, "a 3d rockett 🚀")
	if r := j.Request; r.Previews != 5 || r.Model != "leaf-emoji-64" || r.Encoder != "robust" || *r.Steps != 25 {
		t.Errorf("request = %+v, want 5 previews and the model's own settings", r)
	}
	if h := j.header; h.Get("Prefer") != "respond-async" || len(h.Get("Idempotency-Key")) != 32 {
		t.Errorf("headers = %v, want Prefer: respond-async and an Idempotency-Key", h)
	}
	p.WaitText(".progress", "Waiting: 2 jobs ahead of yours")
	p.Shot(*shots, "queued")
	place := browser.Eval[float64](p.Page, `document.querySelector('.blank').getBoundingClientRect().width`)
	j.run()
	p.WaitText(".progress", "Reading the prompt…")
	j.step(10, 2200)
	j.preview("")
	p.WaitText(".progress", "Step 10 of 25 · about 3 s left")
	p.Wait(`document.querySelector('.pic:not(.blank)').src.startsWith('data:image/png')`)
	browser.Is(p.Page, `document.querySelector('progress').value`, 10)
	p.Shot(*shots, "running")

	j.succeed()
	p.WaitText(".facts", "Seed")
	p.Wait(`document.querySelector('.pic').complete && document.querySelector('.pic').naturalWidth === 64`)
	browser.Is(p.Page, `document.querySelector('.pic').alt`, "Picture: a 3d rockett 🚀")
	browser.Is(p.Page, `document.querySelector('.pic').getBoundingClientRect().width`, place) // nothing jumped
	browser.Is(p.Page, `document.querySelector('.pic').getBoundingClientRect().width % 64`, 0)
	browser.Is(p.Page, `getComputedStyle(document.querySelector('.pic')).imageRendering`, "pixelated")
	browser.Is(p.Page, `live.textContent`, "Your picture is ready.")
	browser.Is(p.Page, `document.activeElement.id`, "go")
	browser.Is(p.Page, `document.querySelector('.facts').innerText.replaceAll('\n', ' ')`, fmt.Sprintf(
		"Seed %d Size 64 × 64 Model leaf-emoji-64 Encoder robust Scheduler dpmpp_2m Steps 25 Guidance 3 Time 1.3 s: waiting 4 ms, prompt 12 ms, steps 1.2 s, picture 38 ms", *j.Request.Seed))
	browser.Is(p.Page, `[...document.querySelectorAll('.word')].map(w => [...w.querySelectorAll('.chip')].map(c => c.textContent).join('|')).join(' ')`, "a 3 d rocke|tt 🚀")
	browser.Is(p.Page, `document.querySelector('a.button').download`, "j1-0.png")
	p.Shot(*shots, "done")
	p.Click("Copy as curl")
	p.WaitText("#toast", "Command copied")
	p.advance(2500)
	browser.Is(p.Page, `toast.textContent`, "")
	p.Click("Keep seed")
	browser.Is(p.Page, `seed.value`, fmt.Sprint(*j.Request.Seed))
}

func severalPictures(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("n", "3")
	p.Fill("seed", "41")
	j := start(s, p, "a rocket")
	j.run()
	j.succeed()
	p.WaitText(".facts", "41")
	p.Do(chromedp.Click(chromedp.CSS(`[aria-label="Picture 3, seed 43"]`)))
	p.WaitText(".facts dd", "43")
	browser.Is(p.Page, `document.querySelector('.pic').src.endsWith('/images/j1-2.png')`, true)
	browser.Is(p.Page, `document.querySelectorAll('.turns [aria-pressed=true]').length`, 1)
	p.Shot(*shots, "several")
}

func anotherModel(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("steps", "10")
	p.Do(chromedp.Focus(chromedp.ID("model")))
	p.Press("l") // selects by the first letters, like a person does
	p.Press("a")
	p.WaitText("#recap", "standard encoder · large · 10 steps · 512 × 512 · random seed")
	j := start(s, p, "a rocket")
	if r := j.Request; r.Model != "large" || r.Encoder != "standard" || *r.Steps != 10 || *r.GuidanceScale != 7.5 {
		t.Errorf("request = %+v, want the settings of large but 10 steps", r)
	}
	j.succeed()
	p.Wait(`document.querySelector('.pic').complete && document.querySelector('.pic').naturalWidth`)
	browser.Is(p.Page, `getComputedStyle(document.querySelector('.pic')).imageRendering`, "auto")
	p.Shot(*shots, "large")
}

func keys(t *testing.T, s *server, p *page) {
	p.Do(chromedp.Focus(chromedp.ID("theme")))
	p.typeKey("/")
	browser.Is(p.Page, `document.activeElement.id`, "prompt")
	browser.Is(p.Page, `document.querySelector("#prompt").value`, "")
	p.Fill("prompt", "a rocket")
	p.Press(kb.Enter, chromedp.ModifierCtrl)
	if j := s.next(); j.Request.Prompt != "a rocket" {
		t.Errorf("prompt = %q, want %q", j.Request.Prompt, "a rocket")
	}
	s.nextListen()
	browser.Is(p.Page, `document.activeElement.id`, "prompt")
	p.Press(kb.Escape)
	p.WaitText("#result", "Stopped before the first step.")
}

func cancelQueued(t *testing.T, s *server, p *page) {
	j := start(s, p, "a rocket")
	p.Click("Cancel")
	p.WaitText("#result", "Stopped before the first step. Nothing was kept.")
	browser.Is(p.Page, `live.textContent`, "Cancelled.")
	browser.Is(p.Page, `document.activeElement.className`, "card single") // where Cancel was
	p.Click("Start again")
	if again := s.next(); *again.Request.Seed != *j.Request.Seed {
		t.Errorf("seed of the second try = %d, want %d", *again.Request.Seed, *j.Request.Seed)
	}
}

func cancelRunning(t *testing.T, s *server, p *page) {
	j := start(s, p, "a rocket")
	j.run()
	j.step(7, 900)
	p.WaitText(".progress", "Step 7 of 25")
	p.Press(kb.Escape)
	p.WaitText("#result", "Stopped at step 7 of 25. Nothing was kept.")
	p.Shot(*shots, "cancelled")
}

func failedJob(t *testing.T, s *server, p *page) {
	j := start(s, p, "a rocket")
	j.run()
	j.fail("The model ran out of memory. Ask for a smaller picture.")
	p.WaitText("#result", "The model ran out of memory. Ask for a smaller picture. (Job j1.)")
	p.Shot(*shots, "failed")
	p.Click("Try again")
	s.next()
}

func refusedField(t *testing.T, s *server, p *page) {
	p.Fill("prompt", "a rocket")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("steps", "5000")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Click("Make picture")
	p.WaitText("#problem", "steps is 5000, want a whole number from 1 to 1000 (Request req-1.)")
	browser.Is(p.Page, `settings.open`, true)
	browser.Is(p.Page, `document.activeElement.id`, "steps")
	browser.Is(p.Page, `steps.getAttribute('aria-invalid')`, "true")
	p.Shot(*shots, "refused")
	p.Fill("steps", "12")
	browser.Is(p.Page, `steps.hasAttribute('aria-invalid') || problem.hasChildNodes()`, false)
	p.Press(kb.Enter, chromedp.ModifierCtrl)
	if j := s.next(); *j.Request.Steps != 12 {
		t.Errorf("steps = %d, want 12", *j.Request.Steps)
	}
}

func emptyPrompt(t *testing.T, s *server, p *page) {
	p.Fill("prompt", "  ")
	p.Click("Make picture")
	p.WaitText("#problem", "Write a prompt first.")
	browser.Is(p.Page, `document.activeElement.id`, "prompt")
	if len(s.created) > 0 {
		t.Error("an empty prompt made a job")
	}
}

func fullQueue(t *testing.T, s *server, p *page) {
	done := start(s, p, "a rocket")
	done.succeed()
	full := refusal{status: http.StatusTooManyRequests, message: "64 jobs are waiting.", retryAfter: 8}
	s.refuse(full, full)
	p.Fill("prompt", "a crab")
	p.Click("Make picture")
	p.WaitText("#problem", "The queue is full")
	p.WaitText("#problem", "64 jobs are waiting. Trying again in 8 s.")
	browser.Is(p.Page, `!!document.querySelector('#result .facts')`, true) // the last result stays
	p.Shot(*shots, "full")
	p.advance(3000)
	p.WaitText("#problem", "Trying again in 5 s.")
	p.Click("Try now") // refused again
	p.WaitText("#problem", "Trying again in 8 s.")
	browser.Is(p.Page, `document.activeElement.id`, "go") // the button that had it is gone
	p.advance(8000)
	if j := s.next(); j.Request.Prompt != "a crab" {
		t.Errorf("prompt = %q, want %q", j.Request.Prompt, "a crab")
	}
	p.Wait(`!problem.hasChildNodes()`)
	if k := s.keys; len(k) != 4 || k[1] == k[0] || k[2] != k[1] || k[3] != k[1] {
		t.Errorf("Idempotency-Keys = %q, want one for the rocket and one for all tries of the crab", k)
	}
}

func fullQueueGivenUp(t *testing.T, s *server, p *page) {
	s.refuse(refusal{status: http.StatusTooManyRequests, message: "64 jobs are waiting.", retryAfter: 8})
	p.Fill("prompt", "a crab")
	p.Click("Make picture")
	p.WaitText("#problem", "The queue is full")
	p.Click("Stop trying")
	p.Wait(`!problem.hasChildNodes()`)
	p.advance(60_000)
	j := start(s, p, "a whale") // the next job is not the crab
	if j.Request.Prompt != "a whale" {
		t.Errorf("prompt = %q, want %q", j.Request.Prompt, "a whale")
	}
}

func notReady(t *testing.T, s *server, p *page) {
	s.refuse(refusal{status: http.StatusServiceUnavailable, message: "The queue does not answer.", retryAfter: 2})
	p.Fill("prompt", "a crab")
	p.Click("Make picture")
	p.WaitText("#problem", "The server is not ready")
	p.advance(2000)
	s.next()
}

func expiredLink(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "This result is no longer kept")
	p.Shot(*shots, "expired")
	p.Click("Make it again")
	if r := s.next().Request; r.Prompt != "a blue whale" || *r.Seed != 7 {
		t.Errorf("prompt, seed = %q, %d, want a blue whale, 7", r.Prompt, *r.Seed)
	}
}

func expiredBareLink(t *testing.T, s *server, p *page) {
	p.WaitText("#result", "The link holds no prompt, so it cannot be made again.")
}

func linkWithSettings(t *testing.T, s *server, p *page) {
	p.WaitText("#recap", "standard encoder · leaf-emoji-64 · 9 steps · 32 × 64 · seed 18446744073709551615")
	p.reload()
	p.Click("Make picture")
	if r := s.next().Request; r.Encoder != "standard" || *r.Steps != 9 || *r.Width != 32 || *r.Seed != 1<<64-1 {
		t.Errorf("request = %+v, want the link's settings", r)
	}
}

func bigSeed(t *testing.T, s *server, p *page) {
	const seed = "18446744073709551615"
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.Fill("seed", seed)
	j := start(s, p, `a "seed":12345678901234567890 that isn't one`)
	if *j.Request.Seed != 1<<64-1 {
		t.Errorf("seed sent = %d, want %s", *j.Request.Seed, seed)
	}
	j.succeed()
	p.WaitText(".facts dd", seed)
	browser.Is(p.Page, `document.querySelector('.said').textContent`, j.Request.Prompt)
	p.reload()
	p.WaitText(".facts dd", seed)
	browser.Eval[bool](p.Page, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.Click("Copy as curl")
	command := browser.Eval[string](p.Page, `document.querySelector('#copybox-text').value`)
	shell := exec.Command("sh", "-c", command)
	shell.Dir = t.TempDir()
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s\n%v: %s", command, err, out)
	}
	if r := s.next().Request; *r.Seed != 1<<64-1 || r.Prompt != j.Request.Prompt {
		t.Errorf("the command asked for seed %d, prompt %q, want those of the picture", *r.Seed, r.Prompt)
	}
}

func copyWithoutClipboard(t *testing.T, s *server, p *page) {
	j := start(s, p, "a rocket")
	j.succeed()
	p.WaitText(".facts", "Seed")
	browser.Eval[bool](p.Page, `(Object.defineProperty(navigator, 'clipboard', { value: undefined }), true)`)
	p.Click("Copy link")
	browser.Is(p.Page, `copybox.open`, true)
	link := browser.Eval[string](p.Page, `document.querySelector('#copybox-text').value`)
	if want := fmt.Sprintf("seed=%d", *j.Request.Seed); !strings.HasPrefix(link, s.url()+"/#p=a+rocket&") || !strings.Contains(link, want) || !strings.Contains(link, "&job=j1") {
		t.Errorf("link = %s, want prompt, %s and the job in its fragment", link, want)
	}
	p.Press(kb.Escape)
	p.Wait(`!copybox.open`)
}

func oddPrompts(t *testing.T, s *server, p *page) {
	for name, prompt := range map[string]string{
		"emoji":         "👩‍🚀 on the 🌕, 日本語",
		"right to left": "صاروخ ثلاثي الأبعاد على خلفية صفراء",
		"4,000 runes":   strings.Repeat("🌕", 2000) + strings.Repeat("x", 2000),
		"markup":        `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`,
		"lines":         "one\ntwo\u2028three",
	} {
		t.Run(name, func(t *testing.T) {
			j := start(s, p, prompt)
			if j.Request.Prompt != prompt {
				t.Errorf("prompt sent = %q, want %q", j.Request.Prompt, prompt)
			}
			j.succeed()
			p.WaitText(".facts", "Seed")
			browser.Is(p.Page, `document.querySelector('.said').textContent`, prompt)
			browser.Is(p.Page, `document.title`, "leafserve")
			browser.Is(p.Page, `document.documentElement.scrollWidth <= innerWidth`, true)
			p.Shot(*shots, "prompt-"+strings.ReplaceAll(name, " ", "-"))
		})
	}
}

func cutPrompt(t *testing.T, s *server, p *page) {
	start(s, p, "a 3d rockett 🚀 "+strings.Repeat("very ", 100)).succeed()
	p.WaitText(".warn", "Prompt cut at 77 tokens, start and end mark included: what comes after was not read.")
	browser.Is(p.Page, `document.querySelector('.tokens h2').textContent`, "What the text encoder read: 75 tokens")
	browser.Is(p.Page, `document.querySelectorAll('span.chip').length`, 75)
	browser.Is(p.Page, `document.querySelectorAll('s.chip').length`, 25)
	browser.Is(p.Page, `document.querySelector('.words li:last-child').textContent`, "… and 6 more")
	p.Shot(*shots, "cut")
}

func phone(t *testing.T, s *server, p *page) {
	p.Do(chromedp.EmulateViewport(320, 640))
	p.fits("empty")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	p.fits("settings")
	p.Do(chromedp.Click(chromedp.CSS("summary")))
	j := start(s, p, "a 3d rockett 🚀 "+strings.Repeat("w", 60))
	j.run()
	j.step(20, 1000)
	j.preview("")
	p.WaitText(".progress", "Step 20")
	p.fits("running")
	s.stop()
	p.WaitText("#conn", "No connection")
	p.fits("lost")
	s.start()
	p.Click("Try now")
	j.succeed()
	p.WaitText(".facts", "Seed")
	p.advance(4000)
	browser.Is(p.Page, `document.querySelector('.pic').getBoundingClientRect().width`, 192)
	p.fits("done")
}

func themeKept(t *testing.T, s *server, p *page) {
	p.Click("Theme: system")
	p.Click("Theme: light")
	p.reload()
	browser.Is(p.Page, `theme.textContent`, "Theme: dark")
	browser.Is(p.Page, `getComputedStyle(document.body).backgroundColor`, "rgb(16, 19, 17)")
}

func print(t *testing.T, s *server, p *page) {
	start(s, p, "a rocket").succeed()
	p.WaitText(".facts", "Seed")
	if _, err := chromedp.Call(p.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}); err != nil {
		t.Fatal(err)
	}
	browser.Is(p.Page, `composer.checkVisibility()`, false)
	browser.Is(p.Page, `document.querySelector('.pic').checkVisibility() && document.querySelector('.facts').checkVisibility()`, true)
	p.Shot(*shots, "print")
}
