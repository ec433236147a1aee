package textenc

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// trainable opens the reference model at theta.
func (r reference) trainable(t *testing.T) *Trainable {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"config.json": "config.json", "theta.safetensors": "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(r.dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return openTrainable(t, dir, filepath.Join(leaftest.DefaultModel(), "tokenizer"), Options{})
}

func openTrainable(t testing.TB, dir, tokenizer string, opts Options) *Trainable {
	t.Helper()
	tok, err := LoadTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := LoadTrainable(leaftest.Runtime(t), dir, tok, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// lessons are the damaged sentences with the reference's targets, so that their
// loss is the one of that name: embeds compares Embed's, pooled the EOS state,
// hidden all 77.
func (r reference) lessons(loss string, eosRow func([]int) int) []Lesson {
	ids, wanted := r.get("S_adv"), r.get("f0_S."+loss)
	n := ids.Shape[0]
	out := make([]Lesson, n)
	for b := range out {
		for _, v := range ids.Row(b).Data {
			out[b].IDs = append(out[b].IDs, int(v))
		}
		share, target := 1/float32(n), wanted.Row(b).Data
		eos := eosRow(out[b].IDs)
		switch loss {
		case "embeds":
			out[b].Target, out[b].Weight, out[b].IDs = target, share, out[b].IDs[:eos+1]
		case "pooled":
			out[b].Rows, out[b].IDs = []Row{{eos, target, share}}, out[b].IDs[:eos+1]
		case "hidden":
			for at := range out[b].IDs {
				out[b].Rows = append(out[b].Rows, Row{at, target[at*r.config.Width:][:r.config.Width], share})
			}
		}
	}
	return out
}

// total is the loss of which Gradients gives the derivatives.
func total(lessons []Lesson, distances []Distances) float64 {
	sum := 0.0
	for i, d := range distances {
		sum += float64(lessons[i].Weight)*d.Pooled + d.Rows
	}
	return sum
}

// dense lays a gradient out in the shape of its parameter.
func (g Gradient) dense(shape []int) tensor.Tensor {
	if g.Rows == nil {
		return g.Value
	}
	out := tensor.New(shape...)
	for i, row := range g.Rows {
		copy(rowOf(out, row), rowOf(g.Value, i))
	}
	return out
}

// TestGradients: as TestTowerGradients, through lessons, which are cut at EOS
// where the loss reads nothing after it.
func TestGradients(t *testing.T) {
	eachLoss(t, func(t *testing.T, r reference, loss string) {
		tr := r.trainable(t)
		lessons := r.lessons(loss, tr.eosRow)
		distances, grads, err := tr.Gradients(context.Background(), lessons)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := total(lessons, distances), r.info.Losses[loss]; math.Abs(got-want) > 1e-5*want {
			t.Errorf("loss %v, want %v", got, want)
		}
		top := 0.0
		for _, p := range tr.Parameters {
			top = max(top, tensor.MaxAbsDiff(r.get("grad."+loss+"."+p.Name), tensor.New(p.Value.Shape...)))
		}
		for i, p := range tr.Parameters {
			leaftest.Close(t, p.Name, grads[i].dense(p.Value.Shape), r.get("grad."+loss+"."+p.Name), 1e-4*top)
		}
	})
}

// defaultTrainable opens an encoder of the default model for training.
func defaultTrainable(t testing.TB, name string) *Trainable {
	dir := leaftest.DefaultModel()
	return openTrainable(t, filepath.Join(dir, name), filepath.Join(dir, "tokenizer"), defaultOptions(t))
}

// TestTrainableIsTheEncoder: it encodes as the encoder of the same folder, and
// other weights give other states at once.
func TestTrainableIsTheEncoder(t *testing.T) {
	ctx, texts := context.Background(), []string{"a cat on a blue background", "", strings.Repeat("many words ", 60)}
	e, tr := defaultEncoder(t, "text_encoder"), defaultTrainable(t, "text_encoder")
	for _, text := range texts {
		want, err := e.Encode(ctx, []Prompt{e.Tokenize(text)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tr.Encode(ctx, []Prompt{tr.Tokenize(text)}, 0)
		if err != nil {
			t.Fatal(err)
		}
		leaftest.Close(t, "hidden of "+text, got[0].Hidden, want[0].Hidden, 1e-5)
		leaftest.Close(t, "projected of "+text, got[0].Projected, want[0].Projected, 1e-5)
	}
	before, err := tr.Embed(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.Parameters {
		if strings.HasSuffix(p.Name, "final_layer_norm.bias") {
			for i := range p.Value.Data {
				p.Value.Data[i] += 1
			}
		}
	}
	after, err := tr.Embed(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	if d := tensor.MaxAbsDiff(before, after); d < 0.01 {
		t.Errorf("the embeddings moved by %v after the weights did", d)
	}
}

// TestGradientsOfManyLessons: what runs together, and in which order, is only
// rounding.
func TestGradientsOfManyLessons(t *testing.T) {
	tr := defaultTrainable(t, "text_encoder")
	rng := rand.New(rand.NewPCG(1, 2))
	lessons := make([]Lesson, 90)
	for i := range lessons {
		l := &lessons[i]
		l.IDs = []int{tr.tokenizer.bos}
		for range rng.IntN(40) {
			l.IDs = append(l.IDs, rng.IntN(40000))
		}
		l.IDs = append(l.IDs, tr.tokenizer.eos)
		l.Target, l.Weight = make([]float32, tr.embedWidth()), rng.Float32()
		for range i % 3 {
			l.Rows = append(l.Rows, Row{rng.IntN(len(l.IDs)), make([]float32, tr.Config.Width), rng.Float32()})
		}
	}
	distances, grads, err := tr.Gradients(context.Background(), lessons)
	if err != nil {
		t.Fatal(err)
	}
	sums := make([]tensor.Tensor, len(tr.Parameters))
	for i, l := range lessons {
		d, one, err := tr.Gradients(context.Background(), []Lesson{l})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(d[0].Pooled-distances[i].Pooled) > 1e-4*d[0].Pooled || math.Abs(d[0].Rows-distances[i].Rows) > 1e-4*d[0].Rows {
			t.Errorf("lesson %d: distances %v alone, %v among others", i, d[0], distances[i])
		}
		for j, p := range tr.Parameters {
			g := one[j].dense(p.Value.Shape)
			if sums[j].Data == nil {
				sums[j] = tensor.New(p.Value.Shape...)
			}
			addTo(sums[j].Data, g.Data)
		}
	}
	for j, p := range tr.Parameters {
		top := tensor.MaxAbsDiff(sums[j], tensor.New(sums[j].Shape...))
		leaftest.Close(t, p.Name, grads[j].dense(p.Value.Shape), sums[j], 1e-3*top+1e-5)
	}
}

func TestLessonsAreChecked(t *testing.T) {
	tr := defaultTrainable(t, "text_encoder")
	row := make([]float32, tr.Config.Width)
	for _, tc := range []struct {
		name   string
		lesson Lesson
		says   string
	}{
		{"no ids", Lesson{}, "0 ids"},
		{"too many ids", Lesson{IDs: make([]int, 78)}, "78 ids"},
		{"target of another size", Lesson{IDs: []int{1}, Weight: 1, Target: row[:3]}, "target of 3"},
		{"row past the end", Lesson{IDs: []int{1, 2}, Rows: []Row{{2, row, 1}}}, "row at 2 of 2"},
		{"row of another size", Lesson{IDs: []int{1, 2}, Rows: []Row{{1, row[:5], 1}}}, "5 numbers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			good := Lesson{IDs: []int{1}}
			if _, _, err := tr.Gradients(context.Background(), []Lesson{good, tc.lesson}); err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "lesson 2") {
				t.Errorf("Gradients: %v, want it to say %q of lesson 2", err, tc.says)
			}
		})
	}
	if !slices.IsSortedFunc(tr.Parameters, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("parameters are not sorted")
	}
}
