package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"path/filepath"
	"slices"

	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// Judge is the CLIPModel in a model's clip folder: it places pictures and texts
// in one space, where a small angle means that they show the same. It is safe
// for concurrent use.
type Judge struct {
	Space     string // as Folder.Space
	processor *textenc.ImageProcessor
	vision    *textenc.VisionEncoder
	text      *textenc.Encoder
	ownsText  bool // else text is one of the model's encoders
}

// LoadJudge reads the CLIP of a model folder, nil without an error where there
// is none that reads pictures. Pictures are prepared as the preprocessor_config.json
// in clip says, else that in feature_extractor. A clip folder without a text
// tower lends its text_projection to the model's standard encoder, as the
// built-in model's does. The caller closes the judge.
func LoadJudge(rt *ort.Runtime, f *Folder) (*Judge, error) { return f.loadJudge(rt, nil) }

// loadJudge is LoadJudge with the model's standard encoder, where that is loaded
// already: a CLIP without a text tower shares it.
func (f *Folder) loadJudge(rt *ort.Runtime, loaded *textenc.Encoder) (*Judge, error) {
	space, err := f.Space()
	if space == "" || err != nil {
		return nil, err
	}
	j := &Judge{Space: space}
	if err := j.load(rt, f, loaded); err != nil {
		return nil, fmt.Errorf("the model's CLIP: %w", errors.Join(err, j.Close()))
	}
	return j, nil
}

func (j *Judge) load(rt *ort.Runtime, f *Folder, loaded *textenc.Encoder) (err error) {
	dir := f.clip()
	if j.processor, err = textenc.LoadImageProcessor(dir, filepath.Join(f.Dir, "feature_extractor")); err != nil {
		return err
	}
	if j.vision, err = textenc.LoadVision(rt, dir); err != nil {
		return err
	}
	if err = j.loadText(rt, f, loaded); err != nil {
		return err
	}
	switch pictures, texts := j.vision.Config, j.text.Config; {
	case j.processor.Crop != pictures.ImageSize:
		return fmt.Errorf("%s reads pictures of %d pixels, its preprocessor_config.json gives %d", dir, pictures.ImageSize, j.processor.Crop)
	case !j.text.Projects() || pictures.Projection != texts.Projection:
		return fmt.Errorf("%s: pictures have %d values and texts %d: its text_projection is missing or does not fit", dir, pictures.Projection, texts.Projection)
	}
	return nil
}

// loadText finds the text tower: in the clip folder, else the standard encoder.
func (j *Judge) loadText(rt *ort.Runtime, f *Folder, loaded *textenc.Encoder) error {
	dir := f.clip()
	ckpt, err := weights.Open(dir)
	if err != nil {
		return err
	}
	var opts textenc.Options
	if _, whole := ckpt.Lookup("text_model.final_layer_norm.weight"); !whole {
		if loaded != nil {
			j.text = loaded
			return nil
		}
		dir = f.encoders[standard]
		if opts.Projection, err = f.projection(); err != nil {
			return err
		}
	}
	tokenizer, err := f.Tokenizer()
	if err != nil {
		return err
	}
	j.text, err = textenc.Load(rt, dir, tokenizer, opts)
	j.ownsText = err == nil
	return err
}

// Judge gives the model's CLIP, nil without an error where it has none. The
// first call loads it (30 ms for the built-in model); it is freed with the model.
func (m *Model) Judge() (*Judge, error) {
	m.judgeOnce.Do(func() { m.judge, m.judgeErr = m.loadJudge(m.Runtime, m.Encoders[standard]) })
	return m.judge, m.judgeErr
}

// Close frees the weights that the judge alone uses; no call may be running.
func (j *Judge) Close() error {
	var errs []error
	if j.vision != nil {
		errs = append(errs, j.vision.Close())
	}
	if j.ownsText {
		errs = append(errs, j.text.Close())
	}
	return errors.Join(errs...)
}

// atOnce bounds how many pictures or texts are held as network inputs and
// outputs at a time.
const atOnce = 32

// Images embeds pictures of any size: rows of unit length, [n,P]. A row depends
// on its picture only. A picture without pixels is an error.
func (j *Judge) Images(ctx context.Context, images []image.Image) (tensor.Tensor, error) {
	rows := []tensor.Tensor{tensor.New(0, j.vision.Config.Projection)}
	for part := range slices.Chunk(images, atOnce) {
		var pixels []tensor.Tensor
		for _, img := range part {
			one, err := j.processor.Pixels(img)
			if err != nil {
				return tensor.Tensor{}, err
			}
			pixels = append(pixels, one)
		}
		embedded, err := j.vision.Encode(ctx, tensor.Concat(pixels...))
		if err != nil {
			return tensor.Tensor{}, err
		}
		rows = append(rows, embedded)
	}
	return tensor.UnitRows(tensor.Concat(rows...)), nil
}

// Texts embeds texts by CLIP's own (standard) text tower: rows of unit length,
// [n,P]. What does not fit in the context is cut off.
func (j *Judge) Texts(ctx context.Context, texts []string) (tensor.Tensor, error) {
	rows := []tensor.Tensor{tensor.New(0, j.text.Config.Projection)}
	for part := range slices.Chunk(texts, atOnce) {
		var prompts []textenc.Prompt
		for _, text := range part {
			prompts = append(prompts, j.text.Tokenize(text))
		}
		embeddings, err := j.text.Encode(ctx, prompts, 0)
		if err != nil {
			return tensor.Tensor{}, err
		}
		for _, e := range embeddings {
			rows = append(rows, e.Projected)
		}
	}
	return tensor.UnitRows(tensor.Concat(rows...)), nil
}

// CLIPScore is max(cos, 0) of two unit rows, usually of a picture and of a text:
// 0…1 (Hessel et al. 2021, without its factor 2.5).
func CLIPScore(a, b tensor.Tensor) float64 { return max(0, Cosine(a, b)) }

// Cosine is the cosine between two unit rows of the same width, −1…1.
func Cosine(a, b tensor.Tensor) float64 {
	dot := 0.0
	for i, v := range a.Data {
		dot += float64(v) * float64(b.Data[i])
	}
	return min(max(dot, -1), 1)
}
