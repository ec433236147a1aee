package main

import (
	"context"
	"time"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/invert"
	"leafserve/pipeline"
)

// attack answers POST /attack.
func (s *service) attack(ctx context.Context, r httpapi.AttackRequest) (leafserve.AttackResult, error) {
	model := s.models.named(r.Model)
	encoders, err := model.encoders()
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	found, err := encoders.Attack(ctx, []string{r.Prompt}, r.Attack, model.Info.Encoders)
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	return found[0], nil
}

// invert answers POST /invert.
func (s *service) invert(ctx context.Context, r httpapi.InvertRequest) (httpapi.Inversion, error) {
	model := s.models.named(r.Model)
	if _, err := model.encoders(); err != nil { // there are inverters from then on
		return httpapi.Inversion{}, err
	}
	return reconstruct(ctx, model.inverters.Load(), r, nil)
}

// reconstruct finds a text for an embedding, or for that of a text.
func reconstruct(ctx context.Context, inverters *pipeline.Inverters, r httpapi.InvertRequest, onStep func(step int, best []float64)) (httpapi.Inversion, error) {
	start := time.Now()
	v, err := inverters.Of(r.Encoder)
	if err != nil {
		return httpapi.Inversion{}, err
	}
	target, err := invertTarget(ctx, v, r)
	if err != nil {
		return httpapi.Inversion{}, err
	}
	cfg := invert.DefaultConfig()
	cfg.Steps, cfg.OnStep = r.Steps, onStep
	found, err := v.Invert(ctx, []invert.Target{target}, cfg)
	if err != nil {
		return httpapi.Inversion{}, err
	}
	out := httpapi.Inversion{
		Model: r.Model, Encoder: r.Encoder, Text: found[0].Text, Cosine: found[0].Cosine,
		Steps: r.Steps, Seed: *r.Seed, MS: float64(time.Since(start).Microseconds()) / 1000,
	}
	if r.Text != "" {
		overlap := invert.Compare(r.Text, out.Text, v.IDs(r.Text), found[0].IDs)
		out.WordRecall, out.TokenRecall = new(overlap.WordRecall()), new(overlap.TokenRecall())
	}
	return out, nil
}

// invertTarget is what a request wants to be found; Invert checks it.
func invertTarget(ctx context.Context, v *invert.Inverter, r httpapi.InvertRequest) (invert.Target, error) {
	target := invert.Target{Embedding: r.Embedding}
	if r.Text != "" {
		targets, err := v.Embed(ctx, r.Text)
		if err != nil {
			return target, err
		}
		target = targets[0]
	}
	if r.Tokens > 0 {
		target.Tokens = r.Tokens
	}
	target.Seed = *r.Seed
	return target, nil
}
