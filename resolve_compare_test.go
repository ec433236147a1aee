package leafserve_test

import (
	"cmp"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"leafserve"
)

// fillAttack stands for attack.Resolve: only leaf reads against.
func fillAttack(a leafserve.Attack) (leafserve.Attack, error) {
	a.Method = cmp.Or(a.Method, "leaf")
	if a.Method == "leaf" {
		a.Against = cmp.Or(a.Against, "standard")
	}
	if a.Edits > leafserve.MaxEdits {
		return a, leafserve.InvalidField("attack.edits", "too many edits")
	}
	a.Seed = cmp.Or(a.Seed, new(uint64(9)))
	return a, nil
}

func TestResolveCompareFills(t *testing.T) {
	got, err := leafserve.Request{Prompt: "an owl", Encoder: "robust", Seed: ptr(uint64(7)), Attack: &leafserve.Attack{Seed: ptr(uint64(8))}}.ResolveCompare(tiny, fillAttack)
	if err != nil {
		t.Fatal(err)
	}
	want := leafserve.Request{
		Prompt: "an owl", Model: "tiny", Seed: ptr(uint64(7)), RNG: "torch-cpu", Scheduler: "ddim", Sigmas: "model",
		Steps: ptr(20), GuidanceScale: ptr(3.5), GuidanceRescale: ptr(0.0), Eta: ptr(0.0), ClipSkip: ptr(0),
		Width: ptr(64), Height: ptr(32), N: ptr(1), OutputFormat: "png", Response: "url",
		Arms: []string{"standard", "robust"}, Attack: &leafserve.Attack{Method: "leaf", Against: "standard", Seed: ptr(uint64(8))},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ResolveCompare = %s\nwant             %s", asJSON(t, got), asJSON(t, want))
	}
}

func TestResolveCompareAuto(t *testing.T) {
	if got, err := (leafserve.Request{Prompt: "an owl", Encoder: "auto"}).ResolveCompare(tiny, fillAttack); err != nil || got.Encoder != "" {
		t.Errorf("ResolveCompare = encoder %q, %v", got.Encoder, err)
	}
}

// What is given stays, and a resolved request resolves to itself.
func TestResolveCompareKeeps(t *testing.T) {
	three := tiny
	three.Encoders = []string{"robust", "standard", "own"}
	for _, tc := range []struct {
		name string
		req  leafserve.Request
	}{
		{"little", leafserve.Request{Prompt: "an owl"}},
		{"list", leafserve.Request{Prompts: []string{"an owl", "a fox"}, Seeds: []uint64{5, math.MaxUint64}}},
		{"list of one", leafserve.Request{Prompts: []string{"an owl"}, N: ptr(1)}},
		{"longest list", leafserve.Request{Prompts: slices.Repeat([]string{"🦉"}, leafserve.MaxComparePrompts)}},
		{"three arms", leafserve.Request{Prompt: "an owl", Arms: []string{"own", "robust", "standard"}}},
		{"against another", leafserve.Request{Prompt: "an owl", Attack: &leafserve.Attack{Against: "own"}}},
		{"manual", leafserve.Request{Prompt: "an owl", Attack: &leafserve.Attack{Method: "manual", Prompt: "an owll"}, Previews: 3}},
		{"nobody's typo", leafserve.Request{Prompt: "an owl", Arms: []string{"own", "robust"}, AttackedPerArm: true, Attack: &leafserve.Attack{Method: "swap"}}},
		{"own typos", leafserve.Request{Prompt: "an owl", Arms: []string{"own", "robust"}, AttackedPerArm: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			once, err := tc.req.ResolveCompare(three, fillAttack)
			if err != nil {
				t.Fatal(err)
			}
			given, resolved := fields(t, tc.req), fields(t, once)
			delete(given, "attack") // filled inside
			for name, value := range given {
				if !reflect.DeepEqual(resolved[name], value) {
					t.Errorf("%s = %v, was given as %v", name, resolved[name], value)
				}
			}
			if once.Attack.Seed == nil || once.AttackedPerArm && once.Attack.Method == "leaf" && !slices.Contains(once.Arms, once.Attack.Against) {
				t.Errorf("attack %+v of arms %v", once.Attack, once.Arms)
			}
			twice, err := once.ResolveCompare(three, fillAttack)
			if err != nil || !reflect.DeepEqual(twice, once) {
				t.Errorf("ResolveCompare again = %s, %v\nwant %s", asJSON(t, twice), err, asJSON(t, once))
			}
		})
	}
}

// Without an encoder named robust, the first other one is compared.
func TestResolveCompareOtherEncoder(t *testing.T) {
	own := tiny
	own.Encoders, own.DefaultEncoder = []string{"standard", "own", "zero"}, "standard"
	got, err := leafserve.Request{Prompt: "an owl"}.ResolveCompare(own, fillAttack)
	if err != nil || !slices.Equal(got.Arms, []string{"standard", "own"}) {
		t.Errorf("arms %v, %v", got.Arms, err)
	}
}

