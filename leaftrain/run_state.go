package leaftrain

import (
	"bytes"
	"encoding/json"
	"slices"

	"leafserve"
	"leafserve/leaftrain/captions"
	"leafserve/tensor"
)

// Snapshot gives all that a run goes on from, with the position of its captions
// after the last step. It shares its tensors with the trainer: use it before the
// next step.
func (t *Trainer) Snapshot(p captions.Position) (State, error) {
	recipe, err := json.Marshal(t.Config)
	if err != nil {
		return State{}, err
	}
	s := State{
		Config: recipe, Model: t.teacher.Hash, Step: t.step, Position: p,
		Parameters: map[string]tensor.Tensor{}, M: map[string]tensor.Tensor{}, V: map[string]tensor.Tensor{}, Steps: map[string]int{},
	}
	for i, p := range t.student.Parameters {
		s.Parameters[p.Name] = p.Value
		if m := t.moments[i]; m.Steps > 0 {
			s.M[p.Name], s.V[p.Name], s.Steps[p.Name] = m.M, m.V, m.Steps
		}
	}
	return s, nil
}

// Restore goes to where s was taken. Its tensors belong to the trainer from then
// on. The error is Invalid: s is of another recipe or of another model; then
// nothing has changed.
func (t *Trainer) Restore(s State) error {
	recipe, err := json.Marshal(t.Config)
	if err != nil {
		return err
	}
	switch {
	case s.Model != t.teacher.Hash:
		return leafserve.InvalidField("model", "the checkpoint is of another model: it began with an encoder whose SHA-256 is %.12s…, this one's is %.12s…", s.Model, t.teacher.Hash)
	case !sameJSON(s.Config, recipe):
		return leafserve.InvalidField("recipe", "the checkpoint is of another recipe")
	case s.Step < 0 || s.Step > t.Config.Steps:
		return leafserve.InvalidField("checkpoint", "the checkpoint is of step %d, the recipe has %d", s.Step, t.Config.Steps)
	}
	for _, p := range t.student.Parameters {
		for what, x := range map[string]tensor.Tensor{"value": s.Parameters[p.Name], "first moment": s.M[p.Name], "second moment": s.V[p.Name]} {
			if !slices.Equal(x.Shape, p.Value.Shape) && (s.Step > 0 || what == "value") {
				return leafserve.InvalidField("checkpoint", "the checkpoint's %s of %s has shape %v, want %v", what, p.Name, x.Shape, p.Value.Shape)
			}
		}
	}
	for i, p := range t.student.Parameters {
		copy(p.Value.Data, s.Parameters[p.Name].Data)
		t.moments[i].M, t.moments[i].V, t.moments[i].Steps = s.M[p.Name], s.V[p.Name], s.Steps[p.Name]
	}
	t.step, t.fruitful = s.Step, s.Step >= patience
	return nil
}

// sameJSON says whether two documents are equal but for blanks.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
