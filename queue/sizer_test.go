package queue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSizer runs closed loops of many clients on machines with known curves: it
// must come close to the best size, whatever the noise, and stay at one where a
// batch gains nothing.
func TestSizer(t *testing.T) {
	for _, tc := range []struct {
		name string
		each func(size int) float64 // seconds a picture
		best int                    // of powers of two up to the room
	}{
		{"a batch gains nothing", func(int) float64 { return 1 }, 1},
		{"a batch costs", func(n int) float64 { return 1 + 0.1*float64(n) }, 1},
		{"a fixed cost a run", func(n int) float64 { return 0.2 + 0.8/float64(n) }, 16},
		{"a bend at four", func(n int) float64 { return max(1/float64(n), 0.25+0.05*float64(n-4)) }, 4},
	} {
		for _, noise := range []float64{0, 0.02, 0.1} {
			t.Run(fmt.Sprintf("%s, noise %v", tc.name, noise), func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				s, c := newSizer(), &claim{batch: "k", pictures: 1}
				took, pictures := 0.0, 0
				for range 600 {
					n := s.of(c, 16, 16)
					run := tc.each(n) * float64(n)
					s.learn(c, n, time.Duration(run*(1+noise*random.NormFloat64())*float64(time.Second)))
					took, pictures = took+run, pictures+n
				}
				if got, best := took/float64(pictures), tc.each(tc.best); got > 1.05*best {
					t.Errorf("%.3f s a picture, want within 5 %% of %.3f, as with batches of %d", got, best, tc.best)
				}
			})
		}
	}
}

// TestSizerBusyMachine: small gains are found, and none is imagined, on a machine
// that does other work now and then, whatever the number of jobs that wait.
func TestSizerBusyMachine(t *testing.T) {
	for _, tc := range []struct {
		name    string
		each    func(size int) float64 // seconds a picture
		few     bool                   // jobs are not always there
		largest float64                // mean batch, 0 for any
	}{
		{name: "a batch gains nothing", each: func(int) float64 { return 1 }, largest: 2.5},
		{name: "a batch costs", each: func(n int) float64 { return 1 + 0.04*math.Log2(float64(n)) }, largest: 2},
		{name: "a little with each doubling", each: func(n int) float64 { return 1 - 0.04*math.Log2(float64(n)) }},
		{name: "from four on", each: func(n int) float64 { return 1 - 0.12*float64(min(n/4, 1)) }},
		{name: "from four on, few jobs", each: func(n int) float64 { return 1 - 0.12*float64(min(n/4, 1)) }, few: true},
		{name: "a fixed cost a run, few jobs", each: func(n int) float64 { return 0.5 + 0.5/float64(n) }, few: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(5) {
				random := rand.New(rand.NewPCG(seed, 0))
				s, c := newSizer(), &claim{batch: "k", pictures: 1}
				took, least, pictures, busy := 0.0, 0.0, 0, 1.0
				for run := range 500 {
					if random.IntN(30) == 0 {
						busy = 1 + 2*random.Float64()
					}
					jobs := 8
					if tc.few {
						jobs = 1 + random.IntN(10)
					}
					n := min(s.of(c, jobs, 8), jobs)
					noise := math.Exp(0.05 * random.NormFloat64())
					s.learn(c, n, time.Duration(tc.each(n)*float64(n)*busy*noise*float64(time.Second)))
					if run < 100 {
						continue // it learns
					}
					best := tc.each(1)
					for size := range min(jobs, 8) {
						best = min(best, tc.each(size+1))
					}
					took, least, pictures = took+busy*tc.each(n)*float64(n), least+busy*best*float64(n), pictures+n
				}
				if took > 1.05*least {
					t.Errorf("seed %d: %.1f %% slower than the best size, want 5 at most", seed, 100*(took/least-1))
				}
				if mean := float64(pictures) / 400; tc.largest > 0 && mean > tc.largest {
					t.Errorf("seed %d: batches of %.1f jobs, want %v at most, as larger ones only wait longer", seed, mean, tc.largest)
				}
			}
		})
	}
}

// TestSizerBounds: neither the room nor the number of jobs is overstepped, and
// sizes count whole jobs.
func TestSizerBounds(t *testing.T) {
	s, c := newSizer(), &claim{batch: "k", pictures: 3}
	for range 100 {
		n := s.of(c, 5, 10)
		if n%3 != 0 || n < 3 || n > 9 {
			t.Fatalf("a batch of %d pictures, want 3 or 6 of room for 10", n)
		}
		s.learn(c, n, time.Second)
	}
	if n := s.of(&claim{batch: "k", pictures: 16}, 5, 10); n != 16 {
		t.Errorf("a job larger than the room gets %d pictures, want its own 16", n)
	}
}
