package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/ort"
	"leafserve/pipeline"
	"leafserve/queue"
)

// served is one model of a running process.
type served struct {
	*pipeline.Folder
	space     string                             // of its CLIP, "" for none
	loaded    atomic.Pointer[pipeline.Encoders]  // nil until the weights are there
	inverters atomic.Pointer[pipeline.Inverters] // stored before loaded
}

// modelSet are the models of a process by name; the first is the default.
type modelSet []*served

// describeAll reads the folders of the configured models, without weights.
func (c *Config) describeAll() (modelSet, error) {
	var all modelSet
	for name := range strings.SplitSeq(c.Model, ",") {
		folder, err := c.describeModel(name)
		if err != nil {
			return nil, err
		}
		m := &served{Folder: folder}
		if m.space, err = m.Space(); err != nil {
			return nil, err
		}
		if all.named(m.Info.Name) != nil {
			return nil, leafserve.InvalidField("model", "--model has %s twice: two models of one process have different names", m.Info.Name)
		}
		all = append(all, m)
	}
	return all, nil
}

// named is nil for a name that is not there.
func (ms modelSet) named(name string) *served {
	i := slices.IndexFunc(ms, func(m *served) bool { return m.Info.Name == name })
	if i < 0 {
		return nil
	}
	return ms[i]
}

func (ms modelSet) infos() (infos []leafserve.ModelInfo) {
	for _, m := range ms {
		infos = append(infos, m.Info)
	}
	return infos
}

func (ms modelSet) names() (names []string) {
	for _, m := range ms {
		names = append(names, m.Info.Name)
	}
	return names
}

// resolve and resolveCompare are the checks of the model that a request names.
func (ms modelSet) resolve(r leafserve.Request) (leafserve.Request, error) {
	return ms.named(r.Model).Resolve(r)
}

func (ms modelSet) resolveCompare(r leafserve.Request) (leafserve.Request, error) {
	return ms.named(r.Model).ResolveCompare(r)
}

// ready says whether all weights are there.
func (ms modelSet) ready(context.Context) error {
	for _, m := range ms {
		if _, err := m.encoders(); err != nil {
			return err
		}
	}
	return nil
}

// encoders gives the model's text encoders once they are loaded.
func (m *served) encoders() (pipeline.Encoders, error) {
	if e := m.loaded.Load(); e != nil {
		return *e, nil
	}
	return nil, &leafserve.Error{Kind: leafserve.Unavailable, RetryAfter: time.Second, Err: errors.New("the model is still being loaded: try again in a moment")}
}

// load reads the weights: those of the text encoders, and as a worker all.
func (m *served) load(rt *ort.Runtime, worker bool) (*pipeline.Model, error) {
	var model *pipeline.Model
	var encoders pipeline.Encoders
	var err error
	if worker {
		if model, err = pipeline.Load(rt, m.Folder); err != nil {
			return nil, err
		}
		encoders = model.Encoders
	} else if encoders, err = pipeline.LoadEncoders(rt, m.Folder); err != nil {
		return nil, err
	}
	m.inverters.Store(pipeline.NewInverters(rt, m.Folder))
	m.loaded.Store(&encoders)
	return model, nil
}

// crew are the loaded models of a worker by name.
type crew map[string]*pipeline.Model

// runner runs each batch, whose jobs are all for one model, on that model.
func (c crew) runner(pictures gallery.Store, index *gallery.Index) leafserve.Runner {
	runners := map[string]leafserve.Runner{}
	for name, m := range c {
		runners[name] = m.Runner(pictures, index)
	}
	return func(tasks []leafserve.Task) []leafserve.Outcome {
		return runners[tasks[0].Job.Request.Model](tasks)
	}
}

// room is how many pictures like a job's fit in memory together.
func (c crew) room(job leafserve.Job) int { return c[job.Request.Model].Room(job) }

// jobs is the queue as httpapi wants it: it adds what only the pipeline knows of
// a request, namely what it may share a batch with and how much work it is.
type jobs struct{ *queue.Queue }

// Enqueue completes the submission.
func (j jobs) Enqueue(ctx context.Context, req leafserve.Request, sub leafserve.Submission) (leafserve.Job, error) {
	if sub.Kind == "generate" {
		sub.Batch = pipeline.BatchKey(req)
	}
	sub.Cost = pipeline.Cost(req, sub.Kind)
	return j.Queue.Enqueue(ctx, req, sub)
}
