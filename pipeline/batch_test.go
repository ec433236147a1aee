package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// mixed are requests that agree in nothing but what a batch must share.
func mixed() []leafserve.Request {
	return []leafserve.Request{
		{Prompt: "a cat on a blue background", Seed: ptr(uint64(1)), GuidanceScale: ptr(2.0), Encoder: "standard"},
		{Prompt: "a 3d rocket on black", NegativePrompt: "blurry, grey", Seeds: []uint64{9, 3}, N: ptr(2), GuidanceScale: ptr(7.5), GuidanceRescale: ptr(0.7), OutputFormat: "webp"},
		{Prompt: "a flat piza", Seed: ptr(uint64(2)), GuidanceScale: ptr(3.0), ClipSkip: ptr(1), RNG: "philox", Previews: 2},
		{Prompt: "a cat on a blue background", NegativePrompt: "blurry, grey", Seed: ptr(uint64(1)), GuidanceScale: ptr(4.0), Encoder: "robust"},
	}
}

// tasksOf makes a task of each request, with names, and collects what each is told.
func tasksOf(t *testing.T, m *Model, ctx func(i int) context.Context, scheduler string, reqs []leafserve.Request) ([]leafserve.Task, [][]any) {
	t.Helper()
	tasks, events := make([]leafserve.Task, len(reqs)), make([][]any, len(reqs))
	for i, r := range reqs {
		r.Scheduler, r.Steps = scheduler, ptr(4)
		r, err := m.Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		tasks[i] = leafserve.Task{
			Job: leafserve.Job{ID: fmt.Sprintf("JOB%d", i), Kind: "generate", Request: r}, Ctx: ctx(i),
			Report: func(e any) { events[i] = append(events[i], e) },
		}
	}
	return tasks, events
}

// sums are the hashes of a result's files.
func sums(r leafserve.Result) (all []string) {
	for _, img := range r.Images {
		all = append(all, img.SHA256)
	}
	return all
}

// alone runs each task by itself and gives its hashes.
func alone(t *testing.T, m *Model, tasks []leafserve.Task) [][]string {
	t.Helper()
	want := make([][]string, len(tasks))
	for i, task := range tasks {
		store, _ := folder(t)
		result, err := leaftest.Run(t.Context(), m.Runner(store, nil), task.Job, func(any) {})
		if err != nil {
			t.Fatal(err)
		}
		want[i] = sums(result)
	}
	return want
}

func always(ctx context.Context) func(int) context.Context {
	return func(int) context.Context { return ctx }
}

// TestBatchedPictures: in one batch, and where memory asks for several, every job
// gets to the bit the files that it gets alone, and its own events. (The tolerance
// is 0 on a CPU, where rows do not meet; on a GPU it would be rounding's.)
func TestBatchedPictures(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, scheduler := range []string{"euler_a", "dpmpp_2m"} {
		tasks, events := tasksOf(t, m, always(t.Context()), scheduler, mixed())
		want := alone(t, m, tasks)
		for _, room := range []int{64, 2} {
			t.Run(fmt.Sprintf("%s, %d at a time", scheduler, room), func(t *testing.T) {
				clear(events)
				m.Info.MaxPixels = room * 64 * 64
				store, dir := folder(t)
				out := m.Runner(store, nil)(tasks)
				if names := fmt.Sprint(filesIn(t, dir)); names != "[job0-0.png job1-0.webp job1-1.webp job2-0.png job3-0.png]" {
					t.Errorf("stored %s", names)
				}
				for i, o := range out {
					if o.Err != nil {
						t.Fatal(o.Err)
					}
					if got := sums(o.Result); !slices.Equal(got, want[i]) {
						t.Errorf("job %d has the files %v, alone %v", i, got, want[i])
					}
					checkEvents(t, tasks[i].Job.Request, events[i], room)
					if o.Result.Conditioning.Encoder != tasks[i].Job.Request.Encoder || o.Result.Health == nil || o.Result.Timings.DenoiseMS <= 0 {
						t.Errorf("job %d: %+v", i, o.Result)
					}
				}
			})
		}
	}
}

