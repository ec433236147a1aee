package captions

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// tarMembers reads a web-dataset shard: the members *.txt, in their order. It
// seeks past the others where r can.
func tarMembers(f file, r io.Reader) parser {
	if seeker, ok := r.(io.ReadSeeker); ok {
		r = &skimmer{file: seeker, buffer: bufio.NewReaderSize(seeker, 32<<10)}
	}
	s := shard{file: f, tar: tar.NewReader(r)}
	return s.next
}

// shard is a tar archive that is being read.
type shard struct {
	file
	tar   *tar.Reader
	found bool // a member *.txt
}

func (s *shard) next() (string, error) {
	for {
		member, err := s.tar.Next()
		switch {
		case errors.Is(err, io.EOF) && !s.found:
			return "", invalid("%s has no members *.txt, in which a web-dataset shard has its captions", s.name)
		case errors.Is(err, io.EOF):
			return "", io.EOF
		case errors.Is(err, tar.ErrHeader):
			return "", invalid("%s is not a tar archive, or damaged: copy it anew", s.name)
		case err != nil:
			return "", s.explain(err)
		case isCaption(member):
			s.found = true
			return s.read(member)
		}
	}
}

// isCaption leaves out hidden files, which some systems add.
func isCaption(member *tar.Header) bool {
	base := path.Base(member.Name)
	return member.Typeflag == tar.TypeReg && strings.EqualFold(path.Ext(base), ".txt") && !strings.HasPrefix(base, ".")
}

// read takes a whole member as one caption.
func (s *shard) read(member *tar.Header) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(s.tar, maxCaption+1))
	if err != nil {
		return "", s.explain(err)
	}
	if member.Size > maxCaption {
		return "", s.in(member, fmt.Errorf("a caption of %d bytes: the limit is %d", member.Size, maxCaption))
	}
	caption, err := clean(strings.TrimPrefix(string(raw), byteOrderMark))
	if err != nil {
		return "", s.in(member, err)
	}
	return caption, nil
}

func (s *shard) in(member *tar.Header, err error) error {
	return invalid("%s: member %.64q: %w", s.name, member.Name, err)
}

// skimmer reads a file through a buffer, and seeks past what is longer than that.
type skimmer struct {
	file   io.ReadSeeker
	buffer *bufio.Reader // of file
	at     int64         // bytes read or skipped
}

func (s *skimmer) Read(p []byte) (int, error) {
	n, err := s.buffer.Read(p)
	s.at += int64(n)
	return n, err
}

// Seek only goes forward from where it is, which is all that archive/tar asks for.
func (s *skimmer) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return 0, errors.ErrUnsupported
	}
	near, err := s.buffer.Discard(int(min(offset, int64(s.buffer.Buffered()))))
	if far := offset - int64(near); err == nil && far > 0 {
		_, err = s.file.Seek(far, io.SeekCurrent)
		s.buffer.Reset(s.file)
	}
	s.at += offset
	return s.at, err
}
