package textenc

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/weights"
)

// sd15 gives the folders of tiny-sd15's text encoder, which the test may change,
// and tokenizer.
func sd15(t testing.TB) (encoder, tokenizer string) {
	t.Helper()
	dir := leaftest.Model(t, "tiny-sd15")
	return filepath.Join(dir, "text_encoder"), filepath.Join(dir, "tokenizer")
}

// mixed are prompts of all kinds.
var mixed = []string{"a photo of a cat", "", "A majestic LION!!!", "猫 café 😀", "a <|endoftext|> b", strings.Repeat("word ", 100)}

func TestBatchEqualsAlone(t *testing.T) {
	dir, tok := sd15(t)
	e := loadEncoder(t, dir, tok, Options{})
	together := encode(t, e, 1, append(mixed, mixed[0])...)
	for i, text := range mixed {
		alone := encode(t, e, 1, text)[0]
		leaftest.Close(t, text+" hidden", together[i].Hidden, alone.Hidden, 1e-6)
		leaftest.Close(t, text+" pooled", together[i].Pooled, alone.Pooled, 1e-6)
	}
	leaftest.Close(t, "the same prompt twice", together[len(mixed)].Hidden, together[0].Hidden, 0)
	if d := tensor.MaxAbsDiff(together[0].Hidden, together[1].Hidden); d < 1e-2 {
		t.Errorf("different prompts differ by %.1e only", d)
	}
}

// TestCachedEncode: what is in the cache needs no run, so that an ended context
// does not matter; all else does run.
func TestCachedEncode(t *testing.T) {
	dir, tok := sd15(t)
	cache := NewCache(1 << 20)
	e := loadEncoder(t, dir, tok, Options{Cache: cache})
	first := encode(t, e, 0, mixed...)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tc := range []struct {
		name string
		e    *Encoder
		text string
		skip int
		hit  bool
	}{
		{name: "the same", e: e, text: mixed[0], hit: true},
		{name: "the same tokens", e: e, text: "A  PHOTO of a cat ", hit: true},
		{name: "another prompt", e: e, text: "a photo of a dog"},
		{name: "another layer", e: e, text: mixed[0], skip: 1},
		{name: "another encoder", e: changedEncoder(t, cache), text: mixed[0]},
		{name: "no cache", e: loadEncoder(t, dir, tok, Options{}), text: mixed[0]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := tc.e.Encode(ended, []Prompt{tc.e.Tokenize(tc.text)}, tc.skip)
			switch {
			case !tc.hit && !errors.Is(err, context.Canceled):
				t.Errorf("Encode = %v, want it to run and be canceled", err)
			case tc.hit && err != nil:
				t.Errorf("Encode = %v, want a hit", err)
			case tc.hit:
				leaftest.Close(t, "hit", out[0].Hidden, first[0].Hidden, 0)
				leaftest.Close(t, "hit", out[0].Pooled, first[0].Pooled, 0)
			}
		})
	}
	if _, err := e.Encode(ended, []Prompt{e.Tokenize(mixed[0]), e.Tokenize("new")}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Encode of one hit and one miss = %v, want it to be canceled", err)
	}
	both := encode(t, e, 0, "new", mixed[1])
	leaftest.Close(t, "a hit beside a miss", both[1].Hidden, first[1].Hidden, 0)
}

// changedEncoder is tiny-sd15's encoder with one weight changed.
func changedEncoder(t *testing.T, cache *Cache) *Encoder {
	t.Helper()
	dir, tok := sd15(t)
	rewrite(t, dir, func(all map[string]tensor.Tensor) { all["text_model.final_layer_norm.bias"].Data[0]++ })
	return loadEncoder(t, dir, tok, Options{Cache: cache})
}

