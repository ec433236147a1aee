package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"strings"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/tensor"
)

// Store keeps picture files; gallery.Folder is one.
type Store interface {
	// Put stores a file whole or not at all.
	Put(ctx context.Context, name string, data []byte) error
}

// File is a finished picture as it will be stored.
type File struct {
	Seed    uint64
	Picture *image.NRGBA
	Data    []byte // Picture in the request's output format, with metadata
}

// Runner gives a queue's runner: it makes the pictures of a job, stores them
// and reports steps and previews; of a comparison also montage and report, and
// the typo as soon as it is known. A job for another model is Unavailable.
func (m *Model) Runner(store Store) leafserve.Runner {
	return func(tasks []leafserve.Task) []leafserve.Outcome {
		out := make([]leafserve.Outcome, len(tasks))
		for i, t := range tasks {
			out[i].Result, out[i].Err = m.runTask(t, store)
		}
		return out
	}
}

// runTask runs one job by itself.
func (m *Model) runTask(t leafserve.Task, store Store) (leafserve.Result, error) {
	if t.Job.Request.Model != m.Info.Name {
		return leafserve.Result{}, leafserve.Errorf(leafserve.Unavailable,
			"a worker with model %s met a job for %s: start the API and its workers with the same --model", m.Info.Name, t.Job.Request.Model)
	}
	shelf := shelf{store, strings.ToLower(t.Job.ID)}
	if t.Job.Kind == "compare" {
		return m.compare(t.Ctx, t.Job.Request, shelf, t.Report)
	}
	return m.pictures(t.Ctx, t.Job.Request, shelf, t.Report)
}

// pictures runs a job of kind generate.
func (m *Model) pictures(ctx context.Context, r leafserve.Request, shelf shelf, report leafserve.Report) (leafserve.Result, error) {
	progress := m.reporter(ctx, r, 0, report)
	first := [][]string{{""}} // only the first picture is shown on the way
	outs, err := m.Generate(ctx, []leafserve.Request{r}, Options{OnStep: func(s Step) { progress(s, first) }})
	if err != nil {
		return leafserve.Result{}, err
	}
	files, err := m.Files(r, outs[0])
	if err != nil {
		return leafserve.Result{}, err
	}
	result := leafserve.Result{Timings: outs[0].Timings, Conditioning: &outs[0].Conditioning, Health: m.health(ctx, r)}
	for i, f := range files {
		img, err := shelf.picture(ctx, i, r.OutputFormat, f)
		if err != nil {
			return leafserve.Result{}, err
		}
		result.Images = append(result.Images, img)
	}
	return result, nil
}

// shelf is where the files of one job go.
type shelf struct {
	store Store
	job   string // starts the files' names
}

// put stores a file and gives its URL: the job's name and suffix, under route.
func (s shelf) put(ctx context.Context, route, suffix string, data []byte) (url string, err error) {
	name := s.job + suffix
	return route + name, s.store.Put(ctx, name, data)
}

// picture stores picture number i of the job.
func (s shelf) picture(ctx context.Context, i int, format string, f File) (leafserve.Image, error) {
	url, err := s.put(ctx, "/images/", fmt.Sprintf("-%d.%s", i, format), f.Data)
	if err != nil {
		return leafserve.Image{}, err
	}
	sum := sha256.Sum256(f.Data)
	size := f.Picture.Rect.Size()
	return leafserve.Image{URL: url, Seed: f.Seed, Width: size.X, Height: size.Y, SHA256: hex.EncodeToString(sum[:])}, nil
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
		files[i] = File{seed, img, file.Bytes()}
	}
	return files, nil
}

// reporter turns steps into events: how far, how long still, and where the
// request asks for them previews of the first pictures of the batch: cells has
// for each the names of the cells that it fills. A preview that fails is left
// out; the job does not depend on it. The job has made before steps already.
func (m *Model) reporter(ctx context.Context, r leafserve.Request, before int, report leafserve.Report) func(s Step, cells [][]string) {
	start := time.Now()
	return func(s Step, cells [][]string) {
		perStep := ms(time.Since(start)) / float64(s.Done)
		report(leafserve.StepEvent{Step: before + s.Done, Steps: before + s.All, ETAMS: perStep * float64(s.All-s.Done)})
		if r.Previews == 0 || s.Done%r.Previews != 0 || s.Done == s.All {
			return
		}
		for i, names := range cells {
			url, err := m.preview(ctx, s.X0.Row(i))
			if err != nil {
				continue
			}
			for _, cell := range names {
				report(leafserve.PreviewEvent{Step: s.Done, Image: url, Cell: cell})
			}
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
