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
	size     int
	order    *list.List // of *cached, newest first
	entries  map[string]*list.Element
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
		return Embedding{}, false
	}
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
	c.size += entry.bytes()
	for c.size > c.capacity {
		oldest := c.order.Remove(c.order.Back()).(*cached)
		delete(c.entries, oldest.key)
		c.size -= oldest.bytes()
	}
}
