package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThirdPartyIsCurrent fails when a module was added, removed or updated and
// the file was not written anew.
func TestThirdPartyIsCurrent(t *testing.T) {
	page, err := os.ReadFile("../../THIRD_PARTY.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := rewrite(string(page), "leafserve/cmd/leafserve")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != want {
		t.Error("THIRD_PARTY.md is not of the modules that the program is made of: run make licences")
	}
}

func TestLicence(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		kind  string
		texts int
		fails string
	}{
		{"MIT", map[string]string{"LICENSE": "Permission is hereby\ngranted, free of charge, to"}, "MIT", 1, ""},
		{"two and a notice", map[string]string{
			"LICENSE":     "Apache License\n  Version 2.0",
			"LICENSE.mit": "Permission is hereby granted, free of charge",
			"NOTICE":      "Made by many.",
		}, "Apache-2.0, MIT", 3, ""},
		{"none", map[string]string{"README": "Permission is hereby granted, free of charge"}, "", 0, "no licence that this tool knows"},
		{"unknown", map[string]string{"COPYING": "GNU GENERAL PUBLIC LICENSE"}, "", 0, "read it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, body := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kind, texts, err := licence(module{name: "m", version: "v1", dir: dir})
			if kind != tc.kind || len(texts) != tc.texts {
				t.Errorf("licence = %q with %d texts, want %q with %d", kind, len(texts), tc.kind, tc.texts)
			}
			if (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("licence: error %v, want one with %q", err, tc.fails)
			}
		})
	}
}
