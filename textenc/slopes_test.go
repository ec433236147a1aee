package textenc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/weights"
)

// differentiable loads tiny-sd15's text encoder, which has no projection.
func differentiable(t testing.TB) (*Differentiable, *Encoder) {
	t.Helper()
	dir, tok := sd15(t)
	return loadDifferentiable(t, dir, tok, Options{}), loadEncoder(t, dir, tok, Options{})
}

func loadDifferentiable(t testing.TB, dir, tokenizer string, opts Options) *Differentiable {
	t.Helper()
	tok, err := LoadTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	d, err := LoadDifferentiable(leaftest.Runtime(t), dir, tok, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// inside gives a text's ids without BOS and EOS.
func inside(d *Differentiable, text string) []int {
	ids := d.tokenizer.Encode(text).IDs
	return ids[1 : len(ids)-1]
}

// TestDifferentiableEmbeds: trimmed at EOS, the embedding is the encoder's.
func TestDifferentiableEmbeds(t *testing.T) {
	texts := []string{"a", "a photo of a cat", "A majestic LION!!!", strings.Repeat("word ", 75)}
	check := func(t *testing.T, d *Differentiable, want []tensor.Tensor) {
		t.Helper()
		for i, text := range texts {
			got, err := d.Embed(context.Background(), inside(d, text))
			if err != nil {
				t.Fatal(err)
			}
			closeTo(t, text, flat(got), want[i])
		}
	}
	t.Run("pooled without a projection", func(t *testing.T) {
		d, e := differentiable(t)
		var want []tensor.Tensor
		for _, out := range encode(t, e, 0, texts...) {
			want = append(want, out.Pooled)
		}
		check(t, d, want)
	})
	t.Run("projected", func(t *testing.T) {
		model := leaftest.DefaultModel()
		ckpt, err := weights.Open(filepath.Join(model, "clip"))
		if err != nil {
			t.Fatal(err)
		}
		projection, _ := ckpt.Lookup(textProjection)
		dir, tok := filepath.Join(model, "text_encoder"), filepath.Join(model, "tokenizer")
		var want []tensor.Tensor
		for _, out := range encode(t, loadEncoder(t, dir, tok, Options{Projection: &projection}), 0, texts...) {
			want = append(want, out.Projected)
		}
		check(t, loadDifferentiable(t, dir, tok, Options{Projection: &projection}), want)
	})
}

// wanted are targets of different lengths, towards the embedding of another text.
func wanted(t *testing.T, d *Differentiable) []Target {
	t.Helper()
	embedding, err := d.Embed(context.Background(), inside(d, "a red house"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Target
	for _, text := range []string{"cat", "two green dogs in the rain", "a bird sings"} {
		out = append(out, Target{d.Rows(inside(d, text)), embedding})
	}
	return out
}

func slopes(t *testing.T, d *Differentiable, batch ...Target) []Slope {
	t.Helper()
	out, err := d.Slopes(context.Background(), batch...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSlopesBatch: a target's figures do not depend on its neighbours' length.
func TestSlopesBatch(t *testing.T) {
	d, _ := differentiable(t)
	batch := wanted(t, d)
	for i, got := range slopes(t, d, batch...) {
		alone := slopes(t, d, batch[i])[0]
		if math.Abs(got.Cosine-alone.Cosine) > 1e-6 {
			t.Errorf("target %d: cosine %v, alone %v", i, got.Cosine, alone.Cosine)
		}
		leaftest.Close(t, "gradient", got.Gradient, alone.Gradient, 1e-6)
	}
}

// TestSlopesCosine compares with the cosine's definition, in float64.
func TestSlopesCosine(t *testing.T) {
	d, _ := differentiable(t)
	for _, target := range wanted(t, d) {
		got := slopes(t, d, target)[0]
		if want := between(got.Embedding, target.Embedding); math.Abs(got.Cosine-want) > 1e-6 {
			t.Errorf("cosine %v, want %v", got.Cosine, want)
		}
	}
	target := wanted(t, d)[0]
	target.Embedding = slopes(t, d, target)[0].Embedding
	for i := range target.Embedding {
		target.Embedding[i] *= 1e30 // its square has no place in float32
	}
	if got := slopes(t, d, target)[0].Cosine; math.Abs(got-1) > 1e-6 {
		t.Errorf("cosine of the same embedding is %v, want 1", got)
	}
}

// between is cosine of two embeddings.
func between(a, b []float32) float64 { return cosine(flat(a), flat(b)) }

func flat(v []float32) tensor.Tensor { return tensor.Tensor{Shape: []int{1, len(v)}, Data: v} }

// TestSlopesGradient compares with differences of fourth order; what float32
// loses at this step is about 1e-4 of the largest.
func TestSlopesGradient(t *testing.T) {
	const h = 0.05
	d, _ := differentiable(t)
	target := wanted(t, d)[2]
	got := slopes(t, d, target)[0].Gradient
	want, top := tensor.New(got.Shape...), 0.0
	for i := range want.Data {
		loss := func(by float32) float64 {
			moved := Target{target.Rows.Clone(), target.Embedding}
			moved.Rows.Data[i] += by
			return 1 - between(slopes(t, d, moved)[0].Embedding, target.Embedding)
		}
		v := (8*(loss(h)-loss(-h)) - (loss(2*h) - loss(-2*h))) / (12 * h)
		want.Data[i], top = float32(v), max(top, math.Abs(v))
	}
	if top < 1e-3 {
		t.Fatalf("the gradient is at most %v: nothing is compared", top)
	}
	t.Logf("off by %.1e of the largest", tensor.MaxAbsDiff(got, want)/top)
	leaftest.Close(t, "gradient", got, want, 1e-3*top)
}

func TestSlopesErrors(t *testing.T) {
	d, _ := differentiable(t)
	fits := wanted(t, d)[0]
	for _, tc := range []struct {
		name   string
		change func(b *Target)
		want   string
	}{
		{"no rows", func(b *Target) { b.Rows = tensor.New(0, d.Config.Width) }, "target 2: 0 tokens, want 1 to 75"},
		{"too many rows", func(b *Target) { b.Rows = tensor.New(76, d.Config.Width) }, "76 tokens, want 1 to 75"},
		{"rows of another width", func(b *Target) { b.Rows = tensor.New(3, 5) }, "rows has shape [3 5]"},
		{"an embedding of another width", func(b *Target) { b.Embedding = b.Embedding[1:] }, "an embedding of 15 numbers, want 16"},
		{"an embedding of zeros", func(b *Target) { b.Embedding = make([]float32, d.Width) }, "an embedding of length 0 has no direction"},
		{"an embedding that is no number", func(b *Target) {
			b.Embedding = slices.Clone(b.Embedding)
			b.Embedding[3] = float32(math.NaN())
		}, "an embedding of length NaN has no direction"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := fits
			tc.change(&b)
			if _, err := d.Slopes(context.Background(), fits, b); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Slopes = %v, want %q", err, tc.want)
			}
		})
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Slopes(ended, fits); !errors.Is(err, context.Canceled) {
		t.Errorf("Slopes = %v, want %v", err, context.Canceled)
	}
}

func TestLoadDifferentiableErrors(t *testing.T) {
	dir, tokenizer := sd15(t)
	tok, err := LoadTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	other, err := loadSmallTokenizer()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, dir, want string
		tok             *Tokenizer
	}{
		{"no folder", filepath.Join(dir, "no"), "no such file", tok},
		{"the tokenizer of another model", dir, "knows 49408 tokens, its tokenizer gives 514", other},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := LoadDifferentiable(leaftest.Runtime(t), tc.dir, tc.tok, Options{}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("LoadDifferentiable = %v, want %q", err, tc.want)
			}
		})
	}
}

// loadSmallTokenizer has bytes and special tokens only.
func loadSmallTokenizer() (*Tokenizer, error) {
	var vocab []string
	for _, r := range byteAlphabet() {
		vocab = append(vocab, string(r), string(r)+wordEnd)
	}
	vocab = append(vocab, bosPiece, eosPiece)
	ids := map[string]int{}
	for i, piece := range slices.Sorted(slices.Values(vocab)) {
		ids[piece] = i
	}
	raw, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	return NewTokenizer(bytes.NewReader(raw), strings.NewReader(""), TokenizerConfig{})
}
