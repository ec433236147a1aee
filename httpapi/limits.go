package httpapi

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"leafserve"
)

// Limits bound the routes that compute while the client waits, beside the
// queue: /encode, /attack, /invert and /search by text. Work is counted in texts
// read by a text encoder. Zero values stand for those of DefaultLimits.
type Limits struct {
	AtOnce    int // requests that compute at the same time; others are Busy
	PerMinute int // texts a client may have read a minute, and at once
}

// DefaultLimits allows a client about one attack of the largest size a minute.
func DefaultLimits() Limits { return Limits{AtOnce: 4, PerMinute: 20000} }

// clientsKept is how many clients' allowances are remembered before those that
// are full again are forgotten.
const clientsKept = 10000

// allowance hands out the work that Limits allow.
type allowance struct {
	limits Limits
	slots  chan struct{}

	mu      sync.Mutex
	clients map[string]*rate.Limiter // by address
}

func newAllowance(l Limits) *allowance {
	d := DefaultLimits()
	l = Limits{cmp.Or(l.AtOnce, d.AtOnce), cmp.Or(l.PerMinute, d.PerMinute)}
	return &allowance{limits: l, slots: make(chan struct{}, l.AtOnce), clients: map[string]*rate.Limiter{}}
}

// take reserves a slot and the reading of texts for the client; release gives
// the slot back. The error is Invalid for more than a client can ever have and
// Busy, with the time to wait, for more than it has now.
func (a *allowance) take(c echo.Context, texts int) (release func(), err error) {
	if texts > a.limits.PerMinute {
		return nil, leafserve.Errorf(leafserve.Invalid, "this would have the encoder read %d texts, a request may ask for %d: ask for less", texts, a.limits.PerMinute)
	}
	select {
	case a.slots <- struct{}{}:
	default:
		return nil, &leafserve.Error{Kind: leafserve.Busy, RetryAfter: time.Second,
			Err: fmt.Errorf("%d such requests are being computed, which is as many as this server runs at once: try again in a moment", a.limits.AtOnce)}
	}
	now := time.Now()
	r := a.client(c.RealIP()).ReserveN(now, texts)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		<-a.slots
		return nil, &leafserve.Error{Kind: leafserve.Busy, RetryAfter: wait,
			Err: fmt.Errorf("your share of %d texts a minute is used up: try again in %v", a.limits.PerMinute, wait.Round(time.Second))}
	}
	return func() { <-a.slots }, nil
}

// client finds the limiter of an address.
func (a *allowance) client(address string) *rate.Limiter {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.clients[address]; l != nil {
		return l
	}
	if len(a.clients) >= clientsKept {
		a.forget()
	}
	l := rate.NewLimiter(rate.Limit(float64(a.limits.PerMinute)/60), a.limits.PerMinute)
	a.clients[address] = l
	return l
}

// forget drops clients that have their whole share again.
func (a *allowance) forget() {
	for address, l := range a.clients {
		if l.Tokens() >= float64(a.limits.PerMinute) {
			delete(a.clients, address)
		}
	}
}
