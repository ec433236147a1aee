package queue

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve/internal/atomicfile"
)

// kept is one key in a snapshot, with the value that its type has.
type kept struct {
	Key    string            `json:"key"`
	Until  int64             `json:"until,omitempty"` // Unix milliseconds when it expires, 0 for never
	String string            `json:"string,omitempty"`
	Hash   map[string]string `json:"hash,omitempty"`
	Sorted []redis.Z         `json:"sorted,omitempty"`
	Set    []string          `json:"set,omitempty"`
	List   []string          `json:"list,omitempty"`
	Stream []redis.XMessage  `json:"stream,omitempty"`
}

// Save writes all that an embedded Redis holds to a file, for Restore. Nobody
// may use it meanwhile, and no job may be running.
func Save(ctx context.Context, client redis.UniversalClient, file string) error {
	return atomicfile.Write(file, 0o600, func(w io.Writer) error { // only its owner can read it
		buf := bufio.NewWriter(w)
		return cmp.Or(writeKeys(ctx, client, buf), buf.Flush())
	})
}

func writeKeys(ctx context.Context, client redis.UniversalClient, w io.Writer) error {
	lines := json.NewEncoder(w)
	all := client.Scan(ctx, 0, "*", 1000).Iterator()
	for all.Next(ctx) {
		k, err := keep(ctx, client, all.Val())
		if err != nil {
			return err
		}
		if strings.HasSuffix(k.Key, ":claims") {
			continue // no job runs; and it would be nothing without its group
		}
		if err := lines.Encode(k); err != nil {
			return err
		}
	}
	return all.Err()
}

// keep reads one key.
func keep(ctx context.Context, client redis.UniversalClient, key string) (k kept, err error) {
	k.Key = key
	left, err := client.PTTL(ctx, key).Result()
	if err != nil {
		return k, err
	}
	if left > 0 {
		k.Until = time.Now().Add(left).UnixMilli()
	}
	kind, err := client.Type(ctx, key).Result()
	if err != nil {
		return k, err
	}
	switch kind {
	case "string":
		k.String, err = client.Get(ctx, key).Result()
	case "hash":
		k.Hash, err = client.HGetAll(ctx, key).Result()
	case "zset":
		k.Sorted, err = client.ZRangeWithScores(ctx, key, 0, -1).Result()
	case "set":
		k.Set, err = client.SMembers(ctx, key).Result()
	case "list":
		k.List, err = client.LRange(ctx, key, 0, -1).Result()
	case "stream":
		k.Stream, err = client.XRange(ctx, key, "-", "+").Result()
	}
	return k, err
}

// Restore fills an empty embedded Redis with what Save wrote, but for what has
// expired since, and removes the file: what is in it would be done twice if it
// were read again after a crash. A file that is not there is no error.
func Restore(ctx context.Context, client redis.UniversalClient, file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := json.NewDecoder(bufio.NewReader(f))
	for {
		var k kept
		switch err := lines.Decode(&k); {
		case err == io.EOF:
			return os.Remove(file)
		case err != nil:
			return fmt.Errorf("%s is damaged: move it away to start without the jobs in it: %w", file, err)
		}
		if err := k.restore(ctx, client); err != nil {
			return err
		}
	}
}

func (k kept) restore(ctx context.Context, client redis.UniversalClient) error {
	until := time.UnixMilli(k.Until)
	if k.Until > 0 && !time.Now().Before(until) {
		return nil
	}
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		switch {
		case k.Hash != nil:
			p.HSet(ctx, k.Key, k.Hash)
		case k.Sorted != nil:
			p.ZAdd(ctx, k.Key, k.Sorted...)
		case k.Set != nil:
			p.SAdd(ctx, k.Key, k.Set)
		case k.List != nil:
			p.RPush(ctx, k.Key, k.List)
		case k.Stream != nil:
			for _, m := range k.Stream {
				p.XAdd(ctx, &redis.XAddArgs{Stream: k.Key, ID: m.ID, Values: m.Values})
			}
		default:
			p.Set(ctx, k.Key, k.String, 0)
		}
		if k.Until > 0 {
			p.PExpireAt(ctx, k.Key, until)
		}
		return nil
	})
	return err
}
