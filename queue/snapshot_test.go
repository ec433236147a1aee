package queue

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"leafserve"
)

// TestSnapshot: an embedded Redis that is saved and restored goes on as if
// nothing had happened: with the jobs that wait, in their order, with results,
// events, keys, dead letters and the client's bounds.
func TestSnapshot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue.jsonl")
	b := newRig(t, startEmbedded(t), Config{MaxAttempts: 1})
	bounded := leafserve.Submission{Client: leafserve.Client{Name: "a", Queued: 2}, IdempotencyKey: "k", Batch: "like"}
	done := b.submit(t, "done", nil, leafserve.Submission{})
	b.finish(t, b.claimed(t))
	dead := b.letter(t, "dead")
	waits := b.submit(t, "waits \u0000 ☃", nil, bounded)
	b.submit(t, "later", nil, of("a"))
	b.submit(t, "urgent", priority(5), leafserve.Submission{})
	far := time.Now().Add(time.Hour)
	b.submit(t, "delayed", func(r *leafserve.Request) { r.NotBefore = &far }, leafserve.Submission{})
	if err := Save(t.Context(), b.client, file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v, want 0600: prompts are nobody else's", info.Mode(), err)
	}
	events := b.follow(t, done.ID, "")

	again := newRig(t, startEmbedded(t), Config{MaxAttempts: 1})
	if err := Restore(t.Context(), again.client, file); err != nil {
		t.Fatal(err)
	}
	if got := again.follow(t, done.ID, ""); !slices.Equal(kinds(t, got), kinds(t, events)) || got[0].ID != events[0].ID {
		t.Errorf("events = %v, want %v", got, events)
	}
	if !again.detail(t, dead).Dead {
		t.Error("the dead letter is none any more")
	}
	if job, err := again.Enqueue(t.Context(), ask("waits \u0000 ☃"), bounded); err != nil || job.ID != waits.ID {
		t.Errorf("Enqueue of a known key = %v, %v, want job %s", job.ID, err, waits.ID)
	}
	bounded.IdempotencyKey = ""
	_, err := again.Enqueue(t.Context(), ask("one more"), bounded)
	wantKind(t, "Enqueue past the client's bound", err, leafserve.Busy)
	if got, want := again.order(t, 3), []string{"urgent", "waits \u0000 ☃", "later"}; !slices.Equal(got, want) {
		t.Errorf("claimed %q, want %q", got, want)
	}
	if stats := again.stats(t); stats.Delayed != 1 || stats.Running != 3 {
		t.Errorf("stats = %+v, want one delayed, three running", stats)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there (%v): a crash would run its jobs twice", err)
	}
	if err := Restore(t.Context(), again.client, file); err != nil {
		t.Errorf("Restore without a file: %v", err)
	}
}

// TestSnapshotExpired: what expired while nobody was there is not restored.
func TestSnapshotExpired(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue.jsonl")
	lines := `{"key":"old","until":1,"string":"x"}` + "\n" + `{"key":"new","until":99999999999999,"string":"y"}` + "\n"
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	client := startEmbedded(t)
	if err := Restore(t.Context(), client, file); err != nil {
		t.Fatal(err)
	}
	if got := client.Keys(t.Context(), "*").Val(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("keys = %v, want new only", got)
	}
}

func TestSnapshotDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue.jsonl")
	if err := os.WriteFile(file, []byte(`{"key":"a","string":"x"}`+"\n"+`{"key":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), startEmbedded(t), file); err == nil {
		t.Error("Restore of half a file gives no error")
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the damaged file is gone (%v), want it left for a person", err)
	}
}
