package queue

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// hub tells the goroutines of this process that something changed, over one
// Pub/Sub connection for all of them, which is open while anybody waits. News
// may be lost with the connection, so everybody is woken when it comes back.
type hub struct {
	client  redis.UniversalClient
	channel string

	mu      sync.Mutex
	waiters map[string]map[*waiter]bool // by topic
	sub     *redis.PubSub               // nil while nobody waits
}

// waiter is woken on C, once for any number of news since it last looked.
type waiter struct {
	C     chan struct{}
	topic string
}

func newHub(client redis.UniversalClient, channel string) *hub {
	return &hub{client: client, channel: channel, waiters: map[string]map[*waiter]bool{}}
}

// join makes a waiter for a topic. Look at the state after joining: only what
// changes from then on is told, the start of the subscription included.
func (h *hub) join(topic string) *waiter {
	w := &waiter{C: make(chan struct{}, 1), topic: topic}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiters[topic] == nil {
		h.waiters[topic] = map[*waiter]bool{}
	}
	h.waiters[topic][w] = true
	if h.sub == nil {
		h.sub = h.client.Subscribe(context.Background()) // no channel yet, so no network
		go h.listen(h.sub)
	}
	return w
}

// leave ends a waiter.
func (h *hub) leave(w *waiter) {
	if sub := h.drop(w); sub != nil {
		sub.Close() // may have to wait for a connection attempt
	}
}

// drop takes w out and gives the subscription to close if it was the last.
func (h *hub) drop(w *waiter) *redis.PubSub {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters[w.topic], w)
	if len(h.waiters[w.topic]) == 0 {
		delete(h.waiters, w.topic)
	}
	if len(h.waiters) > 0 {
		return nil
	}
	sub := h.sub
	h.sub = nil
	return sub
}

// listen ends when sub is closed. go-redis reconnects and subscribes again by
// itself; each time it reports a new subscription.
func (h *hub) listen(sub *redis.PubSub) {
	sub.Subscribe(context.Background(), h.channel) // a failure is tried again by the channel
	for m := range sub.ChannelWithSubscriptions() {
		switch m := m.(type) {
		case *redis.Subscription:
			h.wakeAll()
		case *redis.Message:
			h.wake(m.Payload)
		}
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic := range h.waiters {
		h.wakeLocked(topic)
	}
}

func (h *hub) wake(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakeLocked(topic)
}

func (h *hub) wakeLocked(topic string) {
	for w := range h.waiters[topic] {
		select {
		case w.C <- struct{}{}:
		default: // already told
		}
	}
}