func TestResolveCompareRefuses(t *testing.T) {
	alone := tiny
	alone.Encoders, alone.DefaultEncoder = []string{"standard"}, "standard"
	owl := func(change func(*leafserve.Request)) leafserve.Request {
		r := leafserve.Request{Prompt: "an owl"}
		change(&r)
		return r
	}
	attack := func(a leafserve.Attack) leafserve.Request {
		return owl(func(r *leafserve.Request) { r.Attack = &a })
	}
	for _, tc := range []struct {
		name, param, text string
		model             leafserve.ModelInfo
		req               leafserve.Request
	}{
		{"no prompt", "prompt", "empty", tiny, leafserve.Request{}},
		{"both", "prompts", "both given", tiny, owl(func(r *leafserve.Request) { r.Prompts = []string{"a fox"} })},
		{"empty list", "prompts", "0 entries, want 1 to 256", tiny, leafserve.Request{Prompts: []string{}}},
		{"long list", "prompts", "257 entries", tiny, leafserve.Request{Prompts: make([]string, 257)}},
		{"blank in a list", "prompts[1]", "empty", tiny, leafserve.Request{Prompts: []string{"an owl", " "}}},
		{"long in a list", "prompts[0]", "4001 characters", tiny, leafserve.Request{Prompts: []string{strings.Repeat("é", 4001)}}},
		{"not UTF-8", "negative_prompt", "UTF-8", tiny, leafserve.Request{Prompts: []string{"an owl"}, NegativePrompt: "\xff"}},
		{"previews of a list", "previews", "single prompt", tiny, leafserve.Request{Prompts: []string{"an owl"}, Previews: 1}},
		{"n", "n", "once", tiny, owl(func(r *leafserve.Request) { r.N = ptr(2) })},
		{"seeds", "seeds", "1 seeds for 2 prompts", tiny, leafserve.Request{Prompts: []string{"an owl", "a fox"}, Seeds: []uint64{1}}},
		{"seeds of one prompt", "seeds", "2 seeds for 1 pictures", tiny, owl(func(r *leafserve.Request) { r.Seeds = []uint64{1, 2} })},
		{"encoder", "encoder", "robust, standard", tiny, owl(func(r *leafserve.Request) { r.Encoder = "psychic" })},
		{"one encoder", "model", "needs two: add one with `leafserve models attach`", alone, owl(func(*leafserve.Request) {})},
		{"one arm", "arms", "1 encoders, want 2 to 4", tiny, owl(func(r *leafserve.Request) { r.Arms = []string{"robust"} })},
		{"five arms", "arms", "5 encoders", tiny, owl(func(r *leafserve.Request) { r.Arms = make([]string, 5) })},
		{"unknown arm", "arms", "robust, standard", tiny, owl(func(r *leafserve.Request) { r.Arms = []string{"robust", "psychic"} })},
		{"arm twice", "arms", `"robust" twice`, tiny, owl(func(r *leafserve.Request) { r.Arms = []string{"robust", "robust"} })},
		{"against", "attack.against", "robust, standard", tiny, attack(leafserve.Attack{Against: "psychic"})},
		{"typo equals the prompt", "attack.prompt", "no typo", tiny, attack(leafserve.Attack{Method: "manual", Prompt: "an owl"})},
		{"one typo for a list", "attack.method", "single prompt", tiny,
			leafserve.Request{Prompts: []string{"an owl"}, Attack: &leafserve.Attack{Method: "manual", Prompt: "an owll"}}},
		{"attack", "attack.edits", "too many", tiny, attack(leafserve.Attack{Edits: 9})},
		{"steps", "steps", "1 to 1000", tiny, owl(func(r *leafserve.Request) { r.Steps = ptr(0) })},
		{"size", "width", "multiple of 8", tiny, owl(func(r *leafserve.Request) { r.Width = ptr(9) })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.req.ResolveCompare(tc.model, fillAttack)
			var e *leafserve.Error
			if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != tc.param || !strings.Contains(e.Error(), tc.text) {
				t.Fatalf("ResolveCompare = %.200v, want Invalid %q with %q", err, tc.param, tc.text)
			}
		})
	}
	t.Run("against none of the arms", func(t *testing.T) {
		three := tiny
		three.Encoders = []string{"robust", "standard", "own"}
		r := leafserve.Request{Prompt: "an owl", Arms: []string{"own", "robust"}, AttackedPerArm: true, Attack: &leafserve.Attack{Against: "standard"}}
		if _, err := r.ResolveCompare(three, fillAttack); err == nil || !strings.Contains(err.Error(), "none of the arms") {
			t.Errorf("ResolveCompare = %v", err)
		}
	})
}

// The fields of a comparison do not pass for those of a picture.
func TestResolveRefusesComparisons(t *testing.T) {
	for param, req := range map[string]leafserve.Request{
		"prompts":          {Prompts: []string{"an owl"}},
		"attack":           {Prompt: "an owl", Attack: &leafserve.Attack{}},
		"arms":             {Prompt: "an owl", Arms: []string{}},
		"attacked_per_arm": {Prompt: "an owl", AttackedPerArm: true},
	} {
		_, err := req.Resolve(tiny)
		var e *leafserve.Error
		if !errors.As(err, &e) || e.Param != param || !strings.Contains(e.Error(), "POST /compare") {
			t.Errorf("Resolve with %s = %v", param, err)
		}
	}
}

func TestCaseSeeds(t *testing.T) {
	r := leafserve.Request{Prompts: []string{"a", "b", "c"}, Seed: ptr(uint64(math.MaxUint64)), N: ptr(1)}
	if got := r.ImageSeeds(); !slices.Equal(got, []uint64{math.MaxUint64, 0, 1}) {
		t.Errorf("ImageSeeds() = %v", got)
	}
	if got := r.CasePrompts(); !slices.Equal(got, r.Prompts) {
		t.Errorf("CasePrompts() = %v", got)
	}
	if got := (leafserve.Request{Prompt: "a"}).CasePrompts(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("CasePrompts() = %v", got)
	}
}
