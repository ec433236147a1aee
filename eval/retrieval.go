package eval

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"leafserve/attack"
	"leafserve/eval/data"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Captioned are pictures and texts that say what they show.
type Captioned struct {
	Images tensor.Tensor // [N,P] unit rows
	Texts  []string      // captions, one a picture or more
	Shows  []int         // the picture of each text
	Typos  []data.Typos  // of each text, if the data has any
}

// ranks are the k of R@k.
var ranks = []int{1, 5, 10}

// Retrieval measures how often a text finds its picture among the k nearest of
// all pictures (text → image R@k), and a picture one of its texts among the k
// nearest of all texts (image → text R@k): clean, with random typos, and with all
// texts damaged by methods, leaf or charmer. The limit counts pictures.
//
// leaf drives each text's embedding away from its clean one. charmer does so by
// the cosine; with a target it drives the text away from that sentence instead,
// as the published code of the LEAF paper does with sentences that have nothing
// to do with the text.
func Retrieval(ctx context.Context, r *Run, task Captioned, methods []string, target string) (Result, error) {
	task = task.first(r.Limit)
	r.all = len(task.Texts) * (1 + len(methods)*r.searches())
	typos, err := r.typos(ctx, task.Texts, task.Typos)
	if err != nil {
		return Result{}, err
	}
	var all []Series
	for _, arm := range r.arms {
		attacks := []attacked{{"random", typos}}
		for _, method := range methods {
			found, err := r.attackArm(method, arm, func(arm Arm) ([]damaged, error) { return r.hide(ctx, method, arm, task.Texts, target) })
			if err != nil {
				return Result{}, err
			}
			attacks = append(attacks, found...)
		}
		series, err := measure(r.Edits, arm, attacks, func(texts []string) ([]figure, error) {
			x, err := arm.embed(ctx, texts)
			return task.recalls(x), err
		})
		if err != nil {
			return Result{}, err
		}
		all = append(all, series...)
	}
	return newResult("retrieval", r.Settings, []string{
		fmt.Sprintf("%d pictures, %d texts, all of which are damaged.", task.Images.Shape[0], len(task.Texts)),
		retrievalNote(target), adaptive, typosNote,
	}, all), nil
}

func retrievalNote(target string) string {
	if target == "" {
		return "leaf and charmer drive each text away from its clean embedding: by squared distance, and by the cosine."
	}
	return fmt.Sprintf("leaf drives each text away from its clean embedding, charmer away from %q.", target)
}

// first cuts to the first n pictures, 0 for all, and their texts.
func (c Captioned) first(n int) Captioned {
	if n == 0 || n >= c.Images.Shape[0] {
		return c
	}
	out := Captioned{Images: tensor.Tensor{Shape: []int{n, c.Images.Shape[1]}, Data: c.Images.Data[:n*c.Images.Shape[1]]}}
	for i, picture := range c.Shows {
		if picture >= n {
			continue
		}
		out.Texts, out.Shows = append(out.Texts, c.Texts[i]), append(out.Shows, picture)
		if len(c.Typos) > 0 {
			out.Typos = append(out.Typos, c.Typos[i])
		}
	}
	return out
}

// hide searches for the edits that keep texts from their pictures. Without a
// setting, charmer is the paper's: ten positions, no constraint.
func (r *Run) hide(ctx context.Context, method string, arm Arm, texts []string, target string) ([]damaged, error) {
	cfg, objective := r.search(method), textenc.Pooled
	if method == attack.Charmer {
		objective, cfg.Rho = textenc.Cosine, cmp.Or(r.Rho, 10)
	}
	cfg.Constraint = cmp.Or(r.Constraint, map[string]string{attack.Leaf: attack.Strict, attack.Charmer: attack.None}[method])
	from := texts
	if target != "" && method == attack.Charmer {
		from = slices.Repeat([]string{target}, len(texts))
	}
	anchors, err := arm.anchors(ctx, from, objective)
	if err != nil {
		return nil, err
	}
	return r.damage(ctx, fmt.Sprintf("%s on %s", method, objective), arm.Name, texts, cfg, arm.away(objective, anchors))
}

// recalls ranks pictures by texts and texts by pictures; x has the unit rows
// [len(Texts),P] of the texts. A picture without a text does not count.
func (c Captioned) recalls(x tensor.Tensor) []figure {
	if len(x.Data) == 0 {
		return nil
	}
	texts := make([]int, len(c.Texts)) // rank of the picture
	own := make([][]int, c.Images.Shape[0])
	for t, picture := range c.Shows {
		texts[t] = rank(cosines(x.Row(t).Data, c.Images), []int{picture})
		own[picture] = append(own[picture], t)
	}
	var pictures []int // rank of the best of its texts
	for p, mine := range own {
		if len(mine) > 0 {
			pictures = append(pictures, rank(cosines(c.Images.Row(p).Data, x), mine))
		}
	}
	var out []figure
	for _, side := range []struct {
		name  string
		ranks []int
	}{{"text → image", texts}, {"image → text", pictures}} {
		for _, k := range ranks {
			found := make([]bool, len(side.ranks))
			for i, r := range side.ranks {
				found[i] = r <= k
			}
			out = append(out, figure{fmt.Sprintf("%s R@%d", side.name, k), shares(found)})
		}
	}
	return out
}

// rank is the place, from 1, of the best of the right ones in falling order; of
// equal values the first comes first.
func rank(cos []float64, right []int) int {
	best := right[0]
	for _, i := range right {
		if cos[i] > cos[best] {
			best = i
		}
	}
	place := 1
	for i, v := range cos {
		if v > cos[best] || v == cos[best] && i < best {
			place++
		}
	}
	return place
}

// CocoCaption cleans a caption as the LEAF paper's evaluation on COCO does:
// lower case, the signs .!"()*#:;~ as blanks, 50 words at most.
func CocoCaption(text string) string {
	text = strings.Map(func(c rune) rune {
		if strings.ContainsRune(`.!"()*#:;~`, c) {
			return ' '
		}
		return c
	}, strings.ToLower(text))
	words := strings.Fields(text)
	return strings.Join(words[:min(50, len(words))], " ")
}
