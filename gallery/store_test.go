package gallery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// eachStore runs a test on every kind of store.
func eachStore(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("folder", func(t *testing.T) { test(t, openFolder(t)) })
	t.Run("memory", func(t *testing.T) { test(t, openStore(t, "mem://")) })
	t.Run("s3", func(t *testing.T) { test(t, openStore(t, leaftest.NewS3(t).URL())) })
}

func openStore(t testing.TB, address string) Store {
	t.Helper()
	s, err := OpenStore(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustPut(t testing.TB, s Store, name, data string) {
	t.Helper()
	if err := s.Put(t.Context(), name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// read gives the bytes of a file, or the error of Get.
func read(t testing.TB, s Store, name string) (string, error) {
	t.Helper()
	r, _, err := s.Get(t.Context(), name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

func wantKind(t testing.TB, what string, err error, want leafserve.Kind) {
	t.Helper()
	if got := leafserve.KindOf(err); got != want {
		t.Errorf("%s: error %v is %q, want %q", what, err, got, want)
	}
}

func TestStore(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store) {
		before := time.Now().Add(-2 * time.Second) // file systems and stores may keep whole seconds
		mustPut(t, s, "a-0.png", "first")
		mustPut(t, s, "a-0.png", "second")
		mustPut(t, s, "empty", "")
		for name, want := range map[string]string{"a-0.png": "second", "empty": ""} {
			if got, err := read(t, s, name); got != want || err != nil {
				t.Errorf("Get(%s) = %q, %v, want %q", name, got, err, want)
			}
		}
		file, stored, err := s.Get(t.Context(), "a-0.png")
		if err != nil {
			t.Fatal(err)
		}
		if stored.Before(before) || stored.After(time.Now().Add(2*time.Second)) {
			t.Errorf("stored at %v, want about now", stored)
		}
		if err := errors.Join(file.Close(), s.Delete(t.Context(), "a-0.png")); err != nil {
			t.Fatal(err)
		}
		_, err = read(t, s, "a-0.png")
		wantKind(t, "Get after Delete", err, leafserve.NotFound)
		wantKind(t, "second Delete", s.Delete(t.Context(), "a-0.png"), leafserve.NotFound)
	})
}

func TestStoreNames(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store) {
		for _, name := range []string{"", ".", "..", ".hidden", ".clock", "../a.png", "a/b.png", `a\b.png`, "A.png", "ä.png", "a b", "a\x00b", "a\n", strings.Repeat("a", 201)} {
			_, _, err := s.Get(t.Context(), name)
			wantKind(t, fmt.Sprintf("Get(%q)", name), err, leafserve.NotFound)
			wantKind(t, fmt.Sprintf("Put(%q)", name), s.Put(t.Context(), name, []byte("x")), leafserve.NotFound)
			wantKind(t, fmt.Sprintf("Delete(%q)", name), s.Delete(t.Context(), name), leafserve.NotFound)
		}
		for _, name := range []string{"a", "01j8x.png", "a..b", "-", "_", strings.Repeat("a", 200)} {
			mustPut(t, s, name, "x")
		}
	})
}

// TestStoreRanges reads here and there, as a range request does, in a file that is
// large enough for S3's clients to send it in parts.
func TestStoreRanges(t *testing.T) {
	const size = 20 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	eachStore(t, func(t *testing.T, s Store) {
		mustPut(t, s, "large.png", string(data))
		file, _, err := s.Get(t.Context(), "large.png")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if end, err := file.Seek(0, io.SeekEnd); end != size || err != nil {
			t.Fatalf("the end is at %d, %v, want %d", end, err, size)
		}
		for _, at := range []int64{size - 5, 0, 1 << 20, 7} {
			part := make([]byte, 5)
			if _, err := file.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(file, part); err != nil || !bytes.Equal(part, data[at:at+5]) {
				t.Errorf("5 bytes at %d = %q, %v, want %q", at, part, err, data[at:at+5])
			}
		}
	})
}

// TestStoreNeverHalfAFile: readers beside writers of one name see one whole
// version.
func TestStoreNeverHalfAFile(t *testing.T) {
	const size = 100_000
	eachStore(t, func(t *testing.T, s Store) {
		mustPut(t, s, "a", strings.Repeat("0", size))
		var writers sync.WaitGroup
		for w := range 3 {
			writers.Go(func() {
				for i := range 30 {
					if err := s.Put(t.Context(), "a", bytes.Repeat([]byte{byte('0' + w*3 + i%3)}, size)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		for reading := true; reading; {
			select {
			case <-done:
				reading = false
			default:
			}
			got, err := read(t, s, "a")
			if err != nil || len(got) != size || strings.Count(got, got[:1]) != size {
				t.Fatalf("read %d bytes, %v; want %d equal ones", len(got), err, size)
			}
		}
		if n, err := s.Sweep(t.Context(), -time.Hour); n != 1 || err != nil {
			t.Errorf("Sweep = %d, %v: want nothing but the one file", n, err)
		}
	})
}

// TestStoreSweep: what is young stays, and several may sweep at once.
func TestStoreSweep(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store) {
		const files = 40
		for i := range files {
			mustPut(t, s, fmt.Sprintf("p%d.png", i), "x")
		}
		if err := s.Index().Add(t.Context(), entriesOf(unit(1, 1, 2))...); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Sweep(t.Context(), time.Hour); n != 0 || err != nil {
			t.Errorf("Sweep of what is an hour old = %d, %v, want 0", n, err)
		}
		var sweepers sync.WaitGroup
		removed := make([]int, 3)
		for i := range removed {
			sweepers.Go(func() {
				var err error
				if removed[i], err = s.Sweep(t.Context(), -time.Hour); err != nil {
					t.Error(err)
				}
			})
		}
		sweepers.Wait()
		if removed[0]+removed[1]+removed[2] < files {
			t.Errorf("three sweepers removed %v, want %d in all", removed, files)
		}
		_, err := read(t, s, "p0.png")
		wantKind(t, "Get after Sweep", err, leafserve.NotFound)
		if got := names(t)(s.Index().Of("").Newest(t.Context(), 9)); got != "p00000" {
			t.Errorf("the index has %q, want its entry", got)
		}
	})
}

// storeCalls are all that a Store and its index do.
func storeCalls(s Store) map[string]func(context.Context) error {
	x := s.Index()
	return map[string]func(context.Context) error{
		"Put":    func(ctx context.Context) error { return s.Put(ctx, "a.png", []byte("x")) },
		"Get":    func(ctx context.Context) error { _, _, err := s.Get(ctx, "a.png"); return err },
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "a.png") },
		"Sweep":  func(ctx context.Context) error { _, err := s.Sweep(ctx, time.Hour); return err },
		"Add":    func(ctx context.Context) error { return x.Add(ctx, Entry{Name: "a.png"}) },
		"Newest": func(ctx context.Context) error { _, err := x.Of("").Newest(ctx, 1); return err },
		"Prune":  func(ctx context.Context) error { _, err := x.Prune(ctx); return err },
	}
}

func TestStoreCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	eachStore(t, func(t *testing.T, s Store) {
		mustPut(t, s, "a.png", "x")
		for name, call := range storeCalls(s) {
			wantKind(t, name, call(ctx), leafserve.Canceled)
		}
		if got, err := read(t, s, "a.png"); got != "x" || err != nil {
			t.Errorf("the file is %q, %v", got, err)
		}
	})
}

func TestOpenStoreWrong(t *testing.T) {
	leaftest.NewS3(t) // the environment
	for _, tc := range []struct{ address, want string }{
		{"", "want file:///folder, mem:// or s3://"},
		{"/srv/pictures", "want file:///folder"},
		{"ftp://host/x", "want file:///folder"},
		{"file://host/x", "want file:///folder"},
		{"file:relative", "want file:///folder"},
		{"file:///x?y=1", "want file:///folder"},
		{"mem://x", "want file:///folder"},
		{"s3:///prefix", "want file:///folder"},
		{"s3://bucket/%zz", "cannot be read"},
		{"s3://key:secret@bucket", "AWS_ACCESS_KEY_ID"},
		{"s3://bucket", "region="},
		{"s3://bucket?region=us-east-1&colour=red", `"colour"`},
		{"s3://bucket?region=us-east-1&use_path_style=perhaps", "use_path_style"},
	} {
		t.Run(tc.address, func(t *testing.T) {
			_, err := OpenStore(t.Context(), tc.address)
			wantKind(t, "OpenStore", err, leafserve.Invalid)
			if err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret@")) {
				t.Errorf("error %q, want %q in it and no secret", err, tc.want)
			}
		})
	}
}

// TestOpenStoreFile: a folder's files are in a folder of their own.
func TestOpenStoreFile(t *testing.T) {
	dir := t.TempDir()
	mustPut(t, openStore(t, "file://"+dir), "a.png", "x")
	folder, err := Open(dir + "/" + Place)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, folder, "a.png"); got != "x" || err != nil {
		t.Errorf("Get = %q, %v", got, err)
	}
}

