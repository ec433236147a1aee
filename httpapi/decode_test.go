package httpapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"leafserve"
	"leafserve/httpapi"
)

// badBodies are bodies of POST /generate that must be refused.
var badBodies = []struct {
	name, body, param, text string
}{
	{"no body", "", "", "empty"},
	{"spaces", " \n", "", "empty"},
	{"null", "null", "", "null"},
	{"array", `["an owl"]`, "", "want a JSON object"},
	{"string", `"an owl"`, "", "want a JSON object"},
	{"not JSON", `prompt=owl`, "", "not valid JSON at byte 1"},
	{"cut", `{"prompt":"an o`, "", "not valid JSON"},
	{"two values", owl + owl, "", "after top-level value"},
	{"garbage behind", owl + "x", "", "after top-level value"},
	{"deep", `{"prompt":"a","scheduler_config":{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}}`, "", "max depth"},

	{"no prompt", `{}`, "prompt", "empty"},
	{"empty prompt", `{"prompt":""}`, "prompt", "empty"},
	{"blank prompt", `{"prompt":" \t\u00a0"}`, "prompt", "empty"},
	{"null prompt", `{"prompt":null}`, "prompt", "empty"},
	{"long prompt", `{"prompt":"` + strings.Repeat("é", 4001) + `"}`, "prompt", "4001 characters"},
	{"long negative prompt", `{"prompt":"a","negative_prompt":"` + strings.Repeat("a", 4001) + `"}`, "negative_prompt", "4000"},
	{"invalid UTF-8", "{\"prompt\":\"an o\xffwl\"}", "", "not valid UTF-8 at byte 16"},
	{"cut UTF-8", "{\"prompt\":\"\xf0\x9f\x98\"}", "", "not valid UTF-8"},
	{"encoded surrogate", "{\"prompt\":\"\xed\xa0\x80\"}", "", "not valid UTF-8"},
	{"half a pair", `{"prompt":"owl \ud83e!"}`, "", "surrogate pair at byte 16"},
	{"second half", `{"prompt":"\udd89"}`, "", "surrogate pair"},
	{"two first halves", `{"prompt":"\ud83e\ud83e"}`, "", "surrogate pair"},

	{"unknown field", `{"prompt":"a","colour":"red"}`, "colour", "unknown field"},
	{"wrong case", `{"Prompt":"a"}`, "Prompt", "unknown field"},
	{"long unknown field", `{"` + strings.Repeat("x", 9000) + `":1}`, strings.Repeat("x", 64) + "…", "unknown field"},
	{"unknown nested field", `{"prompt":"a","loras":[{"name":"x","scale":1},{"weight":1}]}`, "loras.weight", "unknown field"},

	{"words for not_before", `{"prompt":"a","not_before":"tomorrow"}`, "not_before", "want a time such as 2026-01-31T18:00:00Z"},
	{"no zone in not_before", `{"prompt":"a","not_before":"2026-11-24T16:00:00"}`, "not_before", "want a time such as"},
	{"number for not_before", `{"prompt":"a","not_before":1795515209}`, "not_before", "want a time such as"},
	{"object for not_before", `{"prompt":"a","not_before":{"day":1}}`, "not_before", "want a time such as"},
	{"not_before too late", `{"prompt":"a","not_before":"9999-01-01T00:00:00Z"}`, "not_before", "want a time within"},
	{"text for priority", `{"prompt":"a","priority":"high"}`, "priority", "want a whole number"},
	{"priority over 10", `{"prompt":"a","priority":11}`, "priority", "from -10 to 10"},
	{"priority under -10", `{"prompt":"a","priority":-11}`, "priority", "from -10 to 10"},
	{"text for timeout_s", `{"prompt":"a","timeout_s":"1m"}`, "timeout_s", "want a number"},
	{"negative timeout_s", `{"prompt":"a","timeout_s":-1}`, "timeout_s", "from 0 to"},
	{"timeout_s of a year", `{"prompt":"a","timeout_s":31536000}`, "timeout_s", "from 0 to"},

	{"number for prompt", `{"prompt":5}`, "prompt", "want a string"},
	{"text for steps", `{"prompt":"a","steps":"20"}`, "steps", "want a whole number"},
	{"half a step", `{"prompt":"a","steps":1.5}`, "steps", "1.5"},
	{"object for n", `{"prompt":"a","n":{}}`, "n", "want a whole number"},
	{"text for guidance", `{"prompt":"a","guidance_scale":"NaN"}`, "guidance_scale", "want a number"},
	{"NaN", `{"prompt":"a","guidance_scale":NaN}`, "", "not valid JSON at byte 32"},
	{"infinite", `{"prompt":"a","guidance_scale":1e999}`, "guidance_scale", "1e999"},
	{"infinite in an object", `{"prompt":"a","scheduler_config":{"beta_end":1e999}}`, "scheduler_config", "1e999"},
	{"list for scheduler_config", `{"prompt":"a","scheduler_config":[]}`, "scheduler_config", "want an object"},
	{"text for seeds", `{"prompt":"a","seeds":"1"}`, "seeds", "want an array"},
	{"text in seeds", `{"prompt":"a","seeds":["1"]}`, "seeds", "18446744073709551615"},
	{"text for a scale", `{"prompt":"a","loras":[{"name":"x","scale":"1"}]}`, "loras.scale", "want a number"},
	{"very long number", `{"prompt":"a","steps":` + strings.Repeat("9", 9000) + `}`, "steps", "999, want"},

	{"negative seed", `{"prompt":"a","seed":-1}`, "seed", "-1, want a whole number from 0 to 18446744073709551615"},
	{"seed over 64 bits", `{"prompt":"a","seed":18446744073709551616}`, "seed", "18446744073709551616"},
	{"half a seed", `{"prompt":"a","seed":1.5}`, "seed", "1.5"},
	{"seed and seeds", `{"prompt":"a","seed":1,"seeds":[1]}`, "seeds", "keep one"},
	{"seeds for other pictures", `{"prompt":"a","n":3,"seeds":[1,2]}`, "seeds", "2 seeds for 3"},

	{"no steps", `{"prompt":"a","steps":0}`, "steps", "1 to 1000"},
	{"10,000 steps", `{"prompt":"a","steps":10000}`, "steps", "10000"},
	{"odd width", `{"prompt":"a","width":65}`, "width", "multiple of 8"},
	{"zero height", `{"prompt":"a","height":0}`, "height", "multiple of 8"},
	{"negative width", `{"prompt":"a","width":-64}`, "width", "multiple of 8"},
	{"too large", `{"prompt":"a","width":512,"height":512}`, "width", "allows"},
	{"overflowing size", `{"prompt":"a","width":4611686018427387904,"height":64}`, "width", "allows"},
	{"no pictures", `{"prompt":"a","n":0}`, "n", "1 to 16"},
	{"many pictures", `{"prompt":"a","n":17}`, "n", "1 to 16"},
	{"guidance below 0", `{"prompt":"a","guidance_scale":-1}`, "guidance_scale", "0 to 100"},
	{"rescale over 1", `{"prompt":"a","guidance_rescale":1.1}`, "guidance_rescale", "0 to 1"},
	{"eta over 1", `{"prompt":"a","eta":2}`, "eta", "0 to 1"},
	{"clip_skip", `{"prompt":"a","clip_skip":2}`, "clip_skip", "0 to 1"},
	{"priority", `{"prompt":"a","priority":11}`, "priority", "from -10 to 10"},
	{"previews", `{"prompt":"a","previews":-1}`, "previews", "0 to"},

	{"unknown model", `{"prompt":"a","model":"sdxl"}`, "model", "tiny"},
	{"unknown encoder", `{"prompt":"a","encoder":"clip"}`, "encoder", "robust, standard"},
	{"unknown scheduler", `{"prompt":"a","scheduler":"nosuch"}`, "scheduler", "ddim"},
	{"unknown format", `{"prompt":"a","output_format":"gif"}`, "output_format", "png, jpeg, webp"},
	{"unknown response", `{"prompt":"a","response":"file"}`, "response", "url, b64_json"},

	{"init_image", `{"prompt":"a","init_image":"aGk="}`, "init_image", "not supported yet"},
	{"mask_image", `{"prompt":"a","mask_image":"aGk="}`, "mask_image", "not supported yet"},
	{"strength", `{"prompt":"a","strength":0.5}`, "strength", "not supported yet"},
	{"loras", `{"prompt":"a","loras":[{"name":"x","scale":1}]}`, "loras", "not supported yet"},
	{"webhook_url", `{"prompt":"a","webhook_url":"http://x"}`, "webhook_url", "not supported yet"},
}

