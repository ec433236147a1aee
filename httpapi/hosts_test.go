package httpapi_test

import (
	"net/http"
	"testing"

	"leafserve/httpapi"
)

// TestHost: over loopback a foreign name is refused, as DNS rebinding needs one.
func TestHost(t *testing.T) {
	w := start(t, nil, func(c *httpapi.Config) { c.Hosts = []string{"pictures.example"} })
	for _, tc := range []struct {
		host string
		want int
	}{
		{"localhost:8080", http.StatusOK},
		{"LOCALHOST", http.StatusOK},
		{"app.localhost", http.StatusOK},
		{"127.0.0.1:1", http.StatusOK},
		{"[::1]:8080", http.StatusOK},
		{"pictures.example", http.StatusOK},
		{"pictures.example.:443", http.StatusOK},
		{"evil.example", http.StatusMisdirectedRequest},
		{"localhost.evil.example", http.StatusMisdirectedRequest},
		{"127.0.0.1.evil.example", http.StatusMisdirectedRequest},
	} {
		t.Run(tc.host, func(t *testing.T) {
			req, err := http.NewRequest("GET", w.url+"/healthz", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tc.host
			r, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != tc.want {
				t.Errorf("Host %s: %d, want %d", tc.host, r.StatusCode, tc.want)
			}
		})
	}
}
