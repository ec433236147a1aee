package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/internal/atomicfile"
	"leafserve/leaftrain"
)

// trainRun is a training run under way.
type trainRun struct {
	pupil
	out     string
	half    bool
	every   [2]int // steps between checkpoints, and between evaluations
	source  without
	held    []string // captions that it is evaluated on
	trainer *leaftrain.Trainer
	metrics *metricsLog
	teller  *teller
	started time.Time
	stderr  io.Writer
	saved   int   // step of the last good checkpoint, 0 for none
	failed  error // of saving
}

// open prepares a run. Until all of it has been found good nothing is written.
func (f *trainFlags) open(cmd *cobra.Command, cfg *Config, p plan) (*trainRun, error) {
	r := &trainRun{out: f.out, half: f.half, every: [2]int{f.checkpointEvery, f.evalEvery}, started: time.Now(), stderr: cmd.ErrOrStderr()}
	if err := f.checkAttach(cfg); err != nil {
		return nil, err
	}
	var err error
	if r.source, r.held, err = openCaptions(cmd.Context(), p.Captions, p.Evaluation); err != nil {
		return nil, err
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return nil, errors.Join(err, r.source.Close())
	}
	if r.pupil, err = cfg.openPupil(rt, p); err != nil {
		return nil, errors.Join(err, r.source.Close())
	}
	if err := r.prepare(cmd, cfg, p); err != nil {
		return nil, errors.Join(err, r.pupil.Close(), r.source.Close())
	}
	return r, nil
}

// prepare goes to where the run stands, and opens its folder.
func (r *trainRun) prepare(cmd *cobra.Command, cfg *Config, p plan) error {
	var err error
	if r.trainer, err = leaftrain.New(r.student, r.teacher, p.Recipe); err != nil {
		return err
	}
	if err := r.restore(cmd.Context()); err != nil {
		return err
	}
	if err := os.MkdirAll(runDir(r.out), 0o755); err != nil {
		return leafserve.InvalidField("out", "--out: %w", err)
	}
	if err := p.write(r.out); err != nil {
		return err
	}
	if r.metrics, err = openMetrics(r.path(metricsFile), r.trainer.Steps()); err != nil {
		return err
	}
	if cfg.JSON {
		r.metrics.also = cmd.OutOrStdout()
	}
	r.teller = newTeller(cmd, cfg, r.trainer)
	return nil
}

// path names one of the run's own files.
func (r *trainRun) path(name string) string { return filepath.Join(runDir(r.out), name) }

// restore goes on from the checkpoint, where there is one.
func (r *trainRun) restore(ctx context.Context) error {
	s, err := leaftrain.ReadState(r.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.trainer.Restore(s); err != nil {
		return leafserve.Errorf(leafserve.KindOf(err), "%s: %w", r.path(stateFile), err)
	}
	r.saved = s.Step
	return r.source.Seek(ctx, s.Position)
}

// Close ends the run and what it shows.
func (r *trainRun) Close() error {
	r.teller.done()
	return errors.Join(r.metrics.file.Close(), r.pupil.Close(), r.source.Close())
}

// run makes the steps that are left, and the last plot.
func (r *trainRun) run(ctx context.Context) error {
	err := r.explain(leaftrain.Run(ctx, r.trainer, r.source, leaftrain.Hooks{
		Step: r.step, Evaluate: r.evaluate, EvaluateEvery: r.every[1], Save: r.save, SaveEvery: r.every[0],
	}))
	if err != nil {
		return err
	}
	return r.plot()
}

func (r *trainRun) step(m leaftrain.Metrics) error {
	r.teller.step(m)
	return r.metrics.step(m)
}

func (r *trainRun) evaluate(ctx context.Context) error {
	e, err := r.trainer.Evaluate(ctx, r.held)
	if err != nil {
		return err
	}
	r.teller.evaluation(e)
	return r.metrics.evaluation(e)
}

// save writes a checkpoint, then what shows and uses it.
func (r *trainRun) save(s leaftrain.State) error {
	err := errors.Join(r.metrics.file.Sync(), s.Write(r.path(stateFile)))
	if err == nil {
		r.saved = s.Step
		err = errors.Join(leaftrain.WriteEncoder(r.out, r.dir, r.student.Parameters, r.half), r.plot())
	}
	if err != nil {
		r.failed = fmt.Errorf("saving step %d: %w; %s", s.Step, err, r.lastGood())
	}
	return r.failed
}

func (r *trainRun) plot() error {
	return atomicfile.Write(r.path(plotFile), 0o644, r.metrics.plot)
}

// lastGood names the last checkpoint.
func (r *trainRun) lastGood() string {
	if r.saved == 0 {
		return "no checkpoint was saved before"
	}
	return fmt.Sprintf("the last good checkpoint is of step %d, %s", r.saved, r.path(stateFile))
}

// explain says what a run's error means for what was learned.
func (r *trainRun) explain(err error) error {
	goOn := fmt.Sprintf("`leafserve train --resume --out %s` goes on after step %d", r.out, r.saved)
	switch {
	case err == nil:
		return nil
	case r.failed != nil: // not that the run was interrupted, too
		return r.failed
	case errors.Is(err, leaftrain.ErrDiverged):
		return fmt.Errorf("%w; %s", err, r.lastGood())
	case errors.Is(err, leaftrain.ErrNoEdits):
		return leafserve.InvalidField("captions", "%w", err)
	case errors.Is(err, context.Canceled):
		r.teller.done()
		fmt.Fprintln(r.stderr, "leafserve:", goOn)
		return err
	}
	return fmt.Errorf("%w; %s", err, goOn)
}
