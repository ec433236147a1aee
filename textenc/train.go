package textenc

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
)

// Trainable is an encoder whose weights can change. The Encoder in it, which has
// no cache, runs on the weights as they are; change them while no call is under
// way.
type Trainable struct {
	*Encoder
	Parameters []Parameter // sorted by name

	dense   []string       // parameters but the two tables, in the order of lessonGraph
	lessons [2]lazySession // of lessonGraph: without rows, and with
}

// Parameter is a weight, in float32 whatever its file holds.
type Parameter struct {
	Name  string // as in the checkpoint
	Value tensor.Tensor
}

// Lesson is one text with what the encoder should make of it.
type Lesson struct {
	IDs    []int     // the text's tokens from BOS on: up to EOS, or as far as Rows go
	Target []float32 // [P], what Embed should give; nil for whatever
	Weight float32   // of the squared distance to Target; 0 for none
	Rows   []Row     // states that should be others; may be empty
}

// Row is a state that training moves.
type Row struct {
	Position int
	Target   []float32 // [D], after the final layer norm
	Weight   float32   // of the squared distance
}

// Distances are those of one lesson, before the step.
type Distances struct {
	Pooled float64 // squared L2 to Target; 0 where there is none
	Rows   float64 // the weighted sum of the rows' squared L2
}

// Gradient is the derivative of a loss by a parameter.
type Gradient struct {
	Rows  []int         // the rows that Value has, sorted; nil for all. Others are zero
	Value tensor.Tensor // of the parameter's shape, but for the number of rows
}

// LoadTrainable reads the same folders as Load, into memory. The options' cache
// is not used; their projection stays as it is, one of the folder's own is trained.
func LoadTrainable(rt *ort.Runtime, dir string, tokenizer *Tokenizer, opts Options) (*Trainable, error) {
	tower, err := openTower(dir, tokenizer, opts)
	if err != nil {
		return nil, err
	}
	t := &Trainable{}
	if t.Parameters, err = tower.parameters(); err != nil {
		return nil, err
	}
	tower.live = map[string]tensor.Tensor{}
	for _, p := range t.Parameters {
		tower.live[p.Name] = p.Value
	}
	if t.Encoder, err = newEncoder(rt, tower, tokenizer); err != nil {
		return nil, err
	}
	model, err := tower.lessonGraph(false)
	if err != nil {
		return nil, err
	}
	for _, p := range model.Parameters[2:] {
		t.dense = append(t.dense, p.Name)
	}
	for i := range t.lessons {
		t.lessons[i].open = func() (*ort.Session, error) {
			model, err := tower.lessonGraph(i == 1)
			if err != nil {
				return nil, err
			}
			return tower.load(rt.NewSession(model))
		}
	}
	t.Hash, err = tower.ckpt.Hash()
	return t, err
}

// parameters reads the text tower's weights.
func (c *tower) parameters() ([]Parameter, error) {
	var out []Parameter
	for _, name := range c.ckpt.Names() {
		if name != textProjection && (!strings.HasPrefix(name, "text_model.") || strings.HasSuffix(name, "position_ids")) {
			continue
		}
		entry, _ := c.ckpt.Lookup(name)
		value, err := entry.Read()
		if err != nil {
			return nil, err
		}
		out = append(out, Parameter{name, value})
	}
	return out, nil
}

// Close frees the graphs; no other call may be running.
func (t *Trainable) Close() error {
	return cmp.Or(t.Encoder.Close(), t.lessons[0].close(), t.lessons[1].close())
}

