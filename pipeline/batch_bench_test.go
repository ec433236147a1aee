package pipeline

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// discard keeps no file.
type discard struct{}

func (discard) Put(context.Context, string, []byte) error { return nil }

// BenchmarkBatch measures a default picture of the built-in model, as a job of a
// runner, in batches of several sizes. An iteration makes 16 pictures at every
// size in turn, so that a busy machine is busy for all of them; the medians are
// reported: milliseconds a picture, on the wall and of the processor.
func BenchmarkBatch(b *testing.B) {
	m := load(b, leaftest.DefaultModel())
	run := m.Runner(discard{}, nil)
	sizes := []int{1, 2, 4, 8, 16}
	wall, busy := map[int][]float64{}, map[int][]float64{}
	made := uint64(0)
	for b.Loop() {
		for _, size := range sizes {
			start, before := time.Now(), processorTime(b)
			for range 16 / size {
				tasks := make([]leafserve.Task, size)
				for i := range tasks {
					made++
					r, err := m.Resolve(leafserve.Request{Prompt: fmt.Sprintf("a red apple, number %d", made), Seed: ptr(made)})
					if err != nil {
						b.Fatal(err)
					}
					tasks[i] = leafserve.Task{Job: leafserve.Job{ID: fmt.Sprint(made), Kind: "generate", Request: r}, Ctx: b.Context(), Report: func(any) {}}
				}
				for _, o := range run(tasks) {
					if o.Err != nil {
						b.Fatal(o.Err)
					}
				}
			}
			wall[size] = append(wall[size], ms(time.Since(start))/16)
			busy[size] = append(busy[size], ms(processorTime(b)-before)/16)
		}
	}
	for _, size := range sizes {
		b.ReportMetric(median(wall[size]), fmt.Sprintf("ms/%d", size))
		b.ReportMetric(median(busy[size]), fmt.Sprintf("cpu-ms/%d", size))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime is what this process has computed so far, on all cores.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
