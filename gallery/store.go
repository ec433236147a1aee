package gallery

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"time"

	"leafserve"
)

// Store keeps picture files under names of a-z, 0-9, ".", "_" and "-" that do
// not start with a dot and have at most 200 bytes. It is safe for concurrent
// use, also by several processes: a Folder by those that share the disk, a
// Bucket by those that reach it.
//
// Errors are NotFound for a name that is not there or cannot be, Canceled when
// ctx ended, Unavailable where the store cannot do it now (full, no permission,
// gone, not reachable), saying what to do and naming no place, else Internal.
type Store interface {
	// Put stores data under name, in place of what was there. Readers see all of
	// it or nothing, also after a crash of the process.
	Put(ctx context.Context, name string, data []byte) error

	// Get opens the file name and tells when it was stored. It is read as it comes,
	// and only the part that is read; ctx must last until the caller closes it.
	Get(ctx context.Context, name string) (io.ReadSeekCloser, time.Time, error)

	// Delete removes the file name.
	Delete(ctx context.Context, name string) error

	// Sweep removes the files that are older than that by the clock of the store,
	// whatever the clock of this process says, and tells how many it removed; also
	// when the store is full. What Put did not store is left alone. Several
	// processes may sweep at once.
	Sweep(ctx context.Context, olderThan time.Duration) (removed int, err error)

	// Index gives the index of the stored pictures. A process needs one only.
	Index() *Index
}

// Place is the folder, or the prefix of keys, that a store takes for itself in
// the place that it is given: what expires in it is deleted, so nobody else's
// files may be there.
const Place = "leafserve-pictures"

// OpenStore opens the store that a URL names, in Place under it:
//
//	file:///srv/data                      a folder
//	mem://                                the memory of this process
//	s3://bucket/prefix?region=eu-west-1   S3, or what speaks its protocol:
//	    &endpoint=http://minio:9000&use_path_style=true
//
// The keys for S3 come from where AWS's tools find them (AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY, a profile, the machine's role), never from the URL.
// What is written and listed once, so that a store that cannot be used is
// Unavailable here and not after the first picture was made. A URL that means
// nothing is Invalid.
func OpenStore(ctx context.Context, address string) (Store, error) {
	u, err := url.Parse(address)
	if err != nil || u.User != nil { // whose text may hold a password
		return nil, leafserve.InvalidField("store", "the store's URL cannot be read, or has a password in it: S3 keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	switch {
	case u.Scheme == "file" && u.Host == "" && u.RawQuery == "" && filepath.IsAbs(u.Path):
		return Open(filepath.Join(u.Path, Place))
	case u.Scheme == "mem" && u.Host+u.Path+u.RawQuery == "":
		return openMemory(), nil
	case u.Scheme == "s3" && u.Host != "":
		return openS3(ctx, u)
	}
	return nil, leafserve.InvalidField("store", "the store is %.100q, want file:///folder, mem:// or s3://bucket/prefix?region=…", address)
}

var validName = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,199}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return leafserve.Errorf(leafserve.NotFound, "there is no picture %.100q: names have a-z, 0-9, '.', '_' and '-' only", name)
	}
	return nil
}

// allowed says whether a call about the file name may start.
func allowed(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return checkName(name)
}

// notThere is the error of a name that was looked for.
func notThere(name string) error {
	return leafserve.Errorf(leafserve.NotFound, "there is no picture %q: it was never made, or it has expired", name)
}

// errFull is in the chain of the error of a store that has no room.
var errFull = errors.New("the store is full: free space or keep pictures for a shorter time")

// unavailable says what failed and how to mend it. Its text goes to clients.
func unavailable(what string, advice error) error {
	return leafserve.Errorf(leafserve.Unavailable, "cannot %s: %w", what, advice)
}
