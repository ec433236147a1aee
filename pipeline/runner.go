package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/tensor"
)

// Store keeps picture files; gallery.Folder is one.
type Store interface {
	// Put stores a file whole or not at all.
	Put(name string, data []byte) error
}

// File is a finished picture as it will be stored.
type File struct {
	Seed          uint64
	Width, Height int
	Data          []byte // in the request's output format, with metadata
}

// Runner gives a queue's runner: it makes the pictures of a job, stores them
// and reports steps and previews. A job for another model is Unavailable.
func (m *Model) Runner(store Store) leafserve.Runner {
	return func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		if job.Request.Model != m.Info.Name {
			return leafserve.Result{}, leafserve.Errorf(leafserve.Unavailable,
				"a worker with model %s met a job for %s: start the API and its workers with the same --model", m.Info.Name, job.Request.Model)
		}
		outs, err := m.Generate(ctx, []leafserve.Request{job.Request}, Options{OnStep: m.reporter(ctx, job.Request, report)})
		if err != nil {
			return leafserve.Result{}, err
		}
		files, err := m.Files(job.Request, outs[0])
		if err != nil {
			return leafserve.Result{}, err
		}
		result := leafserve.Result{Timings: outs[0].Timings, Conditioning: &outs[0].Conditioning}
		for i, f := range files {
			name := fmt.Sprintf("%s-%d.%s", strings.ToLower(job.ID), i, job.Request.OutputFormat)
			if err := store.Put(name, f.Data); err != nil {
				return leafserve.Result{}, err
			}
			sum := sha256.Sum256(f.Data)
			result.Images = append(result.Images, leafserve.Image{
				URL: "/images/" + name, Seed: f.Seed, Width: f.Width, Height: f.Height, SHA256: hex.EncodeToString(sum[:]),
			})
		}
		return result, nil
	}
}

// Files encodes the pictures of one request's output.
func (m *Model) Files(r leafserve.Request, out Output) ([]File, error) {
	files := make([]File, len(out.Seeds))
	for i, seed := range out.Seeds {
		img, err := gallery.Picture(out.Images.Row(i))
		if err != nil {
			return nil, fmt.Errorf("picture of seed %d: %w", seed, err)
		}
		var file bytes.Buffer
		if err := gallery.Encode(&file, img, r.OutputFormat, gallery.Parameters(r, seed, m.unet.Hash)); err != nil {
			return nil, err
		}
		files[i] = File{seed, img.Rect.Dx(), img.Rect.Dy(), file.Bytes()}
	}
	return files, nil
}

// reporter turns steps into events: how far, how long still, and where the
// request asks for them previews of the first picture. A preview that fails is
// left out; the job does not depend on it.
func (m *Model) reporter(ctx context.Context, r leafserve.Request, report leafserve.Report) func(Step) {
	start := time.Now()
	return func(s Step) {
		perStep := ms(time.Since(start)) / float64(s.Done)
		report(leafserve.StepEvent{Step: s.Done, Steps: s.All, ETAMS: perStep * float64(s.All-s.Done)})
		if r.Previews == 0 || s.Done%r.Previews != 0 || s.Done == s.All {
			return
		}
		if url, err := m.preview(ctx, s.X0.Row(0)); err == nil {
			report(leafserve.PreviewEvent{Step: s.Done, Image: url})
		}
	}
}

// preview decodes one clean latent [1,4,h,w] as seen at some step.
func (m *Model) preview(ctx context.Context, x0 tensor.Tensor) (string, error) {
	decoded, err := m.vae.Decode(ctx, x0)
	if err != nil {
		return "", err
	}
	img, err := gallery.Picture(decoded)
	if err != nil {
		return "", err
	}
	return gallery.Preview(img)
}
