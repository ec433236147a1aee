package pipeline

import (
	"bytes"
	"context"
	"errors"
	"image"
	"io"
	"log/slog"
	"math"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"leafserve"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// search finds pictures of the default model by text.
func search(t *testing.T, m *Model, index *gallery.Index, encoder, text string, k int) []gallery.Hit {
	t.Helper()
	query, err := m.Encoders.Direction(context.Background(), encoder, text)
	if err != nil {
		t.Fatal(err)
	}
	space, err := m.Space()
	if err != nil {
		t.Fatal(err)
	}
	hits, err := index.Of("").Search(t.Context(), space, query, k)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// TestSearchByText generates pictures, in every format, and finds each by its
// prompt with both encoders, with a typo by the robust one, and by its likes.
func TestSearchByText(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	pictures, _ := folder(t)
	index := pictures.Index()
	run := m.Runner(pictures, index)
	for i, tc := range []struct{ prompt, format string }{
		{"a cartoon umbrella on a yellow background", "png"},
		{"a 3d whale on a gray background", "jpeg"},
		{"a flat clover on an orange background", "webp"},
	} {
		j := job(t, m, func(r *leafserve.Request) {
			r.Prompt, r.Scheduler, r.Steps, r.Seeds, r.Seed, r.OutputFormat = tc.prompt, "dpmpp_2m", ptr(12), []uint64{7, 8}, nil, tc.format
		})
		j.ID = []string{"UMBRELLA", "WHALE", "CLOVER"}[i]
		if _, err := leaftest.Run(context.Background(), run, j, func(any) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ encoder, text, want string }{
		{"standard", "a cartoon umbrella on a yellow background", "umbrella-"},
		{"robust", "a cartoon umbrella on a yellow background", "umbrella-"},
		{"standard", "whale", "whale-"},
		{"robust", "whale", "whale-"},
		{"robust", "clover", "clover-"},
		{"robust", "a cartoon umbrlela on a yellow background", "umbrella-"},
		{"robust", "a 3d whlae on a gray background", "whale-"},
		{"robust", "a flat colver on an orange background", "clover-"},
	} {
		hits := search(t, m, index, tc.encoder, tc.text, 9)
		if len(hits) != 6 {
			t.Fatalf("%d pictures found, want 6", len(hits))
		}
		t.Logf("%s %q: %s %.3f, %s %.3f, %s %.3f", tc.encoder, tc.text, hits[0].Name, hits[0].Score, hits[1].Name, hits[1].Score, hits[2].Name, hits[2].Score)
		if !strings.HasPrefix(hits[0].Name, tc.want) {
			t.Errorf("%s %q finds %s, want one of %s", tc.encoder, tc.text, hits[0].Name, tc.want)
		}
	}
	for _, name := range []string{"whale-0.jpeg", "clover-1.webp", "umbrella-0.png"} {
		hits, err := index.Of("").Like(t.Context(), name, 1)
		if err != nil || len(hits) != 1 || !strings.HasPrefix(hits[0].Name, name[:5]) || hits[0].Name == name {
			t.Errorf("Like(%s) = %v, %v, want the other one", name, hits, err)
		}
	}
	first := search(t, m, index, "robust", "umbrella", 1)[0].Entry
	if first.Prompt != "a cartoon umbrella on a yellow background" || first.Seed|15 != 15 || first.Width != 64 || first.Height != 64 || first.Created.IsZero() {
		t.Errorf("entry %+v", first)
	}
	// What the gallery holds is what the judge says of the pixels.
	judge, err := m.Judge()
	if err != nil {
		t.Fatal(err)
	}
	row, _ := embed(t, judge, []image.Image{stored(t, pictures, "umbrella-0.png")}, nil)
	hits, err := index.Of("").Search(t.Context(), judge.Space, row.Data, 1)
	if err != nil || hits[0].Name != "umbrella-0.png" || math.Abs(hits[0].Score-1) > 1e-4 {
		t.Errorf("Search with the picture's own embedding = %+v, %v", hits, err)
	}
}

// TestIndexWithoutCLIP: pictures can be listed, not searched.
func TestIndexWithoutCLIP(t *testing.T) {
	m := load(t, leaftest.Model(t, "tiny-sd15"))
	pictures, _ := folder(t)
	index := pictures.Index()
	j := job(t, m, nil)
	j.Client = "shop"
	if _, err := leaftest.Run(context.Background(), m.Runner(pictures, index), j, func(any) {}); err != nil {
		t.Fatal(err)
	}
	hits, err := index.Of("shop").Newest(t.Context(), 9)
	if err != nil || len(hits) != 2 || hits[0].Space != "" || hits[0].Embedding != nil {
		t.Errorf("Newest = %+v, %v, want two pictures without embedding", hits, err)
	}
	if space, err := m.Space(); space != "" || err != nil {
		t.Errorf("Space = %q, %v, want none", space, err)
	}
	if _, err = m.Encoders.Direction(context.Background(), "standard", "an apple"); leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("Direction = %v, want Invalid", err)
	}
}

// brokenStore fails for the files of one job.
type brokenStore struct {
	Store
	job string
}

func (s brokenStore) Put(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, s.job) {
		return errors.New("out of paint")
	}
	return s.Store.Put(ctx, name, data)
}

// brokenIndex takes nothing.
type brokenIndex struct{}

func (brokenIndex) Add(context.Context, ...gallery.Entry) error { return errors.New("out of ink") }

// TestIndexLeavesTheJob: a job whose pictures are not stored adds nothing, and an
// index or a CLIP that cannot be used does not fail a job.
func TestIndexLeavesTheJob(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, tc := range []struct {
		name   string
		broken string // store, index, clip
		fails  bool
		want   int // entries
		logs   string
	}{
		{"pictures are not stored", "store", true, 0, ""},
		{"index cannot be written", "index", false, 0, "pictures not added to the gallery\" job=01jabc err=\"out of ink"},
		{"CLIP cannot be read", "clip", false, 2, "pictures not embedded: no search will find them\" job=01JABC err=\"out of sight"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := catchLog(t)
			pictures, _ := folder(t)
			stored := pictures.Index()
			var store Store = pictures
			var index Index = stored
			switch tc.broken {
			case "store":
				store = brokenStore{pictures, "01jabc"}
			case "index":
				index = brokenIndex{}
			case "clip":
				if _, err := m.Judge(); err != nil {
					t.Fatal(err)
				}
				m.judgeErr = errors.New("out of sight")
				defer func() { m.judgeErr = nil }()
			}
			result, err := leaftest.Run(t.Context(), m.Runner(store, index), job(t, m, nil), func(any) {})
			if (err != nil) != tc.fails || !tc.fails && len(result.Images) != 2 {
				t.Errorf("Runner = %+v, %v, want pictures %v", result, err, !tc.fails)
			}
			hits, err := stored.Of("").Newest(t.Context(), 9)
			if err != nil || len(hits) != tc.want {
				t.Errorf("%d entries, %v, want %d", len(hits), err, tc.want)
			}
			for _, h := range hits {
				if h.Space != "" || h.Embedding != nil {
					t.Errorf("%s has an embedding in %q", h.Name, h.Space)
				}
			}
			if !strings.Contains(log.String(), tc.logs) || (tc.logs == "") != (log.Len() == 0) {
				t.Errorf("the log has %q, want %q", log, tc.logs)
			}
		})
	}
}

