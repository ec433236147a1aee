package httpapi

import (
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// from gives the context of a request that came from an address.
func from(address string) echo.Context {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	r := httptest.NewRequest("POST", "/attack", nil)
	r.RemoteAddr = address
	return e.NewContext(r, httptest.NewRecorder())
}

// TestOneClientLeavesRoom: a network may have half of the slots, all of them
// together as many as there are.
func TestOneClientLeavesRoom(t *testing.T) {
	a, err := newAllowance(Limits{AtOnce: 4, PerMinute: 100})
	if err != nil {
		t.Fatal(err)
	}
	var release []func()
	for _, tc := range []struct {
		name, address string
		busy          bool
	}{
		{"first", "[2001:db8:0:1::1]:5000", false},
		{"the same network", "[2001:db8:0:1::2]:5000", false},
		{"the same network, over its half", "[2001:db8:0:1:ffff::3]:5000", true},
		{"another network", "[2001:db8:0:2::1]:5000", false},
		{"an IPv4 address", "192.0.2.1:5000", false},
		{"a fifth", "192.0.2.2:5000", true},
	} {
		done, err := a.take(from(tc.address), 1)
		if busy := leafserve.KindOf(err) == leafserve.Busy; busy != tc.busy || !busy && err != nil {
			t.Errorf("%s: %v, want busy %t", tc.name, err, tc.busy)
		}
		if err == nil {
			release = append(release, done)
		}
	}
	for _, done := range release {
		done()
	}
	if _, err := a.take(from("192.0.2.2:5000"), 1); err != nil {
		t.Errorf("when all have ended: %v", err)
	}
}

// TestCharge: what a job will read comes out of the same share, and more than a
// share costs a whole one.
func TestCharge(t *testing.T) {
	a, err := newAllowance(Limits{PerMinute: 100})
	if err != nil {
		t.Fatal(err)
	}
	one := from("192.0.2.1:5000")
	refund, err := a.charge(one, 1000000)
	if err != nil {
		t.Errorf("a large job with a full share: %v", err)
	}
	if _, err := a.charge(one, 50); leafserve.KindOf(err) != leafserve.Busy {
		t.Errorf("a job without a share: %v, want Busy", err)
	}
	if _, err := a.take(one, 50); leafserve.KindOf(err) != leafserve.Busy {
		t.Errorf("a request without a share: %v, want Busy", err)
	}
	if _, err := a.charge(from("192.0.2.2:5000"), 50); err != nil {
		t.Errorf("another address: %v", err)
	}
	refund()
	if _, err := a.charge(one, 100); err != nil {
		t.Errorf("a job after a refund: %v", err)
	}
	if _, err := a.charge(one, 100); leafserve.KindOf(err) != leafserve.Busy {
		t.Errorf("two jobs after one refund: %v, want Busy", err)
	}
}

// TestPayer: a key is charged wherever its requests come from, and apart from
// its address.
func TestPayer(t *testing.T) {
	a, err := newAllowance(Limits{PerMinute: 100})
	if err != nil {
		t.Fatal(err)
	}
	keyed := func(address, name string) echo.Context {
		c := from(address)
		c.Set(clientKey, leafserve.Client{Name: name})
		return c
	}
	for _, tc := range []struct {
		name string
		c    echo.Context
		busy bool
	}{
		{"a key", keyed("192.0.2.1:5000", "shop"), false},
		{"the same key from elsewhere", keyed("192.0.2.2:5000", "shop"), true},
		{"another key from there", keyed("192.0.2.1:5000", "lab"), false},
		{"no key from there", from("192.0.2.1:5000"), false},
		{"a key that is named like an address", keyed("192.0.2.1:5000", "192.0.2.1"), false},
	} {
		if _, err := a.charge(tc.c, 100); (leafserve.KindOf(err) == leafserve.Busy) != tc.busy {
			t.Errorf("%s: %v, want busy %t", tc.name, err, tc.busy)
		}
	}
}

// TestMistakes: wrong keys of one network are counted together, and not as work.
func TestMistakes(t *testing.T) {
	a, err := newAllowance(Limits{PerMinute: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range mistakesPerMinute {
		if err := a.mistake("2001:db8::1"); err != nil {
			t.Fatalf("mistake %d: %v", i+1, err)
		}
	}
	if err := a.mistake("2001:db8::2"); leafserve.KindOf(err) != leafserve.Busy {
		t.Errorf("one more of the network: %v, want Busy", err)
	}
	if err := a.mistake("2001:db8:0:1::1"); err != nil {
		t.Errorf("another network: %v", err)
	}
	if _, err := a.take(from("[2001:db8::1]:5000"), 100); err != nil {
		t.Errorf("work from there: %v", err)
	}
}
