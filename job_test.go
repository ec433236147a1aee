package leafserve_test

import (
	"encoding/json"
	"testing"
	"time"

	"leafserve"
)

func TestStateTerminal(t *testing.T) {
	for state, want := range map[leafserve.State]bool{
		leafserve.StateQueued: false, leafserve.StateRunning: false,
		leafserve.StateSucceeded: true, leafserve.StateFailed: true, leafserve.StateCanceled: true,
	} {
		if got := state.Terminal(); got != want {
			t.Errorf("%s: Terminal() = %v, want %v", state, got, want)
		}
	}
}

// The names in a job's JSON are a contract with clients.
func TestJobJSON(t *testing.T) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		job  leafserve.Job
		want string
	}{
		{
			"queued",
			leafserve.Job{ID: "1", Kind: "generate", State: leafserve.StateQueued, Request: leafserve.Request{Prompt: "an owl"},
				Images: []leafserve.Image{}, Queue: &leafserve.QueueInfo{Position: 3}, CreatedAt: at},
			`{"id":"1","kind":"generate","state":"queued","request":{"prompt":"an owl"},"progress":{"step":0,"steps":0},"images":[],` +
				`"timings":{"queued_ms":0,"encode_ms":0,"denoise_ms":0,"decode_ms":0,"total_ms":0},"queue":{"position":3},"created_at":"2026-11-24T08:00:00Z"}`,
		},
		{
			"succeeded",
			leafserve.Job{ID: "1", Kind: "generate", State: leafserve.StateSucceeded, Request: leafserve.Request{Prompt: "an owl"},
				Progress: leafserve.Progress{Step: 4, Steps: 4},
				Images:   []leafserve.Image{{URL: "/images/1.png", Seed: 1<<64 - 1, Width: 64, Height: 64, SHA256: "ab"}},
				Timings:  leafserve.Timings{QueuedMS: 1, EncodeMS: 2, DenoiseMS: 3, DecodeMS: 4.5, TotalMS: 11},
				Conditioning: &leafserve.Conditioning{Encoder: "robust", Chunks: 1,
					Tokens: []leafserve.Token{{Piece: "owl</w>", ID: 8325, Word: 0}}},
				CreatedAt: at, FinishedAt: &at},
			`{"id":"1","kind":"generate","state":"succeeded","request":{"prompt":"an owl"},"progress":{"step":4,"steps":4},` +
				`"images":[{"url":"/images/1.png","seed":18446744073709551615,"width":64,"height":64,"sha256":"ab"}],` +
				`"timings":{"queued_ms":1,"encode_ms":2,"denoise_ms":3,"decode_ms":4.5,"total_ms":11},` +
				`"conditioning":{"encoder":"robust","tokens":[{"piece":"owl\u003c/w\u003e","id":8325,"word":0}],"truncated":false,"chunks":1},` +
				`"created_at":"2026-11-24T08:00:00Z","finished_at":"2026-11-24T08:00:00Z"}`,
		},
		{
			"failed",
			leafserve.Job{ID: "1", State: leafserve.StateFailed, Images: []leafserve.Image{},
				Error: &leafserve.JobError{Kind: leafserve.Invalid, Message: "no", Param: "steps"}, CreatedAt: at},
			`{"id":"1","kind":"","state":"failed","request":{"prompt":""},"progress":{"step":0,"steps":0},"images":[],` +
				`"timings":{"queued_ms":0,"encode_ms":0,"denoise_ms":0,"decode_ms":0,"total_ms":0},` +
				`"error":{"kind":"invalid","message":"no","param":"steps"},"created_at":"2026-11-24T08:00:00Z"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(tc.job)
			if err != nil || string(got) != tc.want {
				t.Errorf("Marshal = %s, %v\nwant      %s", got, err, tc.want)
			}
		})
	}
}
