package main

import (
	"math"
	"testing"
	"time"

	"leafserve"
)

// TestMeter: a measurement has a few runs even when its time is over at once,
// and none that came after clients were told to stop.
func TestMeter(t *testing.T) {
	ran := 0
	m := &meter{run: func(tasks []leafserve.Task) []leafserve.Outcome {
		ran++
		return make([]leafserve.Outcome, len(tasks))
	}}
	m.start(-time.Second)
	for i := range fewRuns + 2 {
		if got, want := m.enough(), i > fewRuns; got != want {
			t.Errorf("enough before run %d = %v, want %v", i, got, want)
		}
		m.measured(make([]leafserve.Task, i+1))
	}
	if ran != fewRuns+2 || len(m.runs) != fewRuns {
		t.Errorf("%d runs, %d of them counted, want %d and %d", ran, len(m.runs), fewRuns+2, fewRuns)
	}
	m.start(time.Hour)
	for range 2 * fewRuns {
		m.measured(make([]leafserve.Task, 1))
	}
	if m.enough() || len(m.runs) != 2*fewRuns {
		t.Errorf("enough after %d runs of an hour's measurement, %d counted", 2*fewRuns, len(m.runs))
	}
}

// TestMeterFigures: the first run only says when the time begins.
func TestMeterFigures(t *testing.T) {
	start := time.Now()
	m := &meter{runs: []stretch{
		{start, 100, 1e6},
		{start.Add(time.Second), 4, 980},
		{start.Add(4 * time.Second), 8, 2980},
	}}
	rate, size, share := m.figures()
	if rate != 3 || size != 6 || math.Abs(share-0.99) > 1e-9 {
		t.Errorf("figures = %v pictures/s, %v a run, share %v, want 3, 6, 0.99", rate, size, share)
	}
}

// TestOver compares within rounds: a machine that becomes slower takes nothing
// from it.
func TestOver(t *testing.T) {
	a, b := &way{rates: []float64{10, 5, 1}}, &way{rates: []float64{8, 4, 0.8}}
	if got := over(a, b); math.Abs(got-1.25) > 1e-9 {
		t.Errorf("over = %v, want 1.25", got)
	}
	if a.rates[0] != 10 || b.rates[2] != 0.8 {
		t.Error("over has reordered the rounds")
	}
}
