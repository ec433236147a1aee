package eval

import (
	"context"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"

	"leafserve/eval/data"
	"leafserve/stats"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Drawing is a picture to be made.
type Drawing struct {
	Encoder string // name of the encoder that reads the text
	Text    string
	Seed    uint64 // of the noise
}

// Studio makes pictures and judges them.
type Studio struct {
	Paint  func(ctx context.Context, drawings []Drawing) ([]image.Image, error)      // in their order
	Images func(ctx context.Context, images []image.Image) (tensor.Tensor, error)    // [n,P] unit rows
	Texts  func(ctx context.Context, texts []string) (rows tensor.Tensor, err error) // [n,P] unit rows, always by the same encoder
	Batch  int                                                                       // pictures painted at a time
}

// Exercise is what pictures are made of, and how they are damaged.
type Exercise struct {
	Prompts    []data.Prompt
	Classes    []data.Class        // that the objects of prompts are told apart by
	Method     string              // leaf or charmer
	Objectives []textenc.Objective // what the method drives up, one attack each
}

// fewTypos is how many random typos are measured at most, as on the model card.
const fewTypos = 2

// Generation measures what typos do to pictures: 100 × CLIPScore, max(cos, 0)
// with the clean prompt; and where a prompt says what it wants, whether the
// picture's object is the nearest of all classes or one of the five nearest, and
// whether its border has the colour of the background. Prompts are clean, with
// up to two random typos, and attacked at the arm. All arms draw a prompt from
// the same noise; what is the same picture is made once.
func Generation(ctx context.Context, r *Run, studio Studio, task Exercise) (Result, error) {
	prompts := first(r, task.Prompts)
	r.all = len(prompts) * (1 + r.searches()*len(task.Objectives)*(1+len(r.Edits)))
	attacks, err := r.attackPrompts(ctx, prompts, task)
	if err != nil {
		return Result{}, err
	}
	show := exhibition{prompts: prompts}
	if err := show.hang(ctx, r, studio, attacks); err != nil {
		return Result{}, err
	}
	if err := show.label(ctx, studio, task.Classes); err != nil {
		return Result{}, err
	}
	var all []Series
	for i, arm := range r.arms {
		series, err := measure(r.Edits, arm, attacks[i], func(texts []string) ([]figure, error) { return show.figures(arm, texts), nil })
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	result := newResult("generation", r.Settings, []string{
		"100 × CLIPScore: of a picture and the clean prompt, by the model's own CLIP; it compares conditions, not models. Objects are told apart by the same CLIP, backgrounds by the border's median colour.",
		"The name of an attack ends with what its search raises.", adaptive, typosNote,
		"won back: the share of the score that the standard arm loses to the attack and the arm does not, of all prompts together; in an attack on each arm both meet their own worst typos.",
	}, all)
	result.Rows = append(result.Rows, wonBack(all)...)
	return result, nil
}

// attackPrompts damages all prompts for each arm.
func (r *Run) attackPrompts(ctx context.Context, prompts []data.Prompt, task Exercise) ([][]attacked, error) {
	var texts []string
	var own []data.Typos
	for _, p := range prompts {
		texts, own = append(texts, p.Text), append(own, p.Typos)
	}
	k := min(fewTypos, r.most())
	typos, err := r.someTypos(ctx, texts, own, k)
	if err != nil {
		return nil, err
	}
	for i := range typos {
		typos[i] = typos[i][:k+1]
	}
	out := make([][]attacked, len(r.arms))
	for i, arm := range r.arms {
		out[i] = []attacked{{"random", typos}}
		for _, o := range task.Objectives {
			name := fmt.Sprintf("%s on %s", task.Method, o)
			found, err := r.attackArm(name, arm, func(arm Arm) ([]damaged, error) {
				anchors, err := arm.anchors(ctx, texts, o)
				if err != nil {
					return nil, err
				}
				return r.damage(ctx, name, arm.Name, texts, r.search(task.Method), arm.away(o, anchors))
			})
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], found...)
		}
	}
	return out, nil
}

// drawing says how an arm draws a text.
func (a Arm) drawing(text string, seed uint64) Drawing {
	text = a.read([]string{text})[0]
	d := Drawing{strings.TrimSuffix(a.Name, spell), text, seed}
	if a.Damaged != nil {
		d.Encoder = standard
		if a.Damaged(text) {
			d.Encoder = robust
		}
	}
	return d
}

// drawn is what is kept of a picture.
type drawn struct {
	Row  []float32  `json:"row"`  // by the judge, of unit length
	Edge [3]float64 `json:"edge"` // median colour of its border, 0…255 RGB
}

// exhibition is all pictures, and what they are compared with.
type exhibition struct {
	prompts  []data.Prompt
	pictures map[Drawing]drawn
	clean    tensor.Tensor // [n,P] of the prompts
	classes  tensor.Tensor // [C,P]
	object   []int         // class of each prompt, −1 where it has none
}

