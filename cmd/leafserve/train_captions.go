package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"leafserve/leaftrain/captions"
)

// Captions for evaluation: at most heldOut, of the first looked at, and of those
// at most one in ten.
const (
	heldOut  = 256
	lookedAt = 10 * heldOut
)

// splitList cuts a list at commas that are not in braces, where a range of
// shards may have some; the name of a file that is there stays whole.
func splitList(list string) []string {
	if _, err := os.Stat(list); err == nil {
		return []string{list}
	}
	var names []string
	depth, start := 0, 0
	for i, r := range list {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == ',' && depth <= 0:
			names, start = append(names, list[start:i]), i+1
		}
	}
	return append(names, list[start:])
}

// absolute lists files so that they are found from every folder.
func absolute(lists []string) ([]string, error) {
	var names []string
	for _, list := range lists {
		for _, name := range splitList(list) {
			name, err := filepath.Abs(strings.TrimSpace(name))
			if err != nil {
				return nil, err
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// firstCaptions reads up to n different captions, in the order of the files.
func firstCaptions(ctx context.Context, cfg captions.Config, n int) ([]string, error) {
	cfg.Buffer = 1
	source, err := captions.Open(cfg)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	var first []string
	known := map[string]bool{}
	for range 2 * n { // however often some come again
		batch, err := source.Next(ctx, 1)
		if err != nil {
			return nil, err
		}
		if source.Position().Epoch > 0 {
			break
		}
		if !known[batch[0]] {
			known[batch[0]] = true
			first = append(first, batch[0])
		}
		if len(first) == n {
			break
		}
	}
	return first, nil
}

// without is a stream of captions that leaves some out.
type without struct {
	*captions.Source
	held map[string]bool
}

// Next gives the next n captions that are not held out.
func (s without) Next(ctx context.Context, n int) ([]string, error) {
	var batch []string
	for len(batch) < n {
		more, err := s.Source.Next(ctx, n-len(batch))
		if err != nil {
			return nil, err
		}
		for _, caption := range more {
			if !s.held[caption] {
				batch = append(batch, caption)
			}
		}
	}
	return batch, nil
}

// openCaptions gives what is trained on and what it is evaluated on: the captions
// of a file of their own, else the first, which training then leaves out as long
// as others are left.
func openCaptions(ctx context.Context, cfg captions.Config, evaluation []string) (without, []string, error) {
	source, err := captions.Open(cfg)
	if err != nil {
		return without{}, nil, err
	}
	if len(evaluation) > 0 {
		held, err := firstCaptions(ctx, captions.Config{Files: evaluation, Field: cfg.Field}, heldOut)
		return without{Source: source}, held, err
	}
	first, err := firstCaptions(ctx, cfg, lookedAt)
	if err != nil {
		return without{}, nil, err
	}
	held := first[:min(heldOut, max(1, len(first)/10))]
	s := without{source, map[string]bool{}}
	for _, caption := range held {
		s.held[caption] = len(first) > len(held)
	}
	return s, held, nil
}
