package data

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"leafserve"
)

// pictureFolder is a folder with empty files a.png and b.png, and one more file.
func pictureFolder(t *testing.T, name, text string) Folder {
	t.Helper()
	f, _ := write(t, name, text)
	for _, picture := range []string{"a.png", "b.png"} {
		if err := os.WriteFile(filepath.Join(f.Name, picture), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestPairs(t *testing.T) {
	want := []Caption{{Image: "a.png", Text: "a cat"}, {Image: "a.png", Text: "two, cats"}, {Image: "b.png", Text: "a dog"}}
	for _, tc := range []struct{ name, file, text string }{
		{"lines", "captions.jsonl", `{"image":"a.png","text":"a cat"}` + "\n" + `{"image":"a.png","text":"two, cats"}` + "\n" + `{"image":"b.png","text":"a dog"}`},
		{"rows", "captions.csv", "a.png,a cat\na.png,\"two, cats\"\nb.png,a dog\n"},
		{"rows with a header", "captions.csv", "\ufefffile,caption\na.png,a cat\na.png,\"two, cats\"\nb.png, a dog\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, file, err := pictureFolder(t, tc.file, tc.text).Pairs()
			if err != nil || file != tc.file || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v of %s, %v, want %+v", got, file, err, want)
			}
		})
	}
}

func TestBrokenPairs(t *testing.T) {
	for _, tc := range []struct{ name, file, text, want string }{
		{"fields", "captions.csv", "file,caption\na.png,a,cat\n", "captions.csv:2: 3 fields, want file,caption"},
		{"no picture", "captions.csv", "a.png,\"a\ncat\"\nc.png,a dog\n", "captions.csv:3: there is no picture c.png"},
		{"no text", "captions.csv", "a.png, \n", `captions.csv:1: no "text"`},
		{"not UTF-8", "captions.csv", "a.png,caf\xe9\n", "captions.csv:1: not valid UTF-8"},
		{"a header only", "captions.csv", "file,caption\n", "captions.csv is empty"},
		{"line", "captions.jsonl", "{\"image\":\"a.png\",\"text\":\"a\"}\n{\"image\"\n", "captions.jsonl:2: not JSON"},
		{"neither", "texts.csv", "", "there is no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := pictureFolder(t, tc.file, tc.text).Pairs()
			if err == nil || !strings.Contains(err.Error(), tc.want) || leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestCOCO(t *testing.T) {
	f, name := write(t, "captions.json", `{"images":[],"annotations":[{"image_id":9,"id":1,"caption":"A bus. "},{"image_id":4,"id":2,"caption":"\n\tTwo cats"},{"image_id":9,"id":3,"caption":"a red bus"}]}`)
	got, err := f.Prompts(name)
	if want := []Prompt{{Text: "Two cats"}, {Text: "A bus."}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	f, name = write(t, "captions.json", `{"annotations":[{"image_id":1,"caption":"a"},{"image_id":2,"caption":" "}]}`)
	if _, err := f.Prompts(name); err == nil || !strings.Contains(err.Error(), `captions.json: prompt 2: no "prompt"`) {
		t.Errorf("a blank caption gives %v", err)
	}
}
