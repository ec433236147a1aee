package data

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"leafserve"
)

// write puts one file into a new folder.
func write(t *testing.T, name, text string) (Folder, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Around(file)
}

func TestDefault(t *testing.T) {
	set, err := Default().Set()
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Captions) != 345 || len(set.Classes) != 192 {
		t.Errorf("%d captions, %d classes, want 345 and 192", len(set.Captions), len(set.Classes))
	}
	images, err := set.Images(Images(set.Captions))
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range images {
		if size := img.Bounds().Size(); size.X != 64 || size.Y != 64 {
			t.Errorf("%s is %v, want 64×64", set.Captions[i].Image, size)
		}
	}
	prompts, err := set.Prompts("prompts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if len(prompts) < 240 {
		t.Errorf("%d prompts, want 240 at least", len(prompts))
	}
	seen := map[string]bool{}
	for _, p := range prompts {
		if seen[p.Text] || indexOf(set.Classes, p.Object) < 0 || p.Background == "" || len(p.Typos) != 5 {
			t.Errorf("prompt %+v is there twice, or has no class, background or five typos", p)
		}
		seen[p.Text] = true
	}
	if notice, err := set.Open("NOTICE"); err != nil {
		t.Errorf("no licences with the pictures: %v", err)
	} else {
		notice.Close()
	}
}

