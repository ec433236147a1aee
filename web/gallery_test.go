package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"leafserve/internal/leaftest/browser"
)

// TestGallery drives the gallery and its search.
func TestGallery(t *testing.T) {
	chromium := browser.Start(t)
	for _, tc := range []struct {
		name     string
		fragment string
		pictures []stored // nil: the server has no gallery
		run      func(*testing.T, *server, *page)
	}{
		{"server without one", "", nil, noGallery},
		{"empty", "#view=gallery", []stored{}, emptyGallery},
		{"newest, search, use", "#view=gallery", whales(20), searchGallery},
		{"there and back", "#p=a+rocket&seed=3", whales(2), thereAndBack},
		{"refused, and server killed", "#view=gallery", whales(3), failedSearch},
		{"more like one", "#view=gallery", whales(3), moreLikeThis},
		{"encoder that reads the search", "#view=gallery&q=whale+1", whales(3), searchEncoder},
		{"search in a link", "#view=gallery&q=whale+1+%3C", whales(3), searchLink},
		{"phone", "#view=gallery", whales(8), phoneGallery},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			s.gallery.set(refusal{}, tc.pictures...)
			tc.run(t, s, openPage(t, chromium, s, tc.fragment))
		})
	}
}

func whales(n int) (pictures []stored) {
	for i := range n {
		pictures = append(pictures, stored{Prompt: fmt.Sprintf("whale %d <b>in</b> the sea", i), URL: fmt.Sprintf("/images/w%d.png", i), Seed: 1<<64 - 1 - uint64(i), Width: 64, Height: 64, Score: 0.3})
	}
	return pictures
}

func noGallery(t *testing.T, s *server, p *page) {
	start(s, p, "a rocket").succeed()
	p.WaitText(".facts", "Seed")
	browser.Is(p.Page, `document.querySelector('#nav-gallery').hidden`, true)
}

func emptyGallery(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "No pictures yet. What you make appears here.")
	p.Shot(*shots, "gallery-empty")
}

func searchGallery(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "20 pictures, newest first")
	browser.Is(p.Page, `document.title`, "Gallery · leafserve")
	browser.Is(p.Page, `document.querySelector('[aria-current]').textContent`, "Gallery")
	p.Wait(`document.querySelector('#grid img').naturalWidth`)
	p.Shot(*shots, "gallery")
	p.Do(chromedp.Focus(chromedp.ID("theme")))
	p.typeKey("/")
	browser.Is(p.Page, `document.activeElement.id`, "q")
	p.Fill("q", "no such thing")
	p.Click("Search")
	p.WaitText("#gallery-note", "Nothing looks like “no such thing”.")
	browser.Is(p.Page, `document.querySelectorAll('#grid li').length`, 0)
	p.Fill("q", "whale 1 <")
	p.Click("Search")
	p.WaitText("#gallery-note", "1 picture, best match first")
	browser.Is(p.Page, `document.querySelector('#grid .what').textContent`, "whale 1 <b>in</b> the sea")
	p.Do(chromedp.Click(chromedp.CSS("#grid a")))
	p.Wait(`document.querySelector('#view-make').checkVisibility()`)
	p.Click("Make picture")
	if r := s.next().Request; r.Prompt != "whale 1 <b>in</b> the sea" || *r.Seed != 1<<64-2 {
		t.Errorf("prompt, seed = %q, %d, want those of the picture", r.Prompt, *r.Seed)
	}
}

func thereAndBack(t *testing.T, s *server, p *page) {
	j := start(s, p, "a crab")
	p.Fill("prompt", "half a pro")
	p.advance(400)
	p.Click("Gallery")
	p.WaitText("#gallery-note", "2 pictures")
	j.succeed() // while the gallery is on show
	p.Wait(`live.textContent === 'Your picture is ready.'`)
	browser.Is(p.Page, `location.hash`, "#view=gallery")
	p.Click("Make")
	p.WaitText(".facts", "Seed")
	browser.Is(p.Page, `document.querySelector('#prompt').value + ' ' + seed.value`, "half a pro 3")
}

func failedSearch(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "3 pictures")
	s.gallery.set(refusal{status: http.StatusBadRequest, message: "q has 5,000 characters, want at most 4,000", param: "q"}, whales(1)...)
	p.Fill("q", strings.Repeat("x", 5000))
	p.Click("Search")
	p.WaitText("#gallery-note", "q has 5,000 characters, want at most 4,000 (Request req-1.)")
	s.gallery.set(refusal{}, whales(1)...)
	s.stop()
	p.Fill("q", "whale")
	p.Click("Search")
	p.WaitText("#conn", "No connection to the server.")
	s.start()
	p.Click("Try now")
	p.WaitText("#gallery-note", "1 picture, best match first")
}

func searchLink(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "1 picture, best match first")
	browser.Is(p.Page, `q.value`, "whale 1 <")
}

func moreLikeThis(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "3 pictures, newest first")
	s.gallery.set(refusal{}, whales(2)...)
	p.Do(chromedp.Click(chromedp.CSS("#grid li:nth-child(2) .quiet")))
	p.WaitText("#gallery-note", "2 pictures, best match first")
	if q := s.gallery.last(); q != "like=w1.png&k=60" {
		t.Errorf("query = %s, want the pictures like w1.png", q)
	}
}

func searchEncoder(t *testing.T, s *server, p *page) {
	p.WaitText("#gallery-note", "1 picture, best match first")
	p.Wait(`document.querySelector('#reader').checkVisibility()`)
	browser.Is(p.Page, `reader.value`, "robust")
	s.gallery.set(refusal{}, whales(15)...)
	p.choose("reader", "standard")
	p.WaitText("#gallery-note", "6 pictures, best match first")
	browser.Is(p.Page, `location.hash + ' ' + reader.value`, "#view=gallery&q=whale+1&encoder=standard standard")
	if q := s.gallery.last(); q != "q=whale+1&encoder=standard&k=60" {
		t.Errorf("query = %s, want it read by the standard encoder", q)
	}
	p.Shot(*shots, "gallery-search")
}

func phoneGallery(t *testing.T, s *server, p *page) {
	p.Do(chromedp.EmulateViewport(320, 640))
	p.WaitText("#gallery-note", "8 pictures, newest first")
	p.fits("gallery")
}