// lessonGraph builds the tower with the loss of lessons, and its derivative by
// every weight. rows says whether lessons have any.
//
// Inputs: ids int64 [B,T]; positions int64 [T]; mask [T,T]; eos int64 [B,1];
// target [B,P]; weight [B,1]; with rows also int64 [B,R,1], states wanted
// [B,R,D] and their weights [B,R,1]. Outputs: pooled [B,1], the squared distances
// to target; with rows [B,1], their weighted sum; then the derivatives, by
// x [B,T,D], which stands for the tables of tokens and positions, and by all
// other weights in the order of the model's Parameters.
func (c *tower) lessonGraph(rows bool) (onnx.Model, error) {
	g := c.graph()
	ids := g.Input("ids", onnx.Int64, onnx.Any, onnx.Any)
	positions := g.Input("positions", onnx.Int64, onnx.Any)
	mask := g.Input("mask", onnx.Float, onnx.Any, onnx.Any)
	eos := g.Input("eos", onnx.Int64, onnx.Any, 1)

	tokens := g.Gather(g.Weight(tokenTable, c.Vocab, c.Width), ids)
	x := g.Add(tokens, g.Gather(g.Weight(placeTable, c.Context, c.Width), positions)) // [B,T,D]
	states := x
	for i := range c.Layers {
		states = c.block(g, blockName("text_model.", i), states, &mask)
	}
	states = g.LayerNorm("text_model.final_layer_norm", states, c.Epsilon)
	embedding, _ := c.project(g, g.GatherND(states, eos)) // [B,P]

	target := g.Input("target", onnx.Float, onnx.Any, embedding.Shape[1])
	weight := g.Input("weight", onnx.Float, onnx.Any, 1)
	pooled := squared(g, embedding, target, 1) // [B,1]
	loss := g.Sum(g.Mul(pooled, weight), 0, 1)
	g.Output("pooled", pooled)
	if rows {
		at := g.Input("rows", onnx.Int64, onnx.Any, onnx.Any, 1)
		wanted := g.Input("states", onnx.Float, onnx.Any, onnx.Any, c.Width)
		weights := g.Input("weights", onnx.Float, onnx.Any, onnx.Any, 1)
		gaps := g.Mul(squared(g, g.GatherND(states, at), wanted, 2), weights) // [B,R,1]
		g.Output("rows_sum", g.Reshape(g.Sum(gaps, 1, 2), onnx.Any, 1))
		loss = g.Add(loss, g.Reshape(g.Sum(gaps, 0, 1, 2), 1, 1))
	}
	by := append([]onnx.Value{x}, g.Parameters()[2:]...)
	for i, d := range g.Gradients(loss, by...) {
		g.Output("d_"+by[i].Name, d)
	}
	return g.Model()
}

// squared is the squared L2 distance along an axis, which becomes 1.
func squared(g *onnx.Graph, a, b onnx.Value, axis int) onnx.Value {
	d := g.Sub(a, b)
	return g.Sum(g.Mul(d, d), axis)
}

// maxTokens is how many tokens go through the lesson graph at once: what it keeps
// for the way back grows with them (ViT-L/14: about 1.3 MB a token).
const maxTokens = 1024

// Gradients gives the derivative of the lessons' loss by each parameter, in the
// order of Parameters: the sum over all of Weight times the squared distance to
// Target, and of the rows' alike. Distances come in the order of the lessons.
// Lessons of about the same length run together, so padding costs little.
func (t *Trainable) Gradients(ctx context.Context, lessons []Lesson) ([]Distances, []Gradient, error) {
	sums := &sums{rows: map[int][]float32{}, dense: map[string]tensor.Tensor{placeTable: tensor.New(t.Config.Context, t.Config.Width)}}
	distances := make([]Distances, len(lessons))
	order := make([]int, len(lessons))
	for i, l := range lessons {
		if err := t.checkLesson(l); err != nil {
			return nil, nil, fmt.Errorf("lesson %d: %w", i+1, err)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := lessons[i], lessons[j]
		return cmp.Or(cmp.Compare(min(len(a.Rows), 1), min(len(b.Rows), 1)), cmp.Compare(len(a.IDs), len(b.IDs)))
	})
	for len(order) > 0 {
		n := 1
		for n < len(order) && sameKind(lessons[order[0]], lessons[order[n]]) && (n+1)*len(lessons[order[n]].IDs) <= maxTokens {
			n++
		}
		if err := t.run(ctx, lessons, order[:n], distances, sums); err != nil {
			return nil, nil, err
		}
		order = order[n:]
	}
	return distances, sums.gradients(t.Parameters), nil
}

func sameKind(a, b Lesson) bool { return (len(a.Rows) > 0) == (len(b.Rows) > 0) }

func (t *Trainable) checkLesson(l Lesson) error {
	if n := len(l.IDs); n < 1 || n > t.Config.Context {
		return fmt.Errorf("%d ids, want 1 to %d", n, t.Config.Context)
	}
	if (l.Weight != 0 || l.Target != nil) && len(l.Target) != t.embedWidth() {
		return fmt.Errorf("a target of %d numbers, want %d", len(l.Target), t.embedWidth())
	}
	for _, r := range l.Rows {
		if r.Position < 0 || r.Position >= len(l.IDs) || len(r.Target) != t.Config.Width {
			return fmt.Errorf("row at %d of %d with %d numbers, want %d", r.Position, len(l.IDs), len(r.Target), t.Config.Width)
		}
	}
	return nil
}

