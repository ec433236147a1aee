package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"leafserve"
	"leafserve/httpapi"
)

// withAttack gives a server an attack that doubles the first letter, and costs
// 100 texts an edit.
func withAttack(c *httpapi.Config) {
	c.ResolveAttack = func(a leafserve.Attack) (leafserve.Attack, error) {
		if a.Method == "" {
			a.Method = "leaf"
		}
		if a.Against == "" && a.Method == "leaf" {
			a.Against = "standard"
		}
		a.Edits = max(a.Edits, 1)
		if a.Edits > leafserve.MaxEdits {
			return a, leafserve.InvalidField("attack.edits", "edits is %d, want 1 to %d", a.Edits, leafserve.MaxEdits)
		}
		return a, nil
	}
	c.AttackCost = func(_ string, a leafserve.Attack) int { return 100 * a.Edits }
	c.Attack = func(ctx context.Context, req httpapi.AttackRequest) (leafserve.AttackResult, error) {
		return leafserve.AttackResult{Method: req.Attack.Method, Prompt: req.Prompt[:1] + req.Prompt, Candidates: 7,
			Drift: map[string]leafserve.Drift{req.Encoder: {Pooled: 0.5}}}, ctx.Err()
	}
}

func TestAttack(t *testing.T) {
	w := start(t, nil, withAttack)
	for _, tc := range []struct{ name, body, encoder, against string }{
		{"the default encoder", `{"prompt":"cat"}`, "standard", "standard"},
		{"by encoder", `{"prompt":"cat","encoder":"robust"}`, "robust", "robust"},
		{"by attack.against", `{"prompt":"cat","attack":{"against":"robust"}}`, "robust", "robust"},
		{"both, equal", `{"prompt":"cat","encoder":"robust","attack":{"against":"robust","edits":2}}`, "robust", "robust"},
		{"a method that reads no encoder", `{"prompt":"cat","attack":{"method":"random"}}`, "robust", ""},
		{"the same, named", `{"prompt":"cat","encoder":"standard","attack":{"method":"random"}}`, "standard", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := w.do("POST", "/attack", tc.body)
			got := parse[struct {
				Model, Encoder, Clean, Prompt string
				Candidates                    int
				Attack                        leafserve.Attack
				Drift                         map[string]leafserve.Drift
			}](t, r)
			if r.status != http.StatusOK || got.Model != "tiny" || got.Clean != "cat" || got.Prompt != "ccat" || got.Candidates != 7 {
				t.Errorf("got %d %s", r.status, r.body)
			}
			if got.Encoder != tc.encoder || got.Attack.Against != tc.against || got.Drift[tc.encoder].Pooled != 0.5 {
				t.Errorf("encoder %q, attack %+v, drift %v, want %s, against %q", got.Encoder, got.Attack, got.Drift, tc.encoder, tc.against)
			}
		})
	}
}

func TestAttackBadInput(t *testing.T) {
	w := start(t, nil, withAttack)
	for _, tc := range []struct{ name, body, param, text string }{
		{"no prompt", `{}`, "prompt", "empty"},
		{"blank prompt", `{"prompt":" \n"}`, "prompt", "empty"},
		{"long prompt", `{"prompt":"` + strings.Repeat("a", 4001) + `"}`, "prompt", "4001"},
		{"unknown model", `{"prompt":"a","model":"x"}`, "model", "tiny"},
		{"unknown encoder", `{"prompt":"a","encoder":"x"}`, "encoder", "robust, standard"},
		{"two encoders", `{"prompt":"a","encoder":"robust","attack":{"against":"standard"}}`, "encoder", "keep one"},
		{"unknown field", `{"prompt":"a","attack":{"k":1}}`, "attack.k", "unknown field"},
		{"what the attack refuses", `{"prompt":"a","attack":{"edits":9}}`, "attack.edits", "1 to 8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("POST", "/attack", tc.body), http.StatusBadRequest, tc.param, tc.text)
		})
	}
}

