package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"leafserve"
)

func testReplay(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	g := newGate()
	b.work(t, WorkerConfig{}, func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		g.started <- job
		report(leafserve.StepEvent{Step: 1, Steps: 2, ETAMS: 30})
		report(leafserve.PreviewEvent{Step: 1, Image: "data:,"})
		<-g.through
		report(leafserve.StepEvent{Step: 2, Steps: 2})
		return picture(job), nil
	})
	first(t, "the job to start", g.started)
	var live []leafserve.Event
	for e, err := range b.Events(within(t), id, "") {
		if err != nil {
			t.Fatal(err)
		}
		live = append(live, e)
		if e.Type == "preview" {
			close(g.through)
		}
	}
	want := []string{"queued 0", "running", "step", "preview", "step", "done"}
	if got := kinds(t, live); !slices.Equal(got, want) {
		t.Fatalf("live reader got %v, want %v", got, want)
	}
	if want := `{"step":1,"steps":2,"eta_ms":30}`; string(live[2].Data) != want {
		t.Errorf("step data = %s, want %s", live[2].Data, want)
	}
	for i, e := range live {
		if i > 0 && e.ID <= live[i-1].ID && len(e.ID) == len(live[i-1].ID) {
			t.Errorf("event %d has id %s after %s", i, e.ID, live[i-1].ID)
		}
		if e.Type == "done" {
			break
		}
		if got, want := kinds(t, b.follow(t, id, e.ID)), want[i+1:]; !slices.Equal(got, want) {
			t.Errorf("late reader after event %d got %v, want %v", i, got, want)
		}
	}
	if got := kinds(t, b.follow(t, id, "")); !slices.Equal(got, want) {
		t.Errorf("late reader got %v, want %v", got, want)
	}
	for e, err := range b.Events(within(t), id, live[5].ID) {
		t.Errorf("after done comes %v, %v, want nothing", e, err)
	}
}

func testEventIDs(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	for _, after := range []string{"x", "-", "+", "$", "1", "1-", "(1-1", "1-1 ", "99999999999999999999-1"} {
		for _, err := range b.Events(t.Context(), id, after) {
			wantKind(t, fmt.Sprintf("Events after %q", after), err, leafserve.Invalid)
		}
	}
}

func testPositions(t *testing.T, b *rig) {
	var last leafserve.Job
	for i := range 3 {
		last = b.enqueue(t, fmt.Sprint(i))
	}
	var got []string
	for e, err := range b.Events(within(t), last.ID, "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, kinds(t, []leafserve.Event{e})...)
		if e.Type == "done" {
			break
		}
		b.finish(t, b.claimed(t)) // the next one ahead, at last the job itself
		if len(got) == 3 {
			break
		}
	}
	if want := []string{"queued 2", "queued 1", "queued 0"}; !slices.Equal(got, want) {
		t.Errorf("positions = %v, want %v", got, want)
	}
}

func testEventCap(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	c := b.claimed(t)
	for i := range 1000 {
		b.step(t, c, i+1)
	}
	b.finish(t, c)
	all := b.follow(t, id, "")
	if n := len(all); n < 100 || n > 250 {
		t.Errorf("%d events kept, want about 100", n)
	}
	if got := b.job(t, id).Progress; got.Step != 1000 {
		t.Errorf("progress = %+v, want step 1000", got)
	}
}

