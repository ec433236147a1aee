package leafserve

import (
	"context"
	"encoding/json"
	"time"
)

// State is where a job stands.
//
//	queued ──► running ──► succeeded
//	   │          ├──────► failed
//	   └──────────┴──────► canceled
//
// A running job whose worker died goes back to queued. The three states on the
// right are terminal: written once, never changed.
type State string

// The states of a job.
const (
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCanceled  State = "canceled"
)

// Terminal says whether s is an end.
func (s State) Terminal() bool { return s == StateSucceeded || s == StateFailed || s == StateCanceled }

// Job is one request on its way through the queue, as GET /jobs/{id} shows it.
type Job struct {
	ID           string        `json:"id"`
	Kind         string        `json:"kind"` // generate, compare
	State        State         `json:"state"`
	Request      Request       `json:"request"` // resolved, with seed
	Progress     Progress      `json:"progress"`
	Images       []Image       `json:"images"` // never null
	Timings      Timings       `json:"timings"`
	Conditioning *Conditioning `json:"conditioning,omitempty"`
	Health       *Health       `json:"health,omitempty"`
	Compare      *Comparison   `json:"compare,omitempty"` // of a job of kind compare
	Queue        *QueueInfo    `json:"queue,omitempty"`   // only while queued
	Error        *JobError     `json:"error,omitempty"`   // only when failed or canceled
	CreatedAt    time.Time     `json:"created_at"`
	FinishedAt   *time.Time    `json:"finished_at,omitempty"`

	// For us, not for clients.
	Client    string `json:"-"` // Client.Name
	RequestID string `json:"-"` // of the HTTP request that brought it
	Trace     string `json:"-"` // W3C traceparent of that request
}

// Progress counts denoising steps and, of a comparison of a list before them, a
// step for each 16 prompts attacked (for each arm, with attacked_per_arm). Steps
// may become fewer when the typos are known, as equal pictures are drawn once.
type Progress struct {
	Step  int `json:"step"`
	Steps int `json:"steps"`
}

// Image is one picture of a job.
type Image struct {
	URL     string `json:"url"` // /images/{name}
	Seed    uint64 `json:"seed"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	SHA256  string `json:"sha256"`             // of the file's bytes, lower-case hex
	B64JSON string `json:"b64_json,omitempty"` // the bytes, when the request asked for them
}

// Timings are wall-clock milliseconds.
type Timings struct {
	QueuedMS  float64 `json:"queued_ms"`
	EncodeMS  float64 `json:"encode_ms"`
	DenoiseMS float64 `json:"denoise_ms"`
	DecodeMS  float64 `json:"decode_ms"`
	TotalMS   float64 `json:"total_ms"` // from enqueue to terminal state
}

// Conditioning tells what the text encoder made of the prompt.
type Conditioning struct {
	Encoder   string  `json:"encoder"`
	Tokens    []Token `json:"tokens"`    // all of the prompt, also those past the context; BOS and EOS left out
	Truncated bool    `json:"truncated"` // tokens past the context were dropped
	Chunks    int     `json:"chunks"`
}

// Token is one piece of a prompt as the tokenizer cut it.
type Token struct {
	Piece string `json:"piece"` // as in the vocabulary, "</w>" marks a word's end
	ID    int    `json:"id"`
	Word  int    `json:"word"` // index of the pre-token (word, number, run of punctuation) it belongs to
}

// QueueInfo tells how long the wait is.
type QueueInfo struct {
	Position int `json:"position"` // jobs ahead of this one
}

// JobError tells why a job ended without pictures.
type JobError struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"` // safe to show
	Param   string `json:"param,omitempty"`
}

// Result is what running a job gives: the part of a Job that a worker fills.
type Result struct {
	Images       []Image       `json:"images"`
	Timings      Timings       `json:"timings"` // encode, denoise, decode
	Conditioning *Conditioning `json:"conditioning,omitempty"`
	Health       *Health       `json:"health,omitempty"`
	Compare      *Comparison   `json:"compare,omitempty"`
}

// Event is a line of a job's event log, as GET /jobs/{id}/events sends it.
type Event struct {
	ID   string          // position in the log, for Last-Event-ID; rises
	Type string          // state, step, preview, done
	Data json.RawMessage // StateEvent, StepEvent, PreviewEvent, or for done the whole Job
}

// StateEvent is the data of a "state" event.
type StateEvent struct {
	State  State         `json:"state"`
	Queue  *QueueInfo    `json:"queue,omitempty"`
	Attack *AttackResult `json:"attack,omitempty"` // of a comparison, as soon as the typo is known
}

// StepEvent is the data of a "step" event.
type StepEvent struct {
	Step  int     `json:"step"` // 1…Steps, finished
	Steps int     `json:"steps"`
	ETAMS float64 `json:"eta_ms"` // expected milliseconds to the terminal state; 0 while the typos of a list are looked for
}

// PreviewEvent is the data of a "preview" event.
type PreviewEvent struct {
	Step  int    `json:"step"`
	Image string `json:"image"`          // data URL
	Cell  string `json:"cell,omitempty"` // of a comparison: "clean" or "attacked" and the arm, as in attackedrobust
}

// Report takes what happens while a job runs. It is given a StepEvent, a
// PreviewEvent or, once the typo of a comparison is known, a StateEvent, and must
// not block for long.
type Report func(event any)

// Task is one job in the hands of a Runner. Ctx ends when this job is to stop,
// whatever becomes of those beside it; Report takes what happens to it.
type Task struct {
	Job    Job
	Ctx    context.Context
	Report Report
}

// Outcome is what became of a task: its result, or why there is none.
type Outcome struct {
	Result Result
	Err    error
}

// Runner runs the jobs of one batch together, all of the same model and, where
// there are several, of the same batch key (Submission), and gives their
// outcomes in the same order. A task whose Ctx ends leaves the batch soon after
// and has Ctx's error; every other error is final for this attempt. The pictures
// of a task are stored when it returns.
type Runner func(tasks []Task) []Outcome
