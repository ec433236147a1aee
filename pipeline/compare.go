package pipeline

import (
	"context"
	"slices"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/stats"
	"leafserve/tensor"
)

// comparison is a comparison in the making.
type comparison struct {
	m        *Model
	request  leafserve.Request
	shelf    shelf
	tell     leafserve.Report
	start    time.Time
	judge    *Judge                     // nil where the model has no CLIP
	typos    [][]leafserve.AttackResult // [cases], of each one for all arms or one an arm
	searched int                        // steps of a list that its search took
	sheet    sheet
}

// compare runs a job of kind compare: it looks for the typos, draws every arm's
// clean and damaged prompt from the same noise, judges, and stores the pictures,
// the montage and the report.
func (m *Model) compare(ctx context.Context, r leafserve.Request, shelf shelf, tell leafserve.Report) (leafserve.Result, error) {
	judge, err := m.Judge()
	if err != nil {
		return leafserve.Result{}, err
	}
	c := &comparison{m: m, request: r, shelf: shelf, tell: tell, start: time.Now(), judge: judge}
	if err := traced(ctx, "attack", c.attack); err != nil {
		return leafserve.Result{}, err
	}
	c.sheet = layOut(r, func(i, arm int) string { return c.typo(i, arm).Prompt })
	timings, err := c.draw(ctx)
	if err != nil {
		return leafserve.Result{}, err
	}
	cases, err := c.cases(ctx)
	if err != nil {
		return leafserve.Result{}, err
	}
	result := leafserve.Result{Timings: timings}
	for _, d := range c.sheet.drawings {
		result.Images = append(result.Images, d.image)
	}
	err = traced(ctx, "store", func(ctx context.Context) (err error) {
		result.Compare, err = c.publish(ctx, cases)
		return err
	})
	if err != nil {
		return leafserve.Result{}, err
	}
	if c.shelf.index != nil {
		c.shelf.enter(ctx, c.entries())
	}
	return result, nil
}

// entries are the index entries of all pictures, by what was drawn.
func (c *comparison) entries() []gallery.Entry {
	entries := make([]gallery.Entry, len(c.sheet.drawings))
	for i, d := range c.sheet.drawings {
		entries[i] = entry(d.request.Prompt, d.image)
		if c.judge != nil {
			entries[i].Space, entries[i].Embedding = c.judge.Space, d.row.Data
		}
	}
	return entries
}

// attackedAtOnce is how many prompts of a list are attacked at a time.
const attackedAtOnce = 16

// attack finds the typos of all cases, one for all arms or one an arm. That of
// a single prompt is told at once; of a list it is told how far the search is.
func (c *comparison) attack(ctx context.Context) error {
	prompts, how := c.request.CasePrompts(), *c.request.Attack
	rivals := []string{how.Against}
	if c.request.AttackedPerArm && how.Against != "" {
		rivals = c.request.Arms
	}
	steps, err := c.mostSteps(len(rivals))
	if err != nil {
		return err
	}
	c.typos = make([][]leafserve.AttackResult, len(prompts))
	for _, against := range rivals {
		how.Against = against
		for first := 0; first < len(prompts); first += attackedAtOnce {
			part := prompts[first:min(first+attackedAtOnce, len(prompts))]
			found, err := c.m.Encoders.damage(ctx, part, how, c.request.Arms, *c.request.ClipSkip)
			if err != nil {
				return err
			}
			for i, typo := range found {
				c.typos[first+i] = append(c.typos[first+i], typo)
			}
			if c.request.Prompts != nil {
				c.searched++
				c.tell(leafserve.StepEvent{Step: c.searched, Steps: steps})
			}
		}
	}
	if c.request.Prompts == nil {
		c.tell(leafserve.StateEvent{State: leafserve.StateRunning, Attack: new(c.shown(0))})
	}
	return nil
}

