package main

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/internal/leaftest/browser"
)

// TestServeWithKeys: a server that is open to a network says so; its first key
// closes it without a restart, and then the page asks a person for one.
func TestServeWithKeys(t *testing.T) {
	data := t.TempDir()
	args := []string{"serve", "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", data}
	p := launch(t, append(args, "--addr", "0.0.0.0:0")...)
	p.url = p.waitFor(p.stdout, greeting)[1]
	p.waitFor(p.stdout, regexp.MustCompile(`keys +none, so whoever reaches this address may use it`))
	const request = `{"prompt":"a cat","seed":1,"steps":1}`
	p.call(http.StatusOK, "POST", "/generate", request)

	file := filepath.Join(data, "keys.yaml")
	key := strings.TrimSpace(leafserveOutput(t, "keys", "new", "shop", "--keys", file))
	p.call(http.StatusUnauthorized, "POST", "/generate", request)
	p.call(http.StatusOK, "POST", "/generate", request, "Authorization", "Bearer "+key)
	p.call(http.StatusForbidden, "GET", "/queue", "", "Authorization", "Bearer "+key)

	tab := browser.Visit(t, browser.Start(t), p.url, "")
	tab.Wait(`keybox.open`)
	tab.Fill("apikey", key)
	tab.Click("Use this key")
	tab.Wait(`document.querySelector('#model').value`)
	tab.Fill("prompt", "a cat")
	tab.Click("Make picture")
	tab.Wait(`(img => img && img.complete && img.naturalWidth > 0 && img.src.includes('/images/'))(document.querySelector('#result img'))`)

	leafserveOutput(t, "keys", "new", "lab", "--keys", file)
	leafserveOutput(t, "keys", "revoke", "shop", "--keys", file)
	p.call(http.StatusUnauthorized, "GET", "/v1/models", "", "Authorization", "Bearer "+key)
}
