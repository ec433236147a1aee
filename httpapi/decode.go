package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// DecodeRequest reads the body of POST /generate. It is strict: see the package
// comment. Ranges and names are left to Request.Resolve. The error is Invalid
// and names the field where there is one.
func DecodeRequest(body []byte) (leafserve.Request, error) {
	return decode[leafserve.Request](body)
}

// bind reads the request's body into a T.
func bind[T any](s *Server, c echo.Context) (T, error) {
	body, err := s.readBody(c)
	if err != nil {
		var none T
		return none, err
	}
	return decode[T](body)
}

// readBody reads a JSON body up to its limit and then lifts the read deadline,
// so that the handler may take its time.
func (s *Server) readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	media, params, err := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	if charset := params["charset"]; err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, echo.NewHTTPError(http.StatusUnsupportedMediaType, "send JSON, with the header Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response().Writer, r.Body, s.cfg.MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over the limit of %d bytes", s.cfg.MaxBody))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, echo.NewHTTPError(http.StatusRequestTimeout, fmt.Sprintf("the body did not arrive within %v", s.cfg.ReadTimeout))
	case err != nil:
		return nil, leafserve.Errorf(leafserve.Invalid, "the body ended early, after %d bytes: send it again", len(body))
	}
	liftReadDeadline(c)
	return body, nil
}

// liftReadDeadline lets the handler wait without the server taking the silent
// client for a slow one. A writer without deadlines (in tests) has none to lift.
func liftReadDeadline(c echo.Context) {
	_ = http.NewResponseController(c.Response()).SetReadDeadline(time.Time{})
}

// decode reads one JSON object strictly.
func decode[T any](body []byte) (T, error) {
	var v T
	if err := checkText(body); err != nil {
		return v, err
	}
	err := json.Unmarshal(body, &v)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return v, leafserve.Errorf(leafserve.Invalid, "the body is not valid JSON at byte %d: %w", syntax.Offset, err)
	}
	if name := unknownField(body, reflect.TypeFor[T]()); name != "" {
		return v, leafserve.InvalidField(name, "unknown field %.64q: check the spelling or leave it out", name)
	}
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		return v, wrongType(mistyped)
	case err != nil:
		return v, wrongTime(body, reflect.TypeFor[T](), err)
	}
	return v, nil
}

// wrongTime words a time that cannot be read: the error of encoding/json does
// not tell of which field it is.
func wrongTime(body []byte, t reflect.Type, cause error) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return err
	}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		text, given := object[name]
		if given && field.Type == reflect.TypeFor[*time.Time]() && json.Unmarshal(text, new(time.Time)) != nil {
			return leafserve.InvalidField(name, "%s is %.64s, want a time such as 2026-01-31T18:00:00Z", name, text)
		}
	}
	return leafserve.Errorf(leafserve.Invalid, "the body cannot be read: %w", cause)
}

// checkText refuses what encoding/json would let through: an empty body or null
// as an object without fields, and text that is not Unicode as U+FFFD.
func checkText(body []byte) error {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return leafserve.Errorf(leafserve.Invalid, "the body is empty: send a JSON object")
	case bytes.Equal(trimmed, []byte("null")):
		return leafserve.Errorf(leafserve.Invalid, "the body is null: send a JSON object")
	case !utf8.Valid(body):
		return leafserve.Errorf(leafserve.Invalid, "the body is not valid UTF-8 at byte %d", invalidAt(body)+1)
	}
	if at := loneSurrogate(body); at >= 0 {
		return leafserve.Errorf(leafserve.Invalid, `the body has half of a surrogate pair at byte %d: \u escapes over U+FFFF need both halves`, at+1)
	}
	return nil
}

// invalidAt is the offset of the first byte that is not UTF-8.
func invalidAt(body []byte) int {
	at := 0
	for at < len(body) {
		r, size := utf8.DecodeRune(body[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// loneSurrogate is the offset of the first \u escape that is half of a
// surrogate pair without its other half, or -1.
func loneSurrogate(body []byte) int {
	for at := 0; at < len(body); at++ {
		if body[at] != '\\' {
			continue
		}
		first := escape(body[at:])
		switch {
		case first < 0: // \n, \\, …
			at++
		case utf16.DecodeRune(first, escape(body[min(at+6, len(body)):])) != utf8.RuneError:
			at += 11
		case utf16.IsSurrogate(first):
			return at
		default:
			at += 5
		}
	}
	return -1
}

// escape is the value of the \uXXXX that b begins with, or -1.
func escape(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(v)
}

// unknownField is the path of the first key, in order of name, that t has no
// field for, or "". Unlike encoding/json it tells "Prompt" from "prompt".
func unknownField(raw json.RawMessage, t reflect.Type) string {
	if t == reflect.TypeFor[time.Time]() {
		return "" // no object in JSON
	}
	switch t.Kind() {
	case reflect.Pointer:
		return unknownField(raw, t.Elem())
	case reflect.Slice:
		var items []json.RawMessage
		if t.Elem().Kind() != reflect.Struct || json.Unmarshal(raw, &items) != nil {
			return ""
		}
		for _, item := range items {
			if name := unknownField(item, t.Elem()); name != "" {
				return name
			}
		}
	case reflect.Struct:
		return unknownKey(raw, t)
	}
	return ""
}

func unknownKey(raw json.RawMessage, t reflect.Type) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return "" // not an object: a wrong type, told elsewhere
	}
	fields := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = field.Type
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		field, ok := fields[key]
		if !ok {
			return key
		}
		if name := unknownField(object[key], field); name != "" {
			return key + "." + name
		}
	}
	return ""
}

// wrongType words a value that does not fit its field.
func wrongType(err *json.UnmarshalTypeError) error {
	got := err.Value // "string", "object" or "number 1.5"
	if literal, ok := strings.CutPrefix(got, "number "); ok {
		got = literal
	} else {
		got = "a value of type " + got
	}
	if err.Field == "" {
		return leafserve.Errorf(leafserve.Invalid, "the body is %.64s, want a JSON object", got)
	}
	return leafserve.InvalidField(err.Field, "%s is %.64s, want %s", err.Field, got, typeName(err.Type))
}

// typeName names a Go type for those who write JSON.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Uint64:
		return "a whole number from 0 to 18446744073709551615"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array"
	}
	return "an object"
}
