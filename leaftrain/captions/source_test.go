package captions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// open opens a Source for a test.
func open(t testing.TB, cfg Config) *Source {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// next is Next without an error.
func next(t testing.TB, s *Source, n int) []string {
	t.Helper()
	batch, err := s.Next(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	if len(batch) != n {
		t.Fatalf("Next(%d) gives %d captions", n, len(batch))
	}
	return batch
}

// numbered gives the captions "NAME 0" to "NAME n-1".
func numbered(name string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(name, " ", i)
	}
	return out
}

// corpus writes 120 captions into files of all formats, some with empty ones
// between.
func corpus(t testing.TB) (cfg Config, all []string) {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"a.txt", "b.jsonl.gz", "c.csv", "d-0.tar", "d-1.tar", "e.tgz"} {
		captions := numbered(name, 5*(i+1)+i%2*5)
		write(t, filepath.Join(dir, name), encode(t, name, slices.Insert(slices.Clone(captions), 2, "", " ")))
		all = append(all, captions...)
	}
	return Config{Seed: 7, Buffer: 16, Files: []string{
		filepath.Join(dir, "a.txt"), filepath.Join(dir, "[bc].*"), filepath.Join(dir, "d-{0..1}.tar"), filepath.Join(dir, "e.tgz"),
	}}, all
}

// TestEpochs: an epoch gives every caption once, in an order of its own.
func TestEpochs(t *testing.T) {
	cfg, all := corpus(t)
	slices.Sort(all)
	for _, buffer := range []int{1, 2, 16, 0} {
		cfg.Buffer = buffer
		s := open(t, cfg)
		seen := map[string]bool{}
		for epoch := range 5 {
			got := next(t, s, len(all))
			if want := (Position{epoch, len(all)}); s.Position() != want || s.Empty() != 12 {
				t.Errorf("buffer %d: position %v with %d empty captions, want %v with 12", buffer, s.Position(), s.Empty(), want)
			}
			seen[strings.Join(got, "|")] = true
			if slices.Sort(got); !slices.Equal(got, all) {
				t.Errorf("buffer %d: epoch %d is %q, want %q", buffer, epoch, got, all)
			}
		}
		if len(seen) != 5 {
			t.Errorf("buffer %d: 5 epochs have %d orders", buffer, len(seen))
		}
	}
}

// TestOrder pins an order: other releases must give it too, or old runs could not
// be resumed.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		write(t, filepath.Join(dir, name), encode(t, name, numbered(name[:1], 3)))
	}
	cfg := Config{Files: []string{filepath.Join(dir, "*.txt")}, Buffer: 4, Seed: 42}
	got := strings.Join(next(t, open(t, cfg), 18), ", ")
	const want = "a 0, b 1, a 1, a 2, b 0, b 2, c 0, c 2, c 1, c 0, c 2, b 0, b 2, b 1, a 2, a 0, c 1, a 1"
	if got != want {
		t.Errorf("the order is %s, want %s", got, want)
	}
	cfg.Seed = 43
	if other := strings.Join(next(t, open(t, cfg), 18), ", "); other == got {
		t.Errorf("seed 43 gives the order of seed 42: %s", got)
	}
}

// TestUniform: where the buffer holds all, each of the 24 orders of 4 captions
// comes up about as often.
func TestUniform(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txt")
	write(t, file, []byte("a\nb\nc\nd\n"))
	s := open(t, Config{Files: []string{file}})
	const epochs = 4800
	orders := map[string]int{}
	for range epochs {
		orders[strings.Join(next(t, s, 4), "")]++
	}
	chi := 0.0 // χ² of 23 degrees of freedom: 49.7 is passed once in 1000
	for _, n := range orders {
		d := float64(n) - epochs/24
		chi += d * d / (epochs / 24)
	}
	if len(orders) != 24 || chi > 49.7 {
		t.Errorf("%d orders, χ² %.1f, want 24 and less than 49.7: %v", len(orders), chi, orders)
	}
}

