package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name   string
		events string
		ok     bool
		says   []string
	}{
		{"one of each", `
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"why B failed\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"why C was skipped\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}`,
			false, []string{"why B failed", "why C was skipped", "failed: p TestB", "1 passed, 1 failed, 1 skipped"}},
		{"passing output is not shown", `
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.5}`,
			true, []string{"ok    p 1.5s", "1 passed, 0 failed, 0 skipped"}},
		{"package that was not built", `
{"ImportPath":"p","Action":"build-output","Output":"p.go:1: undefined: x\n"}
{"Action":"fail","Package":"p"}`,
			false, []string{"undefined: x", "failed: p\n", "0 passed, 1 failed, 0 skipped"}},
		{"crash inside a test", `
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: boom\n"}
{"Action":"fail","Package":"p"}`,
			false, []string{"panic: boom", "failed: p\n"}},
		{"no test at all", `
{"Action":"skip","Package":"p"}`,
			false, []string{"0 passed, 0 failed, 0 skipped"}},
		{"go could not start", `
go: cannot find main module`,
			false, []string{"go: cannot find main module"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tc.events)); err != nil {
				t.Fatal(err)
			}
			if got := r.close(); got != tc.ok {
				t.Errorf("close = %v, want %v", got, tc.ok)
			}
			for _, want := range tc.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("report does not say %q:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "chatter") {
				t.Errorf("report shows the output of a test that passed:\n%s", out.String())
			}
		})
	}
}
