package pipeline

import (
	"bytes"
	"context"
	"errors"
	"image"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leafserve"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
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
	hits, err := index.Search(t.Context(), space, query, k)
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
	run := m.Indexed(m.Runner(pictures), pictures, index)
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
		hits, err := index.Like(t.Context(), name, 1)
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
	img, err := decode(t.Context(), pictures, "umbrella-0.png")
	if err != nil {
		t.Fatal(err)
	}
	row, _ := embed(t, judge, []image.Image{img}, nil)
	hits, err := index.Search(t.Context(), judge.Space, row.Data, 1)
	if err != nil || hits[0].Name != "umbrella-0.png" || math.Abs(hits[0].Score-1) > 1e-4 {
		t.Errorf("Search with the picture's own embedding = %+v, %v", hits, err)
	}
}

// TestIndexedWithoutCLIP: pictures can be listed, not searched.
func TestIndexedWithoutCLIP(t *testing.T) {
	m := load(t, leaftest.Model(t, "tiny-sd15"))
	pictures, _ := folder(t)
	index := pictures.Index()
	if _, err := leaftest.Run(context.Background(), m.Indexed(m.Runner(pictures), pictures, index), job(t, m, nil), func(any) {}); err != nil {
		t.Fatal(err)
	}
	hits, err := index.Newest(t.Context(), 9)
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

// TestIndexedLeavesTheJob: a failed job adds nothing, and an index or a picture
// that cannot be used does not fail a job.
func TestIndexedLeavesTheJob(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	made := leafserve.Result{Images: []leafserve.Image{{URL: "/images/a-0.png"}}}
	cell := leafserve.Cell{Image: leafserve.Image{URL: "/images/a-1.png"}, Prompt: "an oawl"}
	made.Compare = &leafserve.Comparison{Case: &leafserve.Case{Arms: map[string]leafserve.Arm{"robust": {Clean: cell, Attacked: cell}}}}
	failed := errors.New("out of paint")
	for _, tc := range []struct {
		name   string
		err    error
		file   string // of the picture; "" for none
		broken bool   // the index cannot be written
		want   int    // entries
		logs   string
	}{
		{"failed", failed, "", false, 0, ""},
		{"picture is missing", nil, "", false, 2, "not embedded"},
		{"picture is no picture", nil, "GIF89a", false, 2, "not embedded"},
		{"index cannot be written", nil, "GIF89a", true, 0, "not added"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := catchLog(t)
			pictures, dir := folder(t)
			if tc.file != "" {
				write(t, filepath.Join(dir, "a-0.png"), tc.file)
				write(t, filepath.Join(dir, "a-1.png"), tc.file)
			}
			if tc.broken {
				if err := os.Mkdir(filepath.Join(dir, ".index.jsonl"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			run := leaftest.Solo(func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) { return made, tc.err })
			result, err := leaftest.Run(context.Background(), m.Indexed(run, pictures, pictures.Index()), leafserve.Job{ID: "A"}, func(any) {})
			if !errors.Is(err, tc.err) || len(result.Images) != 1 {
				t.Errorf("the job gives %+v, %v, want its own result and %v", result, err, tc.err)
			}
			if !tc.broken {
				if hits, err := pictures.Index().Newest(t.Context(), 9); err != nil || len(hits) != tc.want {
					t.Errorf("%d entries, %v, want %d", len(hits), err, tc.want)
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

// TestPicturesOf: a comparison's pictures have the prompts that were drawn, each
// picture once.
func TestPicturesOf(t *testing.T) {
	cell := func(name, prompt string) leafserve.Cell {
		return leafserve.Cell{Image: leafserve.Image{URL: "/images/" + name, Seed: 5, Width: 64, Height: 32}, Prompt: prompt}
	}
	owl := leafserve.Case{Arms: map[string]leafserve.Arm{
		"standard": {Clean: cell("x-0.png", "an owl"), Attacked: cell("x-2.png", "an oawl")},
		"robust":   {Clean: cell("x-1.png", "an owl"), Attacked: cell("x-3.png", "an oawl")},
	}}
	same := leafserve.Case{Arms: map[string]leafserve.Arm{"robust": {Clean: cell("x-4.png", "123"), Attacked: cell("x-4.png", "123")}}}
	all := []leafserve.Image{owl.Arms["robust"].Attacked.Image, {URL: "/images/x-9.png"}}
	j := leafserve.Job{Request: leafserve.Request{Prompt: "the job's"}}
	for _, tc := range []struct {
		name   string
		result leafserve.Result
		want   map[string]string
	}{
		{"nothing", leafserve.Result{}, map[string]string{}},
		{"pictures", leafserve.Result{Images: all}, map[string]string{"x-3.png": "the job's", "x-9.png": "the job's"}},
		{"a comparison", leafserve.Result{Images: all, Compare: &leafserve.Comparison{Case: &owl}},
			map[string]string{"x-0.png": "an owl", "x-1.png": "an owl", "x-2.png": "an oawl", "x-3.png": "an oawl", "x-9.png": "the job's"}},
		{"a list", leafserve.Result{Compare: &leafserve.Comparison{Cases: []leafserve.Case{owl, same}}},
			map[string]string{"x-0.png": "an owl", "x-1.png": "an owl", "x-2.png": "an oawl", "x-3.png": "an oawl", "x-4.png": "123"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := picturesOf(j, tc.result)
			if len(got) != len(tc.want) {
				t.Errorf("%d pictures, want %d", len(got), len(tc.want))
			}
			for _, e := range got {
				if prompt, ok := tc.want[e.Name]; !ok || e.Prompt != prompt {
					t.Errorf("%s has the prompt %q, want %q", e.Name, e.Prompt, prompt)
				}
			}
		})
	}
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

// BenchmarkIndexed measures what the index adds to a job of one picture.
func BenchmarkIndexed(b *testing.B) {
	m := load(b, leaftest.DefaultModel())
	pictures, err := gallery.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	index := pictures.Index()
	var file bytes.Buffer
	if err := gallery.Encode(&file, image.NewNRGBA(image.Rect(0, 0, 64, 64)), "png", ""); err != nil {
		b.Fatal(err)
	}
	if err := pictures.Put(b.Context(), "a-0.png", file.Bytes()); err != nil {
		b.Fatal(err)
	}
	run := m.Indexed(leaftest.Solo(func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) {
		return leafserve.Result{Images: []leafserve.Image{{URL: "/images/a-0.png", Width: 64, Height: 64}}}, nil
	}), pictures, index)
	for b.Loop() {
		if _, err := leaftest.Run(context.Background(), run, leafserve.Job{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
