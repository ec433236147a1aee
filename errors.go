package leafserve

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error. The HTTP status of each kind
// is decided in httpapi and nowhere else; the command line exits 2 for Invalid
// and 1 for all others.
type Kind string

// The kinds of error.
const (
	Invalid     Kind = "invalid"     // the request is wrong: correct it
	NotFound    Kind = "not_found"   // no such job, picture, model or encoder
	Conflict    Kind = "conflict"    // the same idempotency key with another body
	Gone        Kind = "gone"        // it existed and has expired
	Busy        Kind = "busy"        // a limit is reached: try again after RetryAfter
	Canceled    Kind = "canceled"    // somebody asked to stop
	Timeout     Kind = "timeout"     // the time that the request or the server allows is over
	NoKey       Kind = "no_key"      // an API key is needed, or this one is not known
	Forbidden   Kind = "forbidden"   // this API key may not do that
	Unavailable Kind = "unavailable" // a part we need (Redis, the runtime) does not answer
	Internal    Kind = "internal"    // our fault; the text is for the log, not for clients
)

// Error is the one error type that crosses packages. Its text is written for
// the person who made the request and says what to do; only the text of an
// Internal error must not leave the process.
type Error struct {
	Kind       Kind
	Param      string        // the request field at fault, "" if none
	RetryAfter time.Duration // for Busy and Unavailable; 0 if unknown
	Err        error         // never nil
}

// Error gives the text of the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of kind k from a format as fmt.Errorf takes it, %w included.
func Errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// InvalidField makes an Invalid error about one request field.
func InvalidField(param, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Param: param, Err: fmt.Errorf(format, args...)}
}

// KindOf gives the kind of the first Error in err's chain, Canceled for a
// context's error, Internal for any other and "" for nil.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Canceled
	}
	return Internal
}
