// Package ort runs the graphs of package onnx in ONNX Runtime. It is the only
// package with native code behind it: who holds memory of the C library, and
// how a running call is stopped, is decided here.
package ort

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"leafserve/onnx"
)

// Providers are the accepted values of Config.Provider.
var Providers = []string{"auto", "cpu", "cuda"}

// Config says how graphs are run.
type Config struct {
	Library  string // path of ONNX Runtime's shared library, 1.24 or newer
	Provider string // auto, cpu or cuda; "" is auto
	Threads  int    // of one call on the CPU; 0 is one a core
	Device   int    // number of the GPU that cuda takes, from 0
}

// Runtime is the loaded library with a provider that is known to work. It is
// safe for concurrent use.
type Runtime struct {
	Version  string // of the library
	Provider string // cpu or cuda
	Fallback error  // why auto took the CPU, nil if nothing was lost
	Threads  int
	device   int // Config.Device
}

// environment is ONNX Runtime's own process-wide state.
var environment struct {
	sync.Mutex
	library string
}

// Open loads the library, once in a process, and finds a provider: auto takes
// CUDA if a session can really be made with it and the CPU otherwise; cuda fails
// instead of falling back.
func Open(cfg Config) (*Runtime, error) {
	if cfg.Provider == "" {
		cfg.Provider = "auto"
	}
	if !slices.Contains(Providers, cfg.Provider) {
		return nil, fmt.Errorf("provider %q is unknown, want auto, cpu or cuda", cfg.Provider)
	}
	if cfg.Device < 0 {
		return nil, fmt.Errorf("device %d: GPUs are numbered from 0", cfg.Device)
	}
	if err := initialize(cfg.Library); err != nil {
		return nil, err
	}
	r := &Runtime{Version: ort.GetVersion(), Provider: "cpu", Threads: cfg.Threads, device: cfg.Device}
	if r.Threads <= 0 {
		r.Threads = runtime.NumCPU()
	}
	if cfg.Provider == "cpu" {
		return r, nil
	}
	cuda := *r
	cuda.Provider = "cuda"
	switch err := cuda.probe(); {
	case err == nil:
		return &cuda, nil
	case cfg.Provider == "cuda":
		return nil, fmt.Errorf("provider cuda does not work here on device %d: %w (use --provider auto to fall back to the CPU)", cfg.Device, err)
	default:
		r.Fallback = err
		return r, nil
	}
}

// initialize loads the library if no call did before; a process can hold one.
func initialize(library string) error {
	environment.Lock()
	defer environment.Unlock()
	if ort.IsInitialized() {
		if library != environment.library {
			return fmt.Errorf("ONNX Runtime is already loaded from %s, cannot load %s too", environment.library, library)
		}
		return nil
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("cannot load ONNX Runtime from %s: %w", library, err)
	}
	environment.library = library
	return nil
}

// probe makes a session and runs it: a missing device shows only there.
func (r *Runtime) probe() error {
	g := onnx.New(nil)
	x := g.Input("x", onnx.Float, 1)
	g.Output("y", g.Add(x, x))
	m, err := g.Model()
	if err != nil {
		return err
	}
	s, err := r.NewSession(m)
	if err != nil {
		return err
	}
	return s.Close()
}

// options are the session options for a model whose calls use so many threads.
func (r *Runtime) options(m onnx.Model, threads int) (*ort.SessionOptions, error) {
	opts, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	steps := []error{
		opts.SetIntraOpNumThreads(threads),
		// Threads that spin while they wait win a few per cent on an idle machine and
		// lose half on a busy one, which a server's is.
		opts.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
		opts.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", m.Folder),
	}
	if r.Provider == "cuda" {
		steps = append(steps, appendCUDA(opts, r.device))
	}
	if err := errors.Join(steps...); err != nil {
		opts.Destroy()
		return nil, err
	}
	return opts, nil
}

func appendCUDA(opts *ort.SessionOptions, device int) error {
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	if err := cuda.Update(map[string]string{"device_id": strconv.Itoa(device)}); err != nil {
		return err
	}
	return opts.AppendExecutionProviderCUDA(cuda)
}
