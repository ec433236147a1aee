package attack

import (
	"context"
	"testing"

	"leafserve"
)

// TestCost: no attack asks about more texts than Cost says, and leaf about many
// of them.
func TestCost(t *testing.T) {
	seed := uint64(3)
	for _, tc := range []struct {
		name   string
		attack leafserve.Attack
	}{
		{"leaf", leafserve.Attack{Method: Leaf, Edits: 3, Rho: 50, Constraint: None}},
		{"leaf, more slots asked for than there are", leafserve.Attack{Method: Leaf, Edits: 2, Rho: 200, Constraint: None}},
		{"charmer", leafserve.Attack{Method: Charmer, Edits: 2, Rho: 20, Constraint: None}},
		{"brute force", leafserve.Attack{Method: Charmer, Edits: 1, Rho: 200, Constraint: None}},
		{"random", leafserve.Attack{Method: Random, Edits: 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const prompt = "a small cat on a mat"
			tc.attack.Seed = &seed
			a, err := Resolve(tc.attack)
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			score := func(_ context.Context, texts []string, _ []int) ([]float64, error) {
				asked += len(texts)
				scores := make([]float64, len(texts))
				for i, text := range texts {
					scores[i] = float64(len(text))
				}
				return scores, nil
			}
			if _, err := Run(t.Context(), []string{prompt}, score, ConfigOf(a)); err != nil {
				t.Fatal(err)
			}
			if cost := Cost(prompt, a); asked > cost || cost > 0 && asked < cost/4 {
				t.Errorf("Cost is %d, Score was asked about %d", cost, asked)
			}
		})
	}
}

// TestCostOfHidden: a text of hidden takes the time of several of the others.
func TestCostOfHidden(t *testing.T) {
	for _, method := range []string{Leaf, Charmer} {
		a := leafserve.Attack{Method: method, Edits: 2, Rho: 20}
		cost := map[string]int{}
		for _, a.Objective = range objectives {
			cost[a.Objective] = Cost("a small cat on a mat", a)
		}
		if cost["pooled"] == 0 || cost["cosine"] != cost["pooled"] || cost["hidden"] != 8*cost["pooled"] {
			t.Errorf("%s: Cost is %v, want hidden eight times the others", method, cost)
		}
	}
}
