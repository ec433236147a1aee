package queue

import (
	"fmt"
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// sizer finds out by trial how many jobs it pays to run together. For each kind
// of job it has a best size, at first one, and compares sizes from a quarter to
// four times of it, all powers of two, with it: each run of another size with the
// runs of the best size before and after it, as the machine may be busier a moment
// later. The other is the best from then on if the gain is worthwhile beyond doubt; if not, it
// is tried again later. On a processor where a batch is no faster than its parts,
// the size stays at one, as small batches win ties: their jobs are done sooner.
type sizer struct {
	curves *lru.Cache[string, *curve]
}

const (
	worthwhile = 0.97 // of the seconds a picture: what a larger batch must save
	tolerable  = 1.01 // what a smaller batch may cost
	reach      = 4    // how far from the best size others are tried
	kindsKept  = 256

	steady      = 0.3  // how far the runs before and after may be apart, as a logarithm
	fewPairs    = 4    // what a better size must be seen in
	manyPairs   = 16   // when doubt ends
	leastSpread = 0.05 // of the logarithm of a pair's ratio: fewer pairs cannot tell
	maxPatience = 256  // runs of the best size between two trials of another that loses nothing
	mayLose     = 0.01 // of the time, by trials of a size that is worse
)

// curve is what is known of one kind of job; sizes count jobs.
type curve struct {
	best   int
	base   float64 // seconds a picture of the last run of best, 0 for none
	tried  int     // size of the run after that, 0 for none
	each   float64 // seconds a picture of it
	rivals map[int]*rival
}

// rival is a size that may be better than the best. It holds the logarithms of
// its seconds a picture over those of the best.
type rival struct {
	patience       int     // runs of the best size to the next trial
	wait           int     // patience after a trial that found nothing
	n, mean, total float64 // pairs, their mean, the sum of squared deviations
}

func newSizer() *sizer {
	curves, _ := lru.New[string, *curve](kindsKept) // fails for a size below 1 only
	return &sizer{curves}
}

// of is the number of pictures that a batch should have when so many jobs like
// c are there and room pictures fit.
func (s *sizer) of(c *claim, jobs, room int) int {
	k := s.curve(c)
	fit := max(1, room/c.pictures)
	size := min(k.best, fit)
	if k.base > 0 && k.tried == 0 {
		for try := max(1, k.best/reach); try <= min(jobs, fit, reach*k.best); try *= 2 {
			if try != k.best && k.rival(try).patience == 0 {
				size = try
			}
		}
	}
	return size * c.pictures
}

// learn takes the seconds that a batch around c of so many pictures took.
func (s *sizer) learn(c *claim, pictures int, took time.Duration) {
	k, size := s.curve(c), pictures/c.pictures
	if c.batch == "" || pictures%c.pictures != 0 {
		return
	}
	each := took.Seconds() / float64(pictures)
	if size != k.best {
		if k.base > 0 && k.rivals[size] != nil {
			k.tried, k.each = size, each
		}
		return
	}
	for _, r := range k.rivals {
		r.patience = max(0, r.patience-1)
	}
	before, size := k.base, k.tried
	k.base, k.tried = each, 0
	if r := k.rivals[size]; r != nil && math.Abs(math.Log(each/before)) < steady {
		r.note(math.Log(k.each / math.Sqrt(before*each)))
		k.judge(size, r)
	}
}

// judge ends a rival's trial once there is no doubt: one that is no better is
// seen through soon, as its runs cost.
func (k *curve) judge(size int, r *rival) {
	bound := math.Log(worthwhile)
	if size < k.best {
		bound = math.Log(tolerable)
	}
	gain, doubt := bound-r.mean, r.doubt()
	switch {
	case gain > 0 && (r.n >= manyPairs || r.n >= fewPairs && gain > doubt):
		delete(k.rivals, size)
		k.best, k.base = size, 0
		for _, other := range k.rivals {
			other.clear()
		}
	case gain <= 0 && (r.n >= manyPairs || -gain > doubt):
		lost := r.n * float64(size) / float64(k.best) * (math.Exp(r.mean) - 1) // in runs of the best size
		r.wait = min(4*r.wait, maxPatience)
		r.patience = max(r.wait, int(lost/mayLose))
		r.clear()
	}
}

// note adds a pair (Welford 1962).
func (r *rival) note(ratio float64) {
	r.n++
	off := ratio - r.mean
	r.mean += off / r.n
	r.total += off * (ratio - r.mean)
}

// doubt is twice the standard error of the mean.
func (r *rival) doubt() float64 {
	spread := leastSpread
	if r.n > 1 {
		spread = max(spread, math.Sqrt(r.total/(r.n-1)))
	}
	return 2 * spread / math.Sqrt(r.n)
}

func (r *rival) clear() { r.n, r.mean, r.total = 0, 0, 0 }

// rival finds what is known of a size; a larger one waits longer between trials,
// as they take more jobs.
func (k *curve) rival(size int) *rival {
	r := k.rivals[size]
	if r == nil {
		r = &rival{wait: size}
		k.rivals[size] = r
	}
	return r
}

func (s *sizer) curve(c *claim) *curve {
	key := fmt.Sprint(c.batch, c.pictures)
	k, ok := s.curves.Get(key)
	if !ok {
		k = &curve{best: 1, rivals: map[int]*rival{}}
		s.curves.Add(key, k)
	}
	return k
}