// rewrite changes the tensors of a folder's model.safetensors.
func rewrite(t *testing.T, dir string, change func(all map[string]tensor.Tensor)) {
	t.Helper()
	path := filepath.Join(dir, "model.safetensors")
	header, err := weights.ReadHeader(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tensor.Tensor{}
	for name, e := range header {
		if all[name], err = e.Read(); err != nil {
			t.Fatal(err)
		}
	}
	change(all)
	var file bytes.Buffer
	if err := errors.Join(weights.Write(&file, all, nil), os.WriteFile(path, file.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestHashFollowsTheWeights(t *testing.T) {
	dir, tok := sd15(t)
	a, b := loadEncoder(t, dir, tok, Options{}), loadEncoder(t, dir, tok, Options{})
	if a.Hash != b.Hash || len(a.Hash) != 64 {
		t.Errorf("two hashes of one folder: %s, %s", a.Hash, b.Hash)
	}
	if c := changedEncoder(t, nil); c.Hash == a.Hash {
		t.Error("a changed weight has the same hash")
	}
}

func TestEncodeRefuses(t *testing.T) {
	dir, tok := sd15(t)
	e := loadEncoder(t, dir, tok, Options{})
	good := e.Tokenize("a cat")
	outside := Prompt{IDs: slices.Clone(good.IDs)}
	outside.IDs[3] = 49408
	for _, tc := range []struct {
		name    string
		prompts []Prompt
		skip    int
		want    string
	}{
		{"negative clip_skip", []Prompt{good}, -1, "clip_skip is -1, want 0 to 2"},
		{"clip_skip of all layers", []Prompt{good}, 3, "clip_skip is 3, want 0 to 2"},
		{"no ids", []Prompt{good, {}}, 0, "prompt 2 has 0 ids, want 77"},
		{"too many ids", []Prompt{{IDs: make([]int, 78)}}, 0, "prompt 1 has 78 ids, want 77"},
		{"id beyond the vocabulary", []Prompt{outside}, 0, "text encoder: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := e.Encode(context.Background(), tc.prompts, tc.skip); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Encode = %v, want %q", err, tc.want)
			}
		})
	}
	if out, err := e.Encode(context.Background(), nil, 0); err != nil || len(out) != 0 {
		t.Errorf("Encode of nothing = %v, %v", out, err)
	}
}

func TestEOSRow(t *testing.T) {
	for _, tc := range []struct {
		name string
		eos  int
		ids  []int
		want int
	}{
		{"first of the padding", 49407, []int{49406, 5, 49407, 49407}, 2},
		{"inside the prompt", 49407, []int{49406, 49407, 5, 49407}, 1},
		{"another id", 7, []int{49406, 5, 7, 49407}, 2},
		{"not there", 7, []int{49406, 5, 49407}, 0},
		{"old config: first of the largest", 2, []int{49406, 2, 49407, 49407}, 2},
		{"old config, pad 0", 2, []int{49406, 5, 49407, 0, 0}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := Encoder{Config: TowerConfig{EOS: tc.eos}}
			if got := e.eosRow(tc.ids); got != tc.want {
				t.Errorf("eosRow(%v) = %d, want %d", tc.ids, got, tc.want)
			}
		})
	}
}

