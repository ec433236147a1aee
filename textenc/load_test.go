package textenc

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLoadTokenizer reads folders as they are published.
func TestLoadTokenizer(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(testTokenizer, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	config, special := read(configFile), read(specialFile)
	bangSpecial := strings.Replace(special, `"pad_token": "<|endoftext|>"`, `"pad_token": "!"`, 1)
	bangConfig := strings.Replace(config, `"pad_token": "<|endoftext|>"`, `"pad_token": "!", "added_tokens_decoder": {}`, 1)
	for _, tc := range []struct {
		name    string
		files   map[string]string
		text    string
		ids     []int
		pad     int
		context int
	}{
		{name: "no configuration", text: "hi!", ids: []int{49406, 1883, 256, 49407}, pad: 49407, context: 77},
		{name: "SD1.x", files: map[string]string{configFile: config, specialFile: special}, text: "hi!", ids: []int{49406, 1883, 256, 49407}, pad: 49407, context: 77},
		{name: "SD2.x names ! in the older file", files: map[string]string{configFile: config, specialFile: bangSpecial}, text: "hi!!", ids: []int{49406, 1883, 0, 0, 49407}, pad: 0, context: 77},
		{name: "a list of added tokens makes the newer file count", files: map[string]string{configFile: bangConfig, specialFile: special}, text: "hi!", ids: []int{49406, 1883, 0, 49407}, pad: 0, context: 77},
		{name: "pad as object, in any case", files: map[string]string{configFile: `{"pad_token": {"content": "cat</w>", "normalized": true}}`}, text: "a CAT</W>", ids: []int{49406, 320, 2368, 49407}, pad: 2368, context: 77},
		{name: "pad in its own case only", files: map[string]string{configFile: `{"pad_token": "cat</w>"}`}, text: "a CAT</W>", ids: []int{49406, 320, 2368, 34308, 342, 285, 49407}, pad: 2368, context: 77},
		{name: "short context", files: map[string]string{configFile: `{"model_max_length": 8}`}, text: "hi", ids: []int{49406, 1883, 49407}, pad: 49407, context: 8},
		{name: "no limit", files: map[string]string{configFile: `{"model_max_length": 1000000000000000019884624838656}`}, text: "hi", ids: []int{49406, 1883, 49407}, pad: 49407, context: 77},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tok, err := LoadTokenizer(tokenizerDir(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			e := tok.Encode(tc.text)
			if !slices.Equal(e.IDs, tc.ids) {
				t.Errorf("Encode(%q) = %v, want %v", tc.text, e.IDs, tc.ids)
			}
			ids, _ := tok.Window(e)
			if got := ids[len(ids)-1]; got != tc.pad || len(ids) != tc.context || tok.Context() != tc.context {
				t.Errorf("Window has %d ids and ends in %d, want %d and %d", len(ids), got, tc.context, tc.pad)
			}
		})
	}
}

func TestLoadTokenizerFails(t *testing.T) {
	vocab, merges := string(unzip(t, "vocab.json.gz")), string(unzip(t, "merges.txt.gz"))
	const missing = "\x00"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string // in the error
	}{
		{"no vocabulary", map[string]string{vocabFile: missing}, "vocab.json is missing"},
		{"no merges", map[string]string{mergesFile: missing}, "merges.txt is missing"},
		{"empty vocabulary", map[string]string{vocabFile: ""}, "vocab.json:1: "},
		{"vocabulary cut off", map[string]string{vocabFile: "{\n\"!\": 0,\n"}, "vocab.json:3: "},
		{"vocabulary not JSON", map[string]string{vocabFile: "{\n\"!\": oops}"}, "vocab.json:2: "},
		{"vocabulary a list", map[string]string{vocabFile: `["!"]`}, "vocab.json:1: "},
		{"vocabulary null", map[string]string{vocabFile: "null"}, "cannot be encoded"},
		{"id not a number", map[string]string{vocabFile: "{\"!\": 0,\n\"a\": \"1\"}"}, "vocab.json:2: "},
		{"id negative", map[string]string{vocabFile: `{"!": -1}`}, "id -1 of \"!\""},
		{"id that would fill the memory", map[string]string{vocabFile: `{"!": 2000000000}`}, "id 2000000000 of \"!\""},
		{"id twice", map[string]string{vocabFile: `{"!": 1, "a": 1}`}, "have the same id 1"},
		{"no byte pieces", map[string]string{vocabFile: `{"<|startoftext|>": 0, "<|endoftext|>": 1}`}, "so byte 0x00 cannot be encoded"},
		{"no end of text", map[string]string{vocabFile: strings.Replace(vocab, eosPiece, "<end>", 1)}, "not a CLIP vocabulary"},
		{"no start of text", map[string]string{vocabFile: strings.Replace(vocab, bosPiece, "<start>", 1)}, "not a CLIP vocabulary"},
		{"merge of an unknown piece", map[string]string{mergesFile: "#version: 0.2\ni n\nzzzzq q\n"}, `merges.txt:3: "zzzzq" is not in vocab.json`},
		{"merge to an unknown piece", map[string]string{mergesFile: "i n\n! ü\n"}, `merges.txt:2: `},
		{"merge of one piece", map[string]string{mergesFile: "i n\nin\n"}, `merges.txt:2: "in" is not two pieces`},
		{"merge of three pieces", map[string]string{mergesFile: "i n g\n"}, `merges.txt:1: "i n g" is not two pieces`},
		{"merges without an end of line", map[string]string{mergesFile: strings.Repeat("a", 1<<17)}, "merges.txt: "},
		{"configuration not JSON", map[string]string{configFile: "{\n\n}}"}, "tokenizer_config.json:3: "},
		{"special tokens not JSON", map[string]string{specialFile: "pad"}, "special_tokens_map.json:1: "},
		{"pad token a number", map[string]string{configFile: `{"pad_token": 5}`}, "tokenizer_config.json: "},
		{"pad token an object of numbers", map[string]string{configFile: `{"pad_token": {"content": 5}}`}, "tokenizer_config.json: "},
		{"pad token unknown", map[string]string{configFile: `{"pad_token": "<pad>"}`}, `vocab.json has no "<pad>"`},
		{"context of one", map[string]string{configFile: `{"model_max_length": 1}`}, "model_max_length is 1"},
		{"context negative", map[string]string{configFile: `{"model_max_length": -5}`}, "model_max_length is -5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := map[string]string{vocabFile: vocab, mergesFile: merges}
			maps.Copy(files, tc.files)
			maps.DeleteFunc(files, func(_, text string) bool { return text == missing })
			dir := t.TempDir()
			writeFiles(t, dir, files)
			tok, err := LoadTokenizer(dir)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("LoadTokenizer: %v, want %q and the folder", err, tc.want)
			}
			if tok != nil {
				t.Error("a tokenizer came back with the error")
			}
		})
	}
}

func TestLoadTokenizerOfNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nowhere")
	if _, err := LoadTokenizer(dir); err == nil || !strings.Contains(err.Error(), "vocab.json is missing") {
		t.Errorf("LoadTokenizer of a folder that is not there: %v", err)
	}
}

// TestMergesWithCarriageReturns reads a file that Windows has touched.
func TestMergesWithCarriageReturns(t *testing.T) {
	merges := bytes.ReplaceAll(unzip(t, "merges.txt.gz"), []byte("\n"), []byte("\r\n"))
	tok, err := NewTokenizer(bytes.NewReader(unzip(t, "vocab.json.gz")), bytes.NewReader(merges), TokenizerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Encode("a photo of a cat").IDs, []int{49406, 320, 1125, 539, 320, 2368, 49407}; !slices.Equal(got, want) {
		t.Errorf("Encode = %v, want %v", got, want)
	}
}

// tokenizerDir makes a folder with CLIP's vocabulary and other files.
func tokenizerDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{vocabFile: string(unzip(t, "vocab.json.gz")), mergesFile: string(unzip(t, "merges.txt.gz"))})
	writeFiles(t, dir, files)
	return dir
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
