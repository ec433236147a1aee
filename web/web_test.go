package web_test

import (
	"io/fs"
	"testing"

	"leafserve/web"
)

func TestFilesFitTheBudget(t *testing.T) {
	const budget = 150_000 // bytes, before compression
	total := 0
	for _, name := range []string{"index.html", "style.css", "app.js", "api.js", "dom.js"} {
		data, err := fs.ReadFile(web.Files(), name)
		if err != nil {
			t.Fatalf("ReadFile(%q) = %v", name, err)
		}
		total += len(data)
	}
	if total > budget {
		t.Errorf("the page has %d bytes, want at most %d", total, budget)
	}
}
