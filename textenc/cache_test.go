package textenc

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"leafserve/tensor"
)

// embedding has n values, all v: 4·n bytes in a cache, and its key.
func embedding(n int, v float32) Embedding {
	x := tensor.New(1, n)
	for i := range x.Data {
		x.Data[i] = v
	}
	return Embedding{Hidden: x}
}

// holds lists which of the keys a to z the cache has, without using them.
func holds(c *Cache) string {
	var keys strings.Builder
	for key := 'a'; key <= 'z'; key++ {
		if _, ok := c.entries[string(key)]; ok {
			keys.WriteRune(key)
		}
	}
	return keys.String()
}

// TestCacheEvicts puts entries of 1 + 4·n bytes into a cache of 123 bytes.
func TestCacheEvicts(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   string // aN puts a with N values, -a uses a
		want string
		size int
	}{
		{"fits exactly", "a10 b10 c10", "abc", 123},
		{"oldest goes", "a10 b10 c10 d10", "bcd", 123},
		{"used stays", "a10 b10 c10 -a d10", "acd", 123},
		{"put again changes nothing", "a10 b10 c10 a10 d10", "bcd", 123},
		{"a large one takes the place of several", "a10 b10 c10 d20", "cd", 122},
		{"one that fills it", "a10 b10 c30", "c", 121},
		{"one that is too large is not kept", "a10 b10 c10 d31", "abc", 123},
		{"too large for an empty cache", "a31", "", 0},
		{"many", "a10 b10 c10 d10 e10 f10 -d g10 h10", "dgh", 123},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewCache(123)
			for i, step := range strings.Fields(tc.do) {
				if key, ok := strings.CutPrefix(step, "-"); ok {
					c.get(key)
					continue
				}
				var n int
				if _, err := fmt.Sscan(step[1:], &n); err != nil {
					t.Fatal(err)
				}
				c.put(step[:1], embedding(n, float32(i)))
			}
			if got := holds(c); got != tc.want || c.Stats().Bytes != tc.size || c.order.Len() != len(tc.want) {
				t.Errorf("cache holds %q, %d bytes, %d in order, want %q, %d bytes", got, c.Stats().Bytes, c.order.Len(), tc.want, tc.size)
			}
		})
	}
}

func TestCacheGivesWhatWasPut(t *testing.T) {
	c := NewCache(1000)
	value := Embedding{Hidden: embedding(4, 1).Hidden, Pooled: embedding(3, 2).Hidden, Projected: embedding(2, 3).Hidden}
	c.put("k", value)
	got, ok := c.get("k")
	if !ok || got.Hidden.Data[3] != 1 || got.Pooled.Data[2] != 2 || got.Projected.Data[1] != 3 {
		t.Errorf("get = %v, %v", got, ok)
	}
	if want := 1 + 4*(4+3+2); c.Stats().Bytes != want {
		t.Errorf("size = %d, want %d: all parts count", c.Stats().Bytes, want)
	}
	if _, ok := c.get("other"); ok {
		t.Error("get gives a key that was never put")
	}
}

func TestNilCacheKeepsNothing(t *testing.T) {
	var c *Cache
	c.put("k", embedding(1, 1))
	if _, ok := c.get("k"); ok {
		t.Error("a nil cache kept something")
	}
}

func TestCacheIsSafe(t *testing.T) {
	c := NewCache(500)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				n := (i + j) % 20
				key := string(rune('a' + n))
				c.put(key, embedding(10, float32(n)))
				if got, ok := c.get(key); ok && got.Hidden.Data[9] != float32(n) {
					t.Errorf("key %s holds %v", key, got.Hidden.Data[9])
				}
			}
		})
	}
	all.Wait()
	if c.Stats().Bytes > 500 || len(c.entries) != c.order.Len() {
		t.Errorf("%d bytes, %d entries, %d in order", c.Stats().Bytes, len(c.entries), c.order.Len())
	}
}

func TestCacheStats(t *testing.T) {
	c := NewCache(1000)
	c.get("a")
	c.put("a", embedding(10, 1))
	c.get("a")
	c.get("a")
	if got, want := c.Stats(), (CacheStats{Hits: 2, Misses: 1, Bytes: 41}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
	if got := (*Cache)(nil).Stats(); got != (CacheStats{}) {
		t.Errorf("Stats() of no cache = %+v", got)
	}
}
