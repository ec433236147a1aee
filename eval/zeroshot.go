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
// (accuracy), and by how much: the cosine with the right anchor less the largest
// with a wrong one (margin). Texts are clean, with random typos and attacked by
// methods, leaf or charmer (Abad Rocamora et al. 2024), that bring the margin
// down and stop when the text is misread.
func ZeroShotTexts(ctx context.Context, r *Run, task Texts, methods []string) (Result, error) {
	texts := first(r, task.Texts)
	r.all = len(texts) * (1 + len(methods)*r.searches())
	typos, err := r.typos(ctx, texts, first(r, task.Typos))
	if err != nil {
		return Result{}, err
	}
	var all []Series
	for _, arm := range r.arms {
		c, err := task.classifier(ctx, arm)
		if err != nil {
			return Result{}, err
		}
		attacks := []attacked{{"random", typos}}
		for _, method := range methods {
			worst, err := r.attackArm(method, arm, func(arm Arm) ([]damaged, error) {
				c := classifier{arm, c.anchors, c.class} // the anchors are the encoder's, with its corrector or without
				return r.damage(ctx, method+" on margin", arm.Name, texts, r.misread(method, task.Texts), c.errors)
			})
			if err != nil {
				return Result{}, err
			}
			attacks = append(attacks, worst...)
		}
		series, err := measure(r.Edits, arm, attacks, func(texts []string) ([]figure, error) { return c.figures(ctx, texts) })
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	return newResult("zeroshot texts", r.Settings, []string{
		fmt.Sprintf("%d classes; their anchors are %s.", len(task.Prompts), task.kind()),
		"accuracy: texts that are nearest to their class. margin: cosine with the right anchor less the largest with a wrong one.",
		"The searches bring the margin down; their symbols are the characters of the data.", adaptive, typosNote,
	}, all), nil
}

// Notes of all claims.
const (
	adaptive = "Each arm is attacked by a search of its own that scores through the whole arm, its corrector included; " +
		"transferred: found on the encoder alone, then corrected."
	typosNote = "random: random typos, the same for all arms; those of the data where it has them."
)

// misread is set up as the LEAF paper does it for classification.
func (r *Run) misread(method string, texts []string) attack.Config {
	cfg := r.search(method)
	cfg.Stop = func(_ int, _ string, score float64) bool { return score > 0 }
	if cfg.Alphabet == nil {
		cfg.Alphabet = alphabet(texts)
	}
	return cfg
}

func (t Texts) kind() string {
	if len(t.Anchors.Data) > 0 {
		return "pictures"
	}
	return "texts, embedded by the encoder under test"
}

// classifier embeds the anchors.
func (t Texts) classifier(ctx context.Context, arm Arm) (classifier, error) {
	if len(t.Anchors.Data) > 0 {
		return classifier{arm, t.Anchors, t.Class}, nil
	}
	x, err := Arm{Encoder: arm.Encoder}.embed(ctx, t.Prompts)
	return classifier{arm, x, t.Class}, err
}

// classifier tells texts apart by the nearest anchor.
type classifier struct {
	arm     Arm
	anchors tensor.Tensor // [C,P] unit rows
	class   []int         // of each text
}

// errors scores texts by how far they are on the wrong side: less the margin.
func (c classifier) errors(items []int) attack.Score {
	return func(ctx context.Context, texts []string, owner []int) ([]float64, error) {
		class := make([]int, len(texts))
		for i, o := range owner {
			class[i] = c.class[items[o]]
		}
		margins, err := c.margins(ctx, texts, class)
		for i := range margins {
			margins[i] = -margins[i]
		}
		return margins, err
	}
}

func (c classifier) margins(ctx context.Context, texts []string, class []int) ([]float64, error) {
	x, err := c.arm.embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(texts))
	for i := range out {
		out[i] = margin(cosines(x.Row(i).Data, c.anchors), class[i])
	}
	return out, nil
}

// margin is the cosine of the right class less the largest of a wrong one: below
// 0, the text is misread.
func margin(cos []float64, right int) float64 {
	wrong := math.Inf(-1)
	for c, v := range cos {
		if c != right {
			wrong = max(wrong, v)
		}
	}
	return cos[right] - wrong
}

// figures measures texts that are in the order of the classes.
func (c classifier) figures(ctx context.Context, texts []string) ([]figure, error) {
	margins, err := c.margins(ctx, texts, c.class[:len(texts)])
	if err != nil {
		return nil, err
	}
	ok := make([]bool, len(margins))
	for i, m := range margins {
		ok[i] = m > 0
	}
	return []figure{{"accuracy", shares(ok)}, {"margin", margins}}, nil
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
	r.all = len(task.Prompts) * (1 + r.searches())
	typos, err := r.typos(ctx, task.Prompts, task.Typos)
	if err != nil {
		return Result{}, err
	}
	class := first(r, task.Class)
	var all []Series
	for _, arm := range r.arms {
		worst, err := r.attackArm(attack.Leaf, arm, func(arm Arm) ([]damaged, error) { return r.leaf(ctx, arm, task.Prompts) })
		if err != nil {
			return Result{}, err
		}
		series, err := measure(r.Edits, arm, append([]attacked{{"random", typos}}, worst...), func(prompts []string) ([]figure, error) {
			x, err := arm.embed(ctx, prompts)
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
		"leaf: LEAF's search, which drives each prompt away from its clean embedding by the same arm.", adaptive, typosNote,
	}, all), nil
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
	return tensor.UnitRows(out)
}

// leaf attacks texts by LEAF's search against an arm's own clean embeddings.
func (r *Run) leaf(ctx context.Context, arm Arm, texts []string) ([]damaged, error) {
	anchors, err := arm.anchors(ctx, texts, textenc.Pooled)
	if err != nil {
		return nil, err
	}
	return r.damage(ctx, "leaf on pooled", arm.Name, texts, r.search(attack.Leaf), arm.away(textenc.Pooled, anchors))
}
