package captions

import (
	"context"
	"errors"
	"io"

	"leafserve"
)

// Config says what is read.
type Config struct {
	Files  []string `json:"files"`            // names, globs, lists in braces; a file that is named twice is read twice an epoch
	Format string   `json:"format,omitempty"` // of all files: text, jsonl, csv or tar; "" is told by each name
	Field  string   `json:"field,omitempty"`  // key of JSONL, column of CSV; "" is "caption", or "text" where there is none; text and tar have no fields
	Seed   uint64   `json:"seed"`             // of the order
	Buffer int      `json:"buffer,omitempty"` // captions that one is drawn from; 1 keeps the order in a file, but not that of files; 0 is DefaultBuffer
}

// DefaultBuffer is how many captions a shuffle buffer holds: of usual length,
// about 1 MB.
const DefaultBuffer = 10_000

// maxBuffer keeps a slip of the keyboard from filling the memory.
const maxBuffer = 10_000_000

// Position is a place in the stream: what Next gives there depends on nothing
// else but the Config and the files.
type Position struct {
	Epoch int `json:"epoch"` // from 0
	Taken int `json:"taken"` // captions that Next gave of this epoch
}

// Source is an endless stream of captions. It is not safe for concurrent use.
type Source struct {
	config   Config
	files    []file
	position Position
	epoch    *epoch // nil: to be opened, at position
}

// Open finds the files and reads as far as the first caption of each. The error
// is Invalid and says which file is not what it should be. The caller closes.
func Open(cfg Config) (*Source, error) {
	switch {
	case len(cfg.Files) == 0:
		return nil, invalid("no caption files: name at least one")
	case cfg.Buffer < 0 || cfg.Buffer > maxBuffer:
		return nil, invalid("a shuffle buffer of %d captions: want 1 to %d, or 0 for %d", cfg.Buffer, maxBuffer, DefaultBuffer)
	case cfg.Buffer == 0:
		cfg.Buffer = DefaultBuffer
	}
	files, err := find(cfg)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := f.prove(); err != nil {
			return nil, err
		}
	}
	return &Source{config: cfg, files: files}, nil
}

// Next gives the next n captions, from 1. A batch that an epoch's end leaves
// short is filled from the next epoch. On an error, ctx's included, the position
// stays, and the next call reads its way back to it.
func (s *Source) Next(ctx context.Context, n int) ([]string, error) {
	if n < 1 {
		return nil, invalid("a batch of %d captions: want 1 or more", n)
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	at, batch := s.position, []string(nil)
	for len(batch) < n {
		caption, err := s.epoch.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			at = Position{Epoch: at.Epoch + 1}
			s.epoch = newEpoch(s.config, s.files, at.Epoch)
		case err != nil:
			return nil, errors.Join(err, s.Close())
		default:
			at.Taken++
			batch = append(batch, caption)
		}
	}
	s.position = at
	return batch, nil
}

// Position is where the next Next begins.
func (s *Source) Position() Position { return s.position }

// Empty counts the empty captions that this epoch has passed over so far.
func (s *Source) Empty() int {
	if s.epoch == nil {
		return 0
	}
	return s.epoch.empty
}

// Seek goes to a position, so that Next gives what it would have given there. It
// reads the epoch from its beginning. The error is Invalid where the files have
// fewer captions than the position says.
func (s *Source) Seek(ctx context.Context, p Position) error {
	if p.Epoch < 0 || p.Taken < 0 {
		return invalid("position %d of epoch %d is before the first caption", p.Taken, p.Epoch)
	}
	if err := s.Close(); err != nil {
		return err
	}
	s.position = p
	return s.ready(ctx)
}

// ready has the epoch open at position.
func (s *Source) ready(ctx context.Context) error {
	if s.epoch != nil {
		return nil
	}
	s.epoch = newEpoch(s.config, s.files, s.position.Epoch)
	for taken := range s.position.Taken {
		_, err := s.epoch.next(ctx)
		if errors.Is(err, io.EOF) {
			err = invalid("the files have %d captions, but %d were taken before this: give the files that the run began with", taken, s.position.Taken)
		}
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
	return nil
}

// Close lets go of the file that is open. The position stays: a Next after it
// opens the files again.
func (s *Source) Close() error {
	if s.epoch == nil {
		return nil
	}
	err := s.epoch.close()
	s.epoch = nil
	return err
}

// invalid makes an error that the caller can put right.
func invalid(format string, args ...any) error {
	return leafserve.InvalidField("captions", format, args...)
}