// TestIndexEverywhere: an index that another process adds to, and prunes.
func TestIndexEverywhere(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store) {
		all := entriesOf(unit(2, 5, 5))
		all[1].Space, all[1].Embedding = "", nil
		reader, writer := s.Index(), s.Index()
		check := func(when, want string) {
			t.Helper()
			for name, x := range map[string]*Index{"reader": reader, "writer": writer, "a new one": s.Index()} {
				if got := names(t)(x.Of("").Newest(t.Context(), 9)); got != want {
					t.Errorf("%s, %s: %q, want %q", when, name, got, want)
				}
			}
		}
		check("at first", "")
		for _, e := range all[:4] {
			mustPut(t, s, e.Name, "picture")
		}
		if err := errors.Join(writer.Add(t.Context(), all[0], all[1]), writer.Add(t.Context()), writer.Add(t.Context(), all[2], all[0])); err != nil {
			t.Fatal(err)
		}
		check("after Add", "p00002 p00001 p00000")
		if n, err := writer.Prune(t.Context()); n != 0 || err != nil {
			t.Errorf("Prune of nothing = %d, %v", n, err)
		}
		check("after Prune", "p00002 p00001 p00000")
		if err := errors.Join(s.Delete(t.Context(), all[1].Name), writer.Add(t.Context(), all[3])); err != nil {
			t.Fatal(err)
		}
		if n, err := reader.Prune(t.Context()); n != 1 || err != nil {
			t.Errorf("Prune = %d, %v, want 1", n, err)
		}
		check("after a picture went", "p00003 p00002 p00000")
		hits, err := reader.Of("").Search(t.Context(), "a", all[2].Embedding, 1)
		if got := names(t)(hits, err); got != "p00002" || hits[0].Prompt != all[2].Prompt || hits[0].Seed != all[2].Seed || !hits[0].Created.Equal(all[2].Created) || !slices.Equal(hits[0].Embedding, rounded(t, all[2].Embedding)) {
			t.Errorf("Search = %+v, want %+v", hits, all[2])
		}
		for i := range 3 {
			if err := s.Delete(t.Context(), all[[]int{0, 2, 3}[i]].Name); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := writer.Prune(t.Context()); n != 3 || err != nil {
			t.Errorf("Prune of all = %d, %v, want 3", n, err)
		}
		check("at the end", "")
		wantKind(t, "Add of a name that cannot be", writer.Add(t.Context(), Entry{Name: "../x.png"}), leafserve.NotFound)
	})
}

