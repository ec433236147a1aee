package leafserve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"leafserve"
)

func TestKindOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want leafserve.Kind
	}{
		{"nil", nil, ""},
		{"ours", leafserve.Errorf(leafserve.Busy, "full"), leafserve.Busy},
		{"wrapped", fmt.Errorf("a: %w", fmt.Errorf("b: %w", leafserve.InvalidField("steps", "no"))), leafserve.Invalid},
		{"joined", errors.Join(io.EOF, leafserve.Errorf(leafserve.Gone, "expired")), leafserve.Gone},
		{"the outermost counts", leafserve.Errorf(leafserve.Unavailable, "a: %w", leafserve.Errorf(leafserve.NotFound, "b")), leafserve.Unavailable},
		{"ours over a context's", leafserve.Errorf(leafserve.Internal, "a: %w", context.Canceled), leafserve.Internal},
		{"canceled", fmt.Errorf("step 3: %w", context.Canceled), leafserve.Canceled},
		{"too late", context.DeadlineExceeded, leafserve.Canceled},
		{"any other", io.ErrUnexpectedEOF, leafserve.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := leafserve.KindOf(tc.err); got != tc.want {
				t.Errorf("KindOf(%v) = %q, want %q", tc.err, got, tc.want)
			}
		})
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	err := leafserve.InvalidField("init_image", "init_image ends early: %w", io.ErrUnexpectedEOF)
	if err.Kind != leafserve.Invalid || err.Param != "init_image" || err.Error() != "init_image ends early: unexpected EOF" {
		t.Errorf("InvalidField = %+v, text %q", err, err)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
}
