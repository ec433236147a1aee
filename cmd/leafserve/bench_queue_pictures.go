package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/gallery"
	"leafserve/queue"
)

// pictureFigures is what batches gain with the model; medians of the rounds.
type pictureFigures struct {
	Model    string       `json:"model"`
	Provider string       `json:"provider"`
	Threads  int          `json:"threads"`
	Rounds   int          `json:"rounds"`
	Clients  int          `json:"clients"` // each asks for its next picture when it has the last
	Ways     []wayFigures `json:"ways"`
	Gain     float64      `json:"gain"`      // pictures a second of automatic batches over those of none
	OfBest   float64      `json:"of_best"`   // the same over those of the best fixed size
	CancelMS float64      `json:"cancel_ms"` // from the call of Cancel of a running job to the start of the next
}

// wayFigures is one way to make batches.
type wayFigures struct {
	Batch      int     `json:"batch"` // pictures at most, 0 for automatic, 1 for none
	PerSecond  float64 `json:"per_second"`
	MeanBatch  float64 `json:"mean_batch"`  // pictures that were run together
	ModelShare float64 `json:"model_share"` // of the time that passed: text encoder, UNet and VAE
	AloneMS    float64 `json:"alone_ms"`    // a picture with one client
}

// ways are the sizes that are compared: automatic first, then none.
var ways = []int{0, 1, 2, 4, 8, 16}

const (
	benchClients = 8
	learning     = 10 // times longer that automatic batches warm up: a worker that has run for a while knows its sizes
)

// pictureBench makes pictures by each way in turns.
type pictureBench struct {
	*queueBench
	q    *queue.Queue
	run  leafserve.Runner
	made atomic.Uint64 // pictures so far: each has its own prompt and seed
	ways []*way
}

// way is a way under measurement, and what each round gave.
type way struct {
	figures                    wayFigures
	worker                     *queue.Worker // the same in all rounds, so that it keeps what it has learned
	meter                      *meter
	rates, sizes, share, alone []float64
}

func (b *queueBench) measurePictures(ctx context.Context) (out pictureFigures, err error) {
	dir, err := os.MkdirTemp("", "leafserve-bench-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	pictures, err := gallery.Open(dir)
	if err != nil {
		return out, err
	}
	p := &pictureBench{queueBench: b, q: b.queue("-pictures"), run: b.model.Runner(pictures, nil)}
	for _, size := range ways {
		p.ways = append(p.ways, p.way(size))
	}
	for round := range b.rounds + 1 { // the first warms up
		for _, w := range p.ways {
			if err := p.round(ctx, w, round > 0); err != nil {
				return out, err
			}
			b.tick()
		}
	}
	out = p.figures()
	out.CancelMS, err = p.cancel(ctx)
	b.tick()
	return out, err
}

func (p *pictureBench) way(size int) *way {
	w := &way{figures: wayFigures{Batch: size}, meter: &meter{run: p.run}}
	cfg := p.config()
	cfg.Batch, cfg.Room = size, p.model.Room
	w.worker = queue.NewWorker(p.q, w.meter.measured, cfg)
	return w
}

// round makes pictures by one way, with many clients and with one.
func (p *pictureBench) round(ctx context.Context, w *way, counts bool) error {
	stop := work(ctx, w.worker)
	defer stop()
	d := time.Duration(p.seconds * float64(time.Second))
	if !counts && w.figures.Batch == 0 {
		d *= learning
	}
	w.meter.start(d)
	if _, err := p.load(ctx, w.meter, benchClients); err != nil {
		return err
	}
	rate, size, share := w.meter.figures()
	w.meter.start(time.Duration(p.seconds * float64(time.Second) / 2))
	alone, err := p.load(ctx, w.meter, 1)
	if counts {
		w.rates, w.sizes, w.share, w.alone = append(w.rates, rate), append(w.sizes, size), append(w.share, share), append(w.alone, alone...)
	}
	return err
}

// load has clients ask, each for its next picture when it has the last, until
// the meter has enough, and gives the milliseconds of each picture.
func (p *pictureBench) load(ctx context.Context, m *meter, n int) (took []float64, err error) {
	var mu sync.Mutex
	clients, ctx := errgroup.WithContext(ctx)
	for range n {
		clients.Go(func() error {
			for !m.enough() {
				start := time.Now()
				job, err := p.ask(ctx)
				if err != nil {
					return err
				}
				if err := follow(ctx, p.q, job.ID); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, ms(time.Since(start)))
				mu.Unlock()
			}
			return nil
		})
	}
	err = clients.Wait()
	return took, err
}

