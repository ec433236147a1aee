package httpapi_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/internal/leaftest"
	"leafserve/keys"
	"leafserve/web"
)

// keyed is a world whose server has keys. shop, lab and boss, who is an admin,
// are the headers of requests with theirs.
type keyed struct {
	*world
	file            string
	shop, lab, boss string
}

// startKeyed is start with keys; shop may have two jobs waiting.
func startKeyed(t *testing.T, run leaftest.OneJob, tweak ...func(*httpapi.Config)) *keyed {
	t.Helper()
	k := &keyed{file: filepath.Join(t.TempDir(), "keys.yaml")}
	k.shop = k.add(t, leafserve.Client{Name: "shop", Queued: 2})
	k.lab = k.add(t, leafserve.Client{Name: "lab"})
	k.boss = k.add(t, leafserve.Client{Name: "boss", Admin: true})
	ring, err := keys.Watch(k.file, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	k.world = start(t, run, append(tweak, func(c *httpapi.Config) { c.Who = ring.Client })...)
	return k
}

func (k *keyed) add(t *testing.T, c leafserve.Client) string {
	t.Helper()
	token, err := keys.Add(k.file, c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + token
}

// TestKeyNeeded: without a key, or with one that nobody has, there is nothing
// but probes, the page and pictures.
func TestKeyNeeded(t *testing.T) {
	k := startKeyed(t, nil)
	public := []string{"/healthz", "/readyz", "/"}
	files, err := fs.Glob(web.Files(), "*.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("page files: %v %v", files, err)
	}
	for _, name := range files {
		public = append(public, "/"+name)
	}
	made := parse[leafserve.Job](t, k.do("POST", "/generate", owl, k.shop))
	public = append(public, made.Images[0].URL)
	for _, path := range public {
		if r := k.do("GET", path, ""); r.status != http.StatusOK {
			t.Errorf("GET %s without a key = %d", path, r.status)
		}
	}
	token := strings.TrimPrefix(k.shop, "Authorization: Bearer ")
	for _, tc := range []struct{ name, header, says string }{
		{"no key", "X-Test: 1", "wants an API key"},
		{"another scheme", "Authorization: Basic " + token, "wants an API key"},
		{"no scheme", "Authorization: " + token, "wants an API key"},
		{"empty key", "Authorization: Bearer ", "wants an API key"},
		{"wrong key", "Authorization: Bearer ls_" + strings.Repeat("A", 43), "nobody has this API key"},
		{"part of a key", k.shop[:len(k.shop)-1], "nobody has this API key"},
		{"more than a key", k.shop + "A", "nobody has this API key"},
		{"two keys", k.shop + " " + token, "nobody has this API key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, ask := range [][3]string{
				{"POST", "/generate", owl}, {"POST", "/encode", `{"prompts":["a"]}`}, {"GET", "/jobs", ""}, {"GET", "/jobs/" + made.ID, ""},
				{"GET", "/jobs/" + made.ID + "/events", ""}, {"DELETE", "/jobs/" + made.ID, ""}, {"GET", "/v1/models", ""}, {"GET", "/queue", ""}, {"GET", "/nosuch", ""},
			} {
				r := k.do(ask[0], ask[1], ask[2], tc.header)
				if r.status == http.StatusTooManyRequests {
					continue // TestWrongKeys
				}
				wantError(t, r, http.StatusUnauthorized, "", tc.says)
				if got := r.header.Get("WWW-Authenticate"); got != `Bearer realm="leafserve"` {
					t.Errorf("WWW-Authenticate = %q", got)
				}
				if !strings.Contains(string(r.body), `"code":"no_key"`) || !strings.Contains(string(r.body), `"type":"authentication_error"`) {
					t.Errorf("body %s", r.body)
				}
			}
		})
	}
	if r := k.do("GET", "/v1/models", "", "Authorization: bearer "+token); r.status != http.StatusOK {
		t.Errorf("the scheme in small letters: %d", r.status)
	}
}

// TestWrongKeys: a program with an old key is slowed down, those beside it are not.
func TestWrongKeys(t *testing.T) {
	k := startKeyed(t, nil)
	var r reply
	for range 100 {
		if r = k.do("GET", "/v1/models", "", "Authorization: Bearer old"); r.status != http.StatusUnauthorized {
			break
		}
	}
	wantError(t, r, http.StatusTooManyRequests, "", "too many wrong API keys")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r := k.do("GET", "/v1/models", "", k.shop); r.status != http.StatusOK {
		t.Errorf("a right key from there: %d", r.status)
	}
	if r := k.do("GET", "/v1/models", ""); r.status != http.StatusUnauthorized {
		t.Errorf("no key from there: %d, want 401", r.status)
	}
}

// TestKeysChange: a new key is good, and a revoked one is not, from the next
// request on.
func TestKeysChange(t *testing.T) {
	k := startKeyed(t, nil)
	fresh := k.add(t, leafserve.Client{Name: "fresh"})
	if r := k.do("GET", "/v1/models", "", fresh); r.status != http.StatusOK {
		t.Errorf("a new key: %d", r.status)
	}
	if err := keys.Revoke(k.file, "shop"); err != nil {
		t.Fatal(err)
	}
	wantError(t, k.do("GET", "/v1/models", "", k.shop), http.StatusUnauthorized, "", "nobody has")
}

