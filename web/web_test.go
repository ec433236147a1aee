package web_test

import (
	"io/fs"
	"testing"

	"leafserve/web"
)

func TestFilesFitTheBudget(t *testing.T) {
	const budget = 150_000 // bytes, before compression
	total := int64(0)
	err := fs.WalkDir(web.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		total += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total == 0 || total > budget {
		t.Errorf("the page has %d bytes, want 1 to %d", total, budget)
	}
}
