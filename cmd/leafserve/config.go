package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/ort"
	"leafserve/queue"
	"leafserve/weights/builtin"
)

// Config is everything that can be set. A value comes from the flag, else from
// the variable LEAFSERVE_NAME (dashes as underscores), else from the YAML file,
// else from DefaultConfig.
type Config struct {
	File string // --config
	JSON bool   // --json

	Model   string // a name or a folder
	DataDir string // pictures, models added later; "" is leafserve in the user's data folder
	Store   string // URL of the place of the pictures (gallery.OpenStore); "" is the data folder
	Runtime ort.Config
	HTTP    HTTPConfig
	Queue   queue.Config
	Worker  queue.WorkerConfig
	Log     LogConfig
	Observe ObserveConfig
}

// HTTPConfig is how the server listens.
type HTTPConfig struct {
	Addr    string         // host:port; port 0 takes a free one
	Redis   string         // URL; "" is the embedded one
	Keys    string         // file of API keys; "" is keys.yaml in the data folder, if there
	Hosts   []string       // names that requests over loopback may use, besides addresses and localhost
	Limits  httpapi.Limits // of what computes while the client waits
	Body    int64          // largest request body, bytes
	Prompts int            // of one comparison
	Grace   time.Duration  // for waiting requests when the server stops

	ReadyDepth int           // jobs that wait, from which on GET /readyz says no; 0 is the queue's bound
	DrainDelay time.Duration // between GET /readyz saying no and the stop
}

// LogConfig is how the program tells what it does.
type LogConfig struct {
	Level  string // debug, info, warn, error
	Format string // text or json
}

// DefaultConfig serves the built-in model on loopback port 8080.
func DefaultConfig() *Config {
	return &Config{
		Model:   builtin.Name,
		Runtime: ort.Config{Provider: "auto"},
		HTTP:    HTTPConfig{Addr: "127.0.0.1:8080", Limits: httpapi.DefaultLimits(), Body: 16 << 20, Prompts: leafserve.MaxComparePrompts, Grace: 30 * time.Second},
		Queue:   queue.DefaultConfig(),
		Worker:  queue.DefaultWorkerConfig(),
		Log:     LogConfig{Level: "info", Format: "text"},
		Observe: ObserveConfig{TraceSample: 1},
	}
}

func modelFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.Model, "model", cfg.Model, "model: a name, or a folder in diffusers' layout")
	dataFlags(cmd, cfg)
}

func dataFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "folder for pictures and models (default: leafserve in the user's data folder)")
}

func runtimeFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.Runtime.Library, "ort-lib", cfg.Runtime.Library, "ONNX Runtime's shared library (default: the cache, inside or beside the program, the system)")
	cmd.Flags().StringVar(&cfg.Runtime.Provider, "provider", cfg.Runtime.Provider, strings.Join(ort.Providers, ", "))
	cmd.Flags().IntVar(&cfg.Runtime.Threads, "threads", cfg.Runtime.Threads, "CPU threads of one call, 0 for one a core")
	cmd.Flags().IntVar(&cfg.Runtime.Device, "device", cfg.Runtime.Device, "number of the GPU that provider cuda takes, from 0")
}

func queueFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.HTTP.Redis, "redis", cfg.HTTP.Redis, "Redis URL (default: an embedded one, in memory)")
	cmd.Flags().StringVar(&cfg.Queue.Name, "queue", cfg.Queue.Name, "name of the queue in Redis")
	cmd.Flags().IntVar(&cfg.Queue.MaxQueued, "max-queued", cfg.Queue.MaxQueued, "jobs that may wait")
	cmd.Flags().Int64Var(&cfg.Queue.MaxBytes, "max-queued-bytes", cfg.Queue.MaxBytes, "bytes of requests that may wait")
	cmd.Flags().DurationVar(&cfg.Queue.Lease, "lease", cfg.Queue.Lease, "how long a worker may be silent before its job goes to another")
	cmd.Flags().IntVar(&cfg.Queue.MaxAttempts, "max-attempts", cfg.Queue.MaxAttempts, "times a job is started before it is a dead letter")
	cmd.Flags().DurationVar(&cfg.Queue.Backoff, "retry-backoff", cfg.Queue.Backoff, "pause after a failed attempt, doubled with each")
	cmd.Flags().DurationVar(&cfg.Queue.MaxRun, "max-run", cfg.Queue.MaxRun, "how long one attempt at a job may run")
	cmd.Flags().DurationVar(&cfg.Queue.ResultTTL, "result-ttl", cfg.Queue.ResultTTL, "how long results are kept")
	cmd.Flags().DurationVar(&cfg.Queue.DeadTTL, "dead-ttl", cfg.Queue.DeadTTL, "how long dead letters are kept")
	cmd.Flags().IntVar(&cfg.Queue.Replicas, "redis-replicas", cfg.Queue.Replicas, "replicas of Redis that must have a job, and its end, before either is acknowledged")
	cmd.Flags().StringVar(&cfg.Log.Level, "log-level", cfg.Log.Level, "debug, info, warn, error")
	cmd.Flags().StringVar(&cfg.Log.Format, "log-format", cfg.Log.Format, "text or json")
}

func httpFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.HTTP.Addr, "addr", cfg.HTTP.Addr, "address to listen on")
	keysFlag(cmd, cfg)
	cmd.Flags().StringSliceVar(&cfg.HTTP.Hosts, "hosts", cfg.HTTP.Hosts, "host names that a proxy on this machine may pass on, besides localhost")
	cmd.Flags().IntVar(&cfg.HTTP.Limits.AtOnce, "compute-at-once", cfg.HTTP.Limits.AtOnce, "requests to /encode, /attack and /invert that run at once")
	cmd.Flags().IntVar(&cfg.HTTP.Limits.PerMinute, "texts-per-minute", cfg.HTTP.Limits.PerMinute, "texts that one API key, or without keys one address, may have read a minute by these")
	cmd.Flags().Int64Var(&cfg.HTTP.Body, "max-body", cfg.HTTP.Body, "largest request body in bytes")
	cmd.Flags().IntVar(&cfg.HTTP.Prompts, "max-prompts", cfg.HTTP.Prompts, fmt.Sprintf("prompts of one comparison, at most %d", leafserve.MaxComparePrompts))
	cmd.Flags().DurationVar(&cfg.HTTP.Grace, "grace", cfg.HTTP.Grace, "how long waiting requests may go on after SIGTERM")
	cmd.Flags().IntVar(&cfg.HTTP.ReadyDepth, "ready-depth", cfg.HTTP.ReadyDepth, "jobs that wait, from which on GET /readyz says no (default: --max-queued)")
	cmd.Flags().DurationVar(&cfg.HTTP.DrainDelay, "drain-delay", cfg.HTTP.DrainDelay, "how long all goes on after SIGTERM while GET /readyz says no")
}

func workerFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().DurationVar(&cfg.Worker.Grace, "worker-grace", cfg.Worker.Grace, "how long a running job may go on after SIGTERM")
	cmd.Flags().StringVar(&cfg.Worker.Name, "worker-name", cfg.Worker.Name, "name of the worker in lists and logs (default: host and process)")
	cmd.Flags().Lookup("worker-name").DefValue = ""
	cmd.Flags().IntVar(&cfg.Worker.Batch, "batch", cfg.Worker.Batch, "pictures of several jobs run together: 1 for none, 0 for as many as measurements say that it pays")
	cmd.Flags().DurationVar(&cfg.Worker.BatchWait, "batch-wait", cfg.Worker.BatchWait, "how long a batch waits for company where there was some a moment ago")
}

// fillFlags gives every flag that was not set on the command line its value
// from the environment or the file.
func fillFlags(cmd *cobra.Command, file string) error {
	if file == "" {
		file = os.Getenv(variable("config"))
	}
	fromFile, err := readFile(file, cmd.Root())
	if err != nil {
		return err
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, source := os.Getenv(variable(f.Name)), variable(f.Name)
		if value == "" {
			value, source = fromFile[f.Name], file
		}
		if f.Changed || value == "" || f.Name == "config" || f.Name == "help" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			errs = append(errs, leafserve.Errorf(leafserve.Invalid, "%s: %w", source, wrongValue(err)))
		}
	})
	return errors.Join(errs...)
}

