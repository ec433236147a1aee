// Command testsum turns the events of one or several `go test -json` runs into
// a short report: what failed with its output, what was skipped and why, and one
// closing line of counts. It exits 1 if a test or a package failed, or if no
// test ran.
//
//	go test -json ./... | go run ./tools/testsum
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

// key names a test, or with an empty second part a package as a whole.
type key [2]string

// report gathers the events of a run.
type report struct {
	out                     io.Writer
	output                  map[key]*strings.Builder
	failedTests             map[string]int // by package
	failures, skips         []string
	slow                    []event // tests that took a second or more
	passed, failed, skipped int
}

func main() {
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if !r.close() {
		os.Exit(1)
	}
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[key]*strings.Builder{}, failedTests: map[string]int{}}
}

// read takes events until the input ends. A line that is none, as go itself
// prints when it cannot start, goes to the output as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	id := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if r.output[id] == nil {
			r.output[id] = &strings.Builder{}
		}
		r.output[id].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e)
		}
		delete(r.output, id)
	}
}

func (r *report) endTest(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		r.failedTests[e.Package]++
		r.failures = append(r.failures, name)
		fmt.Fprint(r.out, r.text(e))
	case "skip":
		r.skipped++
		r.skips = append(r.skips, name+"\n"+r.text(e))
	}
	if e.Elapsed >= 1 && !strings.Contains(e.Test, "/") {
		r.slow = append(r.slow, e)
	}
}

// endPackage reports a package. One that failed though none of its tests did
// was not built, crashed or ran out of time, and counts as one failure.
func (r *report) endPackage(e event) {
	switch {
	case e.Action == "pass":
		fmt.Fprintf(r.out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
	case e.Action == "fail":
		if r.failedTests[e.Package] == 0 {
			r.failed++
			r.failures = append(r.failures, e.Package)
			r.unfinished(e.Package)
		}
		fmt.Fprintf(r.out, "%sFAIL  %s %.1fs\n", r.text(e), e.Package, e.Elapsed)
	}
}

// unfinished prints what the tests of pkg that never ended have said: a crash
// is reported there.
func (r *report) unfinished(pkg string) {
	for id, text := range r.output {
		if id[0] == pkg && id[1] != "" {
			fmt.Fprint(r.out, text)
		}
	}
}

func (r *report) text(e event) string {
	if text := r.output[key{e.Package, e.Test}]; text != nil {
		return text.String()
	}
	return ""
}

// close prints the summary and says whether all is well.
func (r *report) close() bool {
	slices.SortFunc(r.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range r.slow[:min(5, len(r.slow))] {
		fmt.Fprintf(r.out, "slow: %5.1fs %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	for _, s := range r.skips {
		fmt.Fprintf(r.out, "skipped: %s", s)
	}
	for _, f := range r.failures {
		fmt.Fprintf(r.out, "failed: %s\n", f)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && r.passed > 0
}
