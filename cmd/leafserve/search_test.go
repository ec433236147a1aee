package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// threePrompts are pictures that the built-in model draws well.
var threePrompts = []string{
	"a cartoon umbrella on a yellow background",
	"a 3d whale on a gray background",
	"a flat clover on an orange background",
}

// foundPictures is the answer of GET /search.
type foundPictures struct {
	Data []struct {
		Prompt, URL   string
		Seed          uint64
		Width, Height int
		Score         *float64
		Created       time.Time
	}
	Model, Encoder string
}

// find asks GET /search.
func (p *process) find(params ...string) foundPictures {
	p.t.Helper()
	query := url.Values{}
	for i := 0; i < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	var found foundPictures
	if err := json.Unmarshal(p.call(http.StatusOK, "GET", "/search?"+query.Encode(), ""), &found); err != nil {
		p.t.Fatal(err)
	}
	return found
}

// makeThree generates the pictures and gives their URLs.
func (p *process) makeThree() (urls []string) {
	p.t.Helper()
	for i, prompt := range threePrompts {
		job := decodeJob(p.t, p.call(http.StatusOK, "POST", "/generate", fmt.Sprintf(`{"prompt":%q,"seed":%d,"steps":12}`, prompt, 7+i)))
		urls = append(urls, job.Images[0].URL)
	}
	return urls
}

// searchThree finds each of three pictures.
func searchThree(t *testing.T, p *process, urls []string) {
	t.Helper()
	newest := p.find()
	if len(newest.Data) != 3 || newest.Model != "leaf-emoji-64" || newest.Encoder != "robust" {
		t.Fatalf("GET /search = %+v, want three pictures", newest)
	}
	for i, got := range newest.Data {
		if got.URL != urls[2-i] || got.Prompt != threePrompts[2-i] || got.Seed != uint64(9-i) || got.Width != 64 || got.Height != 64 || got.Score != nil || got.Created.IsZero() {
			t.Errorf("newest picture %d = %+v, want %s", i, got, urls[2-i])
		}
	}
	for i, tc := range []struct{ whole, damaged string }{
		{threePrompts[0], "a cartoon umbrlela on a yellow background"},
		{threePrompts[1], "a 3d whlae on a gray background"},
		{threePrompts[2], "a flat colver on an orange background"},
	} {
		for _, query := range [][2]string{{"standard", tc.whole}, {"robust", tc.whole}, {"robust", tc.damaged}} {
			found := p.find("encoder", query[0], "q", query[1], "k", "1")
			if len(found.Data) != 1 || found.Data[0].URL != urls[i] || *found.Data[0].Score < 0.4 || found.Encoder != query[0] {
				t.Errorf("%s %q finds %+v, want %s", query[0], query[1], found, urls[i])
			}
		}
		p.call(http.StatusOK, "GET", p.find("q", tc.whole).Data[0].URL, "")
	}
	like := p.find("like", strings.TrimPrefix(urls[1], "/images/"))
	if len(like.Data) != 2 || like.Data[0].URL == urls[1] || like.Data[1].URL == urls[1] || *like.Data[0].Score < *like.Data[1].Score {
		t.Errorf("like %s: %+v, want the two others, the nearer first", urls[1], like)
	}
}

// TestSearch drives one process, and a second one on its data folder.
func TestSearch(t *testing.T) {
	dir := t.TempDir()
	p := launchServer(t, "serve", "--data-dir", dir)
	urls := p.makeThree()
	searchThree(t, p, urls)
	for path, want := range map[string]int{"?q=owl&like=x.png": http.StatusBadRequest, "?like=nosuch.png": http.StatusNotFound} {
		p.call(want, "GET", "/search"+path, "")
	}
	// A picture that goes, and a record that a crash cut short.
	if err := os.Remove(filepath.Join(dir, "leafserve-pictures", strings.TrimPrefix(urls[0], "/images/"))); err != nil {
		t.Fatal(err)
	}
	index, err := os.OpenFile(filepath.Join(dir, "leafserve-pictures", ".index.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(index, `{"name":"torn`)
	index.Close()
	next := launchServer(t, "serve", "--data-dir", dir)
	job := decodeJob(t, next.call(http.StatusOK, "POST", "/generate", smallRequest(1)))
	for start := time.Now(); len(next.find().Data) != 3; { // its first sweep runs beside
		if time.Since(start) > patience {
			t.Fatalf("the second process finds %+v, want three", next.find())
		}
	}
	if got := next.find().Data; got[0].URL != job.Images[0].URL || got[1].URL != urls[2] || got[2].URL != urls[1] {
		t.Errorf("the second process finds %+v", got)
	}
}

// TestSearchOfOtherProcesses: an API alone finds what workers made.
func TestSearchOfOtherProcesses(t *testing.T) {
	redis, data := leaftest.Redis(t), t.TempDir()
	api := launchServer(t, "api", "--redis", redis.URL(), "--data-dir", data)
	launch(t, "worker", "--redis", redis.URL(), "--data-dir", data)
	searchThree(t, api, api.makeThree())
}

// TestSearchWithoutCLIP: the newest can be listed, a text cannot be searched.
func TestSearchWithoutCLIP(t *testing.T) {
	p := launchServer(t, "serve", "--data-dir", t.TempDir(), "--model", leaftest.Model(t, "tiny-sd15"))
	p.call(http.StatusOK, "POST", "/generate", `{"prompt":"an owl","steps":1}`)
	if found := p.find(); len(found.Data) != 1 || found.Data[0].Prompt != "an owl" {
		t.Errorf("GET /search = %+v, want the picture", found)
	}
	for query, says := range map[string]string{"q=owl": "no CLIP beside it", "like=" + strings.TrimPrefix(p.find().Data[0].URL, "/images/"): "without CLIP"} {
		if body := p.call(http.StatusBadRequest, "GET", "/search?"+query, ""); !bytes.Contains(body, []byte(says)) || !bytes.Contains(body, []byte(leafserve.Invalid)) {
			t.Errorf("GET /search?%s = %s, want %q", query, body, says)
		}
	}
}
