package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"leafserve/weights"
)

// root is the repository's folder as tests of this package see it.
const root = "../.."

// document reads a file of the repository.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shellBlock is a Markdown code block marked sh; the group is its commands.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// example is a shell block of a document.
type example struct {
	line     int // where it begins
	commands string
}

// curlExamples gives the shell blocks of a document that call curl.
func curlExamples(t *testing.T, name string) []example {
	t.Helper()
	text := document(t, name)
	var examples []example
	for _, at := range shellBlock.FindAllStringSubmatchIndex(text, -1) {
		if commands := text[at[2]:at[3]]; strings.Contains(commands, "curl") {
			examples = append(examples, example{1 + strings.Count(text[:at[0]], "\n"), commands})
		}
	}
	return examples
}

// TestReadmeExamples pastes every example that calls curl into a shell, with a
// server of the built-in model behind it.
func TestReadmeExamples(t *testing.T) {
	server := launchServer(t, "serve", "--data-dir", t.TempDir())
	for _, doc := range []struct {
		name     string
		examples int // at least
	}{{"README.md", 5}, {"docs/http.md", 8}, {"docs/lab.md", 4}} {
		t.Run(doc.name, func(t *testing.T) {
			examples := curlExamples(t, doc.name)
			if len(examples) < doc.examples {
				t.Fatalf("%d examples, want at least %d", len(examples), doc.examples)
			}
			for _, e := range examples {
				t.Run(fmt.Sprint("line ", e.line), func(t *testing.T) { checkExample(t, server.url, e.commands) })
			}
		})
	}
}

// savesFile finds a command that saves what comes: under a name, or the URL's.
var savesFile = regexp.MustCompile(` -(o \w|O )`)

// checkExample runs commands in a folder of their own. What they print and the
// files that they leave must be what was asked for and not an error.
func checkExample(t *testing.T, url, commands string) {
	dir := t.TempDir()
	shell := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(commands, "http://127.0.0.1:8080", url))
	shell.Dir = dir
	var errs bytes.Buffer
	shell.Stderr = &errs
	printed, err := shell.Output()
	if err != nil {
		t.Fatalf("%v: %s%.1000s", err, errs.Bytes(), printed)
	}
	if bytes.Contains(printed, []byte(`{"error":`)) {
		t.Errorf("it prints an error: %.1000s", printed)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if saves := savesFile.MatchString(commands); saves != (len(files) > 0) || !saves && len(printed) == 0 {
		t.Errorf("%d files and %d printed bytes, while files asked for is %v", len(files), len(printed), saves)
	}
	for _, file := range files {
		checkFile(t, filepath.Join(dir, file.Name()))
	}
}

// checkFile checks that a file holds what its name says.
func checkFile(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch format := strings.TrimPrefix(filepath.Ext(path), "."); format {
	case "png", "jpeg", "webp":
		_, got, err := image.Decode(bytes.NewReader(data))
		if err != nil || got != format {
			t.Errorf("%s is %q (%v): %.200q", path, got, err, data)
		}
	case "safetensors":
		tensors, err := weights.ReadHeader(path)
		if err != nil || len(tensors) == 0 {
			t.Errorf("%s has %d tensors (%v): %.200q", path, len(tensors), err, data)
		}
	case "html":
		if !bytes.HasPrefix(data, []byte("<!doctype html>")) {
			t.Errorf("%s is %.200q", path, data)
		}
	case "json":
		var object map[string]any
		if err := json.Unmarshal(data, &object); err != nil || len(object) == 0 || object["error"] != nil {
			t.Errorf("%s (%v) is %.500s", path, err, data)
		}
	default:
		t.Errorf("%s: no check for this kind of file", path)
	}
}

// settingRow is a row of README's configuration table: flags and defaults.
var settingRow = regexp.MustCompile("(?m)^\\| (`--[^|]*) \\| ([^|]*) \\|")

// settingWords are README's words for defaults that are found at run time, with
// the flag's own.
var settingWords = map[string]string{"embedded": "", "user's data folder": "", "found": "", "one a core": "0", "none": "[]",
	"`keys.yaml` in the data folder": "", "`--max-queued`": "0", "host and process": "", "off": ""}

// TestReadmeSettings: README's configuration table has serve's flags, all of
// them, with their defaults.
func TestReadmeSettings(t *testing.T) {
	flags := serveCommand(DefaultConfig()).Flags()
	told := map[string]bool{}
	for _, row := range settingRow.FindAllStringSubmatch(document(t, "README.md"), -1) {
		names, defaults := strings.Split(row[1], ", "), strings.Split(row[2], ", ")
		if len(names) != len(defaults) {
			t.Errorf("%d flags and %d defaults in the row %s", len(names), len(defaults), row[0])
			continue
		}
		for i, name := range names {
			name = strings.Trim(name, "`-")
			told[name] = true
			switch flag := flags.Lookup(name); {
			case flag == nil:
				t.Errorf("README has --%s, serve has not", name)
			case !sameDefault(defaults[i], flag.DefValue):
				t.Errorf("README says that --%s is %s by default, serve says %q", name, defaults[i], flag.DefValue)
			}
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if !told[f.Name] {
			t.Errorf("serve has --%s, README has not", f.Name)
		}
	})
}

// sameDefault compares a default in README (words, or `1h`) with a flag's (1h0m0s).
func sameDefault(readme, flag string) bool {
	if words, ok := settingWords[readme]; ok {
		return words == flag
	}
	value := strings.Trim(readme, "`")
	if value == flag {
		return true
	}
	if d, err := time.ParseDuration(value); err == nil {
		value = d.String()
	}
	return value == flag
}

// link is a link's or a picture's target in Markdown or HTML.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)|src="([^"]+)"`)

// TestDocumentLinks: files and headings that documents link to exist.
func TestDocumentLinks(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) == 0 {
		t.Fatalf("%d documents (%v)", len(documents), err)
	}
	for _, name := range []string{"README.md", "CHANGELOG.md"} {
		documents = append(documents, filepath.Join(root, name))
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target := found[1] + found[2]
			if strings.Contains(target, "://") {
				continue
			}
			if err := checkLink(path, target); err != nil {
				t.Errorf("%s: link to %s: %v", path, target, err)
			}
		}
	}
}

// checkLink looks for what a document at path links to.
func checkLink(path, target string) error {
	file, anchor, _ := strings.Cut(target, "#")
	linked := filepath.Join(filepath.Dir(path), file)
	if file == "" {
		linked = path
	}
	if anchor == "" {
		_, err := os.Stat(linked)
		return err
	}
	text, err := os.ReadFile(linked)
	if err != nil {
		return err
	}
	for _, heading := range headings.FindAllStringSubmatch(string(text), -1) {
		if anchor == strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-") {
			return nil
		}
	}
	return errors.New("no such heading")
}

var (
	headings = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noAnchor = regexp.MustCompile(`[^\pL\pN _-]`) // what an anchor leaves out of its heading
)
