package pipeline

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"leafserve"
	"leafserve/attack"
	"leafserve/textenc"
)

// Attack damages prompts as a resolved attack says, and tells how far each of
// the encoders named in measured moves by that. Results are in the order of the
// prompts and depend on nothing but the attack and their own prompt; MS is the
// mean of the search. leaf and charmer search by the encoder a.Against, whose
// reading of the clean prompt is the anchor.
func (e Encoders) Attack(ctx context.Context, prompts []string, a leafserve.Attack, measured []string) ([]leafserve.AttackResult, error) {
	return e.damage(ctx, prompts, a, measured, 0)
}

// damage is Attack for a UNet that reads the states before the last skip layers:
// it is those that drift.
func (e Encoders) damage(ctx context.Context, prompts []string, a leafserve.Attack, measured []string, skip int) ([]leafserve.AttackResult, error) {
	start := time.Now()
	score, err := e.score(ctx, prompts, a)
	if err != nil {
		return nil, err
	}
	found, err := attack.Run(ctx, prompts, score, attack.ConfigOf(a))
	if err != nil {
		return nil, err
	}
	took := ms(time.Since(start)) / float64(len(prompts))
	results := make([]leafserve.AttackResult, len(found))
	for i, f := range found {
		results[i] = leafserve.AttackResult{
			Attack: a, Method: a.Method, Prompt: f.Prompt, Edits: f.Edits, Diff: attack.Diff(prompts[i], f.Prompt),
			Candidates: f.Candidates, MS: took, Drift: map[string]leafserve.Drift{},
		}
		for _, name := range measured {
			if err := e.measure(ctx, name, prompts[i], skip, &results[i]); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// score gives what leaf and charmer maximise, nil for other methods.
func (e Encoders) score(ctx context.Context, prompts []string, a leafserve.Attack) (attack.Score, error) {
	if a.Against == "" {
		return nil, nil
	}
	encoder, err := e.named(a.Against)
	if err != nil {
		return nil, err
	}
	objective := textenc.Objective(a.Objective)
	anchors, err := encoder.Anchors(ctx, prompts, objective)
	if err != nil {
		return nil, err
	}
	return encoder.Scores(objective, anchors), nil
}

// measure fills what one encoder makes of a typo.
func (e Encoders) measure(ctx context.Context, name, clean string, skip int, r *leafserve.AttackResult) error {
	encoder, err := e.named(name)
	if err != nil {
		return err
	}
	r.Tokens = leafserve.TokenPair{Clean: publicTokens(encoder.Tokenize(clean)), Attacked: publicTokens(encoder.Tokenize(r.Prompt))}
	d, err := encoder.Drift(ctx, clean, r.Prompt, skip)
	if err != nil {
		return err
	}
	r.Drift[name] = leafserve.Drift(d)
	return nil
}

// named finds an encoder.
func (e Encoders) named(name string) (*textenc.Encoder, error) {
	if encoder := e[name]; encoder != nil {
		return encoder, nil
	}
	return nil, leafserve.InvalidField("encoder", "there is no encoder %q, there is: %s", name, strings.Join(slices.Sorted(maps.Keys(e)), ", "))
}
