package gallery

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"sync"

	"github.com/HugoSmits86/nativewebp"

	"leafserve"
)

// Encode writes img as "png", "jpeg" (quality 95) or "webp" (lossless) with
// parameters as A1111 stores them: a PNG text chunk named "parameters", an EXIF
// UserComment in the others. Nothing is stored for "". Zero bytes and invalid
// UTF-8 do not survive. Any other format, and sizes or parameters that the
// format cannot hold, are Invalid errors.
func Encode(w io.Writer, img image.Image, format, parameters string) error {
	parameters = strings.ReplaceAll(strings.ToValidUTF8(parameters, "\uFFFD"), "\x00", "")
	var file []byte
	var err error
	switch format {
	case "png":
		file, err = encodePNG(img, parameters)
	case "jpeg":
		file, err = encodeJPEG(img, parameters)
	case "webp":
		file, err = encodeWebP(img, parameters)
	default:
		err = leafserve.InvalidField("output_format", "output_format is %q, want one of: png, jpeg, webp", format)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(file)
	return err
}

// pngBuffers keeps the compressor's tables between pictures.
var pngBuffers = &pngPool{}

type pngPool struct{ sync.Pool }

func (p *pngPool) Get() *png.EncoderBuffer {
	b, _ := p.Pool.Get().(*png.EncoderBuffer)
	return b
}

func (p *pngPool) Put(b *png.EncoderBuffer) { p.Pool.Put(b) }

// encodePNG puts our chunks between IHDR and the pixels.
func encodePNG(img image.Image, parameters string) ([]byte, error) {
	const head = len(pngSignature) + 4 + 4 + 13 + 4 // signature and IHDR
	var b bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: pngBuffers}
	if err := enc.Encode(&b, img); err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "picture as PNG: %w", err)
	}
	file := append([]byte(nil), b.Bytes()[:head]...)
	if parameters != "" {
		file = appendText(file, "parameters", parameters)
	}
	file = appendText(file, "XML:com.adobe.xmp", xmpPacket)
	return append(file, b.Bytes()[head:]...), nil
}

// encodeJPEG puts our APP1 segments right after the start marker.
func encodeJPEG(img image.Image, parameters string) ([]byte, error) {
	const start, app1 = 0xffd8, 0xffe1
	plain, err := plainJPEG(img, 95)
	if err != nil {
		return nil, err
	}
	segments := []string{"http://ns.adobe.com/xap/1.0/\x00" + xmpPacket}
	if parameters != "" {
		segments = []string{"Exif\x00\x00" + string(exifUserComment(parameters)), segments[0]}
	}
	file := binary.BigEndian.AppendUint16(nil, start)
	for _, s := range segments {
		if len(s)+2 > 0xffff {
			return nil, leafserve.Errorf(leafserve.Invalid, "the parameters take %d bytes, a JPEG holds at most %d: choose png or shorten the prompt", len(s), 0xffff-2)
		}
		file = binary.BigEndian.AppendUint16(file, app1)
		file = binary.BigEndian.AppendUint16(file, uint16(len(s)+2))
		file = append(file, s...)
	}
	return append(file, plain[2:]...), nil
}

// plainJPEG is a JPEG without metadata.
func plainJPEG(img image.Image, quality int) ([]byte, error) {
	if img.Bounds().Empty() { // image/jpeg writes a file that nothing reads
		return nil, leafserve.Errorf(leafserve.Invalid, "picture as JPEG: it has no pixels")
	}
	if n, ok := img.(*image.NRGBA); ok && n.Opaque() { // same bytes, and image/jpeg has a fast path
		img = &image.RGBA{Pix: n.Pix, Stride: n.Stride, Rect: n.Rect}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "picture as JPEG: %w", err)
	}
	return b.Bytes(), nil
}

// encodeWebP wraps the lossless picture into the extended container, which has
// room for EXIF and XMP (RFC 9649, §2.7).
func encodeWebP(img image.Image, parameters string) ([]byte, error) {
	const maxSide = 1 << 14
	if r := img.Bounds(); r.Dx() > maxSide || r.Dy() > maxSide {
		return nil, leafserve.Errorf(leafserve.Invalid, "the picture has %d×%d pixels, a WebP holds at most %d a side: choose png", r.Dx(), r.Dy(), maxSide)
	}
	var b bytes.Buffer
	if err := nativewebp.Encode(&b, img, nil); err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "picture as WebP: %w", err)
	}
	pixels := b.Bytes()[12:]                       // the VP8L chunk: name, size, 0x2f, then
	size := binary.LittleEndian.Uint32(pixels[9:]) // width−1 and height−1 of 14 bits each, alpha
	width, height, alpha := size&(1<<14-1), size>>14&(1<<14-1), size>>28&1

	const hasXMP, hasEXIF, hasAlpha = 1 << 2, 1 << 3, 4
	header := []byte{hasXMP | byte(alpha<<hasAlpha), 0, 0, 0,
		byte(width), byte(width >> 8), 0, byte(height), byte(height >> 8), 0}
	if parameters != "" {
		header[0] |= hasEXIF
	}
	body := append(appendRIFF([]byte("WEBP"), "VP8X", header), pixels...)
	if parameters != "" {
		body = appendRIFF(body, "EXIF", exifUserComment(parameters))
	}
	return appendRIFF(nil, "RIFF", appendRIFF(body, "XMP ", []byte(xmpPacket))), nil
}

// appendRIFF appends a chunk, padded to an even size.
func appendRIFF(b []byte, name string, data []byte) []byte {
	b = append(b, name...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	return append(b, make([]byte, len(data)%2)...)
}
