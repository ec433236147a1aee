package pipeline

import (
	"sync"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/invert"
)

// TestInverters: each encoder is loaded once, whoever asks at the same time and
// without waiting for another encoder, and only those asked for are closed.
func TestInverters(t *testing.T) {
	v := NewInverters(leaftest.Runtime(t), describe(t, leaftest.DefaultModel()))
	v.slots["standard"].mu.Lock() // as if it took long to load
	var found [4]*invert.Inverter
	var asking sync.WaitGroup
	for i := range found {
		asking.Go(func() {
			var err error
			if found[i], err = v.Of("robust"); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	v.slots["standard"].mu.Unlock()
	for _, one := range found {
		if one == nil || one != found[0] {
			t.Errorf("robust is loaded twice, or not at all: %p and %p", one, found[0])
		}
	}
	if _, err := v.Of("other"); err == nil {
		t.Error("an encoder that the model does not have was found")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := found[0].Embed(t.Context(), "a cat"); err == nil {
		t.Error("an inverter works after Close")
	}
}

// TestInvertersTryAgain: what could not be loaded once may be there the next time.
func TestInvertersTryAgain(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	v := NewInverters(leaftest.Runtime(t), f)
	defer v.Close()
	dir := f.encoders["robust"]
	f.encoders["robust"] = t.TempDir()
	if found, err := v.Of("robust"); err == nil || found != nil {
		t.Errorf("Of an empty folder = %p, %v", found, err)
	}
	f.encoders["robust"] = dir
	if _, err := v.Of("robust"); err != nil {
		t.Error(err)
	}
}
