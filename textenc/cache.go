package textenc

import (
	"container/list"
	"sync"
)

// Cache keeps the embeddings used last, up to a number of bytes. One cache may
// serve several encoders. It is safe for concurrent use; a nil Cache keeps
// nothing.
type Cache struct {
	mu       sync.Mutex
	capacity int
	order    *list.List // of *cached, newest first
	entries  map[string]*list.Element
	stats    CacheStats
}

type cached struct {
	key   string
	value Embedding
}

// NewCache makes a cache of at most that many bytes. What is larger by itself is
// not kept.
func NewCache(capacity int) *Cache {
	return &Cache{capacity: capacity, order: list.New(), entries: map[string]*list.Element{}}
}

// CacheStats is how a cache has done since it was made.
type CacheStats struct {
	Hits, Misses uint64 // texts that were found, and that were not
	Bytes        int    // kept now
}

// Stats tells how the cache has done.
func (c *Cache) Stats() CacheStats {
	if c == nil {
		return CacheStats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

func (c cached) bytes() int {
	v := c.value
	return len(c.key) + 4*(len(v.Hidden.Data)+len(v.Pooled.Data)+len(v.Projected.Data))
}

func (c *Cache) get(key string) (Embedding, bool) {
	if c == nil {
		return Embedding{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[key]
	if !ok {
		c.stats.Misses++
		return Embedding{}, false
	}
	c.stats.Hits++
	c.order.MoveToFront(el)
	return el.Value.(*cached).value, true
}

func (c *Cache) put(key string, value Embedding) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	entry := &cached{key, value}
	if _, ok := c.entries[key]; ok || entry.bytes() > c.capacity {
		return
	}
	c.entries[key] = c.order.PushFront(entry)
	c.stats.Bytes += entry.bytes()
	for c.stats.Bytes > c.capacity {
		oldest := c.order.Remove(c.order.Back()).(*cached)
		delete(c.entries, oldest.key)
		c.stats.Bytes -= oldest.bytes()
	}
}