func TestBadBodies(t *testing.T) {
	w := start(t, nil)
	for _, tc := range badBodies {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("POST", "/generate", tc.body, "Content-Type: application/json"), http.StatusBadRequest, tc.param, tc.text)
		})
	}
	if r := w.do("POST", "/generate", owl); r.status != http.StatusOK {
		t.Errorf("afterwards POST /generate = %d %s", r.status, r.body)
	}
}

func TestBodyOverTheLimit(t *testing.T) {
	w := start(t, nil)
	body := `{"prompt":"` + strings.Repeat("a", 1<<20) + `"}`
	wantError(t, w.do("POST", "/generate", body), http.StatusRequestEntityTooLarge, "", "1048576 bytes")
}

func TestContentType(t *testing.T) {
	w := start(t, nil)
	for _, tc := range []struct {
		media string
		ok    bool
	}{
		{"application/json", true},
		{"Application/JSON; charset=UTF-8", true},
		{"application/json; charset=latin1", false},
		{"application/x-www-form-urlencoded", false},
		{"text/plain", false},
		{"multipart/form-data; boundary=x", false},
		{"", false},
		{"application/json; charset", false},
	} {
		t.Run(tc.media, func(t *testing.T) {
			r := w.do("POST", "/generate", owl, "Content-Type: "+tc.media)
			if tc.ok && r.status != http.StatusOK {
				t.Errorf("got %d %s, want 200", r.status, r.body)
			}
			if !tc.ok {
				wantError(t, r, http.StatusUnsupportedMediaType, "", "application/json")
			}
		})
	}
}

