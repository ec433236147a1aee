package gallery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"leafserve"
)

// unit gives n vectors of unit length, equal for equal seeds.
func unit(seed uint64, n, width int) []Embedding {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]Embedding, n)
	for i := range out {
		v, squares := make(Embedding, width), 0.0
		for k := range v {
			v[k] = float32(rng.NormFloat64())
			squares += float64(v[k]) * float64(v[k])
		}
		for k := range v {
			v[k] /= float32(math.Sqrt(squares))
		}
		out[i] = v
	}
	return out
}

// noon is when test pictures start to be made, one a second.
var noon = time.Date(2025, 1, 2, 12, 0, 0, 0, time.UTC)

// entriesOf makes an entry for each embedding.
func entriesOf(embeddings []Embedding) []Entry {
	out := make([]Entry, len(embeddings))
	for i, v := range embeddings {
		out[i] = Entry{
			Name: fmt.Sprintf("p%05d.png", i), Prompt: fmt.Sprintf("picture “%d”\n", i), Seed: math.MaxUint64 - uint64(i), Width: 64 + i, Height: 32,
			Created: noon.Add(time.Duration(i) * time.Second), Space: "a", Embedding: v,
		}
	}
	return out
}

// indexed opens a folder with entries in its index and a file for each.
func indexed(t testing.TB, entries ...Entry) *Folder {
	t.Helper()
	folder, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := folder.Put(t.Context(), e.Name, []byte("picture")); err != nil {
			t.Fatal(err)
		}
	}
	if err := folder.Index().Add(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	return folder
}

// names of hits, in order.
func names(t testing.TB) func(hits []Hit, err error) string {
	return func(hits []Hit, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range hits {
			out = append(out, strings.TrimSuffix(h.Name, ".png"))
		}
		return strings.Join(out, " ")
	}
}

// logged catches what is logged until the test ends.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

func TestIndexKeepsEntries(t *testing.T) {
	want := entriesOf(unit(1, 3, 5))
	want[1].Space, want[1].Embedding = "", nil
	folder := indexed(t, want...)
	hits, err := folder.Index().Of("").Newest(t.Context(), 10)
	if err != nil || len(hits) != 3 {
		t.Fatalf("Newest = %v, %v, want 3 entries", hits, err)
	}
	for i, h := range hits {
		w := want[2-i]
		for k, v := range h.Embedding {
			if math.Abs(float64(v-w.Embedding[k])) > 0.5/math.MaxInt16+1e-7 {
				t.Errorf("%s: value %d is %v, want %v", h.Name, k, v, w.Embedding[k])
			}
		}
		h.Embedding, w.Embedding = nil, nil
		got, _ := json.Marshal(h.Entry)
		if expected, _ := json.Marshal(w); string(got) != string(expected) || h.Score != 0 {
			t.Errorf("entry %s with score %v, want %s with 0", got, h.Score, expected)
		}
	}
}

// TestEmbeddingPrecision: fixed point moves a cosine by little.
func TestEmbeddingPrecision(t *testing.T) {
	for _, width := range []int{192, 768} {
		vectors := unit(7, 200, width)
		worst := 0.0
		for i := range vectors[1:] {
			var back Embedding
			text, err := vectors[i].MarshalText()
			if err == nil {
				err = back.UnmarshalText(text)
			}
			if err != nil {
				t.Fatal(err)
			}
			worst = max(worst, math.Abs(dot(vectors[i], vectors[i+1])-dot(back, vectors[i+1])))
		}
		t.Logf("%d values: cosines off by at most %.1e", width, worst)
		if worst > 5e-5 || worst == 0 {
			t.Errorf("%d values: cosines off by at most %v, want 5e-5", width, worst)
		}
	}
	extreme, err := Embedding{-1, 1, 1.5, -1.5, 0}.MarshalText()
	var back Embedding
	if err != nil || back.UnmarshalText(extreme) != nil || !slices.Equal(back, Embedding{-1, 1, 1, -1, 0}) {
		t.Errorf("the ends of the range come back as %v, %v", back, err)
	}
	for _, text := range []string{"AA==", "AAAA", "%"} { // one byte, three, no base64
		if back.UnmarshalText([]byte(text)) == nil {
			t.Errorf("UnmarshalText(%q) gives no error", text)
		}
	}
}

