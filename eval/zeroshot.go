package eval

import (
	"context"
	"fmt"
	"math"
	"slices"

	"leafserve/attack"
	"leafserve/eval/data"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Texts are labelled texts and what they are told apart by.
type Texts struct {
	Texts   []string
	Class   []int         // of each text
	Typos   []data.Typos  // of each text, if the data has any
	Prompts []string      // text anchors of the classes
	Anchors tensor.Tensor // [C,P] image anchors, unit rows, used instead if there are values
}

// ZeroShotTexts measures how many texts are nearest to the anchor of their class
// (accuracy), clean, with random typos and attacked: Charmer (Abad Rocamora et
// al. 2024) raises the margin, the largest cosine with a wrong anchor less that
// with the right one, and stops when the text is misread.
func ZeroShotTexts(ctx context.Context, r *Run, task Texts) (Result, error) {
	texts := first(r, task.Texts)
	r.all = len(texts) * (1 + len(r.arms))
	typos, err := r.typos(ctx, texts, first(r, task.Typos))
	if err != nil {
		return Result{}, err
	}
	var all []Series
	for _, arm := range r.arms {
		anchors, err := task.anchors(ctx, arm)
		if err != nil {
			return Result{}, err
		}
		c := classifier{arm, anchors, task.Class}
		worst, err := r.damage(ctx, "charmer on margin", arm.Name, texts, r.charmer(task.Texts), c.margins)
		if err != nil {
			return Result{}, err
		}
		series, err := measure(r.Edits, arm, []attacked{{"random", typos}, {"charmer", worst}}, func(texts []string) ([]figure, error) {
			ok, err := c.right(ctx, texts)
			return []figure{{"accuracy", shares(ok)}}, err
		})
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	return newResult("zeroshot texts", r.Settings, []string{
		fmt.Sprintf("%d classes; their anchors are %s.", len(task.Prompts), task.kind()),
		"charmer: Charmer without a constraint on the margin; its symbols are the characters of the data. " + adaptive,
		typosNote,
	}, all), nil
}

// Notes of all claims.
const (
	adaptive  = "Each arm is attacked by a search of its own that scores through the whole arm, its corrector included."
	typosNote = "random: random typos, the same for all arms; those of the data where it has them."
)

// charmer is set up as the LEAF paper does it for classification.
func (r *Run) charmer(texts []string) attack.Config {
	return attack.Config{
		Method: attack.Charmer, Rho: r.rho(attack.Charmer), Constraint: attack.None, Alphabet: alphabet(texts),
		Stop: func(_ int, _ string, margin float64) bool { return margin > 0 },
	}
}

// alphabet lists every character of the texts, sorted.
func alphabet(texts []string) []rune {
	seen := map[rune]bool{}
	var out []rune
	for _, t := range texts {
		for _, c := range t {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (t Texts) kind() string {
	if len(t.Anchors.Data) > 0 {
		return "pictures"
	}
	return "texts, embedded by the encoder under test"
}

// anchors gives unit rows [C,P].
func (t Texts) anchors(ctx context.Context, arm Arm) (tensor.Tensor, error) {
	if len(t.Anchors.Data) > 0 {
		return t.Anchors, nil
	}
	return Arm{Encoder: arm.Encoder}.embed(ctx, t.Prompts)
}

// classifier tells texts apart by the nearest anchor.
type classifier struct {
	arm     Arm
	anchors tensor.Tensor // [C,P] unit rows
	class   []int         // of each text
}

// margins scores texts by how far they are on the wrong side.
func (c classifier) margins(items []int) attack.Score {
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		x, err := c.arm.embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(texts))
		for i := range out {
			out[i] = margin(cosines(x.Row(i).Data, c.anchors), c.class[items[owner[i]]])
		}
		return out, nil
	}
}

// margin is the largest cosine of a wrong class less that of the right one:
// above 0, the text is misread.
func margin(cos []float64, right int) float64 {
	wrong := math.Inf(-1)
	for c, v := range cos {
		if c != right {
			wrong = max(wrong, v)
		}
	}
	return wrong - cos[right]
}

// right says of each text, in the order of the classes, whether it is read as
// what it is.
func (c classifier) right(ctx context.Context, texts []string) ([]bool, error) {
	x, err := c.arm.embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(texts))
	for i := range out {
		out[i] = argmax(cosines(x.Row(i).Data, c.anchors)) == c.class[i]
	}
	return out, nil
}

// shares has 1 for true.
func shares(ok []bool) []float64 {
	out := make([]float64, len(ok))
	for i, v := range ok {
		if v {
			out[i] = 1
		}
	}
	return out
}

// Pictures are pictures with classes, whose prompts are attacked.
type Pictures struct {
	Images  tensor.Tensor // [N,P] unit rows
	Class   []int         // of each picture
	Prompts []string      // of the classes
	Typos   []data.Typos  // of the prompts, if the data has any
}

// ZeroShotPictures measures how many pictures are nearest to the prompt of their
// class (accuracy) while all prompts are damaged: by random typos, and by LEAF's
// search, which drives each prompt away from the arm's own clean embedding.
func ZeroShotPictures(ctx context.Context, r *Run, task Pictures) (Result, error) {
	r.all = len(task.Prompts) * (1 + len(r.arms))
	typos, err := r.typos(ctx, task.Prompts, task.Typos)
	if err != nil {
		return Result{}, err
	}
	class := first(r, task.Class)
	var all []Series
	for _, arm := range r.arms {
		worst, err := r.leaf(ctx, arm, task.Prompts)
		if err != nil {
			return Result{}, err
		}
		series, err := measure(r.Edits, arm, []attacked{{"random", typos}, {"leaf", worst}}, func(texts []string) ([]figure, error) {
			x, err := arm.embed(ctx, texts)
			if err != nil {
				return nil, err
			}
			ok := make([]bool, len(class))
			for i := range ok {
				ok[i] = argmax(cosines(task.Images.Row(i).Data, x)) == class[i]
			}
			return []figure{{"accuracy", shares(ok)}}, nil
		})
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	return newResult("zeroshot pictures", r.Settings, []string{
		fmt.Sprintf("%d pictures, %d classes, whose prompts are damaged.", len(class), len(task.Prompts)),
		"leaf: LEAF's search, which drives each prompt away from its clean embedding by the same arm. " + adaptive,
		typosNote,
	}, all), nil
}

// leaf attacks texts by LEAF's search against an arm's own clean embeddings.
func (r *Run) leaf(ctx context.Context, arm Arm, texts []string) ([]damaged, error) {
	anchors, err := arm.Encoder.Anchors(ctx, arm.read(texts), textenc.Pooled)
	if err != nil {
		return nil, err
	}
	cfg := attack.Config{Method: attack.Leaf, Rho: r.rho(attack.Leaf), Constraint: r.Constraint}
	return r.damage(ctx, "leaf on pooled", arm.Name, texts, cfg, arm.away(textenc.Pooled, anchors))
}

// ClassMeans gives image anchors: the unit mean [C,P] of the unit rows of every
// class. Every class from 0 to the largest has a row in x [N,P].
func ClassMeans(x tensor.Tensor, class []int) tensor.Tensor {
	out := tensor.New(slices.Max(class)+1, x.Shape[1])
	for i, c := range class {
		row := out.Row(c).Data
		for j, v := range x.Row(i).Data {
			row[j] += v
		}
	}
	return unitRows(out)
}
