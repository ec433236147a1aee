package tracing

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// untraced are the routes that machines ask again and again.
var untraced = []string{"/healthz", "/readyz", "/metrics"}

// HTTP makes the span of a request, named by method and route, a child of the
// client's where the request names one. The answer's traceparent header names
// it. It goes around whatever answers errors, so that it sees the status.
func (t *Tracer) HTTP(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if slices.Contains(untraced, c.Path()) {
			return next(c)
		}
		r := c.Request()
		ctx := format.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, spanName(r.Method, c.Path()), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", c.Path()), attribute.String("url.path", r.URL.Path)))
		defer span.End()
		header := c.Response().Header()
		format.Inject(ctx, propagation.HeaderCarrier(header))
		c.SetRequest(r.WithContext(ctx))
		err := next(c)
		status := c.Response().Status
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("leafserve.request", header.Get(echo.HeaderXRequestID)))
		if job := header.Get("X-Job-Id"); job != "" {
			span.SetAttributes(attribute.String("leafserve.job", job))
		}
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		return err
	}
}

// spanName leaves out a path that no route has: it is the client's own.
func spanName(method, route string) string {
	if route == "" {
		return method
	}
	return method + " " + route
}
