package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the formats of stored pictures
	_ "image/png"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"time"

	_ "golang.org/x/image/webp"

	"leafserve"
	"leafserve/gallery"
	"leafserve/tensor"
	"leafserve/weights"
)

// clip is where the model's CLIP lies, if it has one.
func (f *Folder) clip() string { return filepath.Join(f.Dir, "clip") }

// Space names the space in which the model's CLIP places pictures; it is the
// same for models that share that CLIP, and "" where there is none, or none that
// reads pictures. Only the projection of pictures is read for it.
func (f *Folder) Space() (string, error) {
	ckpt, err := weights.Open(f.clip())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	e, ok := ckpt.Lookup("visual_projection.weight")
	if !ok {
		return "", nil
	}
	projection, err := e.Read()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if err := binary.Write(h, binary.LittleEndian, projection.Data); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// Direction is a text's place in the space of the model's CLIP, by one of the
// encoders. Errors are those of Encode.
func (e Encoders) Direction(ctx context.Context, encoder, text string) (gallery.Embedding, error) {
	out, err := e.Encode(ctx, encoder, []string{text}, []string{"projected"}, 0)
	if err != nil {
		return nil, err
	}
	return tensor.UnitRows(out["projected"]).Data, nil
}

// Indexed gives a runner that adds the pictures of run's jobs, once run has
// stored them, to the index, with their CLIP embedding where the model has a
// CLIP. The built-in model's takes 4 ms a picture, and 30 ms once to load. A job
// does not fail because of its index entry: that is logged.
func (m *Model) Indexed(run leafserve.Runner, pictures gallery.Store, index *gallery.Index) leafserve.Runner {
	return func(tasks []leafserve.Task) []leafserve.Outcome {
		out := run(tasks)
		for i, t := range tasks {
			if out[i].Err != nil {
				continue
			}
			entries := picturesOf(t.Job, out[i].Result)
			if err := m.embed(t.Ctx, pictures, entries); err != nil {
				slog.Warn("pictures not embedded: no search will find them", "job", t.Job.ID, "err", err)
			}
			if err := index.Add(t.Ctx, entries...); err != nil {
				slog.Warn("pictures not added to the gallery", "job", t.Job.ID, "err", err)
			}
		}
		return out
	}
}

// picturesOf lists what a job made, each picture once, with the prompt that was
// drawn.
func picturesOf(job leafserve.Job, result leafserve.Result) []gallery.Entry {
	now := time.Now().UTC()
	var entries []gallery.Entry
	add := func(prompt string, img leafserve.Image) {
		name := path.Base(img.URL)
		if !slices.ContainsFunc(entries, func(e gallery.Entry) bool { return e.Name == name }) {
			entries = append(entries, gallery.Entry{Name: name, Prompt: prompt, Seed: img.Seed, Width: img.Width, Height: img.Height, Created: now})
		}
	}
	if result.Compare != nil {
		for _, one := range result.Compare.All() {
			for _, arm := range one.Arms {
				add(arm.Clean.Prompt, arm.Clean.Image)
				add(arm.Attacked.Prompt, arm.Attacked.Image)
			}
		}
	}
	for _, img := range result.Images {
		add(job.Request.Prompt, img)
	}
	return entries
}

// embed reads pictures back and fills in where CLIP places them.
func (m *Model) embed(ctx context.Context, pictures gallery.Store, entries []gallery.Entry) error {
	judge, err := m.Judge()
	if judge == nil || err != nil {
		return err
	}
	for part := range slices.Chunk(entries, atOnce) {
		images := make([]image.Image, len(part))
		for i, e := range part {
			if images[i], err = decode(ctx, pictures, e.Name); err != nil {
				return err
			}
		}
		rows, err := judge.Images(ctx, images)
		if err != nil {
			return err
		}
		for i := range part {
			part[i].Space, part[i].Embedding = judge.Space, rows.Row(i).Data
		}
	}
	return nil
}

// decode reads a stored picture.
func decode(ctx context.Context, pictures gallery.Store, name string) (image.Image, error) {
	file, _, err := pictures.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	img, _, err := image.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return img, nil
}
