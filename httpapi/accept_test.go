package httpapi

import (
	"net/http"
	"testing"
	"time"
)

func TestNegotiate(t *testing.T) {
	for _, tc := range []struct{ accept, want string }{
		{"", "application/json"},
		{"*/*", "application/json"},
		{"image/png", "image/png"},
		{"IMAGE/PNG", "image/png"},
		{"image/*", "image/png"},
		{"image/png, application/json", "application/json"},
		{"image/png, */*", "image/png"},
		{"application/json;q=0.5, image/png;q=0.4", "application/json"},
		{"image/*;q=0.8, application/json;q=0.2", "image/png"},
		{"image/*, image/png;q=0", "image/webp"},
		{"*/*;q=0.1, image/webp;q=0.1", "image/webp"},
		{"image/png;q=x", ""},
		{"text/html", ""},
		{"image/png;q=0", ""},
		{"nonsense", ""},
		{"text/html, application/xhtml+xml, */*;q=0.8", "application/json"},
	} {
		t.Run(tc.accept, func(t *testing.T) {
			if got := negotiate(http.Header{"Accept": {tc.accept}}, "application/json", "image/png", "image/webp"); got != tc.want {
				t.Errorf("negotiate(%q) = %q, want %q", tc.accept, got, tc.want)
			}
		})
	}
}

func TestPreferences(t *testing.T) {
	for _, tc := range []struct {
		name   string
		prefer []string
		want   preference
	}{
		{"none", nil, preference{wait: forever}},
		{"async", []string{"respond-async"}, preference{0, "respond-async"}},
		{"case and parameters", []string{"Respond-Async; foo=1"}, preference{0, "respond-async"}},
		{"wait", []string{"wait=5"}, preference{5 * time.Second, "wait=5"}},
		{"quoted", []string{`wait = "5"`}, preference{5 * time.Second, "wait=5"}},
		{"both in two headers", []string{"wait=5", "respond-async"}, preference{5 * time.Second, "wait=5, respond-async"}},
		{"the first counts", []string{"wait=5, wait=9"}, preference{5 * time.Second, "wait=5"}},
		{"unreadable", []string{"wait=soon, wait=-1, wait=99999999999999"}, preference{wait: forever}},
		{"others", []string{"return=minimal, handling=lenient"}, preference{wait: forever}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := preferences(http.Header{"Prefer": tc.prefer}); got != tc.want {
				t.Errorf("preferences(%q) = %+v, want %+v", tc.prefer, got, tc.want)
			}
		})
	}
}
