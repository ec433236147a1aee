// Package httpapi is leafserve over HTTP: it binds and checks requests, hands
// them to the queue, waits or not, and renders what comes back.
//
// Start with [New] and [Server.Serve]; one file holds each resource:
//
//	POST   /generate             generate.go   a picture from a prompt
//	POST   /compare              compare.go    what a typo does to each encoder
//	GET    /reports/{name}       compare.go    a comparison's report
//	GET    /jobs, /jobs/{id}     jobs.go       where a job stands
//	DELETE /jobs/{id}            jobs.go       cancel it
//	GET    /jobs/{id}/events     events.go     follow it (server-sent events)
//	GET    /images/{name}        images.go     a picture's bytes
//	GET    /search               search.go     pictures by what they show
//	POST   /encode               encode.go     text embeddings
//	POST   /attack               attack.go     the typo that hurts a prompt most
//	POST   /invert               invert.go     a text from its embedding
//	GET    /v1/models[/{id}]     models.go     what can be asked for
//	GET    /healthz, /readyz     health.go     probes
//	GET    /metrics              health.go     what Prometheus scrapes
//	*      /queue…               operate.go    the queue, for those who run it
//	GET    /                     page.go       the web page
//
// What a client may rely on:
//
//   - Bodies are read strictly (decode.go): a field we do not know, a value of
//     the wrong type or text that is not UTF-8 is refused with the field's name.
//   - Every error is {"error":{"message","type","param","code"}} and its message
//     says what to do; the text of an internal error stays in the log (errors.go).
//   - Every response has X-Request-Id, and those of POST /generate and POST
//     /compare X-Job-Id.
//   - A client that waits for one of these two and goes away cancels its job,
//     unless it gave an Idempotency-Key: the key says that it will come back.
//   - When the server stops, event streams end, and requests that still wait
//     after the grace period get 202 with the job instead of a cut connection.
//
// Where Config.Who knows API keys, every route but the probes, the page, and
// pictures and reports, whose names nobody can guess, wants one (auth.go). To
// other clients than its own a job is NotFound; admins see all and operate the
// queue (operate.go), which without keys is for programs on this machine. The
// gallery is one for all clients: GET /search shows what any of them drew.
//
// It sends no CORS headers. Requests over loopback must name a host that we know
// (hosts.go), against DNS rebinding.
package httpapi
