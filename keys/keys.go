package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"leafserve"
)

// prefix begins every token, so that people and scanners know one when they see it.
const prefix = "ls_"

// Add gives client a key, made at the time now, and writes it to the file at
// path, which it makes when there is none. The token is not kept. The error is
// Invalid for a client that cannot be and Conflict for a name that has a key.
func Add(path string, client leafserve.Client, now time.Time) (token string, err error) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	token = prefix + base64.RawURLEncoding.EncodeToString(secret[:])
	key := Key{
		Name: client.Name, SHA256: digest(token), Created: now.UTC().Truncate(time.Second),
		Admin: client.Admin, Weight: client.Weight, Queued: client.Queued, Running: client.Running, PerMinute: client.PerMinute,
	}
	if err := key.check(); err != nil {
		return "", err
	}
	return token, edit(path, func(all []Key) ([]Key, error) {
		if find(all, key.Name) >= 0 {
			return nil, leafserve.Errorf(leafserve.Conflict, "there is a key for %s already: revoke it first, or take another name", key.Name)
		}
		return append(all, key), nil
	})
}

// Revoke takes a key out of the file at path. The error is NotFound for a name
// without one, and Conflict for the last: nobody could use the service then.
func Revoke(path, name string) error {
	if _, err := Read(path); err != nil {
		return err // before edit makes a folder
	}
	return edit(path, func(all []Key) ([]Key, error) {
		i := find(all, name)
		switch {
		case i < 0:
			return nil, leafserve.Errorf(leafserve.NotFound, "there is no key for %.64q", name)
		case len(all) == 1:
			return nil, leafserve.Errorf(leafserve.Conflict, "%s has the last key: make another one first; or stop the service and delete %s to serve everybody", name, path)
		}
		return slices.Delete(all, i, i+1), nil
	})
}

func find(all []Key, name string) int {
	return slices.IndexFunc(all, func(k Key) bool { return k.Name == name })
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
