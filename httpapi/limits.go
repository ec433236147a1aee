package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
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

// clientsKept is how many clients are remembered, those seen last.
const clientsKept = 10000

// allowance hands out the work that Limits allow.
type allowance struct {
	limits  Limits
	mu      sync.Mutex
	running int                         // requests that compute
	clients *lru.Cache[string, *client] // by payer
}

// client is what the holder of a key, or without one a network, has taken.
type client struct {
	share    *rate.Limiter
	running  int
	mistakes *rate.Limiter // wrong keys, of a network
}

func newAllowance(l Limits) (*allowance, error) {
	d := DefaultLimits()
	l = Limits{cmp.Or(l.AtOnce, d.AtOnce), cmp.Or(l.PerMinute, d.PerMinute)}
	clients, err := lru.New[string, *client](clientsKept)
	return &allowance{limits: l, clients: clients}, err
}

// take reserves a slot and the reading of texts for the client; release gives
// the slot back. One client may have half of the slots. The error is Invalid for
// more than a client can ever have and Busy, with the time to wait, for more
// than it has now.
func (a *allowance) take(c echo.Context, texts int) (release func(), err error) {
	if texts > a.limits.PerMinute {
		return nil, leafserve.Errorf(leafserve.Invalid, "this would have the encoder read %d texts, a request may ask for %d: ask for less", texts, a.limits.PerMinute)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	who := a.client(payer(c))
	if a.running >= a.limits.AtOnce || who.running >= (a.limits.AtOnce+1)/2 {
		return nil, &leafserve.Error{Kind: leafserve.Busy, RetryAfter: time.Second,
			Err: fmt.Errorf("%d such requests are being computed, as many as this server runs at once, or for one client: try again in a moment", a.running)}
	}
	if _, err := a.spend(who, texts); err != nil {
		return nil, err
	}
	a.running++
	who.running++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
		who.running--
	}, nil
}

// charge takes the reading of texts, which a job will do later, from the
// client's share; what is more than a whole share costs a whole share. refund
// gives it back when there is to be no job.
func (a *allowance) charge(c echo.Context, texts int) (refund func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spend(a.client(payer(c)), min(texts, a.limits.PerMinute))
}

// spend takes texts from a client's share.
func (a *allowance) spend(who *client, texts int) (refund func(), err error) {
	now := time.Now()
	missing := float64(texts) - who.share.TokensAt(now)
	if missing <= 0 {
		r := who.share.ReserveN(now, texts)
		return func() { r.CancelAt(now) }, nil // as of a later time it would give nothing back
	}
	wait := time.Duration(missing / float64(who.share.Limit()) * float64(time.Second))
	return nil, &leafserve.Error{Kind: leafserve.Busy, RetryAfter: wait,
		Err: fmt.Errorf("your share of %d texts a minute is used up: try again in %v", a.limits.PerMinute, wait.Round(time.Second))}
}

// mistakesPerMinute is how many wrong keys a network may send a minute, and at
// once. No rate finds a key; this keeps a program with an old one from being a load.
const mistakesPerMinute = 30

// mistake counts a wrong key from an address. The error is Busy when there are
// too many. Right keys from there are still taken: a proxy sends many clients'.
func (a *allowance) mistake(address string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client(network(address)).mistakes.Allow() {
		return nil
	}
	return &leafserve.Error{Kind: leafserve.Busy, RetryAfter: time.Minute / mistakesPerMinute,
		Err: errors.New("too many wrong API keys came from your address: correct the key, and try again in a moment")}
}

// payer names who is charged for a request: the holder of its key, or without
// one its network.
func payer(c echo.Context) string {
	if name := clientOf(c).Name; name != "" {
		return "key " + name
	}
	return network(c.RealIP())
}

// network names an address's network. Those of an IPv6 network (/64) count as
// one, since a single host has all of them.
func network(address string) string {
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address
}

// client finds what a payer has taken.
func (a *allowance) client(payer string) *client {
	if known, ok := a.clients.Get(payer); ok {
		return known
	}
	who := &client{share: perMinute(a.limits.PerMinute), mistakes: perMinute(mistakesPerMinute)}
	a.clients.Add(payer, who)
	return who
}

// perMinute allows n events a minute, and at once.
func perMinute(n int) *rate.Limiter { return rate.NewLimiter(rate.Limit(float64(n)/60), n) }