// TestConfigDefaults: what a config leaves out has transformers' defaults, which
// are tiny-sd15's values; its wrong eos_token_id 2 means the right one.
func TestConfigDefaults(t *testing.T) {
	dir, tok := sd15(t)
	want := encode(t, loadEncoder(t, dir, tok, Options{}), 0, mixed...)
	for _, config := range []string{
		`{"hidden_size":16,"intermediate_size":64,"num_hidden_layers":3,"num_attention_heads":2}`,
		`{"text_config":{"hidden_size":16,"intermediate_size":64,"num_hidden_layers":3,"num_attention_heads":2,"eos_token_id":2}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		got := encode(t, loadEncoder(t, dir, tok, Options{}), 0, mixed...)
		leaftest.Close(t, "hidden", stacked(got, hidden), stacked(want, hidden), 0)
		leaftest.Close(t, "pooled", stacked(got, pooled), stacked(want, pooled), 0)
	}
}

func TestLoadErrors(t *testing.T) {
	const config = "config.json"
	write := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const sizes = `"hidden_size":16,"intermediate_size":64,"num_hidden_layers":3`
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir string)
		says   []string
	}{
		{"missing, mis-shaped and unknown tensors at once", func(t *testing.T, dir string) {
			rewrite(t, dir, func(all map[string]tensor.Tensor) {
				delete(all, "text_model.final_layer_norm.weight")
				delete(all, "text_model.encoder.layers.1.mlp.fc1.weight")
				all["text_model.encoder.layers.0.mlp.fc2.bias"] = tensor.New(17)
				all["text_model.encoder.layers.3.mlp.fc2.bias"] = tensor.New(16)
			})
		}, []string{
			"text_encoder does not fit its config",
			"missing tensor text_model.final_layer_norm.weight [16]",
			"missing tensor text_model.encoder.layers.1.mlp.fc1.weight [64 16]",
			"tensor text_model.encoder.layers.0.mlp.fc2.bias has shape [17], want [16]",
			"unknown tensor text_model.encoder.layers.3.mlp.fc2.bias",
		}},
		{"cut short", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "model.safetensors")
			info, err := os.Stat(path)
			if err = errors.Join(err, os.Truncate(path, info.Size()-1)); err != nil {
				t.Fatal(err)
			}
		}, []string{"model.safetensors", "cut short"}},
		{"no weights", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
				t.Fatal(err)
			}
		}, []string{"holds no weights"}},
		{"no config", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, config)); err != nil {
				t.Fatal(err)
			}
		}, []string{config, "no such file"}},
		{"config is no JSON", write(config, "{"), []string{config + " is not the JSON we expect"}},
		{"config of a wrong type", write(config, `{"hidden_size":"wide"}`), []string{config, "hidden_size"}},
		{"tower of a wrong type", write(config, `{"text_config":[]}`), []string{config + ": text_config: "}},
		{"heads do not divide", write(config, `{`+sizes+`,"num_attention_heads":3}`), []string{config, "3 layers of width 16 with 3 heads"}},
		{"no heads", write(config, `{`+sizes+`,"num_attention_heads":0}`), []string{"0 heads"}},
		{"a billion layers", write(config, `{"num_hidden_layers":1000000000}`), []string{"1000000000 layers"}},
		{"a context of a million", write(config, `{"max_position_embeddings":1000000}`), []string{"1000000 tokens, the limit is 4096"}},
		{"another context than the tokenizer's", write(config, `{`+sizes+`,"num_attention_heads":2,"max_position_embeddings":76}`), []string{"reads 76 tokens, its tokenizer gives 77"}},
		{"unknown activation", write(config, `{`+sizes+`,"num_attention_heads":2,"hidden_act":"relu"}`), []string{`activation "relu" is not supported`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, tokenizer := sd15(t)
			tc.change(t, dir)
			tok, err := LoadTokenizer(tokenizer)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(leaftest.Runtime(t), dir, tok, Options{})
			if err == nil {
				t.Fatal("Load gives no error")
			}
			for _, want := range tc.says {
				if strings.Count(err.Error(), want) != 1 {
					t.Errorf("Load says %q not just once: %v", want, err)
				}
			}
		})
	}
}

func TestLoadVisionErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"vision_config":{"patch_size":0}}`:                  "patches of 0 pixels in pictures of 224",
		`{"vision_config":{"patch_size":32,"image_size":16}}`: "patches of 32 pixels in pictures of 16",
		`{"vision_config":{"num_attention_heads":5}}`:         "width 768 with 5 heads",
		`{"vision_config":{"patch_size":-32}}`:                "patches of -32",
		`{}`:                                                  "does not fit its config",
	} {
		dir := leaftest.Model(t, "tiny-clip")
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadVision(leaftest.Runtime(t), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadVision of %s = %v, want %q", config, err, want)
		}
	}
}

// TestProjectionOfAnotherWidth: a CLIP beside the encoder that does not fit it
// stops the load.
func TestProjectionOfAnotherWidth(t *testing.T) {
	dir, tokenizer := sd15(t)
	tok, err := LoadTokenizer(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	clip, err := weights.ReadHeader(filepath.Join(leaftest.DefaultModel(), "clip", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	e := clip[textProjection]
	if e.Name == "" {
		t.Fatalf("no %s among %v", textProjection, slices.Sorted(maps.Keys(clip)))
	}
	if _, err := Load(leaftest.Runtime(t), dir, tok, Options{Projection: &e}); err == nil || !strings.Contains(err.Error(), textProjection+" has shape") {
		t.Errorf("Load = %v, want the tensor's name", err)
	}
}

// TestProjectionSizeIsTheTensors: the towers of a released CLIPModel leave
// projection_dim out where it is not transformers' default of 512, too.
func TestProjectionSizeIsTheTensors(t *testing.T) {
	dir := leaftest.Model(t, "tiny-clip")
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if raw = bytes.ReplaceAll(raw, []byte(`"projection_dim": 24`), []byte(`"x": 0`)); bytes.Contains(raw, []byte("projection_dim")) {
		t.Fatalf("config.json still has a projection_dim: %s", raw)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	e := loadEncoder(t, dir, filepath.Join(leaftest.DefaultModel(), "tokenizer"), Options{})
	if got := encode(t, e, 0, "a cat")[0].Projected.Shape; !slices.Equal(got, []int{1, 24}) {
		t.Errorf("a text is projected to %v, want [1 24]", got)
	}
	v, err := LoadVision(leaftest.Runtime(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if v.Config.Projection != 24 {
		t.Errorf("pictures are projected to %d values, want 24", v.Config.Projection)
	}
}
