package leaftest

import (
	"context"

	"leafserve"
)

// OneJob runs one job: a runner without batches.
type OneJob func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error)

// Solo makes a runner that runs one job after the other.
func Solo(run OneJob) leafserve.Runner {
	return func(tasks []leafserve.Task) []leafserve.Outcome {
		out := make([]leafserve.Outcome, len(tasks))
		for i, t := range tasks {
			out[i].Result, out[i].Err = run(t.Ctx, t.Job, t.Report)
		}
		return out
	}
}

// Run gives one job to a runner.
func Run(ctx context.Context, run leafserve.Runner, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
	out := run([]leafserve.Task{{Job: job, Ctx: ctx, Report: report}})
	return out[0].Result, out[0].Err
}
