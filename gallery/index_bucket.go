package gallery

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"leafserve"
)

// parts is a Bucket's journal. Each Add writes an object, a part, of JSON lines;
// prune joins small parts, so that there are few to read however many pictures
// there are. Every copy of an entry is deleted only by who wrote a later one, so
// that processes need no lock: the last copy stays, and of several the first
// counts until the next prune makes one of them.
type parts struct {
	bucket *Bucket
	known  map[string][]*Entry // what was read, by key; guarded by the index's lock
}

const (
	partPrefix = ".index/"
	// fullPart is the number of entries of a part that is not joined to others:
	// about 2 MB where an embedding has 768 values.
	fullPart = 1000
)

// Index gives the bucket's index.
func (b *Bucket) Index() *Index { return newIndex(&parts{bucket: b, known: map[string][]*Entry{}}) }

var partKey = regexp.MustCompile(`^\.index/([0-9a-f]{12})-[0-9A-Z]+\.jsonl$`)

// newPart gives a key that nobody else has. A part that takes the place of
// others sorts after them: who lists while that happens meets the one or the
// other.
func newPart(stamp int64) string {
	return fmt.Sprintf("%s%012x-%s.jsonl", partPrefix, stamp, rand.Text())
}

// stampOf gives the stamp of a part's key, in milliseconds since 1970.
func stampOf(key string) int64 {
	stamp, _ := strconv.ParseInt(partKey.FindStringSubmatch(key)[1], 16, 64) // twelve hex digits fit
	return stamp
}

func (p *parts) add(ctx context.Context, lines []byte) error {
	return p.bucket.write(ctx, "add to the picture index", newPart(time.Now().UnixMilli()), lines)
}

// refresh reads the parts that are new. It lists again when one of them went
// meanwhile: another process joined it to others.
func (p *parts) refresh(ctx context.Context, x *Index) (err error) {
	const rounds = 32 // each needs another prune, of which there is one in minutes
	for range rounds {
		var listed []string
		var fresh map[string][]*Entry
		if listed, err = p.list(ctx); err == nil {
			fresh, err = p.fetch(ctx, listed)
		}
		if err == nil {
			p.learn(x, listed, fresh)
		}
		if leafserve.KindOf(err) != leafserve.NotFound {
			return err
		}
	}
	return unavailable("read the picture index", errListing)
}

// list gives the keys of all parts, in order.
func (p *parts) list(ctx context.Context) (keys []string, err error) {
	objects, err := p.bucket.list(ctx, partPrefix)
	for _, o := range objects {
		if partKey.MatchString(o.Key) {
			keys = append(keys, o.Key)
		}
	}
	return keys, err
}

// fetch reads those of the parts that are not known. The error is NotFound when
// one has gone.
func (p *parts) fetch(ctx context.Context, keys []string) (map[string][]*Entry, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { _, known := p.known[key]; return known })
	read := make([][]*Entry, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, key := range keys {
		group.Go(func() (err error) {
			read[i], err = p.read(ctx, key)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	fresh := map[string][]*Entry{}
	for i, key := range keys {
		fresh[key] = read[i]
	}
	return fresh, nil
}

func (p *parts) read(ctx context.Context, key string) (entries []*Entry, err error) {
	err = p.bucket.request(ctx, "read the picture index", key, func(ctx context.Context) error {
		data, err := p.bucket.blobs.ReadAll(ctx, key)
		if err == nil {
			entries, _, err = readLines(key, bytes.NewReader(data))
		}
		return err
	})
	return entries, err
}

// learn takes over what was read. Entries of parts that have gone go, too,
// unless other parts have them.
func (p *parts) learn(x *Index, listed []string, fresh map[string][]*Entry) {
	before := len(p.known)
	maps.Copy(p.known, fresh)
	maps.DeleteFunc(p.known, func(key string, _ []*Entry) bool { _, there := slices.BinarySearch(listed, key); return !there })
	keys := slices.Sorted(maps.Keys(fresh))
	if len(p.known) < before+len(fresh) {
		x.adopt(nil)
		keys = listed
	}
	for _, key := range keys {
		x.take(p.known[key])
	}
}

// prune reads before it asks which pictures there are: a picture is stored
// before its entry is added.
func (p *parts) prune(ctx context.Context, x *Index) (removed int, err error) {
	if _, err := x.refresh(ctx); err != nil {
		return 0, err
	}
	x.mu.Lock()
	known := maps.Clone(p.known)
	x.mu.Unlock()
	objects, err := p.bucket.list(ctx, "")
	if err != nil {
		return 0, err
	}
	stored := map[string]bool{}
	for _, o := range objects {
		stored[o.Key] = true
	}
	old := worthJoining(known, stored)
	kept, removed := join(known, old, stored)
	if err := p.replace(ctx, old, kept); err != nil {
		return 0, err
	}
	return removed, nil
}

// worthJoining gives the keys of the parts, in order, that must be written anew
// because pictures of theirs have gone or other parts have the same, and of the
// small ones where there are several.
func worthJoining(known map[string][]*Entry, stored map[string]bool) (keys []string) {
	var small []string
	anew, owner := map[string]bool{}, map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		for _, e := range known[key] {
			other, twice := owner[e.Name]
			if twice && other != key {
				anew[other], anew[key] = true, true
			}
			if !stored[e.Name] {
				anew[key] = true
			}
			owner[e.Name] = key
		}
		if len(known[key]) < fullPart {
			small = append(small, key)
		}
	}
	if len(small) > 1 {
		for _, key := range small {
			anew[key] = true
		}
	}
	return slices.Sorted(maps.Keys(anew))
}

// join gives the entries of some parts, each once, whose pictures are stored,
// and tells how many are not.
func join(known map[string][]*Entry, keys []string, stored map[string]bool) (kept []*Entry, removed int) {
	seen := map[string]bool{}
	for _, key := range keys {
		for _, e := range known[key] {
			switch {
			case seen[e.Name]:
			case stored[e.Name]:
				kept = append(kept, e)
			default:
				removed++
			}
			seen[e.Name] = true
		}
	}
	return kept, removed
}

// replace writes entries in new parts and then deletes the old ones.
func (p *parts) replace(ctx context.Context, old []string, entries []*Entry) error {
	if len(old) == 0 {
		return nil
	}
	stamp := stampOf(old[len(old)-1]) + 1
	for some := range slices.Chunk(entries, fullPart) {
		lines, err := appendLines(nil, some)
		if err == nil {
			err = p.bucket.write(ctx, "prune the picture index", newPart(stamp), lines)
		}
		if err != nil {
			return err
		}
	}
	_, err := p.bucket.removeAll(ctx, old)
	return err
}
