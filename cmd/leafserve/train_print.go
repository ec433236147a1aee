package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8/decor"

	"leafserve/leaftrain"
)

// teller tells people how a training run is doing: by a bar on a terminal, else
// by lines.
type teller struct {
	bar     *bar
	lines   io.Writer // nil for none
	all     int       // steps of the run
	last    time.Time // of a line
	seconds float64   // a step, a running mean; 0 before the first
	figures atomic.Pointer[string]
}

// lineEvery is how long a run without a terminal is silent.
const lineEvery = 10 * time.Second

func newTeller(cmd *cobra.Command, cfg *Config, t *leaftrain.Trainer) *teller {
	told := &teller{all: t.Config.Steps}
	told.figures.Store(new("loading"))
	told.bar = newBarWith(cmd, cfg, "training", 20, decor.Any(func(decor.Statistics) string { return *told.figures.Load() }))
	told.bar.set(t.Steps(), told.all)
	if !told.bar.shown && !cfg.JSON {
		told.lines = cmd.ErrOrStderr()
	}
	return told
}

// step tells of a step, in a line not more often than every lineEvery.
func (t *teller) step(m leaftrain.Metrics) {
	if t.seconds == 0 {
		t.seconds = m.Seconds
	}
	t.seconds += (m.Seconds - t.seconds) / 20
	left := time.Duration(t.seconds * float64(t.all-m.Step) * float64(time.Second)).Round(time.Second)
	figures := fmt.Sprintf("loss %.4g, drift %.3g clean %.3g attacked, %.0f candidates/s, %v left",
		m.Loss, m.CleanDrift, m.Drift, float64(m.Candidates)/m.Seconds, left)
	t.figures.Store(&figures)
	t.bar.set(m.Step, t.all)
	if now := time.Now(); t.lines != nil && now.Sub(t.last) >= lineEvery {
		t.last = now
		fmt.Fprintf(t.lines, "step %d of %d: %s\n", m.Step, t.all, figures)
	}
}

// evaluation tells of one.
func (t *teller) evaluation(e leaftrain.Evaluation) {
	line := fmt.Sprintf("step %d, held-out captions, 1 − cosine: embedding %.4f clean, %.4f with a typo, %.4f under LEAF; states %.4f, %.4f, %.4f",
		e.Step, e.Clean.Pooled, e.Typo.Pooled, e.Leaf.Pooled, e.Clean.Hidden, e.Typo.Hidden, e.Leaf.Hidden)
	switch {
	case t.bar.shown:
		t.bar.write(line)
	case t.lines != nil:
		fmt.Fprintln(t.lines, line)
	}
}

func (t *teller) done() { t.bar.done() }

// summary says what a run that is done has made.
func (r *trainRun) summary() string {
	first, last := r.metrics.evaluations[0], r.metrics.evaluations[len(r.metrics.evaluations)-1]
	return fmt.Sprintf(`%s holds the encoder after %d steps. On held-out captions, 1 − cosine to what it was on clean ones:
            embedding          states of the UNet
clean       %.4f → %.4f    %.4f → %.4f
a typo      %.4f → %.4f    %.4f → %.4f
LEAF (k=1)  %.4f → %.4f    %.4f → %.4f
The plot is %s.`,
		r.out, last.Step,
		first.Clean.Pooled, last.Clean.Pooled, first.Clean.Hidden, last.Clean.Hidden,
		first.Typo.Pooled, last.Typo.Pooled, first.Typo.Hidden, last.Typo.Hidden,
		first.Leaf.Pooled, last.Leaf.Pooled, first.Leaf.Hidden, last.Leaf.Hidden, r.path(plotFile))
}