// ask enqueues a picture that none is like.
func (p *pictureBench) ask(ctx context.Context) (leafserve.Job, error) {
	n := p.made.Add(1)
	req, err := p.model.Resolve(leafserve.Request{Prompt: fmt.Sprint(benchPrompt, ", number ", n), Seed: &n})
	if err != nil {
		return leafserve.Job{}, err
	}
	return jobs{p.q}.Enqueue(ctx, req, leafserve.Submission{Kind: "generate"})
}

func (p *pictureBench) figures() pictureFigures {
	out := pictureFigures{
		Model: p.model.Info.Name, Provider: p.model.Runtime.Provider, Threads: p.model.Runtime.Threads, Rounds: p.rounds, Clients: benchClients,
	}
	best := p.ways[1]
	for _, w := range p.ways {
		f := &w.figures
		f.PerSecond, f.MeanBatch, f.ModelShare, f.AloneMS = middle(w.rates), middle(w.sizes), middle(w.share), middle(w.alone)
		out.Ways = append(out.Ways, *f)
		if f.Batch > 0 && f.PerSecond > best.figures.PerSecond {
			best = w
		}
	}
	out.Gain, out.OfBest = over(p.ways[0], p.ways[1]), over(p.ways[0], best)
	return out
}

// over is the median of the rounds' ratios, as both had the same machine in a
// round.
func over(w, than *way) float64 {
	var ratios []float64
	for i := range w.rates {
		ratios = append(ratios, w.rates[i]/than.rates[i])
	}
	return median(ratios)
}

// middle is the median of values, which stay in their order.
func middle(values []float64) float64 { return median(slices.Clone(values)) }

// cancels is how many running jobs are canceled.
const cancels = 9

// cancel measures how long after a cancel the worker starts the next job.
func (p *pictureBench) cancel(ctx context.Context) (float64, error) {
	started := make(chan time.Time, 2)
	cfg := p.config()
	cfg.Batch = 1
	stop := work(ctx, queue.NewWorker(p.q, func(tasks []leafserve.Task) []leafserve.Outcome {
		started <- time.Now()
		return p.run(tasks)
	}, cfg))
	defer stop()
	var took []float64
	for range cancels {
		d, err := p.cancelOne(ctx, started)
		if err != nil {
			return 0, err
		}
		took = append(took, ms(d))
	}
	return median(took), nil
}

// cancelOne cancels a job at about a third of its run while another waits, then
// that one.
func (p *pictureBench) cancelOne(ctx context.Context, started <-chan time.Time) (time.Duration, error) {
	first, err := p.ask(ctx)
	if err != nil {
		return 0, err
	}
	second, err := p.ask(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := receive(ctx, started); err != nil {
		return 0, err
	}
	time.Sleep(time.Duration(p.ways[1].figures.AloneMS / 3 * float64(time.Millisecond)))
	start := time.Now()
	if _, err := p.q.Cancel(ctx, first.ID); err != nil {
		return 0, err
	}
	free, err := receive(ctx, started)
	if err != nil {
		return 0, err
	}
	if _, err := p.q.Cancel(ctx, second.ID); err != nil {
		return 0, err
	}
	_, err = ended(ctx, p.q, second.ID)
	return free.Sub(start), err
}

// meter stands before a runner and notes its runs.
type meter struct {
	run leafserve.Runner

	mu    sync.Mutex
	until time.Time
	full  bool
	runs  []stretch
}

// stretch is one run.
type stretch struct {
	end      time.Time
	pictures int
	model    float64 // milliseconds in text encoder, UNet and VAE
}

// fewRuns are what a measurement has at least; it begins with the first one's end.
const fewRuns = 3

// start begins a measurement of at least d.
func (m *meter) start(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until, m.full, m.runs = time.Now().Add(d), false, nil
}

// enough says that clients may stop.
func (m *meter) enough() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full
}

// measured is the runner. The run that finds that there is enough does not count,
// nor do those after it: fewer and fewer clients are left.
func (m *meter) measured(tasks []leafserve.Task) []leafserve.Outcome {
	start := time.Now()
	m.mu.Lock()
	m.full = m.full || len(m.runs) >= fewRuns && start.After(m.until)
	full := m.full
	m.mu.Unlock()
	out := m.run(tasks)
	if !full {
		t := out[0].Result.Timings // of the whole batch
		m.mu.Lock()
		defer m.mu.Unlock()
		m.runs = append(m.runs, stretch{time.Now(), len(tasks), t.EncodeMS + t.DenoiseMS + t.DecodeMS})
	}
	return out
}

// figures are pictures a second, pictures a run, and the model's share of time.
func (m *meter) figures() (rate, size, share float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, rest := m.runs[0], m.runs[1:]
	pictures, model := 0, 0.0
	for _, r := range rest {
		pictures += r.pictures
		model += r.model
	}
	passed := rest[len(rest)-1].end.Sub(first.end)
	return perSecond(pictures, passed), float64(pictures) / float64(len(rest)), model / ms(passed)
}
