package textenc

import (
	"context"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// reference is LEAF's loss on a small CLIPTextModelWithProjection, with its
// gradients and three steps of AdamW, all by torch.
type reference struct {
	dir    string
	config TowerConfig
	get    func(name string) tensor.Tensor
	info   struct {
		Losses map[string]float64
		Steps  map[string]struct {
			Losses []float64 `json:"loss_before_each_step_and_after_the_last"`
		}
	}
}

func openReference(t *testing.T, name string) reference {
	t.Helper()
	r := reference{dir: leaftest.Path("gradients", name), get: leaftest.Tensors(t, "gradients", name, "reference.safetensors")}
	leaftest.JSON(t, &r.info, "gradients", name, "info.json")
	var err error
	if r.config, err = ReadTextConfig(r.dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// theta reads the weights that gradients are taken at.
func (r reference) theta(t *testing.T) map[string]tensor.Tensor {
	t.Helper()
	header, err := weights.ReadHeader(filepath.Join(r.dir, "theta.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	params := map[string]tensor.Tensor{}
	for name, e := range header {
		if params[name], err = e.Read(); err != nil {
			t.Fatal(err)
		}
	}
	return params
}

// feature is the part of the tower's output that a loss compares.
func (r reference) feature(g *onnx.Graph, loss string, ids, eos onnx.Value) onnx.Value {
	c := r.config
	x := g.Gather(g.Weight("text_model.embeddings.token_embedding.weight", c.Vocab, c.Width), ids)
	x = g.Add(x, g.Weight("text_model.embeddings.position_embedding.weight", c.Context, c.Width))
	mask := g.Floats(causalMask(c.Context), c.Context, c.Context)
	for i := range c.Layers {
		x = c.block(g, blockName("text_model.", i), x, &mask)
	}
	hidden := g.LayerNorm("text_model.final_layer_norm", x, c.Epsilon)
	if loss == "hidden" {
		g.Ignore(textProjection)
		return hidden
	}
	pooled := g.GatherND(hidden, eos)
	if loss == "pooled" {
		g.Ignore(textProjection)
		return pooled
	}
	return g.LinearBare("text_projection", pooled, c.Projection)
}

// gradients evaluates a loss, mean over the batch of |f(S') − f0(S)|², and its
// derivatives by all weights that it depends on.
func (r reference) gradients(t *testing.T, loss string, params map[string]tensor.Tensor) (float64, map[string]tensor.Tensor) {
	t.Helper()
	g := onnx.New(leaftest.Checkpoint(t, params))
	wanted := r.get("f0_S." + loss)
	batch := wanted.Shape[0]
	ids := g.Input("ids", onnx.Int64, onnx.Any, r.config.Context)
	eos := g.Input("eos", onnx.Int64, onnx.Any, 1)
	target := g.Input("target", onnx.Float, append([]int{onnx.Any}, wanted.Shape[1:]...)...)
	d := g.Sub(r.feature(g, loss, ids, eos), target)
	axes := []int{0, 1, 2}[:len(d.Shape)]
	total := g.Mul(g.Sum(g.Mul(d, d), axes...), g.Scalar(1/float32(batch)))
	var names []string
	var wrt []onnx.Value
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != textProjection || loss == "embeds" {
			names = append(names, name)
			wrt = append(wrt, g.Weight(name, params[name].Shape...))
		}
	}
	grads := g.Gradients(total, wrt...)
	g.Output("loss", total)
	for i, v := range grads {
		g.Output(fmt.Sprintf("grad%d", i), v)
	}
	out := runOnce(t, g, append(r.batch(), ort.Floats(wanted))...)
	result := map[string]tensor.Tensor{}
	for i, name := range names {
		result[name] = out[1+i]
	}
	return float64(out[0].Data[0]), result
}

// batch feeds the damaged sentences: their ids and the places of their EOS.
func (r reference) batch() []ort.Input {
	adv := r.get("S_adv")
	ids, eos := make([]int, len(adv.Data)), make([]int, adv.Shape[0])
	for i, v := range adv.Data {
		ids[i] = int(v)
	}
	e := Encoder{Config: r.config}
	for i := range eos {
		eos[i] = e.eosRow(ids[i*r.config.Context:][:r.config.Context])
	}
	return []ort.Input{ort.Ints(ids, adv.Shape...), ort.Ints(eos, len(eos), 1)}
}

func runOnce(t *testing.T, g *onnx.Graph, in ...ort.Input) []tensor.Tensor {
	t.Helper()
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := leaftest.Runtime(t).NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(context.Background(), in...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eachLoss runs a test for every loss of both reference models.
func eachLoss(t *testing.T, test func(t *testing.T, r reference, loss string)) {
	for _, name := range []string{"quickgelu-eos2", "gelu-eos149"} {
		for _, loss := range []string{"pooled", "embeds", "hidden"} {
			t.Run(name+" "+loss, func(t *testing.T) { test(t, openReference(t, name), loss) })
		}
	}
}

// TestTowerGradients: the loss, and every derivative within 1e-4 of the loss's
// largest (float32 against float64 in torch: 2e-6 of it).
func TestTowerGradients(t *testing.T) {
	eachLoss(t, func(t *testing.T, r reference, loss string) {
		value, grads := r.gradients(t, loss, r.theta(t))
		if want := r.info.Losses[loss]; math.Abs(value-want) > 1e-5*want {
			t.Errorf("loss %v, want %v", value, want)
		}
		top, worst := 0.0, 0.0
		want := map[string]tensor.Tensor{}
		for name := range grads {
			want[name] = r.get("grad." + loss + "." + name)
			top = max(top, tensor.MaxAbsDiff(want[name], tensor.New(want[name].Shape...)))
		}
		for name, got := range grads {
			worst = max(worst, tensor.MaxAbsDiff(got, want[name]))
			leaftest.Close(t, name, got, want[name], 1e-4*top)
		}
		t.Logf("%d gradients, off by %.1e of the largest, %.3g", len(grads), worst/top, top)
	})
}

// TestTowerLearns: three steps of AdamW on all weights. Where a gradient is about
// as small as AdamW's epsilon, rounding decides how far a weight goes, so one in a
// thousand may be off by up to the three steps of 1e-3. The biases of keys, whose
// true gradient is 0, are left out.
func TestTowerLearns(t *testing.T) {
	eachLoss(t, func(t *testing.T, r reference, loss string) {
		params, steps := r.theta(t), map[string]*tensor.AdamW{}
		for name := range params {
			steps[name] = &tensor.AdamW{LearningRate: 1e-3, WeightDecay: 1e-4, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
		}
		for i, want := range r.info.Steps[loss].Losses {
			value, grads := r.gradients(t, loss, params)
			if math.Abs(value-want) > 1e-4*want {
				t.Errorf("loss after %d steps %v, want %v", i, value, want)
			}
			if i == 3 {
				break
			}
			for name, g := range grads {
				steps[name].Step(params[name], g)
			}
		}
		r.checkLearned(t, loss, params)
	})
}

func (r reference) checkLearned(t *testing.T, loss string, params map[string]tensor.Tensor) {
	t.Helper()
	off, all := 0, 0
	for name, got := range params {
		if strings.HasSuffix(name, "k_proj.bias") {
			continue
		}
		want := r.get("after3." + loss + "." + name)
		leaftest.Close(t, name, got, want, 3e-3)
		for i, v := range got.Data {
			all++
			if math.Abs(float64(v-want.Data[i])) > 1e-5 {
				off++
			}
		}
	}
	t.Logf("%d of %d weights off by more than 1e-5", off, all)
	if off*1000 > all {
		t.Errorf("%d of %d weights are off by more than 1e-5, want at most one in a thousand", off, all)
	}
}
