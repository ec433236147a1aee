package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// released gives a folder like that of a released LEAF checkpoint that fits
// tiny-sd15: a whole CLIPModel whose config has nothing that equals
// transformers' defaults, and leaves out even the size of the projection.
func released(t *testing.T) string {
	t.Helper()
	dir := leaftest.Model(t, "tiny-clip")
	write(t, dir+"/config.json", `{"architectures":["CLIPModel"],"model_type":"clip","torch_dtype":"float32",
		"text_config":{"hidden_size":16,"intermediate_size":64,"num_attention_heads":2,"num_hidden_layers":3},
		"vision_config":{"hidden_size":32,"intermediate_size":64,"num_attention_heads":4,"num_hidden_layers":3}}`)
	return dir
}

// rewrite changes the tensors of a folder's model.safetensors; it becomes float32.
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
	store(t, path, all)
}

func store(t *testing.T, path string, tensors map[string]tensor.Tensor) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(weights.Write(f, tensors, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// shard cuts a folder's model.safetensors into two shards with an index.
func shard(t *testing.T, dir string) {
	t.Helper()
	rewrite(t, dir, func(all map[string]tensor.Tensor) {
		shards := []map[string]tensor.Tensor{{}, {}}
		files := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
		index := map[string]string{}
		for i, name := range slices.Sorted(maps.Keys(all)) {
			shards[i%2][name], index[name] = all[name], files[i%2]
		}
		for i, file := range files {
			store(t, filepath.Join(dir, file), shards[i])
		}
		raw, err := json.Marshal(map[string]any{"weight_map": index})
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/model.safetensors.index.json", string(raw))
	})
	remove(t, dir+"/model.safetensors")
}

// adopted describes a model with what was attached to it.
func adopted(t *testing.T, dir, root string) *Folder {
	t.Helper()
	f := describe(t, dir)
	if err := f.Adopt(root); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestAttach: whatever form an encoder's folder has, what is attached reads a
// text as that does, and only its text tower was copied.
func TestAttach(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source func(t *testing.T) string
		P      int // of the projection, 0 for none
	}{
		{"a model's encoder", func(t *testing.T) string { return leaftest.Model(t, "tiny-sd15") + "/text_encoder" }, 0},
		{"a released checkpoint", released, 24},
		{"sharded", func(t *testing.T) string { dir := released(t); shard(t, dir); return dir }, 24},
		{"links, as in a hub's cache", func(t *testing.T) string {
			dir, from := t.TempDir(), released(t)
			for file, blob := range map[string]string{"config.json": "c0ffee", "model.safetensors": "decade"} {
				if err := errors.Join(os.Rename(filepath.Join(from, file), filepath.Join(from, blob)), os.Symlink(filepath.Join(from, blob), filepath.Join(dir, file))); err != nil {
					t.Fatal(err)
				}
			}
			return dir
		}, 24},
		{"with a training run beside", func(t *testing.T) string {
			dir := leaftest.Model(t, "tiny-sd15") + "/text_encoder"
			if err := os.Mkdir(dir+"/run", 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/run/state.safetensors", "large")
			return dir
		}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rt, dir, root, source := leaftest.Runtime(t), leaftest.Model(t, "tiny-sd15"), t.TempDir(), tc.source(t)
			f := describe(t, dir)
			tokenizer, err := f.Tokenizer()
			if err != nil {
				t.Fatal(err)
			}
			direct, err := textenc.Load(rt, source, tokenizer, textenc.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close()
			want, err := direct.Encode(t.Context(), []textenc.Prompt{direct.Tokenize("a dgo")}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Attach(t.Context(), rt, root, "mine", source); err != nil {
				t.Fatal(err)
			}
			remove(t, source)
			f = adopted(t, dir, root)
			if !slices.Equal(f.Info.Encoders, []string{"standard", "mine"}) || f.Info.DefaultEncoder != "standard" {
				t.Errorf("encoders are %v, default %s", f.Info.Encoders, f.Info.DefaultEncoder)
			}
			encoders, err := LoadEncoders(rt, f)
			if err != nil {
				t.Fatal(err)
			}
			defer encoders.Close()
			got, err := encoders.Encode(t.Context(), "mine", []string{"a dgo"}, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			leaftest.Close(t, "hidden", got["hidden"], want[0].Hidden, 0)
			leaftest.Close(t, "pooled", got["pooled"], want[0].Pooled, 0)
			if x := got["projected"]; tc.P > 0 && !slices.Equal(x.Shape, []int{1, tc.P}) || tc.P == 0 && x.Shape != nil {
				t.Errorf("projected is %v, want %d values", x.Shape, tc.P)
			}
			checkCopy(t, f, source)
		})
	}
}

// checkCopy looks at the files of mine and at what Places tells of them.
func checkCopy(t *testing.T, f *Folder, source string) {
	t.Helper()
	places, err := f.Places()
	if err != nil {
		t.Fatal(err)
	}
	own, mine := places[0], places[1]
	if own.Encoder != "standard" || own.Source != "" || own.Folder != filepath.Join(f.Dir, "text_encoder") {
		t.Errorf("Places tells of the model's own encoder %+v", own)
	}
	if mine.Encoder != "mine" || mine.Source != source || len(mine.SHA256) != 64 {
		t.Errorf("Places tells of the attached encoder %+v, want it from %s", mine, source)
	}
	if got := files(t, mine.Folder); !slices.Equal(got, []string{"attached.json", "config.json", "model.safetensors"}) {
		t.Errorf("the copy has the files %v", got)
	}
	ckpt, err := weights.Open(mine.Folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ckpt.Names() {
		if !ofText(name) {
			t.Errorf("the copy holds %s", name)
		}
	}
	if got := files(t, filepath.Dir(mine.Folder)); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("beside the encoder there is %v", got)
	}
}

// files lists a folder, hidden files too; none if it is not there.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestAttachRobust: as a folder text_encoder_robust would, it becomes the default.
func TestAttachRobust(t *testing.T) {
	dir, root := leaftest.Model(t, "tiny-sd15"), t.TempDir()
	if err := describe(t, dir).Attach(t.Context(), leaftest.Runtime(t), root, "robust", released(t)); err != nil {
		t.Fatal(err)
	}
	f := adopted(t, dir, root)
	got, err := f.Resolve(leafserve.Request{Prompt: "a cat"})
	if err != nil || got.Encoder != "robust" || !slices.Equal(f.Info.Encoders, []string{"robust", "standard"}) {
		t.Errorf("a request takes encoder %s of %v (%v), want robust", got.Encoder, f.Info.Encoders, err)
	}
	m, err := Load(leaftest.Runtime(t), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestAttachErrors: what cannot be an encoder of the model is refused, with the
// reason, and nothing is written.
func TestAttachErrors(t *testing.T) {
	config := func(change map[string]any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, dir+"/config.json", change) }
	}
	for _, tc := range []struct {
		name   string
		as     string // "" for mine
		change func(t *testing.T, dir string)
		says   string
	}{
		{"no folder", "", remove, "is no folder"},
		{"a file", "", func(t *testing.T, dir string) { remove(t, dir); write(t, dir, "") }, "is no folder"},
		{"empty", "", func(t *testing.T, dir string) { remove(t, dir); os.Mkdir(dir, 0o755) }, "not a text encoder's folder"},
		{"no config", "", func(t *testing.T, dir string) { remove(t, dir+"/config.json") }, "config.json"},
		{"config is no JSON", "", func(t *testing.T, dir string) { write(t, dir+"/config.json", "{") }, "config.json"},
		{"no weights", "", func(t *testing.T, dir string) { remove(t, dir+"/model.safetensors") }, "holds no weights"},
		{"weights of pickles", "", func(t *testing.T, dir string) {
			if err := os.Rename(dir+"/model.safetensors", dir+"/pytorch_model.bin"); err != nil {
				t.Fatal(err)
			}
		}, "holds no weights: want one of"},
		{"half written", "", func(t *testing.T, dir string) {
			if err := os.Truncate(dir+"/model.safetensors", 1<<20); err != nil {
				t.Fatal(err)
			}
		}, "cut short"},
		{"a shard is missing", "", func(t *testing.T, dir string) { shard(t, dir); remove(t, dir+"/model-00002-of-00002.safetensors") }, "model-00002-of-00002.safetensors"},
		{"a whole model", "", func(t *testing.T, dir string) { write(t, dir+"/model_index.json", "{}") }, "is a whole model"},
		{"T5", "", config(map[string]any{"model_type": "t5"}), "type t5"},
		{"no text tower", "", func(t *testing.T, dir string) {
			rewrite(t, dir, func(all map[string]tensor.Tensor) {
				maps.DeleteFunc(all, func(name string, _ tensor.Tensor) bool { return strings.HasPrefix(name, "text_model.") })
			})
		}, "holds no CLIP text tower"},
		{"a tensor is missing", "", func(t *testing.T, dir string) {
			rewrite(t, dir, func(all map[string]tensor.Tensor) {
				delete(all, "text_model.encoder.layers.1.mlp.fc1.bias")
			})
		}, "missing tensor text_model.encoder.layers.1.mlp.fc1.bias"},
		{"another width", "", func(t *testing.T, dir string) {
			remove(t, dir)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join(leaftest.DefaultModel(), "text_encoder"))); err != nil {
				t.Fatal(err)
			}
		}, "is 192 wide, the UNet of tiny-sd15 reads 16"},
		{"another depth", "", config(map[string]any{"text_config": map[string]any{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}}), "has 2 layers, the standard encoder of tiny-sd15 has 3"},
		{"another context", "", config(map[string]any{"text_config": map[string]any{"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 248}}), "reads 248 tokens, tiny-sd15 gives 77"},
		{"another vocabulary", "", config(map[string]any{"text_config": map[string]any{"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 1000}}), "vocabulary of 1000, the tokenizer of tiny-sd15 one of 49408"},
		{"NaN", "", poison(math.NaN()), "final_layer_norm.bias has values that are no numbers"},
		{"infinite", "", poison(math.Inf(-1)), "final_layer_norm.bias has values that are no numbers"},
		{"states overflow", "", poison(math.MaxFloat32), "its states of a text are no finite numbers"},
		{"a name for the choice", "auto", nil, `cannot be called "auto"`},
		{"a part of SDXL", "2", nil, `cannot be called "2"`},
		{"a path", "../mine", nil, "letters, digits"},
		{"a hidden file", ".mine", nil, "letters, digits"},
		{"an arm with a corrector", "mine+spell", nil, "letters, digits"},
		{"too long", strings.Repeat("m", 65), nil, "up to 64"},
		{"the model's own", "standard", nil, "has an encoder standard of its own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, root, source := leaftest.Model(t, "tiny-sd15"), filepath.Join(t.TempDir(), "encoders"), released(t)
			if tc.change != nil {
				tc.change(t, source)
			}
			err := describe(t, dir).Attach(t.Context(), leaftest.Runtime(t), root, or(tc.as, "mine"), source)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Attach = %v, want an error that says %q", err, tc.says)
			}
			if left := files(t, root); left != nil {
				t.Errorf("Attach left %v", left)
			}
		})
	}
}

// poison puts a value into a weight.
func poison(v float64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		rewrite(t, dir, func(all map[string]tensor.Tensor) {
			all["text_model.final_layer_norm.bias"].Data[3] = float32(v)
			all["text_model.final_layer_norm.weight"].Data[3] = math.MaxFloat32
		})
	}
}

// TestAttachOfAnotherCLIP: projections that the model's CLIP cannot compare.
func TestAttachOfAnotherCLIP(t *testing.T) {
	dir, source := leaftest.Model(t, "tiny-sd15"), released(t)
	if err := os.CopyFS(dir+"/clip", os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	f := describe(t, dir)
	if err := f.Attach(t.Context(), leaftest.Runtime(t), t.TempDir(), "mine", source); err != nil {
		t.Errorf("Attach of the model's own CLIP: %v", err)
	}
	rewrite(t, source, func(all map[string]tensor.Tensor) { all["text_projection.weight"] = tensor.New(32, 16) })
	err := f.Attach(t.Context(), leaftest.Runtime(t), t.TempDir(), "mine", source)
	if err == nil || !strings.Contains(err.Error(), "projects texts to 32 values, the CLIP of tiny-sd15 to 24") {
		t.Errorf("Attach = %v, want an error about 32 and 24 values", err)
	}
}

// TestAttachTwice: of two at once one succeeds, and a third is told how to go on.
func TestAttachTwice(t *testing.T) {
	dir, root, source, rt := leaftest.Model(t, "tiny-sd15"), t.TempDir(), released(t), leaftest.Runtime(t)
	f := describe(t, dir)
	errs := make(chan error)
	for range 2 {
		go func() { errs <- f.Attach(t.Context(), rt, root, "mine", source) }()
	}
	if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
		t.Errorf("Attach twice at once = %v, %v, want one error", a, b)
	}
	if got := files(t, root+"/tiny-sd15"); !slices.Equal(got, []string{"mine"}) {
		t.Errorf("the folder has %v, want mine alone", got)
	}
	err := adopted(t, dir, root).Attach(t.Context(), rt, root, "mine", source)
	if err == nil || !strings.Contains(err.Error(), "`leafserve models detach mine`") {
		t.Errorf("Attach = %v, want an error that says how to detach", err)
	}
}

func TestAttachCanceled(t *testing.T) {
	root := t.TempDir()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := describe(t, leaftest.Model(t, "tiny-sd15")).Attach(ended, leaftest.Runtime(t), root, "mine", released(t))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Attach = %v, want %v", err, context.Canceled)
	}
	if left := files(t, root); left != nil {
		t.Errorf("Attach left %v", left)
	}
}

// TestAttachWithoutRoom: a disk that fills up on the way keeps nothing of it.
func TestAttachWithoutRoom(t *testing.T) {
	leaftest.SmallDisk(t, func(t *testing.T, root string) {
		dir := filepath.Join(t.TempDir(), "linked") // a copy would have no room either
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"model_index.json", "scheduler", "text_encoder", "unet", "vae"} {
			if err := os.Symlink(leaftest.Path("models", "tiny-sd15", part), filepath.Join(dir, part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join(leaftest.DefaultModel(), "tokenizer"), dir+"/tokenizer"); err != nil {
			t.Fatal(err)
		}
		err := describe(t, dir).Attach(t.Context(), leaftest.Runtime(t), root, "mine", leaftest.Path("models", "tiny-clip"))
		if !leaftest.NoRoom(err) || !strings.Contains(err.Error(), "is not attached") {
			t.Errorf("Attach = %v, want an error for want of room", err)
		}
		if left := files(t, root+"/linked"); left != nil {
			t.Errorf("Attach left %v", left)
		}
	})
}

func TestAttachToOddModels(t *testing.T) {
	dir, root := leaftest.Model(t, "tiny-sd15"), t.TempDir()
	write(t, dir+"/leafserve.json", `{"name":"../tiny"}`)
	f := adopted(t, dir, root)
	if err := f.Attach(t.Context(), leaftest.Runtime(t), root, "mine", released(t)); leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), "leafserve.json") {
		t.Errorf("Attach to a model called ../tiny = %v, want an Invalid error that names leafserve.json", err)
	}
	t.Chdir(dir)
	remove(t, "leafserve.json")
	if got := describe(t, ".").Info.Name; got != "tiny-sd15" {
		t.Errorf("the model in . is called %q, want tiny-sd15", got)
	}
}

// TestAdoptErrors: an attached encoder that cannot be used stops the model, with
// the way out; what is no encoder is not looked at.
func TestAdoptErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir, shelf string)
		says   string // "" for no error
	}{
		{"half made", func(t *testing.T, dir, shelf string) { os.Mkdir(shelf+"/.attach-1", 0o755) }, ""},
		{"a file", func(t *testing.T, dir, shelf string) { write(t, shelf+"/notes", "x") }, ""},
		{"now the model's own, too", func(t *testing.T, dir, shelf string) {
			if err := os.Symlink(dir+"/text_encoder", dir+"/text_encoder_mine"); err != nil {
				t.Fatal(err)
			}
		}, "has an encoder of that name, too"},
		{"another model of that name", func(t *testing.T, dir, shelf string) {
			edit(t, dir+"/unet/config.json", map[string]any{"cross_attention_dim": 32})
		}, "is 16 wide, the UNet of tiny-sd15 reads 32"},
		{"damaged", func(t *testing.T, dir, shelf string) { remove(t, shelf+"/mine/config.json") }, "config.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, root := leaftest.Model(t, "tiny-sd15"), t.TempDir()
			if err := describe(t, dir).Attach(t.Context(), leaftest.Runtime(t), root, "mine", released(t)); err != nil {
				t.Fatal(err)
			}
			tc.change(t, dir, filepath.Join(root, "tiny-sd15"))
			f := describe(t, dir)
			err := f.Adopt(root)
			switch {
			case tc.says == "":
				if err != nil || !slices.Equal(f.Info.Encoders, []string{"standard", "mine"}) {
					t.Errorf("Adopt = %v, encoders are %v", err, f.Info.Encoders)
				}
			case err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "models detach mine"):
				t.Errorf("Adopt = %v, want an error that says %q and how to detach", err, tc.says)
			}
			if err := describe(t, dir).Detach(root, "mine"); err != nil {
				t.Errorf("Detach: %v", err)
			}
		})
	}
}

func TestDetach(t *testing.T) {
	dir, root := leaftest.Model(t, "tiny-sd15"), t.TempDir()
	for _, name := range []string{"mine", "other"} {
		if err := describe(t, dir).Attach(t.Context(), leaftest.Runtime(t), root, name, released(t)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ name, says string }{
		{"standard", "standard is one of tiny-sd15 itself"},
		{"nosuch", "attached are: mine, other"},
		{"", "attached are: mine, other"},
		{"..", "attached are: mine, other"},
		{"mine", ""},
		{"mine", "attached are: other"},
		{"other", ""},
		{"other", "attached are: none"},
	} {
		err := describe(t, dir).Detach(root, tc.name)
		if tc.says == "" && err != nil || tc.says != "" && (leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("Detach(%q) = %v, want an Invalid error that says %q", tc.name, err, tc.says)
		}
	}
	if left := files(t, root+"/tiny-sd15"); left != nil {
		t.Errorf("Detach left %v", left)
	}
	if got := adopted(t, dir, root).Info.Encoders; !slices.Equal(got, []string{"standard"}) {
		t.Errorf("encoders are %v, want standard alone", got)
	}
}
