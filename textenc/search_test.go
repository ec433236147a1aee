package textenc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"leafserve/attack"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/weights"
)

// searchCaptions are what the search benchmark attacks.
func searchCaptions(t testing.TB) []string {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", "captions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	return lines[1:] // the first says what they are
}

// naiveScores is the search as it is usually written: each stage encodes rho
// rows of 77 tokens a caption, the clean caption in the place of what is not
// valid or was seen before; nothing is shared or left out.
func naiveScores(e *Encoder, captions []string, anchors []Anchor, rho int) attack.Score {
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		scores := make([]float64, len(texts))
		for o, caption := range captions {
			var rows [][]int
			var at []int
			for i, text := range texts {
				if owner[i] == o {
					rows, at = append(rows, e.Tokenize(text).IDs), append(at, i)
				}
			}
			for len(rows) < rho {
				rows = append(rows, e.Tokenize(caption).IDs)
			}
			out, err := e.run(ctx, rows, 0)
			if err != nil {
				return nil, err
			}
			for j, i := range at {
				scores[i] = anchors[o].distance(window{}, func(int) []float32 { return e.pooledOf(out[j]) })
			}
		}
		return scores, nil
	}
}

// search runs LEAF's search over captions.
func search(t testing.TB, captions []string, cfg attack.Config, score attack.Score) []attack.Result {
	t.Helper()
	cfg.Method, cfg.Seed = attack.Leaf, 7
	found, err := attack.Run(context.Background(), captions, score, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSearchEqualsNaive: the fast search makes the edits of the naive one.
func TestSearchEqualsNaive(t *testing.T) {
	all := searchCaptions(t)
	for _, tc := range []struct {
		tower    string
		captions []string
		cfg      attack.Config
	}{
		{"default", all[:2], attack.Config{Edits: 1, Rho: 25, Constraint: attack.Strict}},
		{"default robust", all[2:4], attack.Config{Edits: 2, Rho: 10, Constraint: attack.NoIncrease}},
		{"tiny-sd15", all, attack.Config{Edits: 1, Rho: 50, Constraint: attack.Strict}},
		{"tiny-sd21", append(all[:8:8], captions...), attack.Config{Edits: 3, Rho: 20, Constraint: attack.None}},
		{"tiny-clip", all[8:20], attack.Config{Edits: 2, Rho: 50, Constraint: attack.NoIncrease}},
	} {
		t.Run(tc.tower, func(t *testing.T) {
			e := towers[tc.tower](t)
			anchors, err := e.Anchors(context.Background(), tc.captions, Pooled)
			if err != nil {
				t.Fatal(err)
			}
			fast := search(t, tc.captions, tc.cfg, e.Scores(Pooled, anchors))
			changed := 0
			for i, r := range search(t, tc.captions, tc.cfg, naiveScores(e, tc.captions, anchors, tc.cfg.Rho)) {
				if fast[i].Prompt != r.Prompt {
					t.Errorf("of %q fast makes %q, naive %q", tc.captions[i], fast[i].Prompt, r.Prompt)
				}
				if r.Prompt != tc.captions[i] {
					changed++
				}
			}
			if changed < len(tc.captions)/2 {
				t.Errorf("only %d of %d captions were changed", changed, len(tc.captions))
			}
		})
	}
}

// BenchmarkLEAFSearch runs the naive and the fast search beside each other, on
// the default model and on random weights of ViT-L/14's shape, where the naive
// one gets every eighth caption only: its time does not depend on the caption.
func BenchmarkLEAFSearch(b *testing.B) {
	for _, model := range []struct {
		name  string
		load  func(testing.TB) *Encoder
		naive int
	}{{"default", towers["default"], 1}, {"vit-l-14", randomViTL, 8}} {
		b.Run(model.name, func(b *testing.B) {
			e := model.load(b)
			for _, constraint := range []string{attack.Strict, attack.NoIncrease, attack.None} {
				b.Run(constraint, func(b *testing.B) { benchmarkSearch(b, e, constraint, model.naive) })
			}
		})
	}
}

// clock adds up what stretches of a benchmark take.
type clock struct{ wall, cpu time.Duration }

// time measures f, which stands for weight times its work.
func (c *clock) time(t testing.TB, weight int, f func()) {
	start, cpu := time.Now(), cpuTime(t)
	f()
	c.wall += time.Since(start) * time.Duration(weight)
	c.cpu += (cpuTime(t) - cpu) * time.Duration(weight)
}

func benchmarkSearch(b *testing.B, e *Encoder, constraint string, every int) {
	cfg := attack.Config{Edits: 1, Rho: 50, Constraint: constraint}
	all := searchCaptions(b)
	anchored := func(captions []string) []Anchor {
		anchors, err := e.Anchors(context.Background(), captions, Pooled)
		if err != nil {
			b.Fatal(err)
		}
		return anchors
	}
	var captions []string // for the naive search
	for i := 0; i < len(all); i += every {
		captions = append(captions, all[i])
	}
	anchors := anchored(captions) // loads the graph
	var fast, naive clock
	candidates := 0
	for b.Loop() {
		var found []attack.Result
		fast.time(b, 1, func() { found = search(b, all, cfg, e.Scores(Pooled, anchored(all))) })
		for _, r := range found {
			candidates += r.Candidates
		}
		if testing.Short() {
			continue
		}
		var plain []attack.Result
		naive.time(b, every, func() { plain = search(b, captions, cfg, naiveScores(e, captions, anchors, cfg.Rho)) })
		for i, r := range plain {
			if r.Prompt != found[i*every].Prompt {
				b.Errorf("naive finds %q, fast %q", r.Prompt, found[i*every].Prompt)
			}
		}
	}
	n := float64(b.N * len(all))
	b.ReportMetric(n/fast.wall.Seconds(), "captions/s")
	b.ReportMetric(float64(candidates)/fast.wall.Seconds(), "candidates/s")
	b.ReportMetric(1000*fast.cpu.Seconds()/n, "cpu-ms/caption")
	if naive.wall > 0 {
		b.ReportMetric(n/naive.wall.Seconds(), "naive-captions/s")
		b.ReportMetric(naive.wall.Seconds()/fast.wall.Seconds(), "ratio")
		b.ReportMetric(naive.cpu.Seconds()/fast.cpu.Seconds(), "cpu-ratio")
	}
}

// cpuTime is what this process has used of all cores: on a busy machine the
// fairer clock.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// randomViTL has ViT-L/14's shape and the default model's tokenizer.
func randomViTL(t testing.TB) *Encoder {
	t.Helper()
	const d, layers, vocab = 768, 12, 49408
	rng := rand.New(rand.NewPCG(1, 2))
	all := map[string]tensor.Tensor{}
	random := func(name string, shape ...int) {
		x := tensor.New(shape...)
		for i := range x.Data {
			x.Data[i] = 0.07 * (rng.Float32() - 0.5)
		}
		all[name] = x
	}
	norm := func(name string) {
		all[name+".weight"], all[name+".bias"] = tensor.New(d), tensor.New(d)
		for i := range all[name+".weight"].Data {
			all[name+".weight"].Data[i] = 1
		}
	}
	linear := func(name string, in, out int) {
		random(name+".weight", out, in)
		random(name+".bias", out)
	}
	random("text_model.embeddings.token_embedding.weight", vocab, d)
	random("text_model.embeddings.position_embedding.weight", 77, d)
	for i := range layers {
		p := blockName("text_model.", i)
		norm(p + "layer_norm1")
		norm(p + "layer_norm2")
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			linear(p+"self_attn."+name, d, d)
		}
		linear(p+"mlp.fc1", d, 4*d)
		linear(p+"mlp.fc2", 4*d, d)
	}
	norm("text_model.final_layer_norm")
	random(textProjection, d, d)

	dir := t.TempDir()
	config := fmt.Sprintf(`{"hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,"num_attention_heads":12,"projection_dim":%d}`, d, 4*d, layers, d)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := weights.Write(f, all, nil); err != nil {
		t.Fatal(err)
	}
	return loadEncoder(t, dir, filepath.Join(leaftest.DefaultModel(), "tokenizer"), Options{})
}