// checkEvents wants every step once and in order, and previews where asked for.
func checkEvents(t *testing.T, r leafserve.Request, events []any, room int) {
	t.Helper()
	steps, previews := 0, 0
	for _, e := range events {
		switch e := e.(type) {
		case leafserve.StepEvent:
			if steps++; e.Step != steps {
				t.Errorf("%q: step %d comes as number %d", r.Prompt, e.Step, steps)
			}
		case leafserve.PreviewEvent:
			previews++
			checkPreview(t, e.Image)
		}
	}
	if want := 4 * ceilDiv(5, room); steps != want {
		t.Errorf("%q is told %d steps, want %d", r.Prompt, steps, want)
	}
	if (previews > 0) != (r.Previews > 0) {
		t.Errorf("%q has %d previews, asked for one every %d steps", r.Prompt, previews, r.Previews)
	}
}

// TestLeavingABatch: a job that is canceled while it runs beside others ends with
// its own context's error, hears of no further step and stores nothing; the others
// get to the bit what they get alone, whatever the sampler remembers of it.
func TestLeavingABatch(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, scheduler := range []string{"euler_a", "dpmpp_2m", "dpmpp_2m_sde", "pndm", "heun", "lcm"} {
		tasks, _ := tasksOf(t, m, always(t.Context()), scheduler, mixed())
		want := alone(t, m, tasks)
		for _, after := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, after step %d", scheduler, after), func(t *testing.T) {
				leaving, cancel := context.WithCancel(t.Context())
				defer cancel()
				const who = 1 // the job of two pictures
				tasks, _ := tasksOf(t, m, func(i int) context.Context {
					if i == who {
						return leaving
					}
					return t.Context()
				}, scheduler, mixed())
				steps := 0
				tasks[who].Report = func(e any) {
					if steps++; steps == after {
						cancel()
					}
				}
				store, dir := folder(t)
				for i, o := range m.Runner(store, nil)(tasks) {
					switch {
					case i == who && (o.Err != context.Canceled || o.Result.Images != nil):
						t.Errorf("the canceled job gives %+v, %v", o.Result, o.Err)
					case i != who && o.Err != nil:
						t.Errorf("job %d: %v", i, o.Err)
					case i != who && !slices.Equal(sums(o.Result), want[i]):
						t.Errorf("job %d has the files %v, alone %v", i, sums(o.Result), want[i])
					}
				}
				if steps != after {
					t.Errorf("the canceled job heard of %d steps, want %d", steps, after)
				}
				if names := filesIn(t, dir); len(names) != 3 || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "job1") }) {
					t.Errorf("stored %v, want the pictures of the three others", names)
				}
			})
		}
	}
}

// TestLeftRowsAreNotComputed: the UNet gives zeros for the pictures of an order
// that has left, and the same as before for the others.
func TestLeftRowsAreNotComputed(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	leaving, cancel := context.WithCancel(t.Context())
	stays, goes := noisy(t, m, "ddim"), noisy(t, m, "ddim") // three pictures each
	b := &batch{m: m, orders: []*order{
		{ctx: leaving, requests: []leafserve.Request{goes}}, {ctx: t.Context(), requests: []leafserve.Request{stays}},
	}}
	if err := b.encode(t.Context()); err != nil {
		t.Fatal(err)
	}
	x := draw(b.items, []int{6, 4, 16, 16})
	model := m.guide(b.items, true)
	before, err := model(t.Context(), x, 500)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	after, err := model(t.Context(), x, 500)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.items {
		want := before.Row(i)
		if i < 3 {
			want = tensor.New(1, 4, 16, 16)
		}
		leaftest.Close(t, fmt.Sprintf("picture %d", i), after.Row(i), want, 0)
	}
}