func TestDecodeRequest(t *testing.T) {
	for _, tc := range []struct {
		name, body, prompt string
	}{
		{"plain", owl, "an owl"},
		{"pair of escapes", `{"prompt":"\ud83e\udd89"}`, "🦉"},
		{"escaped backslash before u", `{"prompt":"\\ud83e"}`, `\ud83e`},
		{"replacement character", `{"prompt":"\ufffd�"}`, "\ufffd\ufffd"},
		{"control characters", `{"prompt":"a\u0000b"}`, "a\x00b"},
		{"the last of two counts", `{"prompt":"a","prompt":"b"}`, "b"},
		{"nulls are not given", `{"prompt":"a","steps":null,"seed":null,"loras":null}`, "a"},
		{"free keys of scheduler_config", `{"prompt":"a","scheduler_config":{"Any":{"x":[1]}}}`, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := httpapi.DecodeRequest([]byte(tc.body))
			if err != nil || got.Prompt != tc.prompt {
				t.Errorf("DecodeRequest(%q) = %q, %v; want prompt %q", tc.body, got.Prompt, err, tc.prompt)
			}
		})
	}
}

// FuzzDecodeRequest checks that decoding never panics, that its errors are
// Invalid, and that what is accepted survives being written and read again.
func FuzzDecodeRequest(f *testing.F) {
	for _, tc := range badBodies {
		if len(tc.body) < 1000 {
			f.Add([]byte(tc.body))
		}
	}
	f.Add([]byte(owl))
	f.Add([]byte(`{"prompt":"\ud83e\udd89 <b>&\u2028","seed":18446744073709551615,"n":2,"scheduler_config":{"beta_end":0.012,"a":[1e300,null]}}`))
	f.Add([]byte(`{"prompt":"a","seeds":[0,1,2],"sigmas":"karras","eta":1e-320,"loras":[],"previews":3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := httpapi.DecodeRequest(body)
		if err != nil {
			var e *leafserve.Error
			if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Error() == "" {
				t.Fatalf("DecodeRequest(%q) = %v, want an Invalid error", body, err)
			}
			return
		}
		once := encode(t, req)
		again, err := httpapi.DecodeRequest(once)
		if err != nil {
			t.Fatalf("DecodeRequest(%q), written again as %q: %v", body, once, err)
		}
		if twice := encode(t, again); string(twice) != string(once) {
			t.Fatalf("DecodeRequest(%q): %q, then %q", body, once, twice)
		}
	})
}

func encode(t *testing.T, req leafserve.Request) []byte {
	t.Helper()
	out, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
