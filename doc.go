// Package leafserve is a text-to-image server whose text encoder survives typos.
package leafserve
