package captions

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a1.txt", "a2.txt", "b.txt", "c[1].txt", "d{1,2}.txt"} {
		write(t, filepath.Join(dir, name), []byte("a"))
	}
	t.Chdir(dir)
	for _, tc := range []struct{ name, pattern, want string }{
		{"a name", "a1.txt", "a1.txt"},
		{"a name that is not there", "z.txt", "z.txt"},
		{"glob", "a*.txt", "a1.txt a2.txt"},
		{"question mark", "?.txt", "b.txt"},
		{"a name like a glob", "c[1].txt", "c[1].txt"},
		{"a name like a list", "d{1,2}.txt", "d{1,2}.txt"},
		{"range", "{8..11}.tar", "8.tar 9.tar 10.tar 11.tar"},
		{"padded range", "{0009..0011}.tar", "0009.tar 0010.tar 0011.tar"},
		{"padded to the longer", "{08..010}.tar", "008.tar 009.tar 010.tar"},
		{"range from 0", "{0..10}.tar", "0.tar 1.tar 2.tar 3.tar 4.tar 5.tar 6.tar 7.tar 8.tar 9.tar 10.tar"},
		{"list", "{train,val,}.csv", "train.csv val.csv .csv"},
		{"two lists", "{a,b}/{0..1}.tar", "a/0.tar a/1.tar b/0.tar b/1.tar"},
		{"list of globs", "{a,b}*.txt", "a1.txt a2.txt b.txt"},
		{"no list", "{abc}-{}.txt", "{abc}-{}.txt"},
		{"open brace", "a{0..1.txt", "a{0..1.txt"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := expand(tc.pattern)
			if want := strings.Split(tc.want, " "); err != nil || !slices.Equal(got, want) {
				t.Errorf("expand(%q) = %q, %v, want %q", tc.pattern, got, err, want)
			}
		})
	}
	for _, tc := range []struct{ name, pattern, want string }{
		{"no match", "z*.txt", "no file matches z*.txt"},
		{"no match in a list", "{a,z}*.txt", "no file matches z*.txt"},
		{"broken glob", "a[.txt", "no file matches a[.txt"},
		{"backwards", "{5..1}.tar", "{5..1}.tar: the range {5..1} ends before it begins"},
		{"endless", "{0..9223372036854775807}.tar", "more than 100000 files"},
		{"endless product", "{0..999}{0..999}.tar", "more than 100000 files"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := expand(tc.pattern)
			wantInvalid(t, err, tc.want)
		})
	}
}
