package pipeline

import (
	"bytes"
	"context"
	"image"

	"leafserve"
	"leafserve/gallery"
	"leafserve/report"
	"leafserve/tensor"
)

// drawing is one picture of a comparison. It fills every cell that has its
// encoder, prompt and seed: where no edit is valid, clean and attacked are one.
type drawing struct {
	request leafserve.Request // of this picture alone
	cells   []string          // of a single prompt, for previews: cleanrobust …
	image   leafserve.Image   // once stored
	small   *image.NRGBA      // for the montage
	inline  report.Picture    // for the report
	row     tensor.Tensor     // [1,P] by the judge; no values without one
}

// pair names the drawings of an arm by their place in the list.
type pair struct{ clean, attacked int }

// sheet lists the pictures of a comparison: each once, by case and arm.
type sheet struct {
	drawings []drawing
	pairs    [][]pair // [cases][arms]
}

// layOut says what is to be drawn; typo gives the damaged prompt of an arm.
func layOut(r leafserve.Request, typo func(i, arm int) string) sheet {
	type key struct {
		encoder, prompt string
		seed            uint64
	}
	var s sheet
	known := map[key]int{}
	add := func(k key, cell string) int {
		i, ok := known[k]
		if !ok {
			i = len(s.drawings)
			known[k] = i
			s.drawings = append(s.drawings, drawing{request: single(r, k.encoder, k.prompt, k.seed)})
		}
		s.drawings[i].cells = append(s.drawings[i].cells, cell)
		return i
	}
	prompts, seeds := r.CasePrompts(), r.ImageSeeds()
	s.pairs = make([][]pair, len(prompts))
	for i, prompt := range prompts {
		s.pairs[i] = make([]pair, len(r.Arms))
		for a, arm := range r.Arms {
			s.pairs[i][a].clean = add(key{arm, prompt, seeds[i]}, "clean"+arm)
		}
		for a, arm := range r.Arms {
			s.pairs[i][a].attacked = add(key{arm, typo(i, a), seeds[i]}, "attacked"+arm)
		}
	}
	return s
}

// single is the request of POST /generate that makes one picture of r.
func single(r leafserve.Request, encoder, prompt string, seed uint64) leafserve.Request {
	r.Encoder, r.Prompt, r.Seed = encoder, prompt, &seed
	r.Seeds, r.Prompts, r.Attack, r.Arms, r.AttackedPerArm = nil, nil, nil, nil, false
	return r
}

// draw makes, stores and judges all pictures, as many at a time as memory
// allows, and gives the time that it took.
func (c *comparison) draw(ctx context.Context) (leafserve.Timings, error) {
	var total leafserve.Timings
	all := c.sheet.drawings
	size := c.m.batchSize(c.request)
	batches := ceilDiv(len(all), size)
	progress := c.m.reporter(ctx, c.request, c.searched, c.tell)
	for b := range batches {
		part := all[b*size : min((b+1)*size, len(all))]
		reqs, cells := make([]leafserve.Request, len(part)), make([][]string, len(part))
		for i, d := range part {
			reqs[i], cells[i] = d.request, d.cells
		}
		outs, err := c.m.Generate(ctx, reqs, Options{OnStep: func(s Step) {
			s.Done, s.All = b*s.All+s.Done, batches*s.All
			progress(s, cells)
		}})
		if err != nil {
			return total, err
		}
		t := outs[0].Timings
		total.EncodeMS, total.DenoiseMS, total.DecodeMS = total.EncodeMS+t.EncodeMS, total.DenoiseMS+t.DenoiseMS, total.DecodeMS+t.DecodeMS
		if err := traced(ctx, "store", func(ctx context.Context) error { return c.finish(ctx, b*size, part, outs) }); err != nil {
			return total, err
		}
	}
	return total, nil
}

// inline is a picture as a report carries it: its file, or where that is large
// a JPEG of its thumbnail.
func inline(f File, format string, small *image.NRGBA) (report.Picture, error) {
	if small.Rect.Size() == f.Picture.Rect.Size() {
		return report.Picture{Type: "image/" + format, Data: f.Data}, nil
	}
	var b bytes.Buffer
	err := gallery.Encode(&b, small, "jpeg", "")
	return report.Picture{Type: "image/jpeg", Data: b.Bytes()}, err
}

// finish stores and judges the pictures of one batch, the first of which is
// number first.
func (c *comparison) finish(ctx context.Context, first int, part []drawing, outs []Output) error {
	pictures := make([]image.Image, len(part))
	for i := range part {
		files, err := c.m.Files(part[i].request, outs[i])
		if err != nil {
			return err
		}
		if part[i].image, err = c.shelf.picture(ctx, first+i, c.request.OutputFormat, files[0]); err != nil {
			return err
		}
		pictures[i], part[i].small = files[0].Picture, gallery.Thumbnail(files[0].Picture)
		if part[i].inline, err = inline(files[0], c.request.OutputFormat, part[i].small); err != nil {
			return err
		}
	}
	if c.judge == nil {
		return nil
	}
	rows, err := c.judge.Images(ctx, pictures)
	if err != nil {
		return err
	}
	for i := range part {
		part[i].row = rows.Row(i)
	}
	return nil
}
