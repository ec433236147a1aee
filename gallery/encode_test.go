package gallery

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/image/webp"

	"leafserve"
)

const aiMade = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

func encode(t *testing.T, img image.Image, format, parameters string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, img, format, parameters); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// chunk is one part of a file: a PNG chunk, a JPEG segment before the scan, or
// a RIFF chunk.
type chunk struct {
	kind string
	data []byte
}

func pngChunks(file []byte) (chunks []chunk) {
	for b := file[8:]; len(b) > 0; {
		n := binary.BigEndian.Uint32(b)
		chunks = append(chunks, chunk{string(b[4:8]), b[8 : 8+n]})
		b = b[12+n:]
	}
	return chunks
}

func jpegSegments(file []byte) (chunks []chunk) {
	for b := file[2:]; b[1] != 0xda; {
		n := binary.BigEndian.Uint16(b[2:])
		chunks = append(chunks, chunk{fmt.Sprintf("%x", b[1]), b[4 : 2+n]})
		b = b[2+n:]
	}
	return chunks
}

func riffChunks(t *testing.T, file []byte) (chunks []chunk) {
	t.Helper()
	if size := binary.LittleEndian.Uint32(file[4:]); int(size) != len(file)-8 {
		t.Fatalf("RIFF size = %d in a file of %d bytes", size, len(file))
	}
	for b := file[12:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[4:])
		chunks = append(chunks, chunk{string(b[:4]), b[8 : 8+n]})
		b = b[8+n+n%2:]
	}
	return chunks
}

func kinds(chunks []chunk) (names []string) {
	for _, c := range chunks {
		names = append(names, c.kind)
	}
	return slices.Compact(names)
}

func TestEncodePNG(t *testing.T) {
	img := testPicture(33, 20)
	for _, tc := range []struct {
		name, parameters string
		wantKinds        []string
		wantText         string
	}{
		{"ascii", "a cat\nSteps: 1", []string{"IHDR", "tEXt", "iTXt", "IDAT", "IEND"}, "parameters\x00a cat\nSteps: 1"},
		{"latin1", "café ÿ", []string{"IHDR", "tEXt", "iTXt", "IDAT", "IEND"}, "parameters\x00caf\xe9 \xff"},
		{"beyond_latin1", "ein Haus für 10 €", []string{"IHDR", "iTXt", "IDAT", "IEND"}, "parameters\x00\x00\x00\x00\x00ein Haus für 10 €"},
		{"zero_byte", "a\x00b", []string{"IHDR", "tEXt", "iTXt", "IDAT", "IEND"}, "parameters\x00ab"},
		{"invalid_utf8", "a\xffb", []string{"IHDR", "iTXt", "IDAT", "IEND"}, "parameters\x00\x00\x00\x00\x00a\uFFFDb"},
		{"none", "", []string{"IHDR", "iTXt", "IDAT", "IEND"}, "XML:com.adobe.xmp\x00\x00\x00\x00\x00" + xmpPacket},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := encode(t, img, "png", tc.parameters)
			got, err := png.Decode(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if d := meanDiff(got, img); d != 0 {
				t.Errorf("pixels differ by %g", d)
			}
			chunks := pngChunks(file)
			if k := kinds(chunks); !slices.Equal(k, tc.wantKinds) {
				t.Errorf("chunks = %v, want %v", k, tc.wantKinds)
			}
			if text := string(chunks[1].data); text != tc.wantText {
				t.Errorf("text chunk = %q, want %q", text, tc.wantText)
			}
			if !bytes.Contains(file, []byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"+xmpPacket)) {
				t.Error("no XMP chunk")
			}
		})
	}
}

func TestEncodePNGKeepsAlpha(t *testing.T) {
	img := testPicture(8, 8)
	img.SetNRGBA(1, 2, color.NRGBA{10, 20, 30, 40})
	got, err := png.Decode(bytes.NewReader(encode(t, img, "png", "x")))
	if err != nil {
		t.Fatal(err)
	}
	if c := got.At(1, 2); c != (color.NRGBA{10, 20, 30, 40}) {
		t.Errorf("pixel = %v, want {10 20 30 40}", c)
	}
}

func TestEncodeJPEG(t *testing.T) {
	const text = "ein Haus für 10 €, 𝒳\nSteps: 1"
	img := testPicture(320, 240)
	file := encode(t, img, "jpeg", text)
	got, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if d := meanDiff(got, img); d > 3 {
		t.Errorf("mean difference %.1f levels, want at most 3", d)
	}
	segments := jpegSegments(file)
	if tiff, ok := bytes.CutPrefix(segments[0].data, []byte("Exif\x00\x00")); !ok || userComment(t, tiff) != text {
		t.Errorf("EXIF segment = %q, want the UserComment %q", segments[0].data, text)
	}
	if want := "http://ns.adobe.com/xap/1.0/\x00" + xmpPacket; segments[1].kind != "e1" || string(segments[1].data) != want {
		t.Errorf("second segment %s = %q, want XMP", segments[1].kind, segments[1].data)
	}
	if segments := jpegSegments(encode(t, img, "jpeg", "")); bytes.HasPrefix(segments[0].data, []byte("Exif")) {
		t.Error("EXIF without parameters")
	}
}

