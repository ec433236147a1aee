package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestImage(t *testing.T) {
	w := start(t, nil)
	data := picture()
	if err := w.pictures.Put(t.Context(), "a-0.png", data); err != nil {
		t.Fatal(err)
	}
	r := w.do("GET", "/images/a-0.png", "")
	if r.status != http.StatusOK || !bytes.Equal(r.body, data) {
		t.Fatalf("got %d, %d bytes", r.status, len(r.body))
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "ETag": `"a-0.png"`, "X-Content-Type-Options": "nosniff",
		"Cache-Control": "public, max-age=31536000, immutable", "Accept-Ranges": "bytes",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	part := w.do("GET", "/images/a-0.png", "", "Range: bytes=1-3")
	if part.status != http.StatusPartialContent || !bytes.Equal(part.body, data[1:4]) || part.header.Get("Content-Range") != fmt.Sprintf("bytes 1-3/%d", len(data)) {
		t.Errorf("range: %d %q %q", part.status, part.body, part.header.Get("Content-Range"))
	}
	past := w.do("GET", "/images/a-0.png", "", "Range: bytes=99999-")
	wantError(t, past, http.StatusRequestedRangeNotSatisfiable, "", "Content-Range")
	if got := past.header.Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
		t.Errorf("416: Content-Type = %q, want JSON's", got)
	}
	if got := past.header.Get("Content-Range"); got != fmt.Sprintf("bytes */%d", len(data)) {
		t.Errorf("416: Content-Range = %q", got)
	}
	if got := w.do("GET", "/images/a-0.png", "", `If-None-Match: "a-0.png"`); got.status != http.StatusNotModified || len(got.body) > 0 {
		t.Errorf("If-None-Match: %d, %d bytes", got.status, len(got.body))
	}
	if got := w.do("HEAD", "/images/a-0.png", ""); got.status != http.StatusOK || got.header.Get("Content-Length") != fmt.Sprint(len(data)) {
		t.Errorf("HEAD: %d, Content-Length %q", got.status, got.header.Get("Content-Length"))
	}
}

func TestImageNotThere(t *testing.T) {
	w := start(t, nil)
	for _, name := range []string{"nosuch.png", "..%2Fserver.go.png", "%2Fetc%2Fpasswd", "a.txt", "UPPER.png", "%00.png", strings.Repeat("a", 5000) + ".png"} {
		t.Run(name[:min(len(name), 20)], func(t *testing.T) {
			r := w.do("GET", "/images/"+name, "")
			wantError(t, r, http.StatusNotFound, "", "picture")
			if r.header.Get("Cache-Control") != "no-store" || r.header.Get("ETag") != "" {
				t.Errorf("an error may be cached: %v", r.header)
			}
		})
	}
}
