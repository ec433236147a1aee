package leaftrain

import (
	"context"

	"leafserve/tensor"
	"leafserve/textenc"
)

// lessons are what the student should make of the damaged captions: the first is
// of the first caption, and so on; the empty prompt may come last.
func (t *Trainer) lessons(ctx context.Context, captions, damaged []string) ([]textenc.Lesson, error) {
	l := t.Config.Loss
	targets, err := t.teacher.Embed(ctx, captions)
	if err != nil {
		return nil, err
	}
	share := 1 / float64(len(captions))
	lessons := make([]textenc.Lesson, len(captions))
	clean := make([]textenc.Prompt, len(captions))
	for i, caption := range captions {
		clean[i] = t.student.Tokenize(caption)
		edited := t.student.Tokenize(damaged[i])
		lessons[i] = textenc.Lesson{
			IDs: edited.IDs[:t.student.Used(edited)], Target: targets.Row(i).Data, Weight: float32(l.Pooled * share),
		}
	}
	if l.states() {
		if err := t.addStates(ctx, lessons, clean, damaged); err != nil {
			return nil, err
		}
	}
	if l.Empty > 0 {
		empty, err := t.emptyLesson(ctx)
		return append(lessons, empty), err
	}
	return lessons, nil
}

// addStates adds the rows to lessons: of the first captions, as many as a share
// says, in an order of this step's, all 77, of the others those up to EOS.
func (t *Trainer) addStates(ctx context.Context, lessons []textenc.Lesson, clean []textenc.Prompt, damaged []string) error {
	n := len(lessons)
	order := t.random(1 << 33).Perm(n)
	whole := 0
	if t.Config.Loss.Padding > 0 {
		whole = int(t.Config.Loss.Share*float64(n) + t.random(1<<34).Float64())
	}
	for _, part := range []struct {
		of    []int
		whole bool
	}{{order[:whole], true}, {order[whole:], false}} {
		if !part.whole && t.Config.Loss.Words == 0 || len(part.of) == 0 {
			continue
		}
		chosen := make([]textenc.Prompt, len(part.of))
		for j, i := range part.of {
			chosen[j] = clean[i]
		}
		states, err := t.teacher.States(ctx, chosen, part.whole)
		if err != nil {
			return err
		}
		for j, i := range part.of {
			t.addRows(&lessons[i], clean[i], t.student.Tokenize(damaged[i]), states[j], n)
		}
	}
	return nil
}

// addRows adds a caption's rows, of n captions, to its lesson: those that the
// teacher's states [L,D] of the clean caption reach to.
func (t *Trainer) addRows(lesson *textenc.Lesson, clean, damaged textenc.Prompt, states tensor.Tensor, n int) {
	var words, padding []textenc.Pair
	used := t.student.Used(clean)
	for _, p := range t.student.Align(clean, damaged) {
		switch {
		case p.Clean >= states.Shape[0]:
		case p.Clean < used:
			words = append(words, p)
		default:
			padding = append(padding, p)
		}
	}
	l := t.Config.Loss
	add := func(pairs []textenc.Pair, weight float64) {
		for _, p := range pairs {
			if weight > 0 && p.Damaged < len(damaged.IDs) {
				lesson.Rows = append(lesson.Rows, textenc.Row{
					Position: p.Damaged, Target: states.Row(p.Clean).Data, Weight: float32(weight / float64(n*len(pairs))),
				})
			}
		}
	}
	add(words, l.Words)
	if len(padding) > 0 {
		add(padding, l.Padding/l.Share)
		lesson.IDs = damaged.IDs
	}
}

// emptyLesson holds the states of the empty prompt.
func (t *Trainer) emptyLesson(ctx context.Context) (textenc.Lesson, error) {
	empty := t.student.Tokenize("")
	states, err := t.teacher.States(ctx, []textenc.Prompt{empty}, true)
	if err != nil {
		return textenc.Lesson{}, err
	}
	lesson := textenc.Lesson{IDs: empty.IDs}
	for i := range empty.IDs {
		lesson.Rows = append(lesson.Rows, textenc.Row{Position: i, Target: states[0].Row(i).Data, Weight: float32(t.Config.Loss.Empty / float64(len(empty.IDs)))})
	}
	return lesson, nil
}
