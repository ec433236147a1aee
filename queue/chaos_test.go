package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"leafserve"
)

// The chaos tests break things on purpose and on a real redis-server: workers
// are processes of their own (this test binary, started again), which draw a
// picture that can be foretold and are killed, stopped, misled and starved. With
// LEAFSERVE_CHAOS=long they run in the sizes that `make chaos` asks for.
var chaosLong = os.Getenv("LEAFSERVE_CHAOS") == "long"

// workerVariable holds the workerSpec of a worker process.
const workerVariable = "LEAFSERVE_TEST_WORKER"

// workerSpec is what a worker process is to be.
type workerSpec struct {
	Redis string // URL
	Queue Config
	Name  string
	Shelf string        // folder for the pictures
	Mean  time.Duration // of a job; each takes from nothing to twice that
	Batch int           // jobs of a batch, 0 for one
	Clock time.Duration // how far its clock is behind that of Redis
	Deaf  bool          // its runner goes on when its context ends
}

// becomeWorker turns a process that a workforce has started into its worker, and
// does not return then.
func becomeWorker() {
	raw := os.Getenv(workerVariable)
	if raw == "" {
		return
	}
	var s workerSpec
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		panic(err)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := s.work(); err != nil {
		slog.Error("the worker did not start", "err", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work runs the worker. A byte on standard input opens the gate for jobs that
// wait at it; the end of standard input, as when the test has died, ends all.
func (s workerSpec) work() error {
	client, err := Connect(context.Background(), s.Redis)
	if err != nil {
		return err
	}
	client.AddHook(skew(s.Clock))
	r := &drawer{workerSpec: s, gate: make(chan struct{})}
	go func() {
		in := bufio.NewReader(os.Stdin)
		if _, err := in.ReadByte(); err == nil {
			close(r.gate)
			io.Copy(io.Discard, in)
		}
		os.Exit(0)
	}()
	cfg := WorkerConfig{Name: s.Name, Batch: s.Batch, Room: func(leafserve.Job) int { return max(1, s.Batch) }}
	return NewWorker(New(client, s.Queue), r.run, cfg).Run(context.Background())
}

// drawer is the runner of a worker process. It says on standard output which
// jobs it starts, a batch a line. The first word of a prompt may ask for more than a picture:
//
//	poison   crashes the process
//	gated    waits until the gate is opened
//	flaky    fails every other time, as when a part that we need is away
type drawer struct {
	workerSpec
	gate chan struct{}
}

// run draws the jobs of a batch side by side.
func (d *drawer) run(tasks []leafserve.Task) []leafserve.Outcome {
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.Job.ID
	}
	fmt.Println(strings.Join(ids, " "))
	out := make([]leafserve.Outcome, len(tasks))
	var together sync.WaitGroup
	for i, t := range tasks {
		together.Go(func() { out[i].Result, out[i].Err = d.draw(t) })
	}
	together.Wait()
	return out
}

func (d *drawer) draw(t leafserve.Task) (leafserve.Result, error) {
	ctx := t.Ctx
	if d.Deaf {
		ctx = context.WithoutCancel(ctx)
	}
	t.Report(leafserve.StepEvent{Step: 1, Steps: 20})
	idle(ctx, nil, rand.N(2*d.Mean+1))
	switch asked, _, _ := strings.Cut(t.Job.Request.Prompt, " "); asked {
	case "poison":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "gated":
		select {
		case <-d.gate:
		case <-ctx.Done():
		}
	case "flaky":
		if rand.N(2) == 0 {
			return leafserve.Result{}, leafserve.Errorf(leafserve.Unavailable, "a part is away")
		}
	}
	if err := ctx.Err(); err != nil {
		return leafserve.Result{}, err
	}
	return shelve(t.Job, d.Name, folder(d.Shelf).put)
}

// drawing is the picture that a job's prompt and seed give, and no others.
func drawing(job leafserve.Job) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %d", job.Kind, job.Request.Prompt, *job.Request.Seed))
	return bytes.Repeat(sum[:], 32)
}

// shelve stores a job's picture under the name of the job, as the pipeline does.
// The encoder of the conditioning tells who drew it.
func shelve(job leafserve.Job, by string, put func(name string, data []byte) error) (leafserve.Result, error) {
	data, name := drawing(job), strings.ToLower(job.ID)+"-0.png"
	if err := put(name, data); err != nil {
		return leafserve.Result{}, err
	}
	sum := sha256.Sum256(data)
	return leafserve.Result{
		Images:       []leafserve.Image{{URL: "/images/" + name, Seed: *job.Request.Seed, SHA256: hex.EncodeToString(sum[:])}},
		Conditioning: &leafserve.Conditioning{Encoder: by},
	}, nil
}

// folder is where pictures are kept; readers see all of a file or nothing.
type folder string

func (f folder) put(name string, data []byte) error {
	temp, err := os.CreateTemp(string(f), ".put-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	return errors.Join(err, temp.Close(), os.Rename(temp.Name(), filepath.Join(string(f), name)))
}
