package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/tensor"
)

// npy is a file as numpy writes it: version 1.0 unless start says otherwise.
func npy(start, dictionary, values string) string {
	if start == "" {
		start = "\x93NUMPY\x01\x00" + string([]byte{byte(len(dictionary)), byte(len(dictionary) >> 8)})
	}
	return start + dictionary + values
}

const (
	oneByTwo = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }  \n"
	oneTwo   = "\x00\x00\x80\x3f\x00\x00\x00\x40" // 1 and 2
)

func TestReadNPY(t *testing.T) {
	for _, tc := range []struct{ name, file string }{
		{"version 1", npy("", oneByTwo, oneTwo)},
		{"version 2", npy("\x93NUMPY\x02\x00"+string(rune(len(oneByTwo)))+"\x00\x00\x00", oneByTwo, oneTwo)},
		{"more after it", npy("", oneByTwo, oneTwo+"rest")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readNPY(strings.NewReader(tc.file))
			if err != nil || !slices.Equal(got.Shape, []int{1, 2}) || !slices.Equal(got.Data, []float32{1, 2}) {
				t.Errorf("readNPY = %v, %v, want [[1 2]]", got, err)
			}
		})
	}
}

func TestReadNPYErrors(t *testing.T) {
	shaped := func(shape string) string { return strings.Replace(oneByTwo, "(1, 2)", shape, 1) }
	for _, tc := range []struct{ name, file, says string }{
		{"empty", "", "not a .npy file"},
		{"text", "a text that is long enough", "not a .npy file"},
		{"magic alone", "\x93NUMPY\x01\x00", "not a .npy file"},
		{"header cut short", npy("", oneByTwo, "")[:40], "want float32 in C order"},
		{"header without an end", npy("", strings.TrimSpace(oneByTwo), oneTwo), "want float32 in C order"},
		{"header of 4 GiB", npy("\x93NUMPY\x02\x00\xff\xff\xff\xff", oneByTwo, oneTwo), "want float32 in C order"},
		{"float64", npy("", strings.Replace(oneByTwo, "<f4", "<f8", 1), oneTwo), "'<f8'"},
		{"big-endian", npy("", strings.Replace(oneByTwo, "<f4", ">f4", 1), oneTwo), "'>f4'"},
		{"Fortran's order", npy("", strings.Replace(oneByTwo, "False", "True", 1), oneTwo), "want float32 in C order"},
		{"no values", npy("", oneByTwo, ""), "cut short: 0 bytes of values, its shape [1 2] wants 8"},
		{"values cut short", npy("", oneByTwo, oneTwo[:7]), "cut short: 7 bytes"},
		{"a size of 0", npy("", shaped("(1, 0)"), ""), "its shape is (1, 0)"},
		{"too many values", npy("", shaped("(99999, 99999)"), oneTwo), "at most 67108864 values"},
		{"sizes that overflow", npy("", shaped("(4294967296, 4294967296)"), oneTwo), "at most 67108864 values"},
		{"size of 30 digits", npy("", shaped("(100000000000000000000000000000,)"), oneTwo), "its shape is"},
		{"commas alone", npy("", shaped("(, ,)"), oneTwo), "its shape is"},
		{"not a number", npy("", oneByTwo, "\x00\x00\xc0\x7f\x00\x00\x00\x40"), "value 0 is NaN"},
		{"infinite", npy("", oneByTwo, "\x00\x00\x80\x3f\x00\x00\x80\xff"), "value 1 is -Inf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := readNPY(strings.NewReader(tc.file)); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("readNPY = %v, want an error that says %q", err, tc.says)
			}
		})
	}
}

// FuzzReadNPY: what can be read, can be written and read again.
func FuzzReadNPY(f *testing.F) {
	f.Add([]byte(npy("", oneByTwo, oneTwo)))
	f.Add([]byte(npy("\x93NUMPY\x02\x00A\x00\x00\x00", oneByTwo, oneTwo)))
	f.Add([]byte(npy("", strings.Replace(oneByTwo, "1, 2", "99999999, 99999999", 1), oneTwo)))
	f.Add([]byte("\x93NUMPY\x01\x00\x01\x00}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		x, err := readNPY(bytes.NewReader(file))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeNPY(&again, x); err != nil {
			t.Fatal(err)
		}
		y, err := readNPY(&again)
		if err != nil || !slices.Equal(x.Shape, y.Shape) || tensor.MaxAbsDiff(x, y) != 0 {
			t.Errorf("read %v, written and read again %v, %v", x, y, err)
		}
	})
}

// FuzzReadRequests: a file is either requests or an Invalid error.
func FuzzReadRequests(f *testing.F) {
	for _, seed := range []string{`{"prompt":"a"}`, `[{"prompt":"a"},{"prompt":"b","seeds":[1,2],"n":2}]`, "[]", "[", "null", "[null]", `{"prompt":"\ud800"}`, strings.Repeat("[", 100)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		reqs, err := readRequests(bytes.NewReader(file), "-")
		if err == nil && len(reqs) == 0 || err != nil && leafserve.KindOf(err) != leafserve.Invalid {
			t.Errorf("readRequests = %d requests, %v (%s)", len(reqs), err, leafserve.KindOf(err))
		}
	})
}