// catchLog gives what is logged until the test ends.
func catchLog(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Writer(&b), nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

// TestIndexOfComparison: the gallery has every picture of a comparison once, under
// the prompt that was drawn, where the judge placed it; montage and report are none.
func TestIndexOfComparison(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	pictures, _ := folder(t)
	index := pictures.Index()
	j := compareJob(t, m, leafserve.Request{Prompts: []string{"an owl", "123"}, Seeds: []uint64{4, 5}})
	result, err := leaftest.Run(t.Context(), m.Runner(pictures, index), j, func(any) {})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, one := range result.Compare.All() {
		for _, arm := range one.Arms {
			for _, cell := range []leafserve.Cell{arm.Clean, arm.Attacked} {
				want[path.Base(cell.Image.URL)] = cell.Prompt
			}
		}
	}
	hits, err := index.Of("").Newest(t.Context(), 99)
	if err != nil || len(hits) != len(want) || len(hits) != len(result.Images) {
		t.Fatalf("%d entries, %v, want one for each of %d pictures", len(hits), err, len(want))
	}
	judge, err := m.Judge()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hits {
		if h.Prompt != want[h.Name] || h.Width != 64 || h.Height != 64 || h.Seed != 4 && h.Seed != 5 || h.Created.IsZero() || h.Space != judge.Space {
			t.Errorf("entry %+v, want prompt %q", h.Entry, want[h.Name])
		}
		row, _ := embed(t, judge, []image.Image{stored(t, pictures, h.Name)}, nil)
		if d := tensor.MaxAbsDiff(tensor.Tensor{Shape: row.Shape, Data: h.Embedding}, row); d > 1e-4 {
			t.Errorf("%s lies %g from where the judge sees it", h.Name, d)
		}
	}
}

// stored reads a picture back.
func stored(t *testing.T, pictures *gallery.Folder, name string) image.Image {
	t.Helper()
	file, _, err := pictures.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, _, err := image.Decode(file)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return img
}

// TestSpace: models with one CLIP share a space.
func TestSpace(t *testing.T) {
	spaces := map[string]bool{}
	for _, dir := range []string{leaftest.DefaultModel(), withCLIP(t), withCLIP(t)} {
		space, err := describe(t, dir).Space()
		if err != nil || len(space) != 16 {
			t.Errorf("Space of %s = %q, %v", dir, space, err)
		}
		spaces[space] = true
	}
	if len(spaces) != 2 {
		t.Errorf("spaces %v, want two", spaces)
	}
	texts := withCLIP(t) // a clip folder that lends text_projection only
	drop(t, filepath.Join(texts, "clip"), "vis")
	for _, dir := range []string{texts, leaftest.Model(t, "tiny-sd15")} {
		if space, err := describe(t, dir).Space(); space != "" || err != nil {
			t.Errorf("Space of a model whose CLIP reads no pictures = %q, %v", space, err)
		}
		if j, err := LoadJudge(leaftest.Runtime(t), describe(t, dir)); j != nil || err != nil {
			t.Errorf("LoadJudge = %v, %v, want none", j, err)
		}
	}
	write(t, filepath.Join(texts, "clip", "model.safetensors"), "cut short")
	if _, err := describe(t, texts).Space(); err == nil {
		t.Error("Space of damaged weights gives no error")
	}
}

// BenchmarkIndex measures what the index adds to a job of one picture.
func BenchmarkIndex(b *testing.B) {
	m := load(b, leaftest.DefaultModel())
	pictures, err := gallery.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	index := pictures.Index()
	files := []File{{Picture: image.NewNRGBA(image.Rect(0, 0, 64, 64))}}
	images := []leafserve.Image{{URL: "/images/a-0.png", Width: 64, Height: 64}}
	for b.Loop() {
		if err := index.Add(b.Context(), m.entries(b.Context(), leafserve.Job{}, images, files)...); err != nil {
			b.Fatal(err)
		}
	}
}
