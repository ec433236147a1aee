// Package web holds the page at "/": plain HTML, one style sheet and a few
// small scripts, without a library, a font or a build step. It has two verbs:
// "Make picture", and "Break it", which shows what a typo does to a prompt.
//
// It is written for the Content-Security-Policy default-src 'none'; script-src
// 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self': text of a
// prompt could not run as script even if the page had a fault.
//
// The page asks for nothing but the routes of the HTTP contract: GET
// /v1/models, POST /generate and POST /compare with "Prefer: respond-async" and
// an Idempotency-Key, GET and DELETE /jobs/{id}, GET /jobs/{id}/events with
// Last-Event-ID, GET /images/{name} and GET /search; where that answers with an
// error there is no gallery to show. Where an answer is 401 it asks for an API
// key, sends it from then on and keeps it in the browser's local storage. It
// keeps the jobs of a browser tab in that tab's session storage and everything
// that makes a link in the address's fragment, so prompts reach neither a log
// nor a Referer.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html style.css *.js *.webp
var files embed.FS

// Files gives the page: index.html, style.css and the scripts, to be served
// under "/" with the media types of their extensions.
func Files() fs.FS { return files }
