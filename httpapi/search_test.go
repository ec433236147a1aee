package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
)

// shown is when the picture of these tests was made.
var shown = time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)

// searchable answers searches with one picture and keeps what was asked for.
func searchable(t *testing.T, asked *httpapi.SearchRequest) *world {
	return start(t, nil, func(cfg *httpapi.Config) {
		cfg.Search = func(_ context.Context, r httpapi.SearchRequest) ([]httpapi.FoundPicture, error) {
			*asked = r
			found := httpapi.FoundPicture{Prompt: "an owl", URL: "/images/a-0.png", Seed: 1 << 63, Width: 64, Height: 32, Created: shown}
			switch score := 0.25; {
			case r.Like == "nosuch.png":
				return nil, leafserve.Errorf(leafserve.NotFound, "there is no picture %q", r.Like)
			case r.Text == "nothing":
				return nil, nil
			case r.Text+r.Like != "":
				found.Score = &score
			}
			return []httpapi.FoundPicture{found}, nil
		}
	})
}

func TestSearch(t *testing.T) {
	var asked httpapi.SearchRequest
	w := searchable(t, &asked)
	const picture = `"prompt":"an owl","url":"/images/a-0.png","seed":9223372036854775808,"width":64,"height":32,`
	const newest = `{"data":[{` + picture + `"created":"2025-03-04T05:06:07Z"}],"model":"tiny","encoder":"%s"}`
	const scored = `{"data":[{` + picture + `"score":0.25,"created":"2025-03-04T05:06:07Z"}],"model":"tiny","encoder":"%s"}`
	long := strings.Repeat("é", leafserve.MaxPromptRunes)
	for _, tc := range []struct {
		name, query string
		want        httpapi.SearchRequest // model tiny
		body        string
	}{
		{"nothing asked for", "", httpapi.SearchRequest{Encoder: "robust", K: 24}, newest},
		{"an empty text", "?q=&encoder=robust&k=60", httpapi.SearchRequest{Encoder: "robust", K: 60}, newest},
		{"a blank text", "?q=%20%0A", httpapi.SearchRequest{Encoder: "robust", K: 24}, newest},
		{"a text", "?q=an+%F0%9F%A6%89+owl&k=1", httpapi.SearchRequest{Text: "an 🦉 owl", Encoder: "robust", K: 1}, scored},
		{"another encoder", "?q=owl&encoder=standard&model=tiny&k=100", httpapi.SearchRequest{Text: "owl", Encoder: "standard", K: 100}, scored},
		{"a long text", "?q=" + url.QueryEscape(long), httpapi.SearchRequest{Text: long, Encoder: "robust", K: 24}, scored},
		{"like a picture", "?like=a-1.png", httpapi.SearchRequest{Like: "a-1.png", Encoder: "robust", K: 24}, scored},
		{"nothing found", "?q=nothing", httpapi.SearchRequest{Text: "nothing", Encoder: "robust", K: 24}, `{"data":[],"model":"tiny","encoder":"%s"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Model = "tiny"
			r := w.do("GET", "/search"+tc.query, "")
			if want := fmt.Sprintf(tc.body, tc.want.Encoder) + "\n"; r.status != http.StatusOK || string(r.body) != want {
				t.Errorf("GET /search%.80s = %d %s, want %s", tc.query, r.status, r.body, want)
			}
			if asked != tc.want {
				t.Errorf("asked for %+v, want %+v", asked, tc.want)
			}
		})
	}
}

func TestSearchBadInput(t *testing.T) {
	var asked httpapi.SearchRequest
	w := searchable(t, &asked)
	for _, tc := range []struct {
		name, query string
		status      int
		param, text string
	}{
		{"both", "q=owl&like=a-0.png", http.StatusBadRequest, "like", "keep one"},
		{"too few", "k=0", http.StatusBadRequest, "k", "1 to 100"},
		{"too many", "q=owl&k=101", http.StatusBadRequest, "k", "1 to 100"},
		{"no number", "k=many", http.StatusBadRequest, "k", "whole number"},
		{"an empty number", "k=", http.StatusBadRequest, "k", "whole number"},
		{"long text", "q=" + strings.Repeat("x", leafserve.MaxPromptRunes+1), http.StatusBadRequest, "q", "4001 characters"},
		{"not UTF-8", "q=owl%ff", http.StatusBadRequest, "q", "UTF-8"},
		{"broken escape", "q=%zz", http.StatusBadRequest, "", "cannot be read"},
		{"unknown encoder", "q=owl&encoder=psychic", http.StatusBadRequest, "encoder", "robust, standard"},
		{"unknown model", "model=other", http.StatusBadRequest, "model", "tiny"},
		{"unknown parameter", "query=owl", http.StatusBadRequest, "query", "q, like"},
		{"unknown picture", "like=nosuch.png", http.StatusNotFound, "", "no picture"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("GET", "/search?"+tc.query, ""), tc.status, tc.param, tc.text)
		})
	}
}

// TestSearchIsLimited: reading a text counts, listing does not.
func TestSearchIsLimited(t *testing.T) {
	var asked httpapi.SearchRequest
	w := start(t, nil, func(cfg *httpapi.Config) {
		cfg.Limits.PerMinute = 1
		cfg.Search = func(context.Context, httpapi.SearchRequest) ([]httpapi.FoundPicture, error) { return nil, nil }
	})
	for _, tc := range []struct {
		query string
		want  int
	}{
		{"", http.StatusOK}, {"?q=owl", http.StatusOK}, {"?q=owl", http.StatusTooManyRequests}, {"?like=a-0.png", http.StatusOK}, {"", http.StatusOK},
	} {
		if r := w.do("GET", "/search"+tc.query, ""); r.status != tc.want {
			t.Errorf("GET /search%s = %d %s, want %d", tc.query, r.status, r.body, tc.want)
		}
	}
	wantError(t, searchable(t, &asked).do("POST", "/search", "{}"), http.StatusMethodNotAllowed, "", "GET")
	wantError(t, start(t, nil).do("GET", "/search", ""), http.StatusNotFound, "", "nothing at")
}