func TestEncodeWebP(t *testing.T) {
	const text = "ein Haus für 10 €\nSteps: 1"
	clear := testPicture(17, 300)
	clear.SetNRGBA(3, 4, color.NRGBA{10, 20, 30, 40})
	for _, tc := range []struct {
		name, parameters string
		img              *image.NRGBA
		wantKinds        []string
		wantFlags        byte
	}{
		{"opaque", text, testPicture(300, 17), []string{"VP8X", "VP8L", "EXIF", "XMP "}, 0x0c},
		{"alpha", text, clear, []string{"VP8X", "VP8L", "EXIF", "XMP "}, 0x1c},
		{"no_parameters", "", testPicture(5, 5), []string{"VP8X", "VP8L", "XMP "}, 0x04},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := encode(t, tc.img, "webp", tc.parameters)
			got, err := webp.Decode(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if d := meanDiff(got, tc.img); d != 0 {
				t.Errorf("pixels differ by %g", d)
			}
			chunks := riffChunks(t, file)
			if k := kinds(chunks); !slices.Equal(k, tc.wantKinds) {
				t.Fatalf("chunks = %v, want %v", k, tc.wantKinds)
			}
			size := tc.img.Rect.Size()
			want := []byte{tc.wantFlags, 0, 0, 0, byte(size.X - 1), byte((size.X - 1) >> 8), 0, byte(size.Y - 1), byte((size.Y - 1) >> 8), 0}
			if !bytes.Equal(chunks[0].data, want) {
				t.Errorf("VP8X = %x, want %x", chunks[0].data, want)
			}
			if tc.parameters != "" && userComment(t, chunks[2].data) != tc.parameters {
				t.Errorf("EXIF = %q, want the UserComment %q", chunks[2].data, tc.parameters)
			}
			if xmp := chunks[len(chunks)-1].data; string(xmp) != xmpPacket {
				t.Errorf("XMP = %q", xmp)
			}
		})
	}
}

// userComment reads the UserComment of a big-endian TIFF block by following its
// offsets.
func userComment(t *testing.T, tiff []byte) string {
	t.Helper()
	entry := func(ifd uint32, tag uint16) (count, value uint32) {
		if got := binary.BigEndian.Uint16(tiff[ifd+2:]); got != tag {
			t.Fatalf("tag %#x at %d, want %#x", got, ifd, tag)
		}
		return binary.BigEndian.Uint32(tiff[ifd+6:]), binary.BigEndian.Uint32(tiff[ifd+10:])
	}
	if !bytes.HasPrefix(tiff, []byte("MM\x00*")) {
		t.Fatalf("TIFF header = %q", tiff[:4])
	}
	_, exif := entry(binary.BigEndian.Uint32(tiff[4:]), 0x8769)
	count, at := entry(exif, 0x9286)
	text, ok := bytes.CutPrefix(tiff[at:at+count], []byte("UNICODE\x00"))
	if !ok {
		t.Fatalf("UserComment = %q, want UNICODE first", text)
	}
	units := make([]uint16, len(text)/2)
	if err := binary.Read(bytes.NewReader(text), binary.BigEndian, units); err != nil {
		t.Fatal(err)
	}
	return string(utf16.Decode(units))
}

func TestXMPSaysAIMade(t *testing.T) {
	found := false
	for d := xml.NewDecoder(strings.NewReader(xmpPacket)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, _ := token.(xml.StartElement)
		for _, a := range e.Attr {
			if a.Name.Space == "http://iptc.org/std/Iptc4xmpExt/2008-02-29/" && a.Name.Local == "DigitalSourceType" {
				found = a.Value == aiMade
			}
		}
	}
	if !found {
		t.Errorf("no DigitalSourceType %s in %s", aiMade, xmpPacket)
	}
}

func TestEncodeErrors(t *testing.T) {
	for _, tc := range []struct {
		name, format, parameters string
		img                      image.Image
		want                     string
	}{
		{"unknown_format", "gif", "", testPicture(4, 4), `"gif", want one of: png, jpeg, webp`},
		{"no_format", "", "", testPicture(4, 4), `"", want one of`},
		{"png_of_nothing", "png", "", image.NewNRGBA(image.Rectangle{}), "PNG"},
		{"jpeg_of_nothing", "jpeg", "", image.NewNRGBA(image.Rect(0, 0, 0, 5)), "JPEG"},
		{"jpeg_too_wide", "jpeg", "", image.NewNRGBA(image.Rect(0, 0, 1<<16, 1)), "JPEG"},
		{"jpeg_long_parameters", "jpeg", strings.Repeat("ä", 33_000), testPicture(4, 4), "choose png or shorten"},
		{"webp_of_nothing", "webp", "", image.NewNRGBA(image.Rectangle{}), "WebP"},
		{"webp_too_wide", "webp", "", image.NewNRGBA(image.Rect(0, 0, 1<<14+1, 1)), "choose png"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Encode(io.Discard, tc.img, tc.format, tc.parameters)
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Encode error = %v (%s), want Invalid with %q", err, leafserve.KindOf(err), tc.want)
			}
		})
	}
}

func TestEncodeReportsTheWriter(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := Encode(w, testPicture(4, 4), "png", ""); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Encode into a closed pipe = %v, want io.ErrClosedPipe", err)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, format := range []string{"png", "jpeg", "webp"} {
		for _, side := range []int{64, 512} {
			b.Run(fmt.Sprintf("%s_%d", format, side), func(b *testing.B) {
				img := testPicture(side, side)
				var file bytes.Buffer
				for b.Loop() {
					file.Reset()
					if err := Encode(&file, img, format, "a cat\nSteps: 25"); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(file.Len()), "bytes")
			})
		}
	}
}