// TestAllLeaveABatch: with the last of its jobs the batch itself ends, each job by
// its own context's error.
func TestAllLeaveABatch(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	first, cancel := context.WithCancel(t.Context())
	late, expire := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer expire()
	contexts := []context.Context{first, late}
	tasks, _ := tasksOf(t, m, func(i int) context.Context { return contexts[i] }, "ddim", mixed()[:2])
	steps := 0
	tasks[0].Report = func(any) {
		if steps++; steps == 2 {
			cancel()
		}
	}
	tasks[1].Report = func(any) { t.Error("a job that had ended is told something") }
	store, dir := folder(t)
	out := m.Runner(store, nil)(tasks)
	if out[0].Err != context.Canceled || out[1].Err != context.DeadlineExceeded {
		t.Errorf("Runner = %v, %v, want the contexts' errors", out[0].Err, out[1].Err)
	}
	if names := filesIn(t, dir); steps != 2 || len(names) != 0 {
		t.Errorf("%d steps were taken and %v stored, want 2 and nothing", steps, names)
	}
}

// filesIn lists a folder's files.
func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestWhileAny: a context that lasts as long as any of some. That the native call
// ends with it is proven in package ort.
func TestWhileAny(t *testing.T) {
	a, cancelA := context.WithCancel(t.Context())
	b, cancelB := context.WithCancel(t.Context())
	ctx, stop := whileAny([]context.Context{a, b})
	defer stop()
	cancelA()
	if err := ctx.Err(); err != nil {
		t.Errorf("one of two has ended, and ctx: %v", err)
	}
	cancelB()
	<-ctx.Done() // or the test never ends

	c, cancelC := context.WithCancel(t.Context())
	defer cancelC()
	ctx, stop = whileAny([]context.Context{c})
	stop()
	if ctx.Err() == nil || c.Err() != nil {
		t.Errorf("after stop: %v, and the context it was made of: %v", ctx.Err(), c.Err())
	}
}

// panicky is a store that does not only fail.
type panicky struct{ Store }

func (p panicky) Put(ctx context.Context, name string, data []byte) error {
	if strings.HasPrefix(name, "job1") {
		panic("no such paint")
	}
	return p.Store.Put(ctx, name, data)
}

// TestErrorsInABatch: what goes wrong with one job alone is that job's alone; what
// the batch shares is the error of all, so that they can be tried one by one.
func TestErrorsInABatch(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	store, _ := folder(t)
	for _, tc := range []struct {
		name   string
		store  Store
		change func(job *leafserve.Job) // job 1
		others bool                     // fail, too
		says   string
	}{
		{"unknown encoder", store, func(j *leafserve.Job) { j.Request.Encoder = "psychic" }, false, `no encoder "psychic"`},
		{"unknown noise source", store, func(j *leafserve.Job) { j.Request.RNG = "dice" }, false, `"dice"`},
		{"clip_skip past the last layer", store, func(j *leafserve.Job) { j.Request.ClipSkip = ptr(99) }, false, "clip_skip is 99"},
		{"another model", store, func(j *leafserve.Job) { j.Request.Model = "other" }, false, "met a job for other"},
		{"another size", store, func(j *leafserve.Job) { j.Request.Width = ptr(96) }, false, ""},
		{"picture cannot be stored", brokenStore{store, "job1"}, nil, false, "out of paint"},
		{"storing panics", panicky{store}, nil, false, "no such paint"},
		{"latent of one is not finite", store, func(j *leafserve.Job) { j.Request.GuidanceScale = ptr(math.MaxFloat32) }, true, "no longer finite"},
		{"scheduler that is not there", store, func(j *leafserve.Job) { j.Request.Scheduler = "beuler" }, false, "beuler"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tasks, _ := tasksOf(t, m, always(t.Context()), "euler", mixed()[:3])
			if tc.change != nil {
				tc.change(&tasks[1].Job)
			}
			for i, o := range m.Runner(tc.store, nil)(tasks) {
				switch fails := tc.says != "" && (i == 1 || tc.others); {
				case fails && (o.Err == nil || !strings.Contains(o.Err.Error(), tc.says) || o.Result.Images != nil):
					t.Errorf("job %d: %v, want an error that says %q", i, o.Err, tc.says)
				case !fails && (o.Err != nil || len(o.Result.Images) != len(tasks[i].Job.Request.ImageSeeds())):
					t.Errorf("job %d: %+v, %v, want pictures", i, o.Result, o.Err)
				}
			}
		})
	}
	t.Run("beside a comparison", func(t *testing.T) {
		tasks, _ := tasksOf(t, m, always(t.Context()), "euler", mixed()[:2])
		compare := leafserve.Task{Job: compareJob(t, m, leafserve.Request{}), Ctx: t.Context(), Report: func(any) {}}
		out := m.Runner(store, nil)([]leafserve.Task{tasks[0], compare, tasks[1]})
		if err := errors.Join(out[0].Err, out[1].Err, out[2].Err); err != nil || out[1].Result.Compare == nil || len(out[2].Result.Images) != 2 {
			t.Errorf("Runner = %+v, %v", out, err)
		}
	})
}

