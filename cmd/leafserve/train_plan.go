package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/internal/atomicfile"
	"leafserve/leaftrain"
	"leafserve/leaftrain/captions"
	"leafserve/weights"
)

// plan is what a training run is, all but what it may do in another way when it
// goes on (where it runs, how often it saves).
type plan struct {
	Model      string           `json:"model"` // a name, or the path of a folder
	Encoder    string           `json:"encoder,omitempty"`
	Tokenizer  string           `json:"tokenizer,omitempty"`
	Captions   captions.Config  `json:"captions"`
	Evaluation []string         `json:"eval_captions,omitempty"`
	Recipe     leaftrain.Config `json:"-"` // in a file of its own, for --recipe
}

// Files of a run, in its folder.
const (
	planFile    = "run.json"
	recipeFile  = "recipe.json"
	stateFile   = "state.safetensors"
	metricsFile = "metrics.jsonl"
	plotFile    = "plot.png"
)

// runDir is the folder of a run's own files.
func runDir(out string) string { return filepath.Join(out, "run") }

// newPlan is the plan that the flags ask for; stored, where not nil, has what
// they leave out.
func (f *trainFlags) newPlan(cmd *cobra.Command, cfg *Config, stored *plan) (plan, error) {
	var p plan
	if stored != nil {
		p = *stored
	}
	given := cmd.Flags().Changed
	var err error
	if stored == nil || f.recipe.chosen(cmd) {
		if p.Recipe, err = f.recipe.begin(); err != nil {
			return p, err
		}
	}
	if p.Recipe, err = f.recipe.over(cmd, p.Recipe); err != nil {
		return p, err
	}
	if stored == nil || given("model") {
		p.Model = cfg.Model
	}
	if stored == nil || given("encoder") {
		p.Encoder = f.encoder
	}
	if isDir(p.Model) {
		p.Model, err = filepath.Abs(p.Model)
	}
	return p, errors.Join(err, f.planFiles(given, &p))
}

// planFiles puts the files that flags name into a plan.
func (f *trainFlags) planFiles(given func(flag string) bool, p *plan) error {
	var errs [3]error
	if given("tokenizer") {
		p.Tokenizer, errs[0] = filepath.Abs(f.tokenizer)
	}
	if given("captions") {
		p.Captions.Files, errs[1] = absolute(f.captions)
	}
	if given("eval-captions") {
		p.Evaluation, errs[2] = absolute([]string{f.evalCaptions})
	}
	if given("field") {
		p.Captions.Field = f.field
	}
	p.Captions.Seed = p.Recipe.Seed
	return errors.Join(errs[:]...)
}

// readPlan reads the plan of the run in out. The error is Invalid where there is
// none.
func readPlan(out string) (*plan, error) {
	var p plan
	err := weights.ReadJSON(filepath.Join(runDir(out), planFile), &p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, leafserve.InvalidField("resume", "--resume: %s holds no training run: leave --resume out to begin one there", out)
	}
	if err != nil {
		return nil, err
	}
	return &p, weights.ReadJSON(filepath.Join(runDir(out), recipeFile), &p.Recipe)
}

// write stores a plan in the folder of a run.
func (p plan) write(out string) error {
	return errors.Join(writeJSON(filepath.Join(runDir(out), planFile), p), writeJSON(filepath.Join(runDir(out), recipeFile), p.Recipe))
}

func writeJSON(path string, v any) error {
	return atomicfile.Write(path, 0o644, func(w io.Writer) error { return printJSON(w, v) })
}

// sameAs refuses to go on with a run in another way.
func (p plan) sameAs(stored plan, out string) error {
	var others []string
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"model", p.Model, stored.Model}, {"encoder", p.Encoder, stored.Encoder}, {"tokenizer", p.Tokenizer, stored.Tokenizer},
		{"captions", p.Captions.Files, stored.Captions.Files}, {"field", p.Captions.Field, stored.Captions.Field},
		{"eval-captions", p.Evaluation, stored.Evaluation}, {"recipe", p.Recipe, stored.Recipe},
	} {
		a, errA := json.Marshal(part.a)
		b, errB := json.Marshal(part.b)
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			others = append(others, part.name)
		}
	}
	if others == nil {
		return nil
	}
	return leafserve.InvalidField("resume", "the run in %s was begun with another %s: with --resume leave such flags out, or choose another --out", out, strings.Join(others, ", "))
}

// checkNew refuses an output folder that holds anything.
func checkNew(out string) error {
	entries, err := os.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return leafserve.InvalidField("out", "--out: %w", err)
	case len(entries) == 0:
		return nil
	case isDir(runDir(out)):
		return leafserve.InvalidField("out", "%s holds a training run: give --resume to go on with it, or another --out", out)
	}
	return leafserve.InvalidField("out", "%s is not empty, it holds %s: choose another --out", out, listed(entries))
}

// listed names the first files of a folder.
func listed(entries []os.DirEntry) string {
	var names []string
	for _, e := range entries[:min(3, len(entries))] {
		names = append(names, e.Name())
	}
	if more := len(entries) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
