package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/gallery"
	"leafserve/metrics"
	"leafserve/pipeline"
	"leafserve/queue"
)

// benchResult is what `bench` prints; times are medians.
type benchResult struct {
	Model       string             `json:"model"`
	Provider    string             `json:"provider"`
	Threads     int                `json:"threads"`
	Steps       int                `json:"steps"`
	Repeats     int                `json:"repeats"`
	ColdStartMS float64            `json:"cold_start_ms"` // a new process from its start to the picture's file
	StepMS      float64            `json:"step_ms"`       // one denoising step
	EncodeMS    float64            `json:"encode_ms"`     // prompt and negative prompt, not from the cache
	DecodeMS    float64            `json:"decode_ms"`     // one picture
	BareMS      float64            `json:"bare_ms"`       // one picture, the pipeline alone
	RequestMS   float64            `json:"request_ms"`    // one picture over HTTP, queue and file
	OverheadMS  float64            `json:"overhead_ms"`   // median of the pairwise differences of the two
	PerSecond   map[string]float64 `json:"pictures_per_second"`
	PeakMB      float64            `json:"peak_mb"` // resident memory of this process at its highest
}

func benchCommand(cfg *Config) *cobra.Command {
	repeats := 9
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: cold start, seconds a step, pictures a second, memory",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if repeats < 1 {
				return leafserve.InvalidField("repeats", "--repeats is %d, want 1 or more", repeats)
			}
			return bench(cmd, cfg, repeats)
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().IntVar(&repeats, "repeats", repeats, "times that each thing is measured")
	cmd.AddCommand(benchQueueCommand(cfg))
	return cmd
}

func bench(cmd *cobra.Command, cfg *Config, repeats int) error {
	ctx := cmd.Context()
	dir, err := os.MkdirTemp("", "leafserve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bencher{cfg: cfg, dir: dir, repeats: repeats, bar: newBar(cmd, cfg, "measuring")}
	defer b.bar.done()
	if err := b.cold(ctx); err != nil {
		return err
	}
	stop, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := b.single(ctx); err != nil {
		return err
	}
	if err := b.throughput(ctx); err != nil {
		return err
	}
	b.result.PeakMB = peakMB()
	b.bar.done()
	return printBench(cmd, cfg, b.result)
}

// bencher measures one part after the other into result.
type bencher struct {
	cfg     *Config
	dir     string
	repeats int
	bar     *bar
	done    int
	model   *pipeline.Model
	url     string
	request leafserve.Request
	result  benchResult
}

func (b *bencher) tick() {
	b.done++
	b.bar.set(b.done, 2*b.repeats+len(clients))
}

// clients are the numbers of callers at once that throughput is measured at.
var clients = []int{1, 2, 4}

// cold times new processes.
func (b *bencher) cold(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var times []float64
	for range b.repeats {
		args := []string{"generate", "--prompt", benchPrompt, "--seed", "1", "--model", b.cfg.Model,
			"--provider", b.cfg.Runtime.Provider, "--threads", fmt.Sprint(b.cfg.Runtime.Threads),
			"--ort-lib", b.cfg.Runtime.Library, "--data-dir", b.cfg.DataDir, "--out", filepath.Join(b.dir, "cold.png")}
		start := time.Now()
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("cold start: %w: %s", err, bytes.TrimSpace(out))
		}
		times = append(times, ms(time.Since(start)))
		b.tick()
	}
	b.result.ColdStartMS = median(times)
	return nil
}

const benchPrompt = "a ghost on a yellow background"

// start loads the model and serves it on a free port of loopback.
func (b *bencher) start(ctx context.Context) (stop func(), err error) {
	if b.model, err = b.cfg.load(); err != nil {
		return nil, err
	}
	pictures, err := gallery.Open(filepath.Join(b.dir, "pictures"))
	if err != nil {
		return nil, err
	}
	client, closeQueue, err := queue.Embedded()
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	slog.SetDefault(quiet)
	q := queue.New(client, b.cfg.Queue)
	s := &service{cfg: b.cfg, models: modelSet{{Folder: b.model.Folder}}, log: quiet, metrics: metrics.New(programVersion())}
	server, err := s.server(q, pictures)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(ctx)
	var parts errgroup.Group
	parts.Go(func() error { return server.Serve(ctx, listener) })
	worker := b.cfg.Worker
	worker.Models, worker.Room = []string{b.model.Info.Name}, b.model.Room
	parts.Go(func() error { return queue.NewWorker(q, b.model.Runner(pictures, nil), worker).Run(ctx) })
	return func() { cancel(); parts.Wait(); closeQueue(); b.model.Close() }, nil
}

