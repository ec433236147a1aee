package eval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leafserve"
)

// reopen opens the journal of dir and closes it when the test ends.
func reopen(t *testing.T, dir string, settings Settings) (*journal, string) {
	t.Helper()
	j, note, err := openJournal(dir, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j, note
}

func TestJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	here := Settings{Model: "m", Seed: 1}
	j, note := reopen(t, dir, here)
	if note != "" {
		t.Errorf("a new journal says %q", note)
	}
	for id, v := range map[string]damaged{"a": {"x", "y"}, "b": {"<z>"}} {
		if err := j.add(id, v); err != nil {
			t.Fatal(err)
		}
	}

	j, note = reopen(t, dir, here)
	if want := "going on after 2 finished cases"; !strings.Contains(note, want) {
		t.Errorf("opened again it says %q, want %q", note, want)
	}
	var got damaged
	if ok, err := j.find("b", &got); !ok || err != nil || got[0] != "<z>" {
		t.Errorf("case b is %v, %v, %v", got, ok, err)
	}
	if ok, _ := j.find("c", &got); ok {
		t.Error("case c was never finished")
	}

	j, note = reopen(t, dir, Settings{Model: "m", Seed: 2, Rho: 3})
	if want := "were others (rho, seed): starting anew"; !strings.Contains(note, want) || len(j.done) != 0 {
		t.Errorf("other settings: %q and %d cases, want %q and none", note, len(j.done), want)
	}
	j, note = reopen(t, dir, here)
	if want := "going on after 2 finished cases of these settings"; !strings.Contains(note, want) || len(j.done) != 2 {
		t.Errorf("back again: %q and %d cases, want %q and 2", note, len(j.done), want)
	}
}

// TestJournalIsTorn: what a crash left of a last line is dropped, and the next
// line is whole.
func TestJournalIsTorn(t *testing.T) {
	dir := t.TempDir()
	j, _ := reopen(t, dir, Settings{})
	for _, id := range []string{"a", "b"} {
		if err := j.add(id, 1); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "cases.jsonl")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw[:len(raw)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	j, _ = reopen(t, dir, Settings{})
	if len(j.done) != 1 {
		t.Errorf("%d cases of a torn file, want 1", len(j.done))
	}
	if err := j.add("c", 1); err != nil {
		t.Fatal(err)
	}
	if j, _ = reopen(t, dir, Settings{}); len(j.done) != 2 {
		t.Errorf("%d cases after one more, want 2", len(j.done))
	}
}

func TestJournalIsDamaged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cases.jsonl")
	if err := os.WriteFile(file, []byte("{\"key\":\"a\"}\n{\"key\n{\"key\":\"a\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, err := openJournal(dir, Settings{})
	if want := "cases.jsonl:2 is damaged"; err == nil || !strings.Contains(err.Error(), want) || leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("%v, want %q, Invalid", err, want)
	}
	if _, _, err := openJournal(file, Settings{}); leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("a file as folder: %v, want an Invalid error", err)
	}
}