// wrongValue words a value that does not fit its flag for people who do not
// know Go; other errors stay as they are.
func wrongValue(err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	want := map[string]string{
		"bool": "true or false", "int": "a whole number", "int64": "a whole number", "uint64": "a whole number from 0 to 18446744073709551615",
		"float64": "a number", "duration": "a duration such as 30s",
	}[wrong.GetFlag().Value.Type()]
	return fmt.Errorf("--%s is %.64q, want %s", wrong.GetFlag().Name, wrong.GetValue(), want)
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "LEAFSERVE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readFile reads a YAML file of flag names and values. A name that no command
// has is an error: it would be a setting that silently does nothing.
func readFile(path string, root *cobra.Command) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "configuration file: %w", err)
	}
	var values map[string]yaml.Node
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return nil, notMapping(path, err)
	}
	known := settings(root)
	out := map[string]string{}
	for name, v := range values {
		if !slices.Contains(known, name) {
			return nil, leafserve.Errorf(leafserve.Invalid, "%s: there is no setting %q, there are: %s", path, name, strings.Join(known, ", "))
		}
		if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			return nil, leafserve.Errorf(leafserve.Invalid, "%s: %s is no single value: want what follows --%s on the command line", path, name, name)
		}
		out[name] = v.Value
	}
	return out, nil
}

// notMapping words a file that yaml cannot read; only the texts about its syntax
// are free of Go's types.
func notMapping(path string, err error) error {
	var mistyped *yaml.TypeError
	if errors.As(err, &mistyped) {
		return leafserve.Errorf(leafserve.Invalid, "%s is not a YAML mapping of flag names to values: want lines such as addr: 127.0.0.1:8080, each name once", path)
	}
	return leafserve.Errorf(leafserve.Invalid, "%s is not YAML: %w", path, err)
}

// settings lists the flags of all commands that run a service, sorted.
func settings(root *cobra.Command) []string {
	var names []string
	for _, cmd := range root.Commands() {
		if !slices.Contains([]string{"serve", "api", "worker"}, cmd.Name()) {
			continue
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(names, f.Name) && f.Name != "help" {
				names = append(names, f.Name)
			}
		})
	}
	slices.Sort(names)
	return names
}

// checkService refuses numbers that mean nothing; 0 stands for the default.
func (c *Config) checkService() error {
	for _, f := range []struct {
		flag string
		v    int64
	}{
		{"max-queued", int64(c.Queue.MaxQueued)}, {"lease", int64(c.Queue.Lease)}, {"max-attempts", int64(c.Queue.MaxAttempts)},
		{"max-queued-bytes", c.Queue.MaxBytes}, {"retry-backoff", int64(c.Queue.Backoff)}, {"max-run", int64(c.Queue.MaxRun)}, {"dead-ttl", int64(c.Queue.DeadTTL)},
		{"redis-replicas", int64(c.Queue.Replicas)}, {"batch", int64(c.Worker.Batch)}, {"batch-wait", int64(c.Worker.BatchWait)},
		{"result-ttl", int64(c.Queue.ResultTTL)}, {"max-body", c.HTTP.Body}, {"max-prompts", int64(c.HTTP.Prompts)}, {"grace", int64(c.HTTP.Grace)}, {"worker-grace", int64(c.Worker.Grace)},
		{"ready-depth", int64(c.HTTP.ReadyDepth)}, {"drain-delay", int64(c.HTTP.DrainDelay)},
	} {
		if f.v < 0 {
			return leafserve.InvalidField(f.flag, "--%s is below 0", f.flag)
		}
	}
	return nil
}

// logger makes the program's logger.
func (c LogConfig) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, leafserve.InvalidField("log-level", "log level %q is unknown, want debug, info, warn or error", c.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, leafserve.InvalidField("log-format", "log format %q is unknown, want text or json", c.Format)
}

// dataDir is where pictures and models are kept, by XDG's rules on Linux.
func (c *Config) dataDir() (string, error) {
	if c.DataDir != "" {
		return c.DataDir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "leafserve"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", leafserve.Errorf(leafserve.Invalid, "no home folder to keep data in: set --data-dir")
	}
	return filepath.Join(home, ".local", "share", "leafserve"), nil
}

// cacheDir is where the built-in model is unpacked: the user's cache, or the
// data folder where there is none.
func (c *Config) cacheDir() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil && c.DataDir == "" {
		return filepath.Join(dir, "leafserve"), nil
	}
	return c.dataDir()
}