// TestPublicPrompts: the prompts are not those that the model's figures were
// made and chosen on.
func TestPublicPrompts(t *testing.T) {
	card, name := Around("../../weights/builtin/leaf-emoji-64/eval/prompts.json")
	public, err := card.Prompts(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(public) != 72 || len(public[0].Typos) != 2 || public[0].Seed != 1000 || public[0].Background != "yellow" {
		t.Errorf("the card's prompts are %d, the first %+v", len(public), public[0])
	}
	own, err := Default().Prompts("prompts.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range public {
		for _, q := range own {
			if p.Text == q.Text {
				t.Errorf("%q is public", p.Text)
			}
		}
	}
}

func TestDepicted(t *testing.T) {
	set := Set{
		Captions: []Caption{{Class: "c"}, {Class: "a"}, {Class: "c"}},
		Classes:  []Class{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		Class:    []int{2, 0, 2},
	}.Depicted()
	if !reflect.DeepEqual(set.Classes, []Class{{Name: "a"}, {Name: "c"}}) || !reflect.DeepEqual(set.Class, []int{1, 0, 1}) {
		t.Errorf("classes %v of %v, want a and c of [1 0 1]", set.Classes, set.Class)
	}
}

func TestTexts(t *testing.T) {
	want := []Example{{"Wall St. Bears Claw Back", 2}, {"Cup \"final\", today", 1}}
	for name, text := range map[string]string{
		"news.csv":        "3,Wall St.,Bears Claw Back\n2,\"Cup \"\"final\"\",\",today\n",
		"header.csv":      "Class Index,Title,Description\n3,Wall St.,Bears Claw Back\n2,\"Cup \"\"final\"\",\",today\n",
		"two-columns.CSV": "\ufefflabel,text\nBusiness,Wall St. Bears Claw Back\nsports,\"Cup \"\"final\"\", today\"",
		"news.jsonl":      `{"text":"Wall St. Bears Claw Back","label":2}` + "\n\n" + `{"text":"Cup \"final\", today","label":"Sports","id":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			f, name := write(t, name, text)
			got, err := f.Texts(name, News())
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		})
	}
}

// TestBroken: what is wrong with a file is said with its name and line.
func TestBroken(t *testing.T) {
	caption := `{"image":"a.png","text":"a cat"}` + "\n"
	for _, tc := range []struct{ name, file, text, want string }{
		{"not JSON", "prompts.jsonl", `{"prompt":"a cat"}` + "\n\n{\"prompt\"\n", "prompts.jsonl:3: not JSON"},
		{"a list", "prompts.jsonl", `["a cat"]`, "prompts.jsonl:1: not a JSON object"},
		{"wrong type", "prompts.jsonl", `{"prompt":"a","seed":"one"}`, `:1: "seed" cannot be a string`},
		{"negative seed", "prompts.jsonl", `{"prompt":"a","seed":-1}`, `:1: "seed" cannot be a number -1`},
		{"no prompt", "prompts.jsonl", `{"text":"a cat"}`, `prompts.jsonl:1: no "prompt"`},
		{"not UTF-8", "prompts.jsonl", "{\"prompt\":\"a c\xe9t\"}", "prompts.jsonl:1: not valid UTF-8"},
		{"empty", "prompts.jsonl", "\n", "prompts.jsonl is empty"},
		{"card", "prompts.json", "{\n\"prompts\":[\n{\"prompt\":}]}", "prompts.json:3: not JSON"},
		{"card of nothing", "prompts.json", "{}", `prompts.json has no "prompts"`},
		{"card without text", "prompts.json", `{"prompts":[{"prompt":"a"},{}]}`, `prompts.json: prompt 2: no "prompt"`},
		{"no picture", "captions.jsonl", caption, "captions.jsonl:1: there is no picture a.png"},
		{"picture outside", "captions.jsonl", `{"image":"../a.png","text":"a"}`, `captions.jsonl:1: "image" is "../a.png"`},
		{"no text", "captions.jsonl", `{"image":"a.png","text":" "}`, `captions.jsonl:1: no "text"`},
		{"unknown class", "captions.jsonl", `{"image":"a.png","text":"a","class":"cta"}`, `captions.jsonl:1: "class" is "cta"`},
		{"class twice", "classes.jsonl", "{\"name\":\"a\",\"prompt\":\"p\"}\n{\"name\":\"a\",\"prompt\":\"p\"}", `classes.jsonl:2: class "a" twice`},
		{"class without anchor", "classes.jsonl", `{"name":"a"}`, `classes.jsonl:1: class "a" has no "prompt"`},
		{"label", "news.jsonl", `{"text":"a","label":4}`, `news.jsonl:1: label "4" is no class: want a name, or 0 to 3`},
		{"no label", "news.jsonl", `{"text":"a"}`, `news.jsonl:1: no "label"`},
		{"CSV label", "news.csv", "1,a,b\n\"2\",\"c\nd\",e\n0,f,g\n", `news.csv:4: label "0" is no class: want a name, or 1 to 4`},
		{"CSV quote", "news.csv", "1,a,b\n2,\"c\"d,e\n", `news.csv:2: `},
		{"CSV fields", "news.csv", "1\n", "news.csv:1: 1 fields"},
		{"CSV without text", "news.csv", "1,,\n", "news.csv:1: no text"},
		{"CSV not UTF-8", "news.csv", "1,\xe9,a\n", "news.csv:1: not valid UTF-8"},
		{"CSV of a header", "news.csv", "label,text\n", "news.csv is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, name := write(t, tc.file, tc.text)
			err := read(f, name)
			if err == nil || !strings.Contains(err.Error(), tc.want) || leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("%v (%s), want %s", err, leafserve.KindOf(err), tc.want)
			}
		})
	}
	f, _ := write(t, "a", "")
	if err := read(f, "prompts.jsonl"); leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := f.Image("a"); leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("an empty picture gives %v", err)
	}
}

func read(f Folder, name string) (err error) {
	switch strings.TrimSuffix(name, filepath.Ext(name)) {
	case "prompts":
		_, err = f.Prompts(name)
	case "captions":
		_, err = f.Captions([]Class{{Name: ""}, {Name: "cat"}})
	case "classes":
		_, err = f.Classes(name)
	case "news":
		_, err = f.Texts(name, News())
	}
	return err
}

// FuzzTexts: no file of labelled texts makes the reader panic, or gives a text
// without a class.
func FuzzTexts(f *testing.F) {
	f.Add("news.csv", "3,Wall St.,Bears\n")
	f.Add("news.csv", "\"2\",\"a\nb\"\n")
	f.Add("news.jsonl", `{"text":"a","label":2}`)
	f.Add("news.jsonl", `{"text":"a","label":"World"}`)
	f.Fuzz(func(t *testing.T, name, text string) {
		if filepath.Base(name) != name || !filepath.IsLocal(name) || strings.ContainsAny(name, "\x00\\") || len(name) > 100 {
			return
		}
		folder, name := write(t, name, text)
		list, err := folder.Texts(name, News())
		if err == nil && len(list) == 0 {
			t.Error("no text and no error")
		}
		for _, e := range list {
			if e.Class < 0 || e.Class > 3 || strings.TrimSpace(e.Text) == "" {
				t.Errorf("%+v is no example", e)
			}
		}
	})
}
