package captions

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxFiles keeps a slip in a range from filling the memory.
const maxFiles = 100_000

// find lists the files that a Config means, in its order.
func find(cfg Config) ([]file, error) {
	if _, ok := parsers[cfg.Format]; !ok && cfg.Format != "" {
		return nil, invalid("the format is %.64q, want one of: %s", cfg.Format, strings.Join(slices.Sorted(maps.Keys(parsers)), ", "))
	}
	var files []file
	for _, pattern := range cfg.Files {
		names, err := expand(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			f, err := newFile(name, cfg.Format, cfg.Field)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// expand spells out lists in braces and globs; a file that has just this name is
// meant before all else.
func expand(pattern string) ([]string, error) {
	if exists(pattern) {
		return []string{pattern}, nil
	}
	spelt, err := braces(pattern)
	if err != nil {
		return nil, invalid("%s: %w", pattern, err)
	}
	var names []string
	for _, name := range spelt {
		if !strings.ContainsAny(name, "*?[") || exists(name) {
			names = append(names, name)
			continue
		}
		matches, err := filepath.Glob(name)
		if err != nil || len(matches) == 0 {
			return nil, invalid("no file matches %s", name)
		}
		names = append(names, matches...)
	}
	return names, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// braces spells out {0000..0127} and {train,val}, as a shell does; other braces
// stay.
func braces(pattern string) ([]string, error) {
	before, rest, open := strings.Cut(pattern, "{")
	list, after, closed := strings.Cut(rest, "}")
	if !open || !closed {
		return []string{pattern}, nil
	}
	items, err := spell(list)
	if err != nil {
		return nil, err
	}
	tails, err := braces(after)
	if err != nil {
		return nil, err
	}
	if len(items) > maxFiles/len(tails) {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	var out []string
	for _, item := range items {
		for _, tail := range tails {
			out = append(out, before+item+tail)
		}
	}
	return out, nil
}

// spell lists what stands between braces.
func spell(list string) ([]string, error) {
	first, last, isRange := strings.Cut(list, "..")
	from, fromErr := strconv.ParseUint(first, 10, 63)
	to, toErr := strconv.ParseUint(last, 10, 63)
	switch {
	case isRange && errors.Join(fromErr, toErr) == nil:
		return count(from, to, padding(first, last))
	case strings.Contains(list, ","):
		return strings.Split(list, ","), nil
	}
	return []string{"{" + list + "}"}, nil
}

// padding is how many digits the numbers of a range have at least: where one
// begins with 0, as many as the longer one.
func padding(first, last string) int {
	if len(first) > 1 && first[0] == '0' || len(last) > 1 && last[0] == '0' {
		return max(len(first), len(last))
	}
	return 1
}

func count(from, to uint64, digits int) ([]string, error) {
	switch {
	case to < from:
		return nil, fmt.Errorf("the range {%d..%d} ends before it begins", from, to)
	case to-from >= maxFiles:
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	var out []string
	for n := from; n <= to; n++ {
		out = append(out, fmt.Sprintf("%0*d", digits, n))
	}
	return out, nil
}
