package captions

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
)

// epoch gives each caption of the files once, in the order that seed and epoch
// number say.
type epoch struct {
	files  []file // not opened yet
	open   *reader
	empty  int
	size   int      // of buffer, when it is full
	buffer []string // read, not given yet
	random *rand.Rand
}

func newEpoch(cfg Config, files []file, number int) *epoch {
	e := &epoch{
		files:  slices.Clone(files),
		size:   cfg.Buffer,
		random: rand.New(rand.NewPCG(cfg.Seed, uint64(number))),
	}
	e.random.Shuffle(len(e.files), func(i, j int) { e.files[i], e.files[j] = e.files[j], e.files[i] })
	return e
}

// next draws a caption from the full buffer. After the last one it is io.EOF, and
// all files are closed.
func (e *epoch) next(ctx context.Context) (string, error) {
	for len(e.buffer) < e.size {
		caption, err := e.read(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		e.buffer = append(e.buffer, caption)
	}
	if len(e.buffer) == 0 {
		return "", io.EOF
	}
	i, last := e.random.IntN(len(e.buffer)), len(e.buffer)-1
	caption := e.buffer[i]
	e.buffer[i], e.buffer[last] = e.buffer[last], ""
	e.buffer = e.buffer[:last]
	return caption, nil
}

// read gives the next caption that is not empty, in the order of the files.
func (e *epoch) read(ctx context.Context) (string, error) {
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := e.openNext(); err != nil {
			return "", err
		}
		switch caption, err := e.open.next(); {
		case errors.Is(err, io.EOF):
			if err := e.close(); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case caption == "":
			e.empty++
		default:
			return caption, nil
		}
	}
}

// openNext opens a file where none is open; io.EOF after the last.
func (e *epoch) openNext() (err error) {
	switch {
	case e.open != nil:
		return nil
	case len(e.files) == 0:
		return io.EOF
	}
	e.open, err = e.files[0].open()
	e.files = e.files[1:]
	return err
}

func (e *epoch) close() error {
	if e.open == nil {
		return nil
	}
	err := e.open.Close()
	e.open = nil
	return err
}
