package gallery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"leafserve"
)

// Bucket is a Store of objects: in memory, or at a service that speaks S3's
// protocol. What Get opened can be read on to its end when it is deleted
// meanwhile, but not after a Seek.
type Bucket struct {
	blobs *blob.Bucket
	limit time.Duration // of one request with its retries, and of one Read
	ahead atomic.Int64  // the store's clock of ours, as time.Duration; what was last known
}

const (
	// requestLimit bounds a request with its retries, of which AWS's library makes
	// two.
	requestLimit = 20 * time.Second
	// perByte is what a byte to be stored may take besides: a report of many
	// pictures may have 50 MB, over a line of 2 Mbit/s.
	perByte = 4 * time.Microsecond
	// checksums is a parameter of an s3 URL.
	checksums = "response_checksum_validation"
	// atOnce is how many requests a call that needs many has under way.
	atOnce = 16
	// clockKey is an object that says what time it is at the store.
	clockKey = ".clock"
)

// openMemory gives a Bucket that ends with the process.
func openMemory() *Bucket { return &Bucket{blobs: memblob.OpenBucket(nil), limit: requestLimit} }

// openS3 opens an s3 URL and tries it.
func openS3(ctx context.Context, u *url.URL) (*Bucket, error) {
	query := u.Query()
	if !query.Has(checksums) {
		query.Set(checksums, "when_required") // else AWS's library warns of each response without one
	}
	address := url.URL{Scheme: u.Scheme, Host: u.Host, RawQuery: query.Encode()}
	blobs, err := new(s3blob.URLOpener).OpenBucketURL(ctx, &address)
	if err != nil {
		return nil, leafserve.InvalidField("store", "the store's URL: %w", err)
	}
	if err := checkClient(ctx, blobs); err != nil {
		return nil, err
	}
	prefix := strings.TrimPrefix(strings.TrimSuffix(u.Path, "/")+"/"+Place+"/", "/")
	b := &Bucket{blobs: blob.PrefixedBucket(blobs, prefix), limit: requestLimit}
	if err := b.setClock(ctx); err != nil && !errors.Is(err, errFull) { // what is there can be read, and expires
		return nil, err
	}
	return b, nil
}

// checkClient finds what is missing before AWS's library says it in its words.
func checkClient(ctx context.Context, blobs *blob.Bucket) error {
	var client *s3.Client
	if !blobs.As(&client) || client.Options().Region == "" {
		return leafserve.InvalidField("store", "the store has no region: add region=us-east-1 (or where the bucket is) to its URL")
	}
	keys := client.Options().Credentials
	if keys == nil { // anonymous=true
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, requestLimit) // a machine's role is asked for over the network
	defer stop()
	if _, err := keys.Retrieve(ctx); err != nil {
		return unavailable("use the picture store", errNoKeys)
	}
	return nil
}

// request makes one request that may take the limit. It is about the object
// name, which may be missing; "" for a request that makes it, or about many.
func (b *Bucket) request(ctx context.Context, what, name string, do func(context.Context) error) error {
	limited, stop := context.WithTimeout(ctx, b.limit)
	defer stop()
	return b.failure(ctx, what, name, do(limited))
}

// Put stores data under name.
func (b *Bucket) Put(ctx context.Context, name string, data []byte) error {
	if err := allowed(ctx, name); err != nil {
		return err
	}
	return b.write(ctx, "store "+name, name, data)
}

// write stores an object.
func (b *Bucket) write(ctx context.Context, what, key string, data []byte) error {
	limited, stop := context.WithTimeout(ctx, b.limit+time.Duration(len(data))*perByte)
	defer stop()
	return b.failure(ctx, what, "", b.blobs.WriteAll(limited, key, data, nil))
}

// Get opens the file name and tells when it was stored.
func (b *Bucket) Get(ctx context.Context, name string) (io.ReadSeekCloser, time.Time, error) {
	if err := allowed(ctx, name); err != nil {
		return nil, time.Time{}, err
	}
	reading, cancel := context.WithCancel(ctx)
	o := &object{bucket: b, name: name, ctx: ctx, cancel: cancel, late: time.AfterFunc(b.limit, cancel)}
	var err error
	o.r, err = b.blobs.NewReader(reading, name, nil)
	o.late.Stop()
	if err != nil {
		cancel()
		return nil, time.Time{}, o.failure(err)
	}
	return o, o.r.ModTime(), nil
}

// object is an object being read; each Read may take the bucket's limit.
type object struct {
	bucket *Bucket
	name   string
	ctx    context.Context // the caller's
	cancel func()          // ends the request
	late   *time.Timer     // cancels, too
	r      *blob.Reader
}

func (o *object) Read(p []byte) (int, error) {
	o.late.Reset(o.bucket.limit)
	n, err := o.r.Read(p)
	o.late.Stop()
	if err != nil && err != io.EOF {
		err = o.failure(err)
	}
	return n, err
}

func (o *object) Seek(offset int64, whence int) (int64, error) { return o.r.Seek(offset, whence) }