// TestJobsOfOthers: to other clients a job is one that never was; admins see all.
func TestJobsOfOthers(t *testing.T) {
	h := newHeld()
	k := startKeyed(t, h.run)
	defer close(h.release)
	mine := parse[leafserve.Job](t, k.do("POST", "/generate", owl, k.shop, "Prefer: respond-async")).ID
	<-h.started
	theirs := parse[leafserve.Job](t, k.do("POST", "/generate", owl, k.lab, "Prefer: respond-async")).ID
	for _, tc := range []struct {
		name, key string
		sees      []string // newest first
	}{
		{"shop", k.shop, []string{mine}}, {"lab", k.lab, []string{theirs}}, {"boss", k.boss, []string{theirs, mine}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var listed []string
			for _, job := range parse[struct{ Data []leafserve.Job }](t, k.do("GET", "/jobs", "", tc.key)).Data {
				listed = append(listed, job.ID)
			}
			if !slices.Equal(listed, tc.sees) {
				t.Errorf("GET /jobs = %v, want %v", listed, tc.sees)
			}
			for _, id := range []string{mine, theirs} {
				r := k.do("GET", "/jobs/"+id, "", tc.key)
				if slices.Contains(tc.sees, id) {
					if r.status != http.StatusOK {
						t.Errorf("GET /jobs/%s = %d", id, r.status)
					}
					continue
				}
				never := k.do("GET", "/jobs/"+strings.Repeat("0", 26), "", tc.key)
				unseen := strings.ReplaceAll(string(never.body), strings.Repeat("0", 26), id)
				for _, r := range []reply{r, k.do("GET", "/jobs/"+id+"/events", "", tc.key), k.do("DELETE", "/jobs/"+id, "", tc.key)} {
					if r.status != http.StatusNotFound || string(r.body) != unseen {
						t.Errorf("%d %s, want 404 %s", r.status, r.body, unseen)
					}
				}
			}
		})
	}
	if job, err := k.queue.Job(context.Background(), mine); err != nil || job.State != leafserve.StateRunning {
		t.Fatalf("shop's job is %s (%v), want running still", job.State, err)
	}
	if r := k.do("DELETE", "/jobs/"+mine, "", k.boss); r.status != http.StatusOK {
		t.Errorf("an admin's DELETE = %d %s", r.status, r.body)
	}
	<-h.stopped
}

// TestKeysOfIdempotency: the same Idempotency-Key of two clients is two keys.
func TestKeysOfIdempotency(t *testing.T) {
	k := startKeyed(t, nil)
	one := k.do("POST", "/generate", owl, k.shop, "Idempotency-Key: k")
	two := k.do("POST", "/generate", `{"prompt":"another"}`, k.lab, "Idempotency-Key: k")
	if one.status != http.StatusOK || two.status != http.StatusOK || one.header.Get("X-Job-Id") == two.header.Get("X-Job-Id") {
		t.Errorf("%d %s and %d %s, want two jobs", one.status, one.header.Get("X-Job-Id"), two.status, two.header.Get("X-Job-Id"))
	}
	again := k.do("POST", "/generate", owl, k.shop, "Idempotency-Key: k")
	if again.header.Get("X-Job-Id") != one.header.Get("X-Job-Id") {
		t.Error("the same client's key made another job")
	}
}

// TestKeyLimits: a key's own bound on waiting jobs leaves the others alone.
func TestKeyLimits(t *testing.T) {
	h := newHeld()
	k := startKeyed(t, h.run)
	defer close(h.release)
	k.do("POST", "/generate", owl, k.lab, "Prefer: respond-async")
	<-h.started
	for i := range 2 {
		if r := k.do("POST", "/generate", owl, k.shop, "Prefer: respond-async"); r.status != http.StatusAccepted {
			t.Fatalf("job %d: %d %s", i+1, r.status, r.body)
		}
	}
	r := k.do("POST", "/generate", owl, k.shop, "Prefer: respond-async")
	wantError(t, r, http.StatusTooManyRequests, "", "2 jobs of your key are waiting")
	checkRetry(t, r)
	if r := k.do("POST", "/generate", owl, k.lab, "Prefer: respond-async"); r.status != http.StatusAccepted {
		t.Errorf("another key: %d %s", r.status, r.body)
	}
}

// checkRetry wants the same wait in seconds and in milliseconds.
func checkRetry(t *testing.T, r reply) {
	t.Helper()
	var s, ms int
	_, err1 := fmt.Sscan(r.header.Get("Retry-After"), &s)
	_, err2 := fmt.Sscan(r.header.Get("Retry-After-Ms"), &ms)
	if err1 != nil || err2 != nil || ms <= 0 || s != (ms+999)/1000 {
		t.Errorf("Retry-After %q and %q ms, want the same time", r.header.Get("Retry-After"), r.header.Get("Retry-After-Ms"))
	}
}

// TestComputeLimitsOfKeys: each key has a share of its own, from one address.
func TestComputeLimitsOfKeys(t *testing.T) {
	k := startKeyed(t, nil, func(c *httpapi.Config) { c.Limits.PerMinute = 2 })
	const two = `{"prompts":["a","b"]}`
	for _, key := range []string{k.shop, k.lab} {
		if r := k.do("POST", "/encode", two, key); r.status != http.StatusOK {
			t.Errorf("first request of a key: %d %s", r.status, r.body)
		}
		wantError(t, k.do("POST", "/encode", two, key), http.StatusTooManyRequests, "", "your share of 2 texts")
	}
}

// TestSearchOfKeys: the gallery of a key is its own; admins see all.
func TestSearchOfKeys(t *testing.T) {
	var asked httpapi.SearchRequest
	k := startKeyed(t, newHeld().run, func(c *httpapi.Config) {
		c.Search = func(_ context.Context, r httpapi.SearchRequest) ([]httpapi.FoundPicture, error) {
			asked = r
			return nil, nil
		}
	})
	for key, want := range map[string]string{k.shop: "shop", k.boss: ""} {
		if r := k.do("GET", "/search?q=owl", "", key); r.status != http.StatusOK || asked.Client != want {
			t.Errorf("GET /search = %d for pictures of %q, want of %q", r.status, asked.Client, want)
		}
	}
}
