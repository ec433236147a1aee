package attack_test

import (
	"reflect"
	"strings"
	"testing"

	"leafserve"
	"leafserve/attack"
)

func TestResolve(t *testing.T) {
	seed := new(uint64(5))
	for _, tc := range []struct {
		name    string
		a, want leafserve.Attack
	}{
		{"nothing", leafserve.Attack{}, leafserve.Attack{
			Method: "leaf", Edits: 1, Rho: 50, Constraint: "strict", Objective: "pooled", Against: "standard",
		}},
		{"charmer", leafserve.Attack{Method: "charmer", Edits: 8, Against: "robust", Objective: "hidden"}, leafserve.Attack{
			Method: "charmer", Edits: 8, Rho: 20, Constraint: "strict", Objective: "hidden", Against: "robust",
		}},
		{"random", leafserve.Attack{Method: "random"}, leafserve.Attack{Method: "random", Edits: 1, Constraint: "no-increase"}},
		{"swap", leafserve.Attack{Method: "swap", Constraint: "none"}, leafserve.Attack{Method: "swap", Edits: 1, Constraint: "none"}},
		{"manual", leafserve.Attack{Method: "manual", Prompt: "a cta"}, leafserve.Attack{Method: "manual", Prompt: "a cta"}},
		{"the seed stays", leafserve.Attack{Method: "swap", Seed: seed}, leafserve.Attack{Method: "swap", Edits: 1, Constraint: "no-increase", Seed: seed}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := attack.Resolve(tc.a)
			if err != nil {
				t.Fatal(err)
			}
			if got.Seed == nil || tc.a.Seed != nil && *got.Seed != *tc.a.Seed {
				t.Errorf("the seed is %v", got.Seed)
			}
			again, err := attack.Resolve(got)
			if err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("resolved again it is %+v, %v", again, err)
			}
			if tc.want.Seed == nil {
				got.Seed = nil
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("Resolve = %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, tc := range []struct {
		name        string
		a           leafserve.Attack
		param, text string
	}{
		{"method", leafserve.Attack{Method: "pgd"}, "attack.method", `attack.method is "pgd", want one of: leaf, charmer, random, keyboard, swap, homoglyph, manual`},
		{"edits", leafserve.Attack{Edits: 9}, "attack.edits", "attack.edits is 9, want 1 to 8"},
		{"fewer than none", leafserve.Attack{Edits: -1}, "attack.edits", "attack.edits is -1, want 1 to 8"},
		{"rho", leafserve.Attack{Rho: 201}, "attack.rho", "attack.rho is 201, want 1 to 200"},
		{"constraint", leafserve.Attack{Constraint: "lax"}, "attack.constraint", `attack.constraint is "lax", want one of: strict, no-increase, none`},
		{"objective", leafserve.Attack{Objective: "l2"}, "attack.objective", `attack.objective is "l2", want one of: pooled, cosine, hidden`},
		{"rho of random", leafserve.Attack{Method: "random", Rho: 5}, "attack.rho", "attack.rho is for leaf and charmer, the method is random: leave it out"},
		{"against of swap", leafserve.Attack{Method: "swap", Against: "robust"}, "attack.against", "attack.against is for leaf and charmer, the method is swap: leave it out"},
		{"prompt of leaf", leafserve.Attack{Prompt: "x"}, "attack.prompt", "attack.prompt is for manual, the method is leaf: leave it out"},
		{"edits of manual", leafserve.Attack{Method: "manual", Prompt: "x", Edits: 1}, "attack.edits", "attack.edits is for all methods but manual, the method is manual: leave it out"},
		{"no prompt", leafserve.Attack{Method: "manual"}, "attack.prompt", "attack.prompt is missing: method manual takes the damaged prompt from it"},
		{"not UTF-8", leafserve.Attack{Method: "manual", Prompt: "\xff"}, "attack.prompt", "attack.prompt is not valid UTF-8"},
		{"too long", leafserve.Attack{Method: "manual", Prompt: strings.Repeat("é", 4001)}, "attack.prompt", "attack.prompt has 4001 characters, want 4000 at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := attack.Resolve(tc.a)
			e, ok := err.(*leafserve.Error)
			if !ok || e.Kind != leafserve.Invalid || e.Param != tc.param || e.Error() != tc.text {
				t.Errorf("Resolve = %v, want %s: %s", err, tc.param, tc.text)
			}
		})
	}
}
