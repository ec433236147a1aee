//go:build !ortbundle

package ort

// bundled is empty in a plain `go build`: the library is found, not carried.
var bundled []byte
