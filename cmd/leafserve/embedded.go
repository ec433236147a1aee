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

// handover is how long a process waits for one of the same data folder that is
// about to stop, and to leave its queue there.
const handover = time.Minute

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
	unlock, ours := waitForLock(ctx, filepath.Join(dir, "queue.lock"))
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

// leaving is what a lock file holds while its owner is about to stop.
const leaving = "leaving"

// waitForLock takes the lock that path stands for; false when it cannot be had.
// While its owner is about to stop it waits, up to handover. When ctx ends this
// process is about to stop. The lock ends with unlock, or with the process.
func waitForLock(ctx context.Context, path string) (unlock func(), ok bool) {
	if os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return nil, false
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(handover); ; {
		if unlock, ok = lock(ctx, path); ok {
			return unlock, true
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != leaving {
			return nil, false
		}
		select {
		case <-tick.C:
		case <-late:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// lock takes the lock if it is free.
func lock(ctx context.Context, path string) (unlock func(), ok bool) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil || f.Truncate(0) != nil {
		f.Close()
		return nil, false
	}
	stop := context.AfterFunc(ctx, func() { f.WriteString(leaving) })
	return func() { stop(); f.Close() }, true
}