// testProgress reports faster than Redis takes it, and while it is away.
func testProgress(t *testing.T, b *rig) {
	step := func(n int) leafserve.StepEvent { return leafserve.StepEvent{Step: n, Steps: 20} }
	id := b.enqueue(t, "p").ID
	c := b.claimed(t)
	p := &progress{q: b.Queue, c: c, added: make(chan struct{}, 1)}
	for _, e := range []any{step(1), step(2), leafserve.PreviewEvent{Step: 2}, step(3), "no event", step(4)} {
		p.report(e)
	}
	b.line.cut.Store(true)
	wantKind(t, "flush while Redis is away", p.flush(t.Context()), leafserve.Unavailable)
	b.line.cut.Store(false)
	late := p.pending
	p.pending = nil // as while a flush is under way
	p.report(leafserve.PreviewEvent{Step: 4})
	p.keep(late)
	if err := p.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.finish(t, c)
	var got []string
	for _, e := range b.follow(t, id, "")[2:4] {
		got = append(got, string(e.Data))
	}
	if want := []string{`{"step":4,"steps":20,"eta_ms":0}`, `{"step":4,"image":""}`}; !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

// testCells: pictures of a comparison do not replace each other, and the typo
// is kept until it is sent.
func testCells(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	c := b.claimed(t)
	p := &progress{q: b.Queue, c: c, added: make(chan struct{}, 1)}
	p.report(leafserve.StateEvent{State: leafserve.StateRunning, Attack: &leafserve.AttackResult{Prompt: "ap"}})
	for step := range 3 {
		p.report(leafserve.StepEvent{Step: step + 1, Steps: 3})
		for _, cell := range []string{"cleanrobust", "attackedrobust"} {
			p.report(leafserve.PreviewEvent{Step: step + 1, Cell: cell})
		}
	}
	if err := p.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.finish(t, c)
	var got []string
	for _, e := range b.follow(t, id, "")[2:6] {
		var data struct {
			Step   int
			Cell   string
			State  leafserve.State
			Attack struct{ Prompt string }
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %d %s", e.Type, data.State, data.Attack.Prompt, data.Step, data.Cell))
	}
	if want := []string{"state running ap 0 ", "step   3 ", "preview   3 cleanrobust", "preview   3 attackedrobust"}; !slices.Equal(got, want) {
		t.Errorf("events = %q, want %q", got, want)
	}
}

func testReaderLeaves(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	for range b.Events(t.Context(), id, "") {
		break // takes one event and goes
	}
	ctx, cancel := context.WithCancel(t.Context())
	for _, err := range b.Events(ctx, id, "") {
		if err != nil {
			wantKind(t, "Events", err, leafserve.Canceled)
		}
		cancel()
	}
	if ctx.Err() == nil {
		t.Error("Events ended before its context")
	}
	cancel()
	if n := len(b.hub.waiters); n != 0 {
		t.Errorf("%d topics are waited for, want 0", n)
	}
}

func TestHubWakesAll(t *testing.T) {
	client := startEmbedded(t)
	h := newHub(client, "news")
	a, c := h.join("a"), h.join("c")
	defer h.leave(a)
	defer h.leave(c)
	first(t, "the subscription, on a", a.C)
	first(t, "the subscription, on c", c.C)
	if err := client.Publish(t.Context(), "news", "a").Err(); err != nil {
		t.Fatal(err)
	}
	first(t, "news of a", a.C)
	select {
	case <-c.C:
		t.Error("c was woken by news of a")
	default:
	}
}

// FuzzStrangers sends what clients may send where ids are expected. Whatever
// it is, the answer is theirs to correct, and no event is made up.
func FuzzStrangers(f *testing.F) {
	for _, s := range []string{"", "0-0", "1700000000000-0", "01JGXXXXXXXXXXXXXXXXXXXXXX", "+", "\x00", "{main}"} {
		f.Add(s, s, s)
	}
	client := startEmbedded(f)
	q := New(client, Config{})
	job, err := q.Enqueue(f.Context(), ask("p"), leafserve.Submission{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, after, cursor string) {
		if _, err := q.Job(t.Context(), id); id != job.ID {
			wantKind(t, "Job", err, leafserve.NotFound)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		for e, err := range q.Events(ctx, job.ID, after) {
			if k := leafserve.KindOf(err); k != "" && k != leafserve.Invalid && k != leafserve.Canceled {
				t.Errorf("Events after %q: %v", after, err)
			}
			if err == nil && e.Type != "state" {
				t.Errorf("Events after %q gave %v", after, e)
			}
			cancel()
		}
		if _, _, err := q.List(t.Context(), leafserve.ListQuery{Limit: 1, Cursor: cursor}); err != nil {
			wantKind(t, "List", err, leafserve.Invalid)
		}
		if _, err := q.Enqueue(t.Context(), ask(after), leafserve.Submission{IdempotencyKey: id}); err != nil {
			if k := leafserve.KindOf(err); k != leafserve.Conflict && k != leafserve.Busy {
				t.Errorf("Enqueue with key %q: %v", id, err)
			}
		}
	})
}
