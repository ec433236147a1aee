package ort_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"leafserve/internal/leaftest"
	"leafserve/ort"
)

var timeLongAgo = time.Unix(0, 0)

// childEnv hands a list of Configs, as JSON, to a process that opens them in
// order: ONNX Runtime's state is one a process, so each case gets its own.
const childEnv = "ORT_TEST_CONFIGS"

// opened is what Open gave a child.
type opened struct {
	Version, Provider, Fallback, Err string
	Threads                          int
}

func TestMain(m *testing.M) {
	list := os.Getenv(childEnv)
	if list == "" {
		os.Exit(m.Run())
	}
	var configs []ort.Config
	if err := json.Unmarshal([]byte(list), &configs); err != nil {
		panic(err)
	}
	var results []opened
	for _, c := range configs {
		var r opened
		if rt, err := ort.Open(c); err != nil {
			r.Err = err.Error()
		} else {
			r = opened{Version: rt.Version, Provider: rt.Provider, Threads: rt.Threads}
			if rt.Fallback != nil {
				r.Fallback = rt.Fallback.Error()
			}
		}
		results = append(results, r)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		panic(err)
	}
}

// inChild opens configs in a fresh process.
func inChild(t *testing.T, configs ...ort.Config) []opened {
	t.Helper()
	raw, err := json.Marshal(configs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v", err)
	}
	var results []opened
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("child says %q: %v", out, err)
	}
	if len(results) != len(configs) {
		t.Fatalf("%d results for %d configurations", len(results), len(configs))
	}
	return results
}

// library is the runtime that the tests use.
func library(t *testing.T) string {
	t.Helper()
	lib, err := ort.FindLibrary(os.Getenv("LEAFSERVE_ORT_LIB"))
	if err != nil {
		t.Fatal(err)
	}
	return lib.Path
}

func TestOpen(t *testing.T) {
	lib := library(t)
	rt := leaftest.Runtime(t)
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("this is no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(t.TempDir(), "gone.so")
	good := ort.Config{Library: lib, Provider: "cpu", Threads: 3}
	for _, tc := range []struct {
		name    string
		configs []ort.Config
		err     []string // what the last one's error says; nil for none
	}{
		{"cpu", []ort.Config{good}, nil},
		{"twice", []ort.Config{good, good}, nil},
		{"unknown provider", []ort.Config{{Library: lib, Provider: "tpu"}}, []string{`provider "tpu" is unknown, want auto, cpu or cuda`}},
		{"device below 0", []ort.Config{{Library: lib, Provider: "cpu", Device: -1}}, []string{"device -1: GPUs are numbered from 0"}},
		{"missing library", []ort.Config{{Library: gone, Provider: "cpu"}}, []string{"cannot load ONNX Runtime from " + gone}},
		{"no path", []ort.Config{{Provider: "cpu"}}, []string{"cannot load ONNX Runtime"}},
		{"not a library", []ort.Config{{Library: text, Provider: "cpu"}}, []string{"cannot load ONNX Runtime from " + text}},
		{"good after bad", []ort.Config{{Library: text, Provider: "cpu"}, {Library: gone, Provider: "cpu"}, good}, nil},
		{"bad after good", []ort.Config{good, {Library: gone, Provider: "cpu"}}, []string{"already loaded from " + lib, gone}},
		{"good after an unknown provider", []ort.Config{{Library: lib, Provider: "CPU"}, good}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			results := inChild(t, tc.configs...)
			last := results[len(results)-1]
			if tc.err == nil {
				if want := (opened{Version: rt.Version, Provider: "cpu", Threads: 3}); last != want {
					t.Errorf("Open = %+v, want %+v", last, want)
				}
				return
			}
			for _, want := range tc.err {
				if !strings.Contains(last.Err, want) {
					t.Errorf("Open: %q does not say %q", last.Err, want)
				}
			}
			if strings.Contains(last.Err, "\n") {
				t.Errorf("Open says more than one line: %q", last.Err)
			}
		})
	}
}

// TestOpenWithoutCUDA runs on the CPU build, which has no CUDA to give.
func TestOpenWithoutCUDA(t *testing.T) {
	lib, err := ort.FindLibrary(os.Getenv("LEAFSERVE_ORT_LIB"))
	if err != nil {
		t.Fatal(err)
	}
	if lib.Flavour == "cuda" {
		t.Skip("this library has CUDA")
	}
	results := inChild(t, ort.Config{Library: lib.Path, Provider: "auto"}, ort.Config{Library: lib.Path}, ort.Config{Library: lib.Path, Provider: "cuda"})
	for i, name := range []string{"auto", "left out"} {
		r := results[i]
		if r.Provider != "cpu" || r.Err != "" || r.Threads != runtime.NumCPU() {
			t.Errorf("provider %s: Open = %+v, want the CPU with all cores", name, r)
		}
		if !strings.Contains(r.Fallback, "CUDA") {
			t.Errorf("provider %s: Fallback = %q, want why there is no CUDA", name, r.Fallback)
		}
	}
	for _, want := range []string{"provider cuda does not work here", "CUDA", "--provider auto"} {
		if !strings.Contains(results[2].Err, want) {
			t.Errorf("provider cuda: %q does not say %q", results[2].Err, want)
		}
	}
	if strings.Contains(results[2].Err, "\n") {
		t.Errorf("provider cuda says more than one line: %q", results[2].Err)
	}
	t.Logf("auto: %s; cuda: %s", results[0].Fallback, results[2].Err)
}