func TestLimits(t *testing.T) {
	w := start(t, nil, withAttack, func(c *httpapi.Config) { c.Limits = httpapi.Limits{PerMinute: 250} })
	wantError(t, w.do("POST", "/attack", `{"prompt":"a","attack":{"edits":3}}`), http.StatusBadRequest, "", "300 texts")
	if r := w.do("POST", "/attack", `{"prompt":"a","attack":{"edits":2}}`); r.status != http.StatusOK {
		t.Fatalf("within the share: %d %s", r.status, r.body)
	}
	r := w.do("POST", "/attack", `{"prompt":"a","attack":{"edits":2}}`, "X-Forwarded-For: 10.9.8.7")
	wantError(t, r, http.StatusTooManyRequests, "", "250 texts a minute")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r := w.do("POST", "/encode", `{"prompts":["a"]}`); r.status != http.StatusOK {
		t.Errorf("what is left of the share is refused: %d %s", r.status, r.body)
	}
}

// TestAtOnce: a request over the number that may compute is Busy, and a client
// that goes away frees its slot.
func TestAtOnce(t *testing.T) {
	running, ended := make(chan struct{}), make(chan struct{})
	w := start(t, nil, withAttack, func(c *httpapi.Config) {
		c.Limits.AtOnce = 1
		c.Attack = func(ctx context.Context, _ httpapi.AttackRequest) (leafserve.AttackResult, error) {
			defer close(ended)
			close(running)
			<-ctx.Done()
			return leafserve.AttackResult{}, ctx.Err()
		}
	})
	ctx, leave := context.WithCancel(context.Background())
	go w.try(ctx, "POST", "/attack", `{"prompt":"a"}`)
	<-running
	wantError(t, w.do("POST", "/encode", `{"prompts":["a"]}`), http.StatusTooManyRequests, "", "as many as this server runs at once")
	leave()
	<-ended
	for w.do("POST", "/encode", `{"prompts":["a"]}`).status != http.StatusOK { // the slot is given back just after the handler
		t.Log("not yet")
	}
}

func TestInvert(t *testing.T) {
	var got httpapi.InvertRequest
	w := start(t, nil, func(c *httpapi.Config) {
		c.Invert = func(_ context.Context, req httpapi.InvertRequest) (httpapi.Inversion, error) {
			got = req
			return httpapi.Inversion{Model: req.Model, Encoder: req.Encoder, Text: "a cat", Cosine: 0.9, Steps: req.Steps, Seed: *req.Seed}, nil
		}
	})
	for _, tc := range []struct {
		name, body    string
		encoder       string
		tokens, steps int
	}{
		{"a text", `{"text":"cat"}`, "robust", 0, 500},
		{"an embedding", `{"embedding":[1,2],"encoder":"standard"}`, "standard", 8, 500},
		{"all given", `{"embedding":[1],"tokens":3,"steps":7,"seed":18446744073709551615}`, "robust", 3, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := w.do("POST", "/invert", tc.body)
			if r.status != http.StatusOK || parse[httpapi.Inversion](t, r).Text != "a cat" {
				t.Fatalf("got %d %s", r.status, r.body)
			}
			if got.Encoder != tc.encoder || got.Tokens != tc.tokens || got.Steps != tc.steps || got.Model != "tiny" {
				t.Errorf("Invert got %+v, want encoder %s, %d tokens, %d steps", got, tc.encoder, tc.tokens, tc.steps)
			}
		})
	}
	for _, tc := range []struct{ name, body, param, text string }{
		{"neither", `{}`, "text", "text or an embedding"},
		{"both", `{"text":"a","embedding":[1]}`, "text", "not both"},
		{"blank text", `{"text":" "}`, "text", "empty"},
		{"steps", `{"text":"a","steps":5001}`, "steps", "1 to 5000"},
		{"tokens", `{"text":"a","tokens":76}`, "tokens", "1 to 75"},
		{"encoder", `{"text":"a","encoder":"x"}`, "encoder", "robust, standard"},
		{"a string for numbers", `{"embedding":"abc"}`, "embedding", "an array"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("POST", "/invert", tc.body), http.StatusBadRequest, tc.param, tc.text)
		})
	}
}