// TestSeek: from any position, Next gives what an uninterrupted run gets.
func TestSeek(t *testing.T) {
	cfg, all := corpus(t)
	random := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		cfg.Buffer, cfg.Seed = 1+random.IntN(150), random.Uint64()
		through := open(t, cfg)
		next(t, through, 1+random.IntN(3*len(all)))
		at := through.Position()
		want := next(t, through, 1+random.IntN(2*len(all)))

		stored, err := json.Marshal(at)
		if err != nil {
			t.Fatal(err)
		}
		var p Position
		if err := json.Unmarshal(stored, &p); err != nil {
			t.Fatal(err)
		}
		resumed := open(t, cfg)
		next(t, resumed, 1+random.IntN(10)) // Seek goes back, too
		if err := resumed.Seek(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if resumed.Position() != at {
			t.Errorf("Seek(%v) goes to %v", at, resumed.Position())
		}
		for len(want) > 0 {
			n := min(len(want), 1+random.IntN(50))
			if got := next(t, resumed, n); !slices.Equal(got, want[:n]) {
				t.Fatalf("after Seek(%v) Next is %q, want %q", at, got, want[:n])
			}
			want = want[n:]
		}
		if resumed.Position() != through.Position() {
			t.Errorf("the resumed run is at %v, the other at %v", resumed.Position(), through.Position())
		}
	}
}

func TestSeekErrors(t *testing.T) {
	cfg, all := corpus(t)
	s := open(t, cfg)
	for _, tc := range []struct {
		name string
		to   Position
		want string
	}{
		{"before", Position{Epoch: -1}, "before the first caption"},
		{"negative", Position{Taken: -1}, "before the first caption"},
		{"beyond", Position{Epoch: 3, Taken: len(all) + 1}, "the files have 120 captions, but 121 were taken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantInvalid(t, s.Seek(t.Context(), tc.to), tc.want)
		})
	}
	if err := s.Seek(t.Context(), Position{Epoch: 3, Taken: len(all)}); err != nil {
		t.Errorf("the end of an epoch: %v", err)
	}
}

// TestInterrupted: a Next that fails takes nothing.
func TestInterrupted(t *testing.T) {
	cfg, all := corpus(t)
	want := next(t, open(t, cfg), 2*len(all))
	s := open(t, cfg)
	got := next(t, s, 10)
	for at := 10; at < len(want); at += 10 {
		if _, err := s.Next(&countdown{t.Context(), at}, 10_000); !errors.Is(err, context.Canceled) {
			t.Fatalf("Next is canceled with %v", err)
		}
		got = append(got, next(t, s, 10)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the interrupted stream is %q, want %q", got, want)
	}
}

// countdown is a context that is canceled when it has been looked at so often.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestBrokenLater: Open does not see what Next will, which says where it is; once
// it is mended, the stream goes on.
func TestBrokenLater(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txt")
	write(t, file, []byte("one\n\ntwo\nthr\xe9e\nfour\n"))
	s := open(t, Config{Files: []string{file}, Buffer: 1})
	got := next(t, s, 1)
	for range 2 {
		_, err := s.Next(t.Context(), 3)
		wantInvalid(t, err, "a.txt:4: not valid UTF-8")
	}
	write(t, file, []byte("one\n\ntwo\nthree\nfour\n"))
	got = append(got, next(t, s, 4)...)
	if want := []string{"one", "two", "three", "four", "one"}; !slices.Equal(got, want) {
		t.Errorf("the captions are %q, want %q", got, want)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err := s.Next(t.Context(), 10)
	wantInvalid(t, err, "there is no ")
	write(t, file, []byte("\n\n"))
	_, err = s.Next(t.Context(), 10)
	wantInvalid(t, err, "no captions")
}

// TestMemory: what is held does not grow with what was read.
func TestMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.txt")
	write(t, file, []byte(strings.Repeat(strings.Repeat("a cat on a mat, ", 16)+"\n", 64<<10))) // 16 MiB
	s := open(t, Config{Files: []string{file}, Buffer: 256})
	before := heap()
	for range 3 {
		next(t, s, 16<<10)
		if grown := int64(heap() - before); grown > 2<<20 {
			t.Errorf("%d bytes are held at %v, want at most 2 MiB", grown, s.Position())
		}
	}
	if len(s.epoch.buffer) > 256 || cap(s.epoch.buffer) > 1024 {
		t.Errorf("the buffer has %d of %d captions, want 256", len(s.epoch.buffer), cap(s.epoch.buffer))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestConfigJSON(t *testing.T) {
	want := Config{Files: []string{"a.csv"}, Format: "csv", Field: "title", Seed: 1<<64 - 1, Buffer: 5}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := json.Unmarshal(raw, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s is read as %+v, %v", raw, got, err)
	}
}
