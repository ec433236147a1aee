package web_test

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"leafserve"
)

// The part of server that compares and searches.

// figures are what a comparison found, in the order standard, robust.
type figures struct{ pooled, hidden, similarity [2]float64 }

var arms = [2]string{"standard", "robust"}

// owl is the typo of "a 3d owl" that the tests look at.
func owl() leafserve.AttackResult {
	word := func(at int, pieces ...string) (tokens []leafserve.Token) {
		for _, p := range pieces {
			tokens = append(tokens, leafserve.Token{Piece: p, ID: 1000 + at, Word: at})
		}
		return tokens
	}
	a, d := word(0, "a</w>"), append(word(1, "3"), word(2, "d</w>")...)
	background := append(append(word(4, "on</w>"), word(5, "orange</w>")...), word(6, "owl</w>")...)
	clean := append(append(append([]leafserve.Token{}, a...), d...), append(word(3, "owl</w>"), background...)...)
	attacked := append(append(append([]leafserve.Token{}, a...), d...), append(word(3, "o", "aw", "l</w>"), background...)...)
	return leafserve.AttackResult{Method: "leaf", Prompt: "a 3d oawl on orange owl", Candidates: 212, MS: 712.5,
		Edits:  []leafserve.Edit{{Op: "insert", At: 6, To: "a"}},
		Diff:   []leafserve.DiffPart{{T: "same", S: "a 3d o"}, {T: "ins", S: "a"}, {T: "same", S: "wl on orange owl"}},
		Tokens: leafserve.TokenPair{Clean: clean, Attacked: attacked}, Drift: drifts(figures{pooled: [2]float64{0.61, 0.09}, hidden: [2]float64{0.72, 0.24}})}
}

func drifts(f figures) map[string]leafserve.Drift {
	d := map[string]leafserve.Drift{}
	for i, arm := range arms {
		d[arm] = leafserve.Drift{Pooled: f.pooled[i], Hidden: f.hidden[i]}
	}
	return d
}

// found tells the typo, as a search does before the pictures are drawn.
func (j *job) found(a leafserve.AttackResult) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.emit("state", leafserve.StateEvent{State: j.State, Attack: &a})
}

// compared ends the job with a comparison; judged says whether the model could
// judge pictures. A picture that broke is named so.
func (j *job) compared(a leafserve.AttackResult, similarity [2]float64, verdict leafserve.Verdict, judged bool) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	c := leafserve.Case{Prompt: j.Request.Prompt, Seed: *j.Request.Seed, Attack: a, Arms: map[string]leafserve.Arm{}, Verdict: verdict}
	for i, arm := range arms {
		made := leafserve.Arm{Clean: j.cell("clean"+arm, c.Prompt), Attacked: j.cell("attacked"+arm, a.Prompt)}
		if similarity[i] < leafserve.HeldAt {
			made.Attacked.Image.URL = strings.Replace(made.Attacked.Image.URL, ".png", "-broke.png", 1)
		}
		if judged {
			fit, less := 0.312, 0.312*similarity[i]
			made.Clean.ClipScore, made.Attacked.ClipScore, made.Attacked.Similarity = &fit, &less, &similarity[i]
		}
		c.Arms[arm] = made
	}
	j.finish(leafserve.Comparison{Case: &c})
}

func (j *job) cell(name, prompt string) leafserve.Cell {
	return leafserve.Cell{Prompt: prompt, Image: leafserve.Image{URL: fmt.Sprintf("/images/%s-%s.png", j.ID, name), Seed: *j.Request.Seed, Width: *j.Request.Width, Height: *j.Request.Height}}
}

// finish ends the job with c. The caller holds s.mu.
func (j *job) finish(c leafserve.Comparison) {
	c.Report, c.Montage = "/reports/"+j.ID+".html", "/images/"+j.ID+"-montage.png"
	j.Compare = &c
	j.Progress.Step = j.Progress.Steps
	j.end(leafserve.StateSucceeded, nil)
}

// comparedList ends the job of a list of prompts.
func (j *job) comparedList(s leafserve.Summary) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.finish(leafserve.Comparison{Summary: &s})
}

// stored is one picture of GET /search.
type stored struct {
	Prompt string  `json:"prompt"`
	URL    string  `json:"url"`
	Seed   uint64  `json:"seed"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Score  float64 `json:"score"`
}

// gallery answers GET /search with the stored pictures whose prompt holds q.
// Its zero value is a server without one.
type gallery struct {
	mu       sync.Mutex
	pictures []stored
	asked    []string // queries, as in an address
	refusal  refusal  // instead of an answer
}

func (g *gallery) set(refused refusal, pictures ...stored) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusal, g.pictures = refused, pictures
}

func (g *gallery) search(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.URL.RawQuery)
	if g.pictures == nil {
		writeError(w, refusal{status: http.StatusNotFound, message: "this server keeps no gallery"})
		return
	}
	if g.refusal.status != 0 {
		writeError(w, g.refusal)
		return
	}
	hits := []stored{}
	for _, p := range g.pictures {
		if strings.Contains(p.Prompt, r.FormValue("q")) {
			hits = append(hits, p)
		}
	}
	encoder := cmp.Or(r.FormValue("encoder"), models[0].DefaultEncoder)
	writeJSON(w, http.StatusOK, map[string]any{"data": hits, "model": models[0].Name, "encoder": encoder})
}

// last gives the last query.
func (g *gallery) last() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[len(g.asked)-1]
}
