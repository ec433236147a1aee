package httpapi

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// traceparent names the span of ctx for whoever goes on with its trace, as W3C
// has it; "" for none.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}
