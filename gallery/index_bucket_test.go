package gallery

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// keysOf gives the parts of a bucket's index.
func keysOf(t testing.TB, b *Bucket) []string {
	t.Helper()
	keys, err := (&parts{bucket: b}).list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// fill stores entries, some a part, and their pictures.
func fill(t testing.TB, b *Bucket, all []Entry, some int) {
	t.Helper()
	x := b.Index()
	for part := range slices.Chunk(all, some) {
		for _, e := range part {
			mustPut(t, b, e.Name, "")
		}
		if err := x.Add(t.Context(), part...); err != nil {
			t.Fatal(err)
		}
	}
}

// size is the number of entries that an index has.
func size(t testing.TB, x *Index) int {
	t.Helper()
	hits, err := x.Of("").Newest(t.Context(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return len(hits)
}

// TestPartsAreJoined: prune makes few parts of many, leaves full ones alone and
// writes anew those whose pictures went.
func TestPartsAreJoined(t *testing.T) {
	b := openStore(t, "mem://").(*Bucket)
	all := entriesOf(make([]Embedding, 2*fullPart+300))
	fill(t, b, all, 7)
	x := b.Index()
	prune := func(want, wantParts int) []string {
		t.Helper()
		if n, err := x.Prune(t.Context()); n != want || err != nil {
			t.Errorf("Prune = %d, %v, want %d", n, err, want)
		}
		keys := keysOf(t, b)
		if len(keys) != wantParts {
			t.Errorf("%d parts, want %d", len(keys), wantParts)
		}
		return keys
	}
	keys := prune(0, 3)
	if again := prune(0, 3); !slices.Equal(keys, again) {
		t.Errorf("parts %v became %v though nothing went", keys, again)
	}
	if err := x.Add(t.Context(), all[0]); err != nil { // as a job that ran twice does
		t.Fatal(err)
	}
	for _, e := range all[:5] {
		if err := b.Delete(t.Context(), e.Name); err != nil {
			t.Fatal(err)
		}
	}
	later := prune(5, 3)
	if kept := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !slices.Contains(later, key) }); len(kept) != 1 {
		t.Errorf("parts %v became %v: want the full one that lost nothing as it was", keys, later)
	}
	if n, fresh := size(t, x), size(t, b.Index()); n != len(all)-5 || fresh != n {
		t.Errorf("%d entries, a new index has %d, want %d", n, fresh, len(all)-5)
	}
	if _, err := b.Sweep(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	prune(len(all)-5, 0)
}

// TestPartsDoubled: two processes that prune at once leave each entry twice,
// until the next prune.
func TestPartsDoubled(t *testing.T) {
	b := openStore(t, "mem://").(*Bucket)
	all := entriesOf(unit(3, 20, 2))
	fill(t, b, all, 1)
	first, second := &parts{bucket: b, known: map[string][]*Entry{}}, &parts{bucket: b, known: map[string][]*Entry{}}
	stored := map[string]bool{}
	for _, e := range all {
		stored[e.Name] = true
	}
	for _, p := range []*parts{first, second} {
		if err := p.refresh(t.Context(), newIndex(p)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*parts{first, second} {
		old := worthJoining(p.known, stored)
		kept, _ := join(p.known, old, stored)
		if err := p.replace(t.Context(), old, kept); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Index()
	if n, keys := size(t, x), keysOf(t, b); n != len(all) || len(keys) != 2 {
		t.Errorf("%d entries in %v, want %d in two parts", n, keys, len(all))
	}
	if n, err := x.Prune(t.Context()); n != 0 || err != nil {
		t.Errorf("Prune = %d, %v, want 0", n, err)
	}
	if n, keys := size(t, x), keysOf(t, b); n != len(all) || len(keys) != 1 {
		t.Errorf("%d entries in %v, want %d in one part", n, keys, len(all))
	}
}

// TestPartsPruneCutShort: a prune that dies at any of its requests loses no
// entry.
func TestPartsPruneCutShort(t *testing.T) {
	all := entriesOf(unit(4, 6, 2))
	for dies := range 100 {
		server := leaftest.NewS3(t)
		b := openStore(t, server.URL()).(*Bucket)
		fill(t, b, all, 1)
		ctx, cancel := context.WithCancel(t.Context())
		left := atomic.Int64{}
		left.Store(int64(dies))
		server.Watch(func(*http.Request) {
			if left.Add(-1) < 0 {
				cancel()
			}
		})
		_, err := b.Index().Prune(ctx)
		server.Watch(nil)
		if n := size(t, b.Index()); n != len(all) {
			t.Fatalf("dead at request %d: %d entries, want %d", dies, n, len(all))
		}
		cancel()
		if err == nil {
			t.Logf("a prune of %d parts makes %d requests", len(all), dies)
			return
		}
		wantKind(t, "Prune", err, leafserve.Canceled)
	}
	t.Error("no prune got to its end")
}

// TestPartGone: who lists a part that another process joins to others before it
// is read looks again.
func TestPartGone(t *testing.T) {
	server := leaftest.NewS3(t)
	b := openStore(t, server.URL()).(*Bucket)
	all := entriesOf(unit(5, 3, 2))
	fill(t, b, all, 1)
	pruned := false
	server.Watch(func(r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".jsonl") && !pruned {
			pruned = true
			server.Watch(nil)
			if _, err := b.Index().Prune(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	if n := size(t, b.Index()); n != len(all) || !pruned {
		t.Errorf("%d entries (another process pruned: %v), want %d", n, pruned, len(all))
	}
}

// TestPartsUnreadable: damage costs the lines it hits, and is cleaned up.
func TestPartsUnreadable(t *testing.T) {
	b := openStore(t, "mem://").(*Bucket)
	all := entriesOf(unit(6, 2, 2))
	fill(t, b, all, 2)
	foreign := partPrefix + "readme.txt"
	for key, data := range map[string]string{newPart(1): "{\n\n{}\n{\"name\":\"../../etc/passwd\"}\nend", newPart(2): "", foreign: "hands off"} {
		if err := b.blobs.WriteAll(t.Context(), key, []byte(data), nil); err != nil {
			t.Fatal(err)
		}
	}
	log := logged(t)
	x := b.Index()
	if n := size(t, x); n != 2 || !strings.Contains(log.String(), "n=4") {
		t.Errorf("%d entries, log %q, want 2 and 4 records left out", n, log)
	}
	if n, err := x.Prune(t.Context()); n != 0 || err != nil {
		t.Errorf("Prune = %d, %v", n, err)
	}
	log.Reset()
	if n := size(t, b.Index()); n != 2 || log.Len() > 0 {
		t.Errorf("after Prune: %d entries, log %q, want 2 and nothing", n, log)
	}
	if there, err := b.blobs.Exists(t.Context(), foreign); !there || err != nil {
		t.Errorf("somebody's file: %v, %v", there, err)
	}
}

// TestSearchesShareARefresh: a search that waited for another, which began after
// it was called, takes what that one learned; an error, too, but not the end of
// its caller.
func TestSearchesShareARefresh(t *testing.T) {
	server := leaftest.NewS3(t)
	x := openStore(t, server.URL()).Index()
	var requests atomic.Int64
	server.Watch(func(*http.Request) { requests.Add(1) })
	search := func(ctx context.Context, began time.Time, want leafserve.Kind, wantRequests int64) {
		t.Helper()
		x.began = began
		requests.Store(0)
		_, err := x.Of("").Newest(ctx, 1)
		wantKind(t, "Newest", err, want)
		if n := requests.Load(); n != wantRequests {
			t.Errorf("%d requests, want %d", n, wantRequests)
		}
	}
	before, after := time.Now(), time.Now().Add(time.Hour)
	search(t.Context(), before, "", 1)
	search(t.Context(), after, "", 0)
	server.Fail(http.StatusServiceUnavailable, "SlowDown")
	search(t.Context(), before, leafserve.Unavailable, 1)
	search(t.Context(), after, leafserve.Unavailable, 0)
	canceled, cancel := context.WithCancel(t.Context())
	server.Break(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	search(canceled, before, leafserve.Canceled, 1)
	if !x.began.IsZero() {
		t.Error("others would take a canceled search for theirs")
	}
	server.Break(nil)
	search(t.Context(), before, "", 1)
}

// BenchmarkBucketIndex is of 10,000 pictures at S3 over loopback.
func BenchmarkBucketIndex(b *testing.B) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, width := range []int{192, 768} {
		server := leaftest.NewS3(b)
		s := openStore(b, server.URL()).(*Bucket)
		all := entriesOf(unit(8, 10_000, width))
		fill(b, s, all, 1)
		open := func(b *testing.B) {
			for b.Loop() {
				if n := size(b, s.Index()); n != len(all) {
					b.Fatal(n)
				}
			}
		}
		b.Run(fmt.Sprintf("open 10000 of %d in as many parts", width), open)
		b.Run(fmt.Sprintf("prune 10000 of %d in as many parts", width), func(b *testing.B) {
			for range b.N { // the first does all the work
				if _, err := s.Index().Prune(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("open 10000 of %d", width), open)
		x, query := s.Index(), unit(9, 1, width)[0]
		search := func(b *testing.B) {
			if hits, err := x.Of("").Search(b.Context(), "a", query, 100); err != nil || len(hits) != 100 {
				b.Fatal(len(hits), err)
			}
		}
		b.Run(fmt.Sprintf("search 10000 of %d", width), func(b *testing.B) {
			for b.Loop() {
				search(b)
			}
		})
		b.Run(fmt.Sprintf("add one and search 10000 of %d", width), func(b *testing.B) {
			n := 0
			for b.Loop() {
				e := all[0]
				e.Name = fmt.Sprintf("new%d.png", n)
				n++
				if err := s.Index().Add(b.Context(), e); err != nil {
					b.Fatal(err)
				}
				search(b)
			}
		})
	}
}