// TestIndexSeesOtherProcesses: whoever reads knows what others added, took out
// or replaced since.
func TestIndexSeesOtherProcesses(t *testing.T) {
	all := entriesOf(unit(2, 4, 5))
	folder, log := indexed(t, all[:2]...), logged(t)
	reader, writer := folder.Index(), folder.Index()
	check := func(when, want string) {
		t.Helper()
		if got := names(t)(reader.Of("").Newest(t.Context(), 9)); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	check("at first", "p00001 p00000")
	if err := writer.Add(t.Context(), all[2]); err != nil {
		t.Fatal(err)
	}
	check("after another's Add", "p00002 p00001 p00000")
	if err := folder.Delete(t.Context(), "p00001.png"); err != nil {
		t.Fatal(err)
	}
	if err := folder.Put(t.Context(), "p00002.png", nil); err != nil {
		t.Fatal(err)
	}
	if n, err := writer.Prune(t.Context()); n != 1 || err != nil {
		t.Errorf("Prune = %d, %v, want 1", n, err)
	}
	check("after another's Prune", "p00002 p00000")
	if n, err := reader.Prune(t.Context()); n != 0 || err != nil {
		t.Errorf("Prune again = %d, %v, want 0", n, err)
	}
	if err := errors.Join(folder.Put(t.Context(), "p00003.png", nil), writer.Add(t.Context(), all[3], all[3], all[0])); err != nil {
		t.Fatal(err)
	}
	check("after an Add to the new file, one entry twice and one known", "p00003 p00002 p00000")
	if got := names(t)(writer.Of("").Newest(t.Context(), 9)); got != "p00003 p00002 p00000" {
		t.Errorf("who pruned sees %s", got)
	}
	if err := os.Remove(filepath.Join(folder.dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	check("after the file has gone", "")
	if log.Len() != 0 {
		t.Errorf("the log has %q, want nothing", log)
	}
}

// TestIndexAfterCrash cuts the file at every byte of its last record, as a crash
// would, and in its header.
func TestIndexAfterCrash(t *testing.T) {
	all := entriesOf(unit(3, 3, 2))
	folder := indexed(t, all[0], all[1])
	path := filepath.Join(folder.dir, indexFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	log := logged(t)
	for cut := range len(whole) {
		inHeader := cut < int(headerSize)
		if !inHeader && cut < last {
			continue
		}
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		x := folder.Index()
		want := map[bool]string{true: "", false: "p00000"}[inHeader]
		if got := names(t)(x.Of("").Newest(t.Context(), 9)); got != want {
			t.Errorf("cut at byte %d of %d: %q is left, want %q", cut, len(whole), got, want)
		}
		if err := x.Add(t.Context(), all[2]); err != nil {
			t.Fatal(err)
		}
		want = strings.TrimSpace("p00002 " + want)
		for _, x := range []*Index{x, folder.Index()} {
			if cut == len(whole)-1 { // only the end of the line was missing
				want = "p00002 p00001 p00000"
			}
			if got := names(t)(x.Of("").Newest(t.Context(), 9)); got != want {
				t.Errorf("cut at byte %d of %d, then an Add: %q, want %q", cut, len(whole), got, want)
			}
		}
	}
	if !strings.Contains(log.String(), "unreadable records of the picture index") {
		t.Errorf("nobody is told: %q", log)
	}
}

// TestIndexUnreadable: damage costs the lines it hits only.
func TestIndexUnreadable(t *testing.T) {
	all := entriesOf(unit(4, 2, 2))
	folder := indexed(t, all[0])
	path := filepath.Join(folder.dir, indexFile)
	for _, line := range []string{`{`, ``, `{}`, `{"name":"../../etc/passwd"}`, `{"name":"x.png","embedding":"AAA"}`, strings.Repeat("\x00", 1<<17)} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(f, line); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	log := logged(t)
	x := folder.Index()
	if err := x.Add(t.Context(), all[1]); err != nil {
		t.Fatal(err)
	}
	if got := names(t)(x.Of("").Newest(t.Context(), 9)); got != "p00001 p00000" {
		t.Errorf("%q is left, want both", got)
	}
	if !strings.Contains(log.String(), "n=6") {
		t.Errorf("the log has %q, want 6 records", log)
	}
}

// TestIndexLock: a second writer would have to wait, in this process and in any
// other.
func TestIndexLock(t *testing.T) {
	folder := indexed(t, entriesOf(unit(6, 1, 2))...)
	other, err := os.OpenFile(filepath.Join(folder.dir, lockFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	try := func() error { return syscall.Flock(int(other.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	unlock, err := (&lineFile{folder: folder}).lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := try(); err != syscall.EWOULDBLOCK {
		t.Errorf("a lock that is held: %v, want EWOULDBLOCK", err)
	}
	unlock()
	if err := try(); err != nil {
		t.Errorf("a lock that was given back: %v", err)
	}
}

// TestSweepLeavesTheIndex: the index is no picture, and follows the pictures.
func TestSweepLeavesTheIndex(t *testing.T) {
	folder := indexed(t, entriesOf(unit(6, 2, 2))...)
	x := folder.Index()
	if n, err := folder.Sweep(t.Context(), -time.Minute); n != 2 || err != nil {
		t.Fatalf("Sweep = %d, %v, want 2", n, err)
	}
	if n, err := x.Prune(t.Context()); n != 2 || err != nil {
		t.Errorf("Prune = %d, %v, want 2", n, err)
	}
	left, err := os.ReadFile(filepath.Join(folder.dir, indexFile))
	if err != nil || bytes.Contains(left, []byte("picture")) {
		t.Errorf("the file still has %q, %v", left, err)
	}
}

func TestIndexErrors(t *testing.T) {
	folder := indexed(t)
	wantKind(t, "Add of a name that cannot be", folder.Index().Add(t.Context(), Entry{Name: "../x.png"}), leafserve.NotFound)
	if err := os.RemoveAll(folder.dir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "Add", folder.Index().Add(t.Context(), Entry{Name: "a.png"}), leafserve.Unavailable)
	_, err := folder.Index().Prune(t.Context())
	wantKind(t, "Prune", err, leafserve.Unavailable)
	if hits, err := folder.Index().Of("").Newest(t.Context(), 3); len(hits) != 0 || err != nil {
		t.Errorf("Newest without a file = %v, %v, want nothing", hits, err)
	}
}

// FuzzIndexFile: whatever the file holds, nothing panics and what is added to it
// is found.
func FuzzIndexFile(f *testing.F) {
	header := newHeader()
	f.Add([]byte(""))
	f.Add([]byte(header[:10]))
	f.Add([]byte(header + `{"name":"a.png","space":"s","embedding":"AAAA"}` + "\n" + `{"name":"b`))
	f.Add([]byte(header + "null\n[]\n\n{\"name\":5}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		folder, err := Open(t.TempDir())
		if err == nil {
			err = os.WriteFile(filepath.Join(folder.dir, indexFile), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		x := folder.Index()
		if _, err := x.Of("").Search(t.Context(), "s", []float32{1, 0}, 5); err != nil {
			t.Fatal(err)
		}
		if err := x.Add(t.Context(), Entry{Name: "new-0.png", Space: "fuzz", Embedding: Embedding{0, 1}}); err != nil {
			t.Fatal(err)
		}
		if hits, err := x.Of("").Search(t.Context(), "fuzz", []float32{0, 1}, 100); err != nil || !slices.ContainsFunc(hits, func(h Hit) bool { return h.Name == "new-0.png" }) {
			t.Errorf("Search = %v, %v, want the new entry", hits, err)
		}
	})
}

func BenchmarkIndex(b *testing.B) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, width := range []int{192, 768} {
		folder, err := Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		all := entriesOf(unit(8, 100_000, width))
		if err := folder.Index().Add(b.Context(), all...); err != nil {
			b.Fatal(err)
		}
		query := unit(9, 1, width)[0]
		x := folder.Index()
		if _, err := x.Of("").Newest(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("search 100000 of %d", width), func(b *testing.B) {
			for b.Loop() {
				if hits, err := x.Of("").Search(b.Context(), "a", query, 100); err != nil || len(hits) != 100 {
					b.Fatal(len(hits), err)
				}
			}
		})
		b.Run(fmt.Sprintf("open 100000 of %d", width), func(b *testing.B) {
			for b.Loop() {
				if _, err := folder.Index().Of("").Newest(b.Context(), 1); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("add one to 100000 of %d", width), func(b *testing.B) {
			n := 0
			for b.Loop() {
				e := all[0]
				e.Name = fmt.Sprintf("new%d.png", n)
				if n++; folder.Index().Add(b.Context(), e) != nil {
					b.Fatal("Add failed")
				}
			}
		})
	}
}
