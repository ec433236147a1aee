package eval

import (
	"context"
	"fmt"

	"leafserve/attack"
	"leafserve/eval/data"
	"leafserve/textenc"
)

// TextFARE measures the distances that LEAF's training brings down: of texts S
// and their worst forms S*, ‖f0(S) − f(S*)‖², where f0 is the standard encoder
// and f the arm: of pooled embeddings (pooled) and of the hidden states that the
// UNet reads, a mean over tokens (hidden). Both distances are measured under
// searches for both, so that it shows whether an encoder that holds against the
// pooled search holds against the hidden one too.
func TextFARE(ctx context.Context, r *Run, f0 *textenc.Encoder, texts []string, own []data.Typos, methods []string) (Result, error) {
	texts = first(r, texts)
	r.all = len(texts) * (1 + r.searches()*len(methods)*len(objectives))
	typos, err := r.typos(ctx, texts, first(r, own))
	if err != nil {
		return Result{}, err
	}
	anchors := map[textenc.Objective][]textenc.Anchor{}
	for _, o := range objectives {
		if anchors[o], err = f0.Anchors(ctx, texts, o); err != nil {
			return Result{}, err
		}
	}
	var all []Series
	for _, arm := range r.arms {
		attacks := []attacked{{"random", typos}}
		for _, method := range methods {
			for _, o := range objectives {
				name := fmt.Sprintf("%s on %s", method, o)
				worst, err := r.attackArm(name, arm, func(arm Arm) ([]damaged, error) {
					return r.damage(ctx, name, arm.Name, texts, r.searchAll(method, texts), arm.away(o, anchors[o]))
				})
				if err != nil {
					return Result{}, err
				}
				attacks = append(attacks, worst...)
			}
		}
		series, err := measure(r.Edits, arm, attacks, func(texts []string) ([]figure, error) { return arm.distances(ctx, texts, anchors) })
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	return newResult("textfare", r.Settings, []string{
		"Squared L2 distance of the arm's state of the damaged text to the standard encoder's of the clean one; lower is better.",
		"The name of an attack says which of the distances its search raises.", adaptive, typosNote,
	}, all), nil
}

// objectives are the distances measured and attacked.
var objectives = []textenc.Objective{textenc.Pooled, textenc.Hidden}

// distances of one form of every text to its anchors.
func (a Arm) distances(ctx context.Context, texts []string, anchors map[textenc.Objective][]textenc.Anchor) ([]figure, error) {
	owner := make([]int, len(texts))
	for i := range owner {
		owner[i] = i
	}
	var out []figure
	for _, o := range objectives {
		values, err := a.drift(o, anchors[o])(ctx, texts, owner)
		if err != nil {
			return nil, err
		}
		out = append(out, figure{string(o), values})
	}
	return out, nil
}

// Brute is the search over all slots and symbols: Charmer that keeps all slots.
const Brute = "brute"

// searchAll is search that also knows Brute.
func (r *Run) searchAll(method string, texts []string) attack.Config {
	if method != Brute {
		return r.search(method)
	}
	cfg := r.search(attack.Charmer)
	for _, t := range texts {
		cfg.Rho = max(cfg.Rho, 2*(len(t)+r.most())+1)
	}
	return cfg
}
