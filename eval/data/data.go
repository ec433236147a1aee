package data

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // pictures of data folders
	_ "image/png"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	_ "golang.org/x/image/webp"

	"leafserve"
)

//go:embed leaf-emoji-64
var builtin embed.FS

// Caption is a picture and what it shows.
type Caption struct {
	Image string `json:"image"` // path in the data folder
	Text  string `json:"text"`
	Class string `json:"class"` // "" where pictures have no classes
	Typos Typos  `json:"typos"`
}

// Class is something that texts or pictures are told apart by.
type Class struct {
	Name   string `json:"name"`
	Prompt string `json:"prompt"` // its text anchor
	Image  string `json:"image"`  // its image anchor, a path in the same folder; "" for none
	Typos  Typos  `json:"typos"`
}

// Prompt is a text to make a picture from.
type Prompt struct {
	Text       string `json:"prompt"`
	Seed       uint64 `json:"seed"`
	Object     string `json:"object"`     // the class that the picture should show, "" if not known
	Background string `json:"background"` // the colour that its border should have, "" if not known
	Typos      Typos  `json:"typos"`
}

// Typos are damaged forms of a text that come with the data, so that runs in
// other programs can be compared: Typos[k-1] carries k random edits.
type Typos []string

// Folder is a data folder.
type Folder struct {
	Name string // for people
	fs.FS
}

// Default is the data set of the default model, held inside the program.
func Default() Folder {
	sub, err := fs.Sub(builtin, "leaf-emoji-64")
	if err != nil {
		panic(err) // the name is the one embedded
	}
	return Folder{"leaf-emoji-64", sub}
}

// Open gives the data folder dir, the default one for "".
func Open(dir string) (Folder, error) {
	if dir == "" {
		return Default(), nil
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return Folder{}, leafserve.InvalidField("data", "%s is no data folder: want one with captions.jsonl", dir)
	}
	return Folder{filepath.Clean(dir), os.DirFS(dir)}, nil
}

// Around gives the folder that a file lies in, and the file's name there.
func Around(file string) (Folder, string) {
	dir, name := filepath.Split(filepath.Clean(file))
	dir = filepath.Clean(dir)
	return Folder{dir, os.DirFS(dir)}, name
}

// Captions reads captions.jsonl. Every picture's file must be there, and every
// class in classes, unless classes is nil.
func (f Folder) Captions(classes []Class) ([]Caption, error) {
	return readLines(f, "captions.jsonl", func(c *Caption) error {
		if classes != nil && indexOf(classes, c.Class) < 0 {
			return fmt.Errorf(`"class" is %.64q, which is not in classes.jsonl`, c.Class)
		}
		return c.check(f)
	})
}

// check wants a text, and a picture in the folder.
func (c *Caption) check(f Folder) error {
	switch {
	case strings.TrimSpace(c.Text) == "":
		return errors.New(`no "text"`)
	case !fs.ValidPath(c.Image):
		return fmt.Errorf(`"image" is %.64q, want a path in the data folder`, c.Image)
	}
	if _, err := fs.Stat(f, c.Image); err != nil {
		return fmt.Errorf("there is no picture %s", c.Image)
	}
	return nil
}

func indexOf(classes []Class, name string) int {
	return slices.IndexFunc(classes, func(c Class) bool { return c.Name == name })
}

// Set is pictures with captions and classes.
type Set struct {
	Folder
	Captions []Caption
	Classes  []Class
	Class    []int // of each caption
}

// Set reads captions.jsonl and classes.jsonl.
func (f Folder) Set() (s Set, err error) {
	s.Folder = f
	if s.Classes, err = f.Classes("classes.jsonl"); err != nil {
		return s, err
	}
	if s.Captions, err = f.Captions(s.Classes); err != nil {
		return s, err
	}
	for _, c := range s.Captions {
		s.Class = append(s.Class, indexOf(s.Classes, c.Class))
	}
	return s, nil
}

// Depicted leaves out the classes that no picture is of.
func (s Set) Depicted() Set {
	out := Set{Folder: s.Folder, Captions: s.Captions}
	for i, c := range s.Classes {
		if slices.Contains(s.Class, i) {
			out.Classes = append(out.Classes, c)
		}
	}
	for _, c := range s.Captions {
		out.Class = append(out.Class, indexOf(out.Classes, c.Class))
	}
	return out
}

// Hash identifies the contents of the set: SHA-256, hex.
func (s Set) Hash() (string, error) {
	return s.Folder.Hash(append(Images(s.Captions), "captions.jsonl", "classes.jsonl")...)
}

// Images lists the picture files of captions.
func Images(captions []Caption) []string {
	var names []string
	for _, c := range captions {
		names = append(names, c.Image)
	}
	return names
}

// Classes reads a file of classes, usually classes.jsonl; names are unique.
func (f Folder) Classes(name string) ([]Class, error) {
	seen := map[string]bool{}
	return readLines(f, name, func(c *Class) error {
		switch {
		case c.Name == "":
			return errors.New(`no "name"`)
		case seen[c.Name]:
			return fmt.Errorf("class %q twice", c.Name)
		case c.Prompt == "" && c.Image == "":
			return fmt.Errorf(`class %q has no "prompt" and no "image"`, c.Name)
		case c.Image != "" && !fs.ValidPath(c.Image):
			return fmt.Errorf(`"image" is %.64q, want a path in the same folder`, c.Image)
		}
		seen[c.Name] = true
		return nil
	})
}

// Prompts reads a prompt file, usually prompts.jsonl, or, with a name in .json,
// the eval/prompts.json of a model folder.
func (f Folder) Prompts(name string) ([]Prompt, error) {
	if strings.EqualFold(path.Ext(name), ".json") {
		return f.cardPrompts(name)
	}
	return readLines(f, name, (*Prompt).check)
}

func (p *Prompt) check() error {
	if strings.TrimSpace(p.Text) == "" {
		return errors.New(`no "prompt"`)
	}
	return nil
}

// Image decodes a picture (PNG, JPEG, WebP) of the folder.
func (f Folder) Image(name string) (image.Image, error) {
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	img, _, err := image.Decode(r)
	if err != nil {
		return nil, leafserve.InvalidField("data", "%s: not a picture in PNG, JPEG or WebP: %w", path.Join(f.Name, name), err)
	}
	return img, nil
}

// Images decodes some pictures.
func (f Folder) Images(names []string) ([]image.Image, error) {
	imgs := make([]image.Image, len(names))
	for i, name := range names {
		var err error
		if imgs[i], err = f.Image(name); err != nil {
			return nil, err
		}
	}
	return imgs, nil
}

// Hash identifies the contents of some files of the folder: SHA-256, hex.
func (f Folder) Hash(names ...string) (string, error) {
	hash := sha256.New()
	for _, name := range slices.Sorted(slices.Values(names)) {
		r, err := f.Open(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s\n", name)
		n, err := io.Copy(hash, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%d\n", n)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
