package pipeline

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes the spans of this package: encode, denoise (with an event a step),
// decode and store, and attack of a comparison.
func tracer() trace.Tracer { return otel.Tracer("leafserve/pipeline") }

// endSpan ends a span, with the error if there was one.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// traced runs a part of a job as a span of its trace.
func traced(ctx context.Context, name string, run func(context.Context) error) error {
	ctx, span := tracer().Start(ctx, name)
	err := run(ctx)
	endSpan(span, err)
	return err
}
