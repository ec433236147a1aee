package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve/queue"
)

// saveTimeout bounds the writing of the embedded queue.
const saveTimeout = 10 * time.Second

// openEmbedded starts the embedded Redis with what the last process of this data
// folder left in it; close leaves it there again. A crash loses it, and of two
// processes at once only the first keeps its own.
func (c *Config) openEmbedded(ctx context.Context) (client redis.UniversalClient, close func(), err error) {
	dir, err := c.dataDir()
	if err != nil {
		return nil, nil, err
	}
	client, stop, err := queue.Embedded()
	if err != nil {
		return nil, nil, err
	}
	unlock, ours := lockFile(dir, "queue.lock")
	if !ours {
		slog.Warn("the queue will not be kept when this process ends: another process keeps its own in this data folder, or the folder cannot be written")
		return client, stop, nil
	}
	file := filepath.Join(dir, "queue.jsonl")
	if err := queue.Restore(ctx, client, file); err != nil {
		stop()
		unlock()
		return nil, nil, err
	}
	return client, func() {
		defer unlock()
		defer stop()
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		if err := queue.Save(saving, client, file); err != nil {
			slog.Error("the queue is lost: it could not be saved", "err", err)
		}
	}, nil
}

// lockFile takes a lock that ends with the process; false when it cannot be had.
func lockFile(dir, name string) (unlock func(), ok bool) {
	if os.MkdirAll(dir, 0o755) != nil {
		return nil, false
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, false
	}
	return func() { f.Close() }, true
}
