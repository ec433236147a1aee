package textenc

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/weights"
)

// tolerance of a network against torch's.
const tolerance = 2e-5

// loadEncoder loads a text encoder's folder with the tokenizer of a model.
func loadEncoder(t testing.TB, dir, tokenizer string, opts Options) *Encoder {
	t.Helper()
	tok, err := LoadTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Load(leaftest.Runtime(t), dir, tok, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// encode tokenizes and encodes texts.
func encode(t testing.TB, e *Encoder, skip int, texts ...string) []Embedding {
	t.Helper()
	prompts := make([]Prompt, len(texts))
	for i, text := range texts {
		prompts[i] = e.Tokenize(text)
	}
	out, err := e.Encode(context.Background(), prompts, skip)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stacked joins a part of each embedding along the batch axis.
func stacked(embeddings []Embedding, part func(Embedding) tensor.Tensor) tensor.Tensor {
	rows := make([]tensor.Tensor, len(embeddings))
	for i, e := range embeddings {
		rows[i] = part(e)
	}
	return tensor.Concat(rows...)
}

func hidden(e Embedding) tensor.Tensor    { return e.Hidden }
func pooled(e Embedding) tensor.Tensor    { return e.Pooled }
func projected(e Embedding) tensor.Tensor { return e.Projected }

// closeTo compares with the reference and logs how far off the values are.
func closeTo(t *testing.T, name string, got, want tensor.Tensor) {
	t.Helper()
	t.Logf("%s: off by %.1e", name, tensor.MaxAbsDiff(got, want))
	leaftest.Close(t, name, got, want, tolerance)
}

// checkIDs compares the windows that the tokenizer gives with input_ids.
func checkIDs(t *testing.T, e *Encoder, texts []string, want tensor.Tensor) {
	t.Helper()
	for i, text := range texts {
		p := e.Tokenize(text)
		for j, id := range want.Row(i).Data {
			if p.IDs[j] != int(id) {
				t.Errorf("Tokenize(%q) has id %d at %d, want %v", text, p.IDs[j], j, id)
			}
		}
		if p.Truncated != (len(p.Tokens) > 75) {
			t.Errorf("Tokenize(%q): truncated %v with %d tokens", text, p.Truncated, len(p.Tokens))
		}
	}
}

// TestTextTower: hidden states after every layer, the last and the pooled ones of
// CLIPTextModel, float32 with QuickGELU and float16 with GELU and pad "!".
func TestTextTower(t *testing.T) {
	for _, name := range []string{"tiny-sd15", "tiny-sd21"} {
		t.Run(name, func(t *testing.T) {
			dir := leaftest.Model(t, name)
			folder := filepath.Join(dir, "text_encoder")
			e := loadEncoder(t, folder, filepath.Join(dir, "tokenizer"), Options{})
			want := leaftest.Tensors(t, "pipelines", name, "parts.safetensors")
			var parts struct{ Texts []string }
			leaftest.JSON(t, &parts, "pipelines", name, "parts.json")
			if len(parts.Texts) != 6 || e.Config.Layers != 3 || e.Projects() {
				t.Fatalf("%d texts, %d layers, projection %v", len(parts.Texts), e.Config.Layers, e.Projects())
			}
			checkIDs(t, e, parts.Texts, want("text_encoder.input_ids"))
			for skip := range e.Config.Layers {
				out := encode(t, e, skip, parts.Texts...)
				state := want(fmt.Sprintf("text_encoder.hidden_states.%d", 3-skip))
				closeTo(t, fmt.Sprintf("clip_skip %d", skip), stacked(out, hidden), finalNorm(t, folder, state))
				closeTo(t, "pooled", stacked(out, pooled), want("text_encoder.pooler_output"))
				if skip == 0 {
					closeTo(t, "last hidden state", stacked(out, hidden), want("text_encoder.last_hidden_state"))
				}
			}
		})
	}
}

// finalNorm is a tower's final layer norm of x [B,T,D], in float64.
func finalNorm(t *testing.T, dir string, x tensor.Tensor) tensor.Tensor {
	t.Helper()
	w, b := read(t, dir, "text_model.final_layer_norm.weight"), read(t, dir, "text_model.final_layer_norm.bias")
	out := x.Clone()
	for row := range slices.Chunk(out.Data, len(w.Data)) {
		mean, variance, n := 0.0, 0.0, float64(len(row))
		for _, v := range row {
			mean += float64(v) / n
		}
		for _, v := range row {
			variance += (float64(v) - mean) * (float64(v) - mean) / n
		}
		for i, v := range row {
			row[i] = float32((float64(v)-mean)/math.Sqrt(variance+1e-5)*float64(w.Data[i]) + float64(b.Data[i]))
		}
	}
	return out
}

// read gives a tensor of a folder's checkpoint.
func read(t *testing.T, dir, name string) tensor.Tensor {
	t.Helper()
	c, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := c.Lookup(name)
	if !ok {
		t.Fatalf("%s has no %s", dir, name)
	}
	x, err := e.Read()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestProjectedText: the text side of a whole CLIPModel.
func TestProjectedText(t *testing.T) {
	e := loadEncoder(t, leaftest.Model(t, "tiny-clip"), filepath.Join(leaftest.DefaultModel(), "tokenizer"), Options{})
	var info struct{ Clip struct{ Texts []string } }
	leaftest.JSON(t, &info, "image", "info.json")
	want := leaftest.Tensors(t, "image", "clip.safetensors")
	if len(info.Clip.Texts) != 4 || !e.Projects() {
		t.Fatalf("%d texts, projection %v", len(info.Clip.Texts), e.Projects())
	}
	checkIDs(t, e, info.Clip.Texts, want("input_ids"))
	closeTo(t, "projected", stacked(encode(t, e, 0, info.Clip.Texts...), projected), want("text_embeds_raw"))
}

// normalized is CLIPImageProcessor's last step: [H,W,3] of 0…255 → [1,3,H,W].
func normalized(u8 tensor.Tensor) tensor.Tensor {
	mean, std := []float64{0.48145466, 0.4578275, 0.40821073}, []float64{0.26862954, 0.26130258, 0.27577711}
	h, w := u8.Shape[0], u8.Shape[1]
	out := tensor.New(1, 3, h, w)
	for i, v := range u8.Data {
		c := i % 3
		out.Data[c*h*w+i/3] = float32((float64(v)/255 - mean[c]) / std[c])
	}
	return out
}

func TestVisionTower(t *testing.T) {
	v, err := LoadVision(leaftest.Runtime(t), leaftest.Model(t, "tiny-clip"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want := leaftest.Tensors(t, "image", "clip.safetensors")
	pictures := []int{2, 3, 5, 6}
	var pixels, embeds []tensor.Tensor
	for _, i := range pictures {
		pixels = append(pixels, normalized(want(fmt.Sprintf("%d.u8", i))))
		embeds = append(embeds, want("image_embeds_raw").Row(i))
	}
	got, err := v.Encode(context.Background(), tensor.Concat(pixels...))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "projected", got, tensor.Concat(embeds...))
	alone, err := v.Encode(context.Background(), pixels[1])
	if err != nil {
		t.Fatal(err)
	}
	leaftest.Close(t, "one picture of the batch", alone, got.Row(1), 1e-6)
	if _, err := v.Encode(context.Background(), tensor.New(1, 3, 224, 200)); err == nil {
		t.Error("a picture of another size was taken")
	}
}

// TestDefaultModelEncoders: the built-in model's two encoders differ, more on a
// typo than on nothing, and both project by the weights of the CLIP beside them.
func TestDefaultModelEncoders(t *testing.T) {
	dir := leaftest.DefaultModel()
	clip, err := weights.Open(filepath.Join(dir, "clip"))
	if err != nil {
		t.Fatal(err)
	}
	entry, ok := clip.Lookup(textProjection)
	if !ok {
		t.Fatal("no text projection")
	}
	w := read(t, filepath.Join(dir, "clip"), textProjection) // [P,D]
	drift := map[string]float64{}
	var clean []Embedding
	for _, name := range []string{"text_encoder", "text_encoder_robust"} {
		e := loadEncoder(t, filepath.Join(dir, name), filepath.Join(dir, "tokenizer"), Options{Projection: &entry})
		if !e.Projects() {
			t.Fatalf("%s does not project", name)
		}
		out := encode(t, e, 0, "a red apple on a white background", "a red aplpe on a white background")
		for _, o := range out {
			leaftest.Close(t, name+" projected", o.Projected, project(o.Pooled, w), 1e-4)
		}
		drift[name] = 1 - cosine(out[0].Pooled, out[1].Pooled)
		clean = append(clean, out[0])
	}
	if d := tensor.MaxAbsDiff(clean[0].Hidden, clean[1].Hidden); d < 1e-2 {
		t.Errorf("the encoders differ by %.1e only: are they the same file?", d)
	}
	t.Logf("drift of a typo: %v", drift)
	if drift["text_encoder_robust"] >= drift["text_encoder"] {
		t.Errorf("a typo moves the robust encoder as far as the standard one: %v", drift)
	}
}

// project is x·wᵀ for x [1,D] and w [P,D].
func project(x, w tensor.Tensor) tensor.Tensor {
	out := tensor.New(1, w.Shape[0])
	for p := range out.Data {
		sum := 0.0
		for d, v := range w.Row(p).Data {
			sum += float64(v) * float64(x.Data[d])
		}
		out.Data[p] = float32(sum)
	}
	return out
}

func cosine(a, b tensor.Tensor) float64 {
	ab, aa, bb := 0.0, 0.0, 0.0
	for i, v := range a.Data {
		ab += float64(v) * float64(b.Data[i])
		aa += float64(v) * float64(v)
		bb += float64(b.Data[i]) * float64(b.Data[i])
	}
	return ab / math.Sqrt(aa*bb)
}

func TestCausalMask(t *testing.T) {
	const low = -math.MaxFloat32
	want := []float32{0, low, low, 0, 0, low, 0, 0, 0}
	if got := causalMask(3); !slices.Equal(got, want) {
		t.Errorf("causalMask(3) = %v, want %v", got, want)
	}
}
