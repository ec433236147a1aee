package keys_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"leafserve"
	"leafserve/keys"
)

var now = time.Date(2026, 11, 24, 16, 0, 0, 0, time.UTC)

func add(t *testing.T, path string, c leafserve.Client) string {
	t.Helper()
	token, err := keys.Add(path, c, now)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestAdd: the file says everything but the token, and only to its owner.
func TestAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "keys.yaml")
	shop := leafserve.Client{Name: "shop", Weight: 2.5, Queued: 50, Running: 4, PerMinute: 60}
	boss := leafserve.Client{Name: "boss", Admin: true}
	one, two := add(t, path, shop), add(t, path, boss)
	if len(one) != len("ls_")+43 || !strings.HasPrefix(one, "ls_") || one == two {
		t.Errorf("tokens %q and %q, want two of ls_ and 256 bits", one, two)
	}
	all, err := keys.Read(path)
	if err != nil || len(all) != 2 || all[0].Client() != shop || all[1].Client() != boss || !all[0].Created.Equal(now) {
		t.Errorf("Read = %+v, %v, want %+v and %+v", all, err, shop, boss)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(one[3:])) || !bytes.Contains(raw, []byte(all[0].SHA256)) {
		t.Errorf("the file has a token in it, or no hash:\n%s", raw)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestAddRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	add(t, path, leafserve.Client{Name: "shop"})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		client leafserve.Client
		kind   leafserve.Kind
		text   string
	}{
		{"no name", leafserve.Client{}, leafserve.Invalid, "1 to 64"},
		{"long name", leafserve.Client{Name: strings.Repeat("a", 65)}, leafserve.Invalid, "1 to 64"},
		{"capital", leafserve.Client{Name: "Shop"}, leafserve.Invalid, "1 to 64"},
		{"line break", leafserve.Client{Name: "shop\n"}, leafserve.Invalid, "1 to 64"},
		{"colon", leafserve.Client{Name: "a:b"}, leafserve.Invalid, "1 to 64"},
		{"weight below 0", leafserve.Client{Name: "a", Weight: -1}, leafserve.Invalid, "weight of a is -1"},
		{"queued below 0", leafserve.Client{Name: "a", Queued: -1}, leafserve.Invalid, "queued of a is -1"},
		{"running below 0", leafserve.Client{Name: "a", Running: -2}, leafserve.Invalid, "running of a is -2"},
		{"rate below 0", leafserve.Client{Name: "a", PerMinute: -3}, leafserve.Invalid, "per-minute of a is -3"},
		{"taken", leafserve.Client{Name: "shop"}, leafserve.Conflict, "revoke it first"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := keys.Add(path, tc.client, now)
			if leafserve.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Add = %v, want %s that says %q", err, tc.kind, tc.text)
			}
		})
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is now %s (%v)", after, err)
	}
}

// TestAddAtOnce: edits of several processes lose none.
func TestAddAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	const n = 20
	var callers sync.WaitGroup
	for i := range n {
		callers.Go(func() { add(t, path, leafserve.Client{Name: strings.Repeat("a", i+1)}) })
	}
	callers.Wait()
	if all, err := keys.Read(path); err != nil || len(all) != n {
		t.Errorf("%d keys (%v), want %d", len(all), err, n)
	}
}

func TestRevoke(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "keys.yaml")
	if err := keys.Revoke(path, "shop"); leafserve.KindOf(err) != leafserve.NotFound {
		t.Errorf("without a file: %v", err)
	}
	add(t, path, leafserve.Client{Name: "shop"})
	if err := keys.Revoke(path, "shop"); leafserve.KindOf(err) != leafserve.Conflict || !strings.Contains(err.Error(), "last key") {
		t.Errorf("the last key: %v", err)
	}
	add(t, path, leafserve.Client{Name: "lab"})
	if err := keys.Revoke(path, "nobody"); leafserve.KindOf(err) != leafserve.NotFound {
		t.Errorf("a name without a key: %v", err)
	}
	if err := keys.Revoke(path, "shop"); err != nil {
		t.Error(err)
	}
	if all, err := keys.Read(path); err != nil || len(all) != 1 || all[0].Name != "lab" {
		t.Errorf("left: %+v (%v), want lab", all, err)
	}
}