// hang makes every picture once.
func (e *exhibition) hang(ctx context.Context, r *Run, studio Studio, attacks [][]attacked) error {
	var all []Drawing
	var ids []string
	e.pictures = map[Drawing]drawn{}
	for i, arm := range r.arms {
		_, err := measure(r.Edits, arm, attacks[i], func(texts []string) ([]figure, error) {
			for t, text := range texts {
				d := arm.drawing(text, e.prompts[t].Seed)
				if _, known := e.pictures[d]; !known {
					e.pictures[d] = drawn{}
					all, ids = append(all, d), append(ids, fmt.Sprintf("picture by %s, seed %d: %s", d.Encoder, d.Seed, d.Text))
				}
			}
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
	r.all = r.done + len(all)
	found, err := cases(ctx, r, ids, studio.Batch, func(ctx context.Context, missing []int) ([]drawn, error) {
		return studio.draw(ctx, pick(all, missing))
	})
	for i, p := range found {
		e.pictures[all[i]] = p
	}
	return err
}

// draw makes pictures and keeps what the figures need.
func (s Studio) draw(ctx context.Context, drawings []Drawing) ([]drawn, error) {
	images, err := s.Paint(ctx, drawings)
	if err != nil {
		return nil, err
	}
	rows, err := s.Images(ctx, images)
	if err != nil {
		return nil, err
	}
	out := make([]drawn, len(images))
	for i, img := range images {
		out[i] = drawn{rows.Row(i).Data, edge(img)}
	}
	return out, nil
}

// label embeds the prompts and the prompts of the classes.
func (e *exhibition) label(ctx context.Context, studio Studio, classes []data.Class) (err error) {
	var texts, names []string
	for _, c := range classes {
		texts, names = append(texts, c.Prompt), append(names, c.Name)
	}
	var clean []string
	for _, p := range e.prompts {
		clean, e.object = append(clean, p.Text), append(e.object, slices.Index(names, p.Object))
	}
	if e.clean, err = studio.Texts(ctx, clean); err != nil {
		return err
	}
	e.classes, err = studio.Texts(ctx, texts)
	return err
}

// figures measures the pictures that an arm draws of one form of all prompts.
// What no prompt asks for is left out.
func (e *exhibition) figures(arm Arm, texts []string) []figure {
	n := len(texts)
	score, top1, top5, background := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for i, text := range texts {
		p := e.pictures[arm.drawing(text, e.prompts[i].Seed)]
		score[i] = 100 * max(0, cosines(p.Row, rowOf(e.clean, i))[0])
		top1[i], top5[i], background[i] = math.NaN(), math.NaN(), math.NaN()
		if c := e.object[i]; c >= 0 {
			place := rank(cosines(p.Row, e.classes), []int{c})
			top1[i], top5[i] = share(place == 1), share(place <= 5)
		}
		if wanted := e.prompts[i].Background; isColour(wanted) {
			background[i] = share(nearestColour(p.Edge) == wanted)
		}
	}
	out := []figure{{"100 × CLIPScore", score}, {"object top-1", top1}, {"object top-5", top5}, {"background", background}}
	return slices.DeleteFunc(out, func(f figure) bool {
		return !slices.ContainsFunc(f.values, func(v float64) bool { return !math.IsNaN(v) })
	})
}

// rowOf is a row of x [n,P] as [1,P].
func rowOf(x tensor.Tensor, i int) tensor.Tensor {
	return tensor.Tensor{Shape: []int{1, x.Shape[1]}, Data: x.Row(i).Data}
}

// share is 1 for true.
func share(ok bool) float64 { return shares([]bool{ok})[0] }

// wonBack compares what arms lose of the first figure, the score, with what the
// standard arm loses under the same condition.
func wonBack(all []Series) []Row {
	find := func(arm, attack string) func(k int) []float64 {
		return func(k int) []float64 {
			for _, s := range all {
				if s.Figure == all[0].Figure && s.Arm == arm && s.Attack == attack && s.Edits == k {
					return s.Values
				}
			}
			return nil
		}
	}
	clean := find(standard, "")(0)
	var out []Row
	for _, s := range all {
		low := find(standard, strings.TrimSuffix(s.Attack, transferred))(s.Edits)
		if s.Figure != all[0].Figure || s.Arm == standard || s.Edits == 0 || low == nil {
			continue
		}
		part := stats.Resampled(len(low), func(items []int) float64 {
			won, lost := 0.0, 0.0
			for _, i := range items {
				won, lost = won+s.Values[i]-low[i], lost+clean[i]-low[i]
			}
			return won / lost
		})
		if part.N > 0 { // there was something to win
			out = append(out, Row{"won back", s.Arm, "", s.Attack, s.Edits, part})
		}
	}
	return out
}
