package main

import (
	"context"

	"leafserve"
	"leafserve/gallery"
	"leafserve/httpapi"
)

// search answers GET /search.
func (s *service) search(ctx context.Context, r httpapi.SearchRequest) ([]httpapi.FoundPicture, error) {
	hits, err := s.find(ctx, r)
	if err != nil {
		return nil, err
	}
	found := make([]httpapi.FoundPicture, len(hits))
	for i, h := range hits {
		found[i] = httpapi.FoundPicture{Prompt: h.Prompt, URL: "/images/" + h.Name, Seed: h.Seed, Width: h.Width, Height: h.Height, Created: h.Created}
		if r.Text+r.Like != "" {
			found[i].Score = &hits[i].Score
		}
	}
	return found, nil
}

// find asks the index. Only a text needs the encoders.
func (s *service) find(ctx context.Context, r httpapi.SearchRequest) ([]gallery.Hit, error) {
	model := s.models.named(r.Model)
	switch {
	case r.Like != "":
		return s.index.Of(r.Client).Like(ctx, r.Like, r.K)
	case r.Text == "":
		return s.index.Of(r.Client).Newest(ctx, r.K)
	case model.space == "":
		return nil, leafserve.InvalidField("q", "model %s has no CLIP beside it, so its pictures cannot be searched by text: leave q out for the newest", r.Model)
	}
	encoders, err := model.encoders()
	if err != nil {
		return nil, err
	}
	query, err := encoders.Direction(ctx, r.Encoder, r.Text)
	if err != nil {
		return nil, err
	}
	return s.index.Of(r.Client).Search(ctx, model.space, query, r.K)
}
