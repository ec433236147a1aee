package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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

// Index takes note of stored pictures; gallery.Index is one.
type Index interface {
	Add(ctx context.Context, entries ...gallery.Entry) error
}

// Runner gives a queue's runner: it makes the pictures of jobs, stores them and
// reports steps and previews; of a comparison also montage and report, and the
// typo as soon as it is known. Jobs with the same BatchKey share the runs of the
// UNet and are stored at the same time; their timings are those of the batch. A
// job for another model is Unavailable. What was stored is added to index, where
// there is one, with its place in the space of the model's CLIP; a job does not
// fail because of that: it is logged.
func (m *Model) Runner(store Store, index Index) leafserve.Runner {
	r := &runner{m, store, index}
	return r.run
}

// runner runs the jobs of a queue.
type runner struct {
	m     *Model
	store Store
	index Index // nil for none
}

func (r *runner) run(tasks []leafserve.Task) []leafserve.Outcome {
	out := make([]leafserve.Outcome, len(tasks))
	var together []int // tasks of kind generate
	var requests []leafserve.Request
	for i, t := range tasks {
		switch {
		case t.Job.Request.Model != r.m.Info.Name:
			out[i].Err = leafserve.Errorf(leafserve.Unavailable,
				"a worker with model %s met a job for %s: start the API and its workers with the same --model", r.m.Info.Name, t.Job.Request.Model)
		case t.Job.Kind == "compare":
			out[i].Result, out[i].Err = r.m.compare(t.Ctx, t.Job.Request, r.shelf(t.Job), t.Report)
		default:
			together, requests = append(together, i), append(requests, t.Job.Request)
		}
	}
	for _, group := range Batches(requests) {
		batch := make([]leafserve.Task, len(group))
		for j, g := range group {
			batch[j] = tasks[together[g]]
		}
		for j, outcome := range r.pictures(batch) {
			out[together[group[j]]] = outcome
		}
	}
	return out
}

// storedAtOnce bounds how many jobs of a batch are stored at the same time.
const storedAtOnce = 8

// pictures runs jobs of kind generate that share the runs of the UNet.
func (r *runner) pictures(tasks []leafserve.Task) []leafserve.Outcome {
	orders := make([]*order, len(tasks))
	for i, t := range tasks {
		progress := r.m.reporter(t.Ctx, t.Job.Request, 0, t.Report)
		orders[i] = &order{ctx: t.Ctx, requests: []leafserve.Request{t.Job.Request}, onStep: func(s Step) {
			progress(s, [][]string{{""}}) // only the first picture is shown on the way
		}}
	}
	r.m.run(orders, nil)
	out := make([]leafserve.Outcome, len(tasks))
	var group errgroup.Group
	group.SetLimit(storedAtOnce)
	for i, o := range orders {
		group.Go(func() error {
			out[i].Result, out[i].Err = r.finish(tasks[i], o)
			return nil
		})
	}
	group.Wait() // its functions give no errors
	return out
}

// finish stores what a job's order gave. A panic is an error of this job: it
// runs beside others.
func (r *runner) finish(t leafserve.Task, o *order) (result leafserve.Result, err error) {
	if !o.live() {
		return leafserve.Result{}, o.err
	}
	defer func() {
		if p := recover(); p != nil {
			result, err = leafserve.Result{}, fmt.Errorf("storing the pictures panicked: %v\n%s", p, debug.Stack())
		}
	}()
	made := o.outs[0]
	result = leafserve.Result{Timings: made.Timings, Conditioning: &made.Conditioning, Health: r.m.health(t.Ctx, t.Job.Request)}
	err = traced(t.Ctx, "store", func(ctx context.Context) (err error) {
		result.Images, err = r.keep(ctx, t.Job, made)
		return err
	})
	if err != nil {
		return leafserve.Result{}, err
	}
	return result, nil
}

// keep stores the pictures of a job and adds them to the index.
func (r *runner) keep(ctx context.Context, job leafserve.Job, made Output) ([]leafserve.Image, error) {
	files, err := r.m.Files(job.Request, made)
	if err != nil {
		return nil, err
	}
	shelf := r.shelf(job)
	images := make([]leafserve.Image, len(files))
	for i, f := range files {
		if images[i], err = shelf.picture(ctx, i, job.Request.OutputFormat, f); err != nil {
			return nil, err
		}
	}
	if r.index != nil {
		shelf.enter(ctx, r.m.entries(ctx, job, images, files))
	}
	return images, nil
}

func (r *runner) shelf(job leafserve.Job) shelf {
	return shelf{r.store, r.index, strings.ToLower(job.ID), job.Client}
}

// shelf is where the files of one job go.
type shelf struct {
	store Store
	index Index  // nil for none
	job   string // starts the files' names
	of    string // whose job it is
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
// request asks for them previews of the pictures: cells has for each request of
// the step the names of the cells that its first one fills. A preview that fails is
// left out; the job does not depend on it. The job has made before steps already.
func (m *Model) reporter(ctx context.Context, r leafserve.Request, before int, report leafserve.Report) func(s Step, cells [][]string) {
	start := time.Now()
	return func(s Step, cells [][]string) {
		perStep := ms(time.Since(start)) / float64(s.Done)
		report(leafserve.StepEvent{Step: before + s.Done, Steps: before + s.All, ETAMS: perStep * float64(s.All-s.Done)})
		if r.Previews == 0 || s.Done%r.Previews != 0 || s.Done == s.All {
			return
		}
		for i, names := range cells {
			if s.First[i].Shape == nil {
				continue // a later part of the batch makes it
			}
			url, err := m.preview(ctx, s.First[i])
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
