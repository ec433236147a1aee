package leaftrain

import (
	"context"
	"errors"
	"fmt"

	"leafserve/leaftrain/captions"
)

// Source gives the captions of a run; a captions.Source is one.
type Source interface {
	Next(ctx context.Context, n int) ([]string, error)
	Position() captions.Position
}

// Hooks are what a run does beside its steps. The error of one ends the run.
type Hooks struct {
	Step func(m Metrics) error // after each step; nil for nothing

	Evaluate      func(ctx context.Context) error // before the first step, every so many, and after the last
	EvaluateEvery int                             // steps; 0 for never

	Save      func(s State) error // every so many steps, after the last, and when the run is stopped; s is valid during the call
	SaveEvery int                 // steps; 0 for never
}

// Run makes the steps that the trainer's recipe has left. It ends early with
// ctx's error, a source's or a hook's, after saving what was learned up to there;
// with ErrDiverged or ErrNoEdits without saving. What it saves has been proven
// not to have diverged.
func Run(ctx context.Context, t *Trainer, source Source, hooks Hooks) error {
	r := &run{Trainer: t, source: source, hooks: hooks, position: source.Position(), saved: t.step}
	err := r.follow(ctx)
	if err == nil || errors.Is(err, ErrDiverged) || errors.Is(err, ErrNoEdits) || hooks.SaveEvery == 0 || r.saved == t.step {
		return err
	}
	return errors.Join(err, r.save(context.WithoutCancel(ctx)))
}

// run is one call of Run.
type run struct {
	*Trainer
	source   Source
	hooks    Hooks
	batch    []string          // of the last step
	position captions.Position // after it
	saved    int               // step that was saved last
}

func (r *run) follow(ctx context.Context) error {
	for {
		if r.due(r.hooks.EvaluateEvery) {
			if err := r.hooks.Evaluate(ctx); err != nil {
				return err
			}
		}
		if r.step >= r.Config.Steps {
			return nil
		}
		batch, err := r.source.Next(ctx, r.Config.Batch)
		if err != nil {
			return err
		}
		m, err := r.Step(ctx, batch)
		if err != nil {
			return err
		}
		r.batch, r.position = batch, r.source.Position()
		if r.hooks.Step != nil {
			if err := r.hooks.Step(m); err != nil {
				return err
			}
		}
		if r.due(r.hooks.SaveEvery) {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
}

// due says whether what happens every so many steps, and after the last, happens
// now.
func (r *run) due(every int) bool {
	return every > 0 && (r.step%every == 0 || r.step >= r.Config.Steps)
}

// save hands out the state, unless it is of no use.
func (r *run) save(ctx context.Context) error {
	if err := r.prove(ctx, r.batch); err != nil {
		return err
	}
	s, err := r.Snapshot(r.position)
	if err != nil {
		return err
	}
	r.saved = r.step // also where it fails: what fails once is not tried again
	return r.hooks.Save(s)
}

// prove makes sure that the weights as they are have not diverged.
func (t *Trainer) prove(ctx context.Context, captions []string) error {
	targets, err := t.teacher.Embed(ctx, captions)
	if err != nil {
		return err
	}
	_, err = t.cleanDrift(ctx, captions, func(i int) []float32 { return targets.Row(i).Data })
	return err
}

// cleanDrift is the mean squared L2 of the student's embeddings of clean captions
// to their targets, the teacher's. Where an encoder that gives zeros for all texts
// would come as near, nothing is left of what the student knew: that is
// ErrDiverged.
func (t *Trainer) cleanDrift(ctx context.Context, captions []string, target func(i int) []float32) (float64, error) {
	clean, err := t.student.Embed(ctx, captions)
	if err != nil {
		return 0, err
	}
	drift, power := 0.0, 0.0
	zeros := make([]float32, clean.Shape[1])
	for i := range captions {
		drift += squared(clean.Row(i).Data, target(i)) / float64(len(captions))
		power += squared(zeros, target(i)) / float64(len(captions))
	}
	if !(drift <= power) { // also where it is no number
		return drift, fmt.Errorf("after step %d: %w: embeddings of clean captions are off by %.3g, those of the encoder that it began with have a squared length of %.3g: take a lower learning rate",
			t.step, ErrDiverged, drift, power)
	}
	return drift, nil
}
