package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
)

// TestQueueCommand operates one queue, once in its Redis and once over a server
// with keys: both ways say the same.
func TestQueueCommand(t *testing.T) {
	redis, model, data := leaftest.Redis(t), leaftest.Model(t, "tiny-sd15"), t.TempDir()
	file := filepath.Join(data, "keys.yaml")
	admin := strings.TrimSpace(leafserveOutput(t, "keys", "new", "boss", "--admin", "--keys", file))
	shop := strings.TrimSpace(leafserveOutput(t, "keys", "new", "shop", "--keys", file))
	for _, tc := range []struct {
		name string
		how  func(queue string, api *process) []string
	}{
		{"redis", func(queue string, _ *process) []string { return []string{"--redis", redis.URL(), "--queue", queue} }},
		{"server", func(_ string, api *process) []string { return []string{"--server", api.url, "--key", admin} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := launchServer(t, "api", "--redis", redis.URL(), "--queue", tc.name, "--model", model, "--data-dir", data)
			how := tc.how(tc.name, api)
			q := func(args ...string) string {
				return leafserveOutput(t, append(append([]string{"queue"}, args...), how...)...)
			}
			operateQueue(t, api, shop, q)
		})
	}
}

// operateQueue goes through all subcommands with two jobs of shop.
func operateQueue(t *testing.T, api *process, shop string, q func(args ...string) string) {
	t.Helper()
	says := func(out, pattern string) {
		t.Helper()
		if !regexp.MustCompile(`(?m)` + pattern).MatchString(out) {
			t.Errorf("got\n%s\nwant a line like %s", out, pattern)
		}
	}
	says(q("pause"), `^Workers take no more jobs\.$`)
	var ids [2]string
	for i, prompt := range []string{"an owl", "a\u001b[2Jcat\n"} {
		body, _ := json.Marshal(map[string]any{"prompt": prompt, "priority": 5 * i})
		ids[i] = decodeJob(t, api.call(http.StatusAccepted, "POST", "/generate", string(body), "Prefer", "respond-async", "Authorization", "Bearer "+shop)).ID
	}
	says(q("stats"), `^takes jobs +yes$`)
	says(q("stats"), `^runs jobs +no$`)
	says(q("stats"), `^queued +2, 0 of them for later`)
	says(q("stats"), `^tiny-sd15 +5 +1 `)
	says(q("stats"), `^shop +2 +0$`)
	says(q("list"), `^`+ids[0]+` +queued +generate +0 +20.* an owl$`)
	says(q("list", "--state", "queued"), `^`+ids[1]+` +queued +generate +5 +20.* a \[2Jcat $`)
	if out := q("list", "--state", "running"); strings.Contains(out, ids[0]) {
		t.Errorf("a queued job is running:\n%s", out)
	}
	says(q("show", ids[0]), `^client +shop$`)
	says(q("show", ids[0]), `^prompt +an owl$`)
	api.call(http.StatusOK, "DELETE", "/jobs/"+ids[0], "", "Authorization", "Bearer "+shop)
	var again leafserve.Job
	if err := json.Unmarshal([]byte(q("retry", ids[0], "--json")), &again); err != nil || again.ID == ids[0] || again.Request.Prompt != "an owl" {
		t.Errorf("retry gives %+v (%v)", again, err)
	}
	says(q("drop", ids[0]), `^Job `+ids[0]+` is forgotten\.$`)
	says(q("list", "--limit", "1", "--json"), `"next": "`+again.ID+`"`)
	says(q("list", "--limit", "1", "--cursor", again.ID), `^`+ids[1])
	says(q("list", "--dead"), `^JOB +CLIENT +ATTEMPTS`)
	says(q("drain"), `^The queue takes no more jobs\.$`)
	api.call(http.StatusServiceUnavailable, "POST", "/generate", `{"prompt":"an owl"}`, "Authorization", "Bearer "+shop)
	says(q("resume", "--json"), `"accepting": true`)
	api.call(http.StatusOK, "GET", "/readyz", "")
}

// TestQueueWatch shows the figures until it is interrupted, which is a good end.
func TestQueueWatch(t *testing.T) {
	redis := leaftest.Redis(t)
	p := launch(t, "queue", "stats", "--watch", "--redis", redis.URL())
	p.waitFor(p.stdout, regexp.MustCompile(`(?s)takes jobs.*takes jobs`))
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitDone {
		t.Errorf("exit status %d, want 0:\n%s", code, p.stderr)
	}
}