// run is one call of the graph, for the lessons of which.
func (t *Trainable) run(ctx context.Context, lessons []Lesson, which []int, distances []Distances, sums *sums) error {
	longest, most := 0, 0
	for _, i := range which {
		longest, most = max(longest, len(lessons[i].IDs)), max(most, len(lessons[i].Rows))
	}
	feed := t.newFeed(len(which), longest, most)
	for b, i := range which {
		feed.lay(b, lessons[i], t.eosRow(lessons[i].IDs))
	}
	session, err := t.lessons[min(most, 1)].get()
	if err != nil {
		return fmt.Errorf("text encoder, training graph: %w", err)
	}
	out, err := session.Run(ctx, feed.inputs()...)
	if err != nil {
		return fmt.Errorf("text encoder, training step: %w", err)
	}
	for b, i := range which {
		if lessons[i].Target != nil {
			distances[i].Pooled = float64(out[0].Data[b])
		}
		if most > 0 {
			distances[i].Rows = float64(out[1].Data[b])
		}
	}
	out = out[1+min(most, 1):]
	for b, i := range which {
		sums.addTables(out[0].Row(b), lessons[i].IDs)
	}
	for i, name := range t.dense {
		sums.add(name, out[1+i])
	}
	return nil
}

// feed is a batch as lessonGraph takes it.
type feed struct {
	ids, positions, eos, at []int // past a lesson's end the ids are 0, which no row that counts attends to
	t, d                    int
	target, weight          tensor.Tensor
	states, weights         tensor.Tensor // no values without rows
}

func (t *Trainable) newFeed(n, length, rows int) *feed {
	f := &feed{
		ids: make([]int, n*length), positions: make([]int, length), eos: make([]int, n), at: make([]int, n*rows),
		t: length, d: t.Config.Width, target: tensor.New(n, t.embedWidth()), weight: tensor.New(n, 1),
	}
	for i := range f.positions {
		f.positions[i] = i
	}
	if rows > 0 {
		f.states, f.weights = tensor.New(n, rows, t.Config.Width), tensor.New(n, rows, 1)
	}
	return f
}

// lay writes a lesson as row b.
func (f *feed) lay(b int, l Lesson, eos int) {
	copy(f.ids[b*f.t:], l.IDs)
	f.eos[b] = eos
	copy(f.target.Row(b).Data, l.Target)
	f.weight.Data[b] = l.Weight
	for r, row := range l.Rows {
		n := len(f.at)/len(f.eos)*b + r
		f.at[n] = row.Position
		f.weights.Data[n] = row.Weight
		copy(f.states.Data[n*f.d:], row.Target)
	}
}

func (f *feed) inputs() []ort.Input {
	n := len(f.eos)
	in := []ort.Input{
		ort.Ints(f.ids, n, f.t), ort.Ints(f.positions, f.t), ort.Floats(tensor.Tensor{Shape: []int{f.t, f.t}, Data: causalMask(f.t)}),
		ort.Ints(f.eos, n, 1), ort.Floats(f.target), ort.Floats(f.weight),
	}
	if rows := len(f.at) / n; rows > 0 {
		in = append(in, ort.Ints(f.at, n, rows, 1), ort.Floats(f.states), ort.Floats(f.weights))
	}
	return in
}

// sums adds up derivatives over several runs.
type sums struct {
	rows  map[int][]float32 // [D] of the token table, by id
	dense map[string]tensor.Tensor
}

// add adds to the derivative by a dense parameter; d belongs to sums from then on.
func (s *sums) add(name string, d tensor.Tensor) {
	sum, ok := s.dense[name]
	if !ok {
		s.dense[name] = d
		return
	}
	addTo(sum.Data, d.Data)
}

// addTables adds one text's dx [1,T,D] to the rows that made x.
func (s *sums) addTables(dx tensor.Tensor, ids []int) {
	places := s.dense[placeTable]
	width := places.Shape[1]
	for at, id := range ids {
		d := dx.Data[at*width : (at+1)*width]
		addTo(rowOf(places, at), d)
		if s.rows[id] == nil {
			s.rows[id] = make([]float32, width)
		}
		addTo(s.rows[id], d)
	}
}

func addTo(sum, d []float32) {
	for i, v := range d {
		sum[i] += v
	}
}

func (s *sums) gradients(parameters []Parameter) []Gradient {
	out := make([]Gradient, len(parameters))
	for i, p := range parameters {
		if p.Name != tokenTable {
			out[i] = Gradient{Value: s.dense[p.Name]}
			continue
		}
		ids := slices.Sorted(maps.Keys(s.rows))
		value := tensor.New(len(ids), p.Value.Shape[1])
		for r, id := range ids {
			copy(rowOf(value, r), s.rows[id])
		}
		out[i] = Gradient{ids, value}
	}
	return out
}
