package tracing

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"leafserve"
)

// Runner wraps a runner so that each task has a span named run in its context,
// beside one named queue for its wait, in the trace that its job came with.
func (t *Tracer) Runner(run leafserve.Runner) leafserve.Runner {
	return func(tasks []leafserve.Task) (out []leafserve.Outcome) {
		traced, spans := slices.Clone(tasks), make([]trace.Span, len(tasks))
		for i, task := range tasks {
			traced[i].Ctx, spans[i] = t.begin(task, len(tasks))
		}
		defer func() {
			for i, span := range spans {
				if out != nil { // else run panics
					tell(span, out[i].Err)
				}
				span.End()
			}
		}()
		return run(traced)
	}
}

// begin makes the spans of one task out of a batch.
func (t *Tracer) begin(task leafserve.Task, batch int) (context.Context, trace.Span) {
	job := task.Job
	ctx := format.Extract(task.Ctx, propagation.MapCarrier{"traceparent": job.Trace})
	about := trace.WithAttributes(
		attribute.String("leafserve.job", job.ID), attribute.String("leafserve.request", job.RequestID),
		attribute.String("leafserve.kind", job.Kind), attribute.String("leafserve.model", job.Request.Model),
		attribute.Int("leafserve.priority", job.Request.Priority), attribute.Int("leafserve.batch.jobs", batch))
	if trace.SpanContextFromContext(ctx).IsValid() {
		waited := time.Duration(job.Timings.QueuedMS * float64(time.Millisecond))
		_, wait := t.tracer.Start(ctx, "queue", trace.WithTimestamp(job.CreatedAt), about)
		wait.End(trace.WithTimestamp(job.CreatedAt.Add(waited)))
	}
	return t.tracer.Start(ctx, "run", trace.WithSpanKind(trace.SpanKindConsumer), about)
}

// tell says how a task went. One that was canceled has not failed.
func tell(span trace.Span, err error) {
	kind := leafserve.KindOf(err)
	if kind == "" {
		return
	}
	span.SetAttributes(attribute.String("error.type", string(kind)))
	if kind != leafserve.Canceled {
		span.SetStatus(codes.Error, err.Error())
	}
}
