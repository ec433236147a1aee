package gallery

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"leafserve"
)

// pngWith is a PNG of one pixel with a chunk before the end.
func pngWith(t testing.TB, kind, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, testPicture(1, 1), "png", ""); err != nil {
		t.Fatal(err)
	}
	end := b.Len() - 12 // IEND
	file := appendChunk(bytes.Clone(b.Bytes()[:end]), kind, data)
	return append(file, b.Bytes()[end:]...)
}

func deflate(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadParameters(t *testing.T) {
	for _, tc := range []struct {
		name, kind, data, want string
	}{
		{"tEXt_after_the_pixels", "tEXt", "parameters\x00caf\xe9\nSteps: 1", "café\nSteps: 1"},
		{"iTXt", "iTXt", "parameters\x00\x00\x00de\x00Parameter\x0010 €", "10 €"},
		{"iTXt_compressed", "iTXt", "parameters\x00\x01\x00\x00\x00" + deflate(t, "10 €"), "10 €"},
		{"zTXt", "zTXt", "parameters\x00\x00" + deflate(t, "caf\xe9"), "café"},
		{"iTXt_not_UTF8", "iTXt", "parameters\x00\x00\x00\x00\x00a\xffb", "a\uFFFDb"},
		{"other_keyword", "tEXt", "Comment\x00parameters", ""},
		{"no_keyword_end", "tEXt", "parameters", ""},
		{"iTXt_cut_short", "iTXt", "parameters\x00\x00", ""},
		{"zTXt_cut_short", "zTXt", "parameters\x00", ""},
		{"none", "tIME", "\x07\xe9\x01\x01\x00\x00\x00", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ReadParameters(bytes.NewReader(pngWith(t, tc.kind, tc.data)))
			if err != nil || got != tc.want {
				t.Errorf("ReadParameters = %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestReadParametersErrors(t *testing.T) {
	damaged := pngWith(t, "tEXt", "parameters\x00a cat")
	damaged[bytes.Index(damaged, []byte("a cat"))] = 'A'
	for _, tc := range []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "not a PNG"},
		{"jpeg", encode(t, testPicture(4, 4), "jpeg", "a cat"), "not a PNG"},
		{"wrong_checksum", damaged, "wrong checksum of its tEXt chunk"},
		{"too_long", pngWith(t, "tEXt", "parameters\x00"+strings.Repeat("a", maxText)), "the limit is 1048576"},
		{"bomb", pngWith(t, "zTXt", "parameters\x00\x00"+deflate(t, strings.Repeat("a", maxText+1))), "longer than 1048576"},
		{"not_deflated", pngWith(t, "zTXt", "parameters\x00\x00a cat"), "compressed text is damaged"},
		{"deflate_cut_short", pngWith(t, "zTXt", "parameters\x00\x00"+deflate(t, "a cat")[:6]), "compressed text is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReadParameters(bytes.NewReader(tc.file))
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ReadParameters error = %v (%s), want Invalid with %q", err, leafserve.KindOf(err), tc.want)
			}
		})
	}
}

func TestReadParametersCutAnywhere(t *testing.T) {
	file := pngWith(t, "tIME", "\x07\xe9\x01\x01\x00\x00\x00")
	for n := range len(file) {
		if got, err := ReadParameters(bytes.NewReader(file[:n])); leafserve.KindOf(err) != leafserve.Invalid {
			t.Fatalf("ReadParameters of %d of %d bytes = %q, %v; want Invalid", n, len(file), got, err)
		}
	}
}

func TestReadParametersReportsTheReader(t *testing.T) {
	broken := errors.New("connection lost")
	file := pngWith(t, "tEXt", "parameters\x00a cat")
	r := io.MultiReader(bytes.NewReader(file[:40]), iotest.ErrReader(broken))
	if _, err := ReadParameters(r); !errors.Is(err, broken) {
		t.Errorf("ReadParameters error = %v, want %v", err, broken)
	}
}

func FuzzReadParameters(f *testing.F) {
	f.Add(pngWith(f, "tEXt", "parameters\x00a cat"))
	f.Add(pngWith(f, "iTXt", "parameters\x00\x01\x00de\x00x\x00"+deflate(f, "10 €")))
	f.Add(pngWith(f, "zTXt", "parameters\x00\x00"+deflate(f, "caf\xe9")))
	f.Add([]byte(pngSignature + "\xff\xff\xff\xffiTXt"))
	f.Fuzz(func(t *testing.T, file []byte) {
		text, err := ReadParameters(bytes.NewReader(file))
		if err != nil && leafserve.KindOf(err) != leafserve.Invalid {
			t.Errorf("error is %s, want Invalid: %v", leafserve.KindOf(err), err)
		}
		if !utf8.ValidString(text) {
			t.Errorf("text %q is not UTF-8", text)
		}
	})
}

func FuzzParametersRoundTrip(f *testing.F) {
	for _, s := range []string{"", "a cat\nSteps: 1", "café", "10 € 𝒳", "a\x00b", "a\xffb"} {
		f.Add(s)
	}
	img := testPicture(2, 2)
	f.Fuzz(func(t *testing.T, text string) {
		var b bytes.Buffer
		if err := Encode(&b, img, "png", text); err != nil {
			t.Fatal(err)
		}
		got, err := ReadParameters(&b)
		if err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(text) && !strings.Contains(text, "\x00") && got != text {
			t.Errorf("read %q, want %q", got, text)
		}
	})
}
