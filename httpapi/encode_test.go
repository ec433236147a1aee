package httpapi_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/weights"
)

func TestEncodeJSON(t *testing.T) {
	w := start(t, nil)
	got := parse[struct {
		Model, Encoder string
		Tensors        map[string]struct {
			Shape []int
			DType string
			Data  string
		}
	}](t, w.do("POST", "/encode", `{"prompts":["abc",""],"encoder":"standard","outputs":["pooled"]}`))
	pooled := got.Tensors["pooled"]
	raw, err := base64.StdEncoding.DecodeString(pooled.Data)
	if got.Model != "tiny" || got.Encoder != "standard" || pooled.DType != "float32" || !slices.Equal(pooled.Shape, []int{2, 2}) || err != nil {
		t.Fatalf("answer = %+v, %v", got, err)
	}
	want := []byte{0, 0, 0x40, 0x40, 0, 0, 0, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0xbf} // 3, −½, 0, −½
	if !slices.Equal(raw, want) {
		t.Errorf("data = %x, want %x", raw, want)
	}
}

func TestEncodeSafetensors(t *testing.T) {
	r := start(t, nil).do("POST", "/encode", `{"prompts":["abc"]}`, "Accept: application/vnd.safetensors")
	if r.status != http.StatusOK || r.header.Get("Content-Type") != "application/vnd.safetensors" {
		t.Fatalf("got %d, %s", r.status, r.header.Get("Content-Type"))
	}
	file := filepath.Join(t.TempDir(), "a.safetensors")
	if err := os.WriteFile(file, r.body, 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := weights.ReadHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	pooled, err := entries["pooled"].Read()
	if err != nil || !slices.Equal(pooled.Data, []float32{3, -0.5}) {
		t.Errorf("pooled = %+v, %v", pooled, err)
	}
}

func TestEncodeBadInput(t *testing.T) {
	w := start(t, nil)
	for _, tc := range []struct {
		name, body, param, text string
	}{
		{"no prompts", `{}`, "prompts", "1 to 64"},
		{"65 prompts", `{"prompts":[` + strings.Repeat(`"a",`, 64) + `"a"]}`, "prompts", "65"},
		{"long prompt", `{"prompts":["a","` + strings.Repeat("a", 4001) + `"]}`, "prompts[1]", "prompts[1] has 4001"},
		{"prompt for prompts", `{"prompt":"a"}`, "prompt", "unknown field"},
		{"text for a list", `{"prompts":"a"}`, "prompts", "an array"},
		{"unknown encoder", `{"prompts":["a"],"encoder":"x"}`, "encoder", "robust, standard"},
		{"unknown model", `{"prompts":["a"],"model":"x"}`, "model", "tiny"},
		{"unknown output", `{"prompts":["a"],"outputs":["x"]}`, "outputs", "pooled"},
		{"clip_skip", `{"prompts":["a"],"clip_skip":2}`, "clip_skip", "0 to 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("POST", "/encode", tc.body), http.StatusBadRequest, tc.param, tc.text)
		})
	}
	wantError(t, w.do("POST", "/encode", `{"prompts":["a"]}`, "Accept: text/csv"), http.StatusNotAcceptable, "", "safetensors")
}
