package leaftest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector is an OpenTelemetry collector on loopback that keeps what it gets.
type Collector struct {
	URL   string
	mu    sync.Mutex
	spans []Span
}

// Span is one span as it came. Ids are in hex.
type Span struct {
	Name, Trace, ID, Parent string // Parent is "" at the root of a trace
	Start, End              time.Time
	Failed                  bool
	Attributes              map[string]string // those that are texts
}

// Collect starts a collector; it ends with its test.
func Collect(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var batch collector.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &batch)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("the collector got %d bytes at %s: %v", len(body), r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.keep(&batch)
	}))
	t.Cleanup(srv.Close)
	c.URL = srv.URL
	return c
}

func (c *Collector) keep(batch *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, process := range batch.ResourceSpans {
		for _, scope := range process.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, spanOf(s))
			}
		}
	}
}

func spanOf(s *otlp.Span) Span {
	attributes := map[string]string{}
	for _, a := range s.Attributes {
		attributes[a.Key] = a.Value.GetStringValue()
	}
	return Span{
		Name: s.Name, Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
		Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
		Failed: s.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR, Attributes: attributes,
	}
}

// Spans gives what has come by now.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Tree tells each span by its name and its parent's, as "encode < run", sorted;
// a parent that is not among them by its id, and one at the root by its name.
func Tree(spans []Span) []string {
	names := map[string]string{}
	for _, s := range spans {
		names[s.ID] = s.Name
	}
	var out []string
	for _, s := range spans {
		switch name, known := names[s.Parent]; {
		case s.Parent == "":
			out = append(out, s.Name)
		case known:
			out = append(out, s.Name+" < "+name)
		default:
			out = append(out, s.Name+" < "+s.Parent)
		}
	}
	slices.Sort(out)
	return out
}
