// Command licences writes the licences of everything that is compiled into
// leafserve into a Markdown file, between the two marker lines: a table, then
// each text once. It fails for a module whose licence it does not know as a
// permissive one: then a person must read it.
//
//	go run ./tools/licences THIRD_PARTY.md
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	begin = "<!-- what follows is written by `make licences` -->\n"
	end   = "<!-- end of what `make licences` writes -->\n"
)

// kinds are the licences that may be linked, each with words that only it has,
// after white space was reduced to single spaces. The first that fits counts.
var kinds = []struct{ name, words string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"Apache-2.0", "Licensed under the Apache License, Version 2.0"},
	{"BSD-3-Clause", "may be used to endorse or promote products"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce"},
	{"MIT", "Permission is hereby granted, free of charge"},
	{"Unlicense", "free and unencumbered software released into the public domain"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose"},
	{"FTL", "The FreeType License, which is similar to the original BSD license"},
	{"MPL-2.0", "Mozilla Public License, version 2.0"},
	{"CC-BY-4.0", "Creative Commons Attribution 4.0 International Public License"},
}

// module is a part of the program that others wrote.
type module struct {
	name, version, dir string
}

// text is a licence or notice file and the modules that carry it.
type text struct {
	body    string
	modules []string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("licences: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: licences FILE.md")
	}
	old, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	updated, err := rewrite(string(old), "./cmd/leafserve")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[1], []byte(updated), 0o644); err != nil {
		log.Fatal(err)
	}
}

// rewrite replaces what stands between the markers of page by the licences of
// the modules that the command of that path is made of.
func rewrite(page, command string) (string, error) {
	head, rest, ok := strings.Cut(page, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("the marker lines are missing:\n%s%s", begin, end)
	}
	modules, err := linked(command)
	if err != nil {
		return "", err
	}
	section, err := render(modules)
	return head + begin + section + end + tail, err
}

// linked lists Go's own library and the modules whose packages command imports.
func linked(command string) ([]module, error) {
	root, err := golang("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	list, err := golang("list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", command)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(list, "\n")
	slices.Sort(lines)
	modules := []module{{name: "Go standard library", dir: root}}
	for _, line := range slices.Compact(lines) {
		if f := strings.SplitN(line, " ", 3); len(f) == 3 {
			modules = append(modules, module{f[0], f[1], f[2]})
		}
	}
	return modules, nil
}

// golang runs the go command and gives what it prints.
func golang(args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func render(modules []module) (string, error) {
	var out strings.Builder
	var texts []text
	out.WriteString("\n| module | version | licence |\n|---|---|---|\n")
	for _, m := range modules {
		kind, bodies, err := licence(m)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", m.name, m.version, kind)
		for _, body := range bodies {
			texts = addText(texts, m.name, body)
		}
	}
	for _, t := range texts {
		fmt.Fprintf(&out, "\n### %s\n\n```text\n%s\n```\n", strings.Join(t.modules, ", "), t.body)
	}
	return out.String(), nil
}

// addText puts a text into the list, or its module beside those that have the
// same text.
func addText(texts []text, module, body string) []text {
	i := slices.IndexFunc(texts, func(t text) bool { return t.body == body })
	if i < 0 {
		return append(texts, text{body, []string{module}})
	}
	texts[i].modules = append(texts[i].modules, module)
	return texts
}

var (
	textFile = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|notice)[-.a-z0-9]*$`)
	spaces   = regexp.MustCompile(`\s+`)
)

// licence gives the kinds of a module's licence files, joined, and the texts of
// these and of its notices.
func licence(m module) (kind string, texts []string, err error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return "", nil, err
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() || !textFile.MatchString(e.Name()) {
			continue
		}
		body, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
		if err != nil {
			return "", nil, err
		}
		if name := classify(string(body)); name != "" && !slices.Contains(found, name) {
			found = append(found, name)
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(body), "\r\n", "\n")))
	}
	if len(found) == 0 {
		return "", nil, fmt.Errorf("%s %s has no licence that this tool knows in %s: read it, then add its kind here or drop the module", m.name, m.version, m.dir)
	}
	return strings.Join(found, ", "), texts, nil
}

// classify names the kind of a licence text, "" if it is none that we know.
func classify(body string) string {
	body = spaces.ReplaceAllString(body, " ")
	for _, k := range kinds {
		if strings.Contains(body, k.words) {
			return k.name
		}
	}
	return ""
}