// single compares one picture by the pipeline alone with one over HTTP, in
// turns; each has its own prompt, so that no embedding comes from the cache.
func (b *bencher) single(ctx context.Context) error {
	var bare, served, overhead, encode, decode, step []float64
	for i := range b.repeats + 1 { // the first warms up
		seed := uint64(i)
		req, err := b.model.Resolve(leafserve.Request{Prompt: fmt.Sprint(benchPrompt, " a", i), Seed: &seed})
		if err != nil {
			return err
		}
		start := time.Now()
		outs, err := b.model.Generate(ctx, []leafserve.Request{req}, pipeline.Options{})
		if err != nil {
			return err
		}
		alone := ms(time.Since(start))
		start = time.Now()
		if err := b.post(ctx, fmt.Sprint(benchPrompt, " b", i), i); err != nil {
			return err
		}
		if i == 0 {
			b.result.Steps = *req.Steps
			continue
		}
		total := ms(time.Since(start))
		t := outs[0].Timings
		bare, served, overhead = append(bare, alone), append(served, total), append(overhead, total-alone)
		encode, decode, step = append(encode, t.EncodeMS), append(decode, t.DecodeMS), append(step, t.DenoiseMS/float64(*req.Steps))
		b.tick()
	}
	r := &b.result
	r.BareMS, r.RequestMS, r.OverheadMS = median(bare), median(served), median(overhead)
	r.EncodeMS, r.DecodeMS, r.StepMS = median(encode), median(decode), median(step)
	return nil
}

// post makes one picture over HTTP and reads it.
func (b *bencher) post(ctx context.Context, prompt string, seed int) error {
	body := fmt.Sprintf(`{"prompt":%q,"seed":%d}`, prompt, seed)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/generate", bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "image/png")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST /generate: %s: %s", resp.Status, data)
	}
	return nil
}

// throughput counts pictures a second with several callers at once.
func (b *bencher) throughput(ctx context.Context) error {
	b.result.PerSecond = map[string]float64{}
	for _, n := range clients {
		each := max(1, b.repeats/n)
		start := time.Now()
		callers, ctx := errgroup.WithContext(ctx)
		for c := range n {
			callers.Go(func() error {
				for i := range each {
					if err := b.post(ctx, benchPrompt, c*each+i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := callers.Wait(); err != nil {
			return err
		}
		b.result.PerSecond[fmt.Sprint(n)] = float64(n*each) / time.Since(start).Seconds()
		b.tick()
	}
	b.result.Model, b.result.Repeats = b.model.Info.Name, b.repeats
	b.result.Provider, b.result.Threads = b.model.Runtime.Provider, b.model.Runtime.Threads
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// peakMB is the largest resident size that this process had.
func peakMB() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	unit := 1 << 10 // Linux counts kilobytes, macOS bytes
	if runtime.GOOS == "darwin" {
		unit = 1
	}
	return float64(usage.Maxrss) * float64(unit) / (1 << 20)
}

func printBench(cmd *cobra.Command, cfg *Config, r benchResult) error {
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	w := newTable(cmd.OutOrStdout())
	fmt.Fprintf(w, "%s on %s, %d threads, %d steps; medians of %d\n", r.Model, r.Provider, r.Threads, r.Steps, r.Repeats)
	fmt.Fprintf(w, "cold start to first picture\t%.0f ms\n", r.ColdStartMS)
	fmt.Fprintf(w, "one denoising step\t%.2f ms\n", r.StepMS)
	fmt.Fprintf(w, "encode two prompts\t%.2f ms\n", r.EncodeMS)
	fmt.Fprintf(w, "decode one picture\t%.2f ms\n", r.DecodeMS)
	fmt.Fprintf(w, "one picture, pipeline alone\t%.1f ms\n", r.BareMS)
	fmt.Fprintf(w, "one picture, HTTP + queue + file\t%.1f ms\n", r.RequestMS)
	fmt.Fprintf(w, "overhead of the service\t%.2f ms\n", r.OverheadMS)
	for _, n := range clients {
		fmt.Fprintf(w, "pictures a second, %d at once\t%.2f\n", n, r.PerSecond[fmt.Sprint(n)])
	}
	fmt.Fprintf(w, "peak memory of this process\t%.0f MB\n", r.PeakMB)
	return w.Flush()
}
