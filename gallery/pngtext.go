package gallery

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"

	"leafserve"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// maxText is the largest text that ReadParameters takes, in bytes: thirty times
// what Parameters makes of the longest prompts.
const maxText = 1 << 20

// appendText appends a text chunk: tEXt where Latin-1 can hold the text, else
// iTXt, as Pillow chooses.
func appendText(b []byte, keyword, text string) []byte {
	if latin1, ok := toLatin1(text); ok {
		return appendChunk(b, "tEXt", keyword+"\x00"+latin1)
	}
	const plain = "\x00\x00" // not compressed, method 0
	const noLanguage, noTranslation = "\x00", "\x00"
	return appendChunk(b, "iTXt", keyword+"\x00"+plain+noLanguage+noTranslation+text)
}

func appendChunk(b []byte, kind, data string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	start := len(b)
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

func toLatin1(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return "", false
		}
		b = append(b, byte(r))
	}
	return string(b), true
}

func fromLatin1(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

// ReadParameters reads the text named "parameters" of a PNG: what Encode and
// A1111's web UI write there; "" where there is none. It reads text chunks of
// every kind, compressed ones too, and stops at the end of the PNG. The error
// is Invalid where the bytes are not a sound PNG or the text is over 1 MiB.
func ReadParameters(r io.Reader) (string, error) {
	br := bufio.NewReader(r)
	signature := make([]byte, len(pngSignature))
	if _, err := io.ReadFull(br, signature); err != nil || string(signature) != pngSignature {
		return "", leafserve.Errorf(leafserve.Invalid, "this is not a PNG file")
	}
	for {
		kind, data, err := readChunk(br)
		if err != nil {
			return "", err
		}
		if kind == "IEND" {
			return "", nil
		}
		text, found, err := parseText(kind, data)
		if found || err != nil {
			return strings.ToValidUTF8(text, "\uFFFD"), err
		}
	}
}

// readChunk reads the next chunk. The data of chunks that are no text is
// skipped, and their checksum not looked at.
func readChunk(r io.Reader) (kind string, data []byte, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", nil, endsEarly(err)
	}
	kind = string(head[4:])
	size := int64(binary.BigEndian.Uint32(head))
	if kind != "tEXt" && kind != "zTXt" && kind != "iTXt" {
		_, err = io.CopyN(io.Discard, r, size+4)
		return kind, nil, endsEarly(err)
	}
	if size > maxText {
		return "", nil, leafserve.Errorf(leafserve.Invalid, "the PNG has a text of %d bytes, the limit is %d", size, maxText)
	}
	data = make([]byte, size+4)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", nil, endsEarly(err)
	}
	data, sum := data[:size], binary.BigEndian.Uint32(data[size:])
	if crc32.Update(crc32.ChecksumIEEE(head[4:]), crc32.IEEETable, data) != sum {
		return "", nil, leafserve.Errorf(leafserve.Invalid, "the PNG is damaged: wrong checksum of its %s chunk", kind)
	}
	return kind, data, nil
}

func endsEarly(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return leafserve.Errorf(leafserve.Invalid, "the PNG ends in the middle: send the whole file")
	}
	return err
}

// parseText gives the text of a chunk if it is the one we look for.
func parseText(kind string, data []byte) (text string, found bool, err error) {
	keyword, rest, _ := bytes.Cut(data, []byte{0})
	if string(keyword) != "parameters" {
		return "", false, nil
	}
	switch {
	case kind == "tEXt":
		return fromLatin1(rest), true, nil
	case kind == "zTXt" && len(rest) > 0:
		rest, err = inflate(rest[1:])
		return fromLatin1(rest), true, err
	case kind == "iTXt" && len(rest) > 2:
		compressed := rest[0] == 1
		_, rest, _ = bytes.Cut(rest[2:], []byte{0}) // language
		_, rest, _ = bytes.Cut(rest, []byte{0})     // translated keyword
		if compressed {
			rest, err = inflate(rest)
		}
		return string(rest), true, err
	}
	return "", false, nil
}

// inflate gives nil with an error.
func inflate(b []byte) ([]byte, error) {
	var text []byte
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(z, maxText+1))
	}
	if err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "the PNG's compressed text is damaged: %w", err)
	}
	if len(text) > maxText {
		return nil, leafserve.Errorf(leafserve.Invalid, "the PNG's compressed text is longer than %d bytes", maxText)
	}
	return text, nil
}