func TestReadRefuses(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for _, tc := range []struct{ name, text, says string }{
		{"empty", "", "has no key in it"},
		{"comments", "# nothing\n", "has no key in it"},
		{"no keys", "keys: []\n", "has no key in it"},
		{"no YAML", "keys: [", "is not YAML"},
		{"a list", "- name: a\n", "is no file of keys"},
		{"unknown field", "keys:\n- {name: a, sha256: " + sum + ", token: ls_x}\n", "is no file of keys"},
		{"text for a number", "keys:\n- {name: a, sha256: " + sum + ", queued: many}\n", "is no file of keys"},
		{"no hash", "keys:\n- {name: a}\n", "sha256 of a is not"},
		{"token for a hash", "keys:\n- {name: a, sha256: ls_" + sum[:61] + "}\n", "sha256 of a is not"},
		{"capital hash", "keys:\n- {name: a, sha256: " + strings.Repeat("A", 64) + "}\n", "sha256 of a is not"},
		{"no number", "keys:\n- {name: a, sha256: " + sum + ", weight: .nan}\n", "weight of a is NaN"},
		{"endless", "keys:\n- {name: a, sha256: " + sum + ", weight: .inf}\n", "weight of a is +Inf"},
		{"name twice", "keys:\n- {name: a, sha256: " + sum + "}\n- {name: a, sha256: " + strings.Repeat("1", 64) + "}\n", "twice"},
		{"hash twice", "keys:\n- {name: a, sha256: " + sum + "}\n- {name: b, sha256: " + sum + "}\n", "b, or its sha256, is there twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.yaml")
			write(t, path, tc.text)
			_, err := keys.Read(path)
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("Read = %v, want Invalid that names the file and says %q", err, tc.says)
			}
			if _, err := keys.Watch(path, slog.Default()); err == nil {
				t.Error("Watch takes it")
			}
		})
	}
	if _, err := keys.Read(t.TempDir()); err == nil {
		t.Error("a folder is taken for a file")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ring is a Ring with its log.
type ring struct {
	*keys.Ring
	log bytes.Buffer
}

func watch(t *testing.T, path string) *ring {
	t.Helper()
	r := &ring{}
	var err error
	if r.Ring, err = keys.Watch(path, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

// wants checks who holds each of tokens; "-" is nobody.
func (r *ring) wants(t *testing.T, when string, tokens []string, names ...string) {
	t.Helper()
	var got []string
	for _, token := range tokens {
		c, ok := r.Client(token)
		if !ok {
			c.Name = "-"
		}
		got = append(got, c.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s: tokens belong to %q, want %q", when, got, names)
	}
}

// TestRingFollowsTheFile: what the file says counts from the next request on,
// and what is no file of keys changes nothing.
func TestRingFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	r := watch(t, path)
	r.wants(t, "no file", []string{"", "ls_any"}, "", "")

	shop := add(t, path, leafserve.Client{Name: "shop"})
	asked := []string{"", "ls_any", shop, strings.ToUpper(shop), shop + "x", " " + shop}
	r.wants(t, "one key", asked, "-", "-", "shop", "-", "-", "-")

	lab := add(t, path, leafserve.Client{Name: "lab", Admin: true})
	asked = []string{"", shop, lab}
	r.wants(t, "two keys", asked, "-", "shop", "lab")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"", "keys: []", "keys: [", "nonsense"} {
		write(t, path, broken)
		r.log.Reset()
		r.wants(t, "file that says "+broken, asked, "-", "shop", "lab")
		if n := strings.Count(r.log.String(), "level=ERROR"); n != 1 {
			t.Errorf("file that says %q: %d lines in the log, want 1:\n%s", broken, n, r.log.String())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.log.Reset()
	r.wants(t, "file gone", asked, "-", "shop", "lab")
	if n := strings.Count(r.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("file gone: %d lines in the log, want 1:\n%s", n, r.log.String())
	}
	write(t, path, string(good))
	if err := keys.Revoke(path, "shop"); err != nil {
		t.Fatal(err)
	}
	r.wants(t, "one revoked", asked, "-", "-", "lab")
	if c, _ := r.Client(lab); !c.Admin {
		t.Error("lab is no admin")
	}
}

// TestRingUnreadable: a file that may not be read is no reason to open the
// service, nor to start it.
func TestRingUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	shop := add(t, path, leafserve.Client{Name: "shop"})
	r := watch(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // unreadable also for root
		t.Fatal(err)
	}
	r.wants(t, "a folder in its place", []string{"", shop}, "-", "shop")
	if _, err := keys.Watch(path, slog.Default()); err == nil {
		t.Error("Watch takes a folder")
	}
}

func BenchmarkClient(b *testing.B) {
	path := filepath.Join(b.TempDir(), "keys.yaml")
	var token string
	for i := range 100 {
		var err error
		if token, err = keys.Add(path, leafserve.Client{Name: strings.Repeat("a", i%60+1) + string(rune('a'+i/60))}, now); err != nil {
			b.Fatal(err)
		}
	}
	r, err := keys.Watch(path, slog.Default())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok := r.Client(token); !ok {
			b.Fatal("not found")
		}
	}
}
