package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const operations = "docs/operations.md"

var (
	flagName = regexp.MustCompile("--([a-z][a-z-]*)")
	testName = regexp.MustCompile("`(Test[A-Za-z]+)`")
	command  = regexp.MustCompile("(?m)(?:^|`)leafserve ((?:[A-Za-z]+ ?)+)")
)

// TestOperationsFlags: each flag in docs/operations.md is one of ours, or of a
// program that it names.
func TestOperationsFlags(t *testing.T) {
	known := []string{"build", "wait", "bigkeys"} // docker's and redis-cli's
	each(rootCommand(), func(cmd *cobra.Command) {
		add := func(f *pflag.Flag) { known = append(known, f.Name) }
		cmd.Flags().VisitAll(add)
		cmd.PersistentFlags().VisitAll(add)
	})
	for _, m := range flagName.FindAllStringSubmatch(document(t, operations), -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("no command has --%s", m[1])
		}
	}
}

// TestOperationsCommands: each command in it is one that can be run.
func TestOperationsCommands(t *testing.T) {
	for _, m := range command.FindAllStringSubmatch(document(t, operations), -1) {
		cmd, rest, err := rootCommand().Find(strings.Fields(m[1]))
		if err == nil {
			err = cmd.ValidateArgs(rest)
		}
		if err != nil {
			t.Errorf("leafserve %s: %v", m[1], err)
		}
	}
}

// TestOperationsTests: each test in it is there.
func TestOperationsTests(t *testing.T) {
	var sources strings.Builder
	for _, folder := range []string{"queue", "cmd/leafserve"} {
		files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%d tests in %s (%v)", len(files), folder, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	for _, m := range testName.FindAllStringSubmatch(document(t, operations), -1) {
		if !strings.Contains(sources.String(), "func "+m[1]+"(") {
			t.Errorf("there is no test %s", m[1])
		}
	}
}

// each visits a command and those below it.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		each(c, visit)
	}
}