// rounded is v as an index gives it back.
func rounded(t testing.TB, v Embedding) (back Embedding) {
	t.Helper()
	text, err := v.MarshalText()
	if err == nil {
		err = back.UnmarshalText(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// TestIndexTogether: several writers and several that prune lose nothing.
func TestIndexTogether(t *testing.T) {
	eachStore(t, func(t *testing.T, s Store) {
		const writers, each, gone = 4, 25, 20
		all := entriesOf(unit(5, writers*each+gone, 3))
		stay, leave := all[:writers*each], all[writers*each:]
		for _, e := range leave {
			mustPut(t, s, e.Name, "picture")
		}
		if err := s.Index().Add(t.Context(), leave...); err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		for w := range writers {
			running.Go(func() {
				x := s.Index()
				for _, e := range stay[w*each : (w+1)*each] {
					if err := errors.Join(s.Put(t.Context(), e.Name, nil), x.Add(t.Context(), e)); err != nil {
						t.Error(err)
					}
					if hits, err := x.Of("").Like(t.Context(), e.Name, 1); err != nil {
						t.Errorf("Like of what was just added = %v, %v", hits, err)
					}
				}
			})
		}
		for p := range 2 {
			running.Go(func() {
				x := s.Index()
				for i := p; i < gone; i += 2 {
					if err := s.Delete(t.Context(), leave[i].Name); err != nil {
						t.Error(err)
					}
					if _, err := x.Prune(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		x := s.Index()
		if _, err := x.Prune(t.Context()); err != nil {
			t.Error(err)
		}
		hits, err := x.Of("").Newest(t.Context(), 1000)
		if err != nil || len(hits) != len(stay) || hits[0].Name != stay[len(stay)-1].Name {
			t.Errorf("%d entries, %v, want %d", len(hits), err, len(stay))
		}
	})
}