func TestBatches(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	var reqs []leafserve.Request
	for _, r := range []leafserve.Request{{Steps: ptr(4)}, {Steps: ptr(5)}, {Steps: ptr(4), Encoder: "standard"}, {Steps: ptr(5)}} {
		r.Prompt = "a cat"
		r, err := f.Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, r)
	}
	comparison := reqs[0]
	comparison.Attack = &leafserve.Attack{}
	reqs = append(reqs, comparison, comparison)
	if got, want := fmt.Sprint(Batches(reqs)), "[[0 2] [1 3] [4] [5]]"; got != want {
		t.Errorf("Batches = %s, want %s", got, want)
	}
}

func TestCostAndRoom(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	generate := func(change func(r *leafserve.Request)) leafserve.Job {
		r := leafserve.Request{Prompt: "a cat"}
		if change != nil {
			change(&r)
		}
		r, err := m.Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		return leafserve.Job{Kind: "generate", Request: r}
	}
	two := leafserve.Request{Prompts: []string{"a cat", "a dog"}, Seeds: []uint64{1, 2}, Attack: &leafserve.Attack{Method: "random"}}
	comparison := compareJob(t, m, two) // of 2 steps
	searched := two
	searched.Attack = &leafserve.Attack{Rho: 50}
	for _, tc := range []struct {
		name string
		job  leafserve.Job
		cost float64
		room int
	}{
		{"a default picture", generate(nil), 1, 64},
		{"four", generate(func(r *leafserve.Request) { r.N = ptr(4) }), 4, 64},
		{"without guidance", generate(func(r *leafserve.Request) { r.GuidanceScale = ptr(1.0) }), 0.5, 64},
		{"half the steps", generate(func(r *leafserve.Request) { r.Steps = ptr(12) }), 0.48, 64},
		{"large", generate(func(r *leafserve.Request) { r.Width, r.Height = ptr(512), ptr(256) }), 32, 2},
		{"largest", generate(func(r *leafserve.Request) { r.Width, r.Height = ptr(512), ptr(512) }), 64, 1},
		{"a comparison", comparison, 8 * 2.0 / 25, 1},
		{"a searched comparison", compareJob(t, m, searched), 8*2.0/25 + float64(TextsRead(compareJob(t, m, searched).Request))/textsPerPicture, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Cost(tc.job.Request, tc.job.Kind); math.Abs(got-tc.cost) > 1e-9 || got <= 0 {
				t.Errorf("Cost = %v, want %v", got, tc.cost)
			}
			if got := m.Room(tc.job); got != tc.room {
				t.Errorf("Room = %d, want %d", got, tc.room)
			}
		})
	}
}