// mostSteps bounds the steps of a list that is searched some times: those of the
// search, and of drawing as if no two pictures were the same. It is exact once
// the typos are known (draw), so that the share done never falls.
func (c *comparison) mostSteps(searches int) (int, error) {
	schedule, err := c.m.schedule(c.request)
	if err != nil {
		return 0, err
	}
	cases := len(c.request.CasePrompts())
	batches := ceilDiv(2*len(c.request.Arms)*cases, c.m.batchSize(c.request))
	return searches*ceilDiv(cases, attackedAtOnce) + batches*len(schedule.Timesteps), nil
}

// ceilDiv is a/b, rounded up.
func ceilDiv(a, b int) int { return (a + b - 1) / b }

// typo is what case i gives to an arm.
func (c *comparison) typo(i, arm int) leafserve.AttackResult {
	return c.typos[i][min(arm, len(c.typos[i])-1)]
}

// shown is the typo that case i shows: the one for all arms, or that of the arm
// which attack.against names.
func (c *comparison) shown(i int) leafserve.AttackResult {
	return c.typo(i, max(0, slices.Index(c.request.Arms, c.request.Attack.Against)))
}

// cases gathers the figures, in the order of the prompts.
func (c *comparison) cases(ctx context.Context) ([]leafserve.Case, error) {
	prompts, seeds := c.request.CasePrompts(), c.request.ImageSeeds()
	var texts tensor.Tensor // [cases,P]
	if c.judge != nil {
		var err error
		if texts, err = c.judge.Texts(ctx, prompts); err != nil {
			return nil, err
		}
	}
	cases := make([]leafserve.Case, len(prompts))
	for i, prompt := range prompts {
		cases[i] = leafserve.Case{Prompt: prompt, Seed: seeds[i], Attack: c.shown(i), Arms: map[string]leafserve.Arm{}}
		for a, name := range c.request.Arms {
			p := c.sheet.pairs[i][a]
			arm := leafserve.Arm{Clean: c.cell(p.clean), Attacked: c.cell(p.attacked)}
			if c.judge != nil {
				clean, attacked := c.sheet.drawings[p.clean].row, c.sheet.drawings[p.attacked].row
				arm.Clean.ClipScore = new(CLIPScore(clean, texts.Row(i)))
				arm.Attacked.ClipScore = new(CLIPScore(attacked, texts.Row(i)))
				arm.Attacked.Similarity = new(likeness(clean, attacked))
			}
			if c.request.AttackedPerArm {
				arm.Attacked.Drift = new(c.typo(i, a).Drift[name])
			}
			cases[i].Arms[name] = arm
		}
		cases[i].Verdict = stats.VerdictOf(cases[i], c.request.Arms)
	}
	return cases, nil
}

// likeness is the cosine of two unit rows, 1 to the last bit for equal ones.
func likeness(a, b tensor.Tensor) float64 {
	if slices.Equal(a.Data, b.Data) {
		return 1
	}
	return Cosine(a, b)
}

// cell shows a drawing.
func (c *comparison) cell(i int) leafserve.Cell {
	d := c.sheet.drawings[i]
	return leafserve.Cell{Image: d.image, Prompt: d.request.Prompt}
}

// publish stores the montage and the report, and puts the comparison together.
func (c *comparison) publish(ctx context.Context, cases []leafserve.Case) (*leafserve.Comparison, error) {
	out := &leafserve.Comparison{}
	if c.request.Prompts == nil {
		out.Case = &cases[0]
	} else {
		tested, _ := stats.Pair(c.request.Arms)
		cases = stats.Worst(cases, tested)
		out.Cases, out.Summary = cases, new(stats.Summarize(cases, c.request.Arms))
	}
	montage, err := c.montage(cases)
	if err != nil {
		return nil, err
	}
	if out.Montage, err = c.shelf.put(ctx, "/images/", "-montage.png", montage); err != nil {
		return nil, err
	}
	page, err := c.page(cases)
	if err != nil {
		return nil, err
	}
	out.Report, err = c.shelf.put(ctx, "/reports/", ".html", page)
	return out, err
}
