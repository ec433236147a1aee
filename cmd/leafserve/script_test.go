package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	_ "golang.org/x/image/webp"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/ort"
	"leafserve/report"
	"leafserve/tensor"
	"leafserve/weights"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"leafserve": main})
}

// suite runs all tests with `leafserve` in PATH and with settings of their own.
type suite struct{ m *testing.M }

// Run keeps the machine's settings and folders out of the tests; only the
// library of ONNX Runtime is taken from there.
func (s suite) Run() int {
	lib, err := ort.FindLibrary(os.Getenv("LEAFSERVE_ORT_LIB"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "leafserve-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "LEAFSERVE_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("LEAFSERVE_ORT_LIB", lib.Path)
	os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache")) // one unpacked model for all
	os.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	return s.m.Run()
}

// TestScripts runs testdata/script/*.txtar; the commands they have besides
// testscript's own are below.
func TestScripts(t *testing.T) {
	tiny := leaftest.Model(t, "tiny-sd15")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data"))
			for _, name := range []string{"LEAFSERVE_ORT_LIB", "XDG_CACHE_HOME"} {
				e.Setenv(name, os.Getenv(name))
			}
			e.Setenv("TINY", tiny)
			e.Setenv("NOT_UTF8", "a c\xe9t")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails":   fails,
			"tiny":    copyTiny,
			"replace": replaceInFile,
			"cut":     cutFile,
			"repeat":  writeRepeated,
			"picture": describePicture,
			"tensors": describeTensors,
			"latents": describeLatents,
			"copies":  copyFolder,
			"part":    partOfJSON,
			"figures": describeFigures,
			"noise":   writeNoise,
		},
	})
}

// notForPeople is what no error may have in it: traces, and names of Go's.
var notForPeople = regexp.MustCompile(`panic|goroutine \d|strconv\.|map\[|struct ?\{|interface ?\{|\[\]byte|Go value|%!|<nil>|\*\w+\.\w+`)

// fails CODE TEXT ARG… runs leafserve with the arguments, which must exit with
// CODE and say one sentence on standard error that has TEXT in it; a list may
// follow a colon.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("leafserve", args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		ts.Fatalf("ended with %v, want exit status %d", err, code)
	}
	said := ts.ReadFile("stderr")
	first, list, _ := strings.Cut(said, "\n")
	if !strings.HasPrefix(first, "leafserve: ") || list != "" && !strings.HasSuffix(first, ":") || len(said) > 1000 {
		ts.Fatalf("wants one sentence, got %q", said)
	}
	if bad := notForPeople.FindString(said); bad != "" {
		ts.Fatalf("%q has %q in it", said, bad)
	}
	if !strings.Contains(said, args[1]) {
		ts.Fatalf("%q does not say %q", said, args[1])
	}
}

// tiny DIR makes a copy of the model folder tiny-sd15.
func copyTiny(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(ts.Getenv("TINY"))))
}

// copies FROM TO copies a folder.
func copyFolder(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// part FILE KEY TO writes one value of a JSON object to a file.
func partOfJSON(ts *testscript.TestScript, neg bool, args []string) {
	var object map[string]json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &object))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), object[args[1]], 0o644))
}

// figures FILE prints a hash of what a comparison measured.
func describeFigures(ts *testscript.TestScript, neg bool, args []string) {
	var c leafserve.Comparison
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &c))
	fmt.Fprintln(ts.Stdout(), report.Fingerprint(append(c.Cases, *c.Case)))
}

// replace FILE OLD NEW replaces the one OLD in a file.
func replaceInFile(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	if n := bytes.Count(raw, []byte(args[1])); n != 1 {
		ts.Fatalf("%s has %q %d times", args[0], args[1], n)
	}
	ts.Check(os.WriteFile(path, bytes.Replace(raw, []byte(args[1]), []byte(args[2]), 1), 0o644))
}

// cut FILE N keeps the first N bytes.
func cutFile(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

// repeat FILE BEFORE TEXT N AFTER writes TEXT N times between the others.
func writeRepeated(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[3])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+strings.Repeat(args[2], n)+args[4]), 0o644))
}

// picture FILE prints format, size and a hash of the pixels, which do not
// depend on the metadata.
func describePicture(ts *testscript.TestScript, neg bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	img, format, err := image.Decode(f)
	ts.Check(err)
	hash, size := sha256.New(), img.Bounds().Size()
	for y := range size.Y {
		for x := range size.X {
			fmt.Fprint(hash, img.At(x, y))
		}
	}
	fmt.Fprintf(ts.Stdout(), "%s %d×%d %x\n", format, size.X, size.Y, hash.Sum(nil))
}

// tensors FILE prints each tensor's name, type and shape.
func describeTensors(ts *testscript.TestScript, neg bool, args []string) {
	header, err := weights.ReadHeader(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		x, err := header[name].Read()
		ts.Check(err)
		fmt.Fprintf(ts.Stdout(), "%s %s %v std %.1f\n", name, header[name].DType, x.Shape, leaftest.Std(x))
	}
}

// latents FILE prints the shape and standard deviation of a .npy file.
func describeLatents(ts *testscript.TestScript, neg bool, args []string) {
	x, err := readLatents(ts.MkAbs(args[0]))
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%v std %.2f\n", x.Shape, leaftest.Std(*x))
}

// noise FILE SIDE SEED… writes a .npy file of the unit noise [n,4,SIDE,SIDE]
// that the seeds give.
func writeNoise(ts *testscript.TestScript, neg bool, args []string) {
	side, err := strconv.Atoi(args[1])
	ts.Check(err)
	var rows []tensor.Tensor
	for _, arg := range args[2:] {
		seed, err := strconv.ParseUint(arg, 10, 64)
		ts.Check(err)
		g, err := tensor.NewGenerator("torch-cpu", seed)
		ts.Check(err)
		rows = append(rows, g.Randn(1, 4, side, side))
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(writeNPY(f, tensor.Concat(rows...)))
	ts.Check(f.Close())
}
