// Package keys keeps the API keys of a service in a file: who holds one, and
// what each may do.
//
//	token, err := keys.Add("keys.yaml", leafserve.Client{Name: "shop", Weight: 2}, time.Now())
//	ring, err := keys.Watch("keys.yaml", slog.Default())
//	client, ok := ring.Client(token)
//
// A token is 256 random bits after "ls_" and is shown once, by [Add]. The file
// holds its SHA-256: what is that random needs neither salt nor a slow hash, as
// nobody can try 2^256 tokens. So whoever reads the file learns who may use the
// service, but cannot.
//
// The file is YAML, and people may edit it:
//
//	keys:
//	    - name: shop
//	      sha256: 61b0…
//	      created: 2026-11-24T16:00:00Z
//	      weight: 2
//	      queued: 50
//
// [Add] and [Revoke] replace it whole, one at a time, so that several machines may
// share it; a [Ring] takes up a change with the next request. Nothing but the
// absence of the file when the service starts opens it to everybody: a file that
// cannot be read, has no key in it or goes away leaves the keys as they were.
package keys