func (o *object) Close() error {
	defer o.cancel()
	return o.r.Close()
}

func (o *object) failure(err error) error {
	return o.bucket.failure(o.ctx, "read "+o.name, o.name, err)
}

// Delete removes the file name.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := allowed(ctx, name); err != nil {
		return err
	}
	return b.remove(ctx, name)
}

func (b *Bucket) remove(ctx context.Context, key string) error {
	return b.request(ctx, "delete "+key, key, func(ctx context.Context) error { return b.blobs.Delete(ctx, key) })
}

// removeAll removes objects, some at a time, and tells how many; others may be
// at it, too. It ends at the first error.
func (b *Bucket) removeAll(ctx context.Context, keys []string) (removed int, err error) {
	gone := make([]bool, len(keys))
	parts, ctx := errgroup.WithContext(ctx)
	parts.SetLimit(atOnce)
	for i, key := range keys {
		parts.Go(func() error {
			err := b.remove(ctx, key)
			if gone[i] = err == nil; leafserve.KindOf(err) == leafserve.NotFound {
				return nil
			}
			return err
		})
	}
	err = parts.Wait()
	for _, g := range gone {
		if g {
			removed++
		}
	}
	return removed, err
}

// list gives the objects under a prefix, not those under a further "/", in the
// order of their keys. Each page of 1,000 is a request.
func (b *Bucket) list(ctx context.Context, prefix string) (all []*blob.ListObject, err error) {
	const page = 1000
	for token := blob.FirstPageToken; len(token) > 0; {
		err := b.request(ctx, "list pictures", "", func(ctx context.Context) error {
			objects, next, err := b.blobs.ListPage(ctx, token, page, &blob.ListOptions{Prefix: prefix, Delimiter: "/"})
			all, token = append(all, objects...), next
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// setClock learns the time at the store, by writing an object and listing it.
func (b *Bucket) setClock(ctx context.Context) error {
	if err := b.write(ctx, "write to the picture store", clockKey, nil); err != nil {
		return err
	}
	objects, err := b.list(ctx, clockKey)
	if err != nil {
		return err
	}
	if len(objects) != 1 {
		return unavailable("use the picture store", errListing)
	}
	b.ahead.Store(int64(time.Until(objects[0].ModTime)))
	return nil
}

// Sweep removes the files that are older than that. It ends at the first error.
func (b *Bucket) Sweep(ctx context.Context, olderThan time.Duration) (removed int, err error) {
	if err := b.setClock(ctx); err != nil && !errors.Is(err, errFull) { // then its clock is known from before
		return 0, err
	}
	now := time.Now().Add(time.Duration(b.ahead.Load()))
	objects, err := b.list(ctx, "")
	if err != nil {
		return 0, err
	}
	var old []string
	for _, o := range objects {
		if !o.IsDir && validName.MatchString(o.Key) && now.Sub(o.ModTime) > olderThan {
			old = append(old, o.Key)
		}
	}
	return b.removeAll(ctx, old)
}

// Advice that goes with what failed.
var (
	errAccess  = errors.New("the store refuses access: check its keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and the bucket's policy")
	errBucket  = errors.New("the bucket is not there: create it, or name another one with --store")
	errBusy    = errors.New("the store is overloaded: try again in a moment")
	errSkew    = errors.New("the store's clock and ours differ: set this machine's clock")
	errSilent  = errors.New("the store does not answer: check that it runs and that --store has its address")
	errNoKeys  = errors.New("there are no keys for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
	errListing = errors.New("it lists what it does not have, or not what it has: check that it is an S3 store, or try again in a moment")
)

// advices are for the codes of S3's errors; MinIO's start with an X.
var advices = map[string]error{
	"AccessDenied": errAccess, "Forbidden": errAccess, "InvalidAccessKeyId": errAccess, "SignatureDoesNotMatch": errAccess,
	"ExpiredToken": errAccess, "InvalidToken": errAccess, "AccountProblem": errAccess, "AllAccessDisabled": errAccess,
	"NoSuchBucket": errBucket, "SlowDown": errBusy, "RequestTimeTooSkewed": errSkew,
	"XMinioStorageFull": errFull, "QuotaExceeded": errFull, "XMinioAdminBucketQuotaExceeded": errFull,
}

// failure turns an error of a request into one that people can read; the
// original, which has addresses in it, is logged. ctx is the caller's.
func (b *Bucket) failure(ctx context.Context, what, name string, err error) error {
	var coded interface{ ErrorCode() string } // an error of AWS's library
	advice := errSilent
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &coded) && advices[coded.ErrorCode()] != nil:
		advice = advices[coded.ErrorCode()]
	case gcerrors.Code(err) == gcerrors.NotFound && name != "":
		return notThere(name)
	case coded != nil && coded.ErrorCode() != "":
		advice = fmt.Errorf("the store says %s: its log says why", coded.ErrorCode())
	}
	slog.Warn("the picture store failed", "what", what, "err", err.Error()) // %+v has lines of code in it
	return unavailable(what, advice)
}
