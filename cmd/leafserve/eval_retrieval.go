package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/attack"
	"leafserve/eval"
	"leafserve/eval/data"
	"leafserve/gallery"
	"leafserve/tensor"
)

// retrievalFlags are the flags of `eval retrieval` beside the shared ones.
type retrievalFlags struct {
	evalFlags
	attacks []string
	target  string
	gallery string
	coco    bool
}

func retrievalCommand(cfg *Config) *cobra.Command {
	f := &retrievalFlags{}
	cmd := &cobra.Command{
		Use:   "retrieval",
		Short: "Do damaged texts still find their pictures, and pictures their texts?",
		Long: `Text → image and image → text R@1, R@5 and R@10, clean, with random typos and
with all texts damaged by searches that see the encoder: leaf drives a text away
from its clean embedding; charmer too, without a constraint and with ten
positions as the LEAF paper has it, or away from the sentence of --target, which
is what the paper's published code does.

The pictures are those of a folder with captions.jsonl, {"image","text"} a line,
or captions.csv, file,caption in a row; a picture may have several captions. Or
those that this program made and keeps in a data folder, with their prompts.`,
		Example: `  leafserve eval retrieval --limit 50 --edits 1 --rho 20
  leafserve eval retrieval --data coco --coco-captions --attacks charmer --edits 2
  leafserve eval retrieval --gallery ~/.local/share/leafserve`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	f.register(cmd, cfg, "retrieval", 1, 2)
	cmd.Flags().Lookup("limit").Usage = "first pictures only, 0 for all"
	cmd.Flags().Lookup("rho").Usage = "positions, of leaf also symbols, that a search tries (default: 50 for leaf, 10 for charmer)"
	cmd.Flags().StringVar(&f.data, "data", "", "folder with pictures and captions (default: the built-in ones)")
	cmd.Flags().StringVar(&f.gallery, "gallery", "", "data folder of this program, instead of --data: its pictures, the newest of each prompt")
	cmd.Flags().StringSliceVar(&f.attacks, "attacks", []string{attack.Leaf}, "searches beside random typos: leaf, charmer")
	cmd.Flags().StringVar(&f.target, "target", "", "sentence that charmer drives texts away from (default: the clean text)")
	cmd.Flags().StringVar(&f.Constraint, "constraint", "", "strict, no-increase, none (default: strict for leaf, none for charmer)")
	cmd.Flags().BoolVar(&f.coco, "coco-captions", false, "clean captions as the paper does for COCO: lower case, fewer signs, 50 words at most")
	return cmd
}

func (f *retrievalFlags) run(cmd *cobra.Command, cfg *Config) error {
	if err := checkAttacks(f.attacks, attack.Leaf, attack.Charmer); err != nil {
		return err
	}
	switch {
	case f.gallery != "" && f.data != "":
		return leafserve.InvalidField("gallery", "--gallery and --data exclude each other")
	case f.target != "" && !slices.Contains(f.attacks, attack.Charmer):
		return leafserve.InvalidField("target", "--target is for charmer: add it to --attacks")
	}
	f.Own = map[string]string{"coco captions": fmt.Sprint(f.coco)}
	if f.target != "" {
		f.Own["target"] = f.target
	}
	l, err := f.load(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	task, err := f.captioned(cmd.Context(), l)
	if err != nil {
		return err
	}
	if f.coco {
		for i, text := range task.Texts {
			task.Texts[i] = eval.CocoCaption(text)
		}
		task.Typos = nil // they are of the captions as they were
	}
	return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
		return eval.Retrieval(ctx, r, task, f.attacks, f.target)
	})
}

// captioned reads and embeds the pictures.
func (f *retrievalFlags) captioned(ctx context.Context, l *lab) (task eval.Captioned, err error) {
	if f.gallery != "" {
		return f.fromGallery(ctx, l)
	}
	folder, err := data.Open(f.data)
	if err != nil {
		return task, err
	}
	captions, file, err := folder.Pairs()
	if err != nil {
		return task, err
	}
	var names []string
	for _, c := range captions {
		i := slices.Index(names, c.Image)
		if i < 0 {
			i, names = len(names), append(names, c.Image)
		}
		task.Texts, task.Shows, task.Typos = append(task.Texts, c.Text), append(task.Shows, i), append(task.Typos, c.Typos)
	}
	f.Data = folder.Name
	if f.DataHash, err = folder.Hash(append(slices.Clone(names), file)...); err != nil {
		return task, err
	}
	task.Images, err = l.folderPictures(ctx, folder, names)
	return task, err
}

// fromGallery takes the pictures that the model's CLIP embedded when they were
// made, the newest of each prompt, and their prompts as captions.
func (f *retrievalFlags) fromGallery(ctx context.Context, l *lab) (task eval.Captioned, err error) {
	space, err := l.folder.Space()
	if err != nil {
		return task, err
	}
	hits, err := newest(ctx, f.gallery)
	if err != nil {
		return task, err
	}
	var rows []tensor.Tensor
	seen := map[string]bool{}
	for _, h := range hits {
		if h.Space != space || seen[h.Prompt] || len(h.Embedding) == 0 {
			continue
		}
		seen[h.Prompt] = true
		task.Texts, task.Shows = append(task.Texts, h.Prompt), append(task.Shows, len(rows))
		rows = append(rows, tensor.Tensor{Shape: []int{1, len(h.Embedding)}, Data: h.Embedding})
	}
	if len(rows) == 0 {
		return task, leafserve.InvalidField("gallery", "%s has no picture that the CLIP of model %s embedded", f.gallery, l.Model)
	}
	f.Data, f.DataHash = "gallery "+f.gallery, hashOf(task.Texts)
	task.Images = tensor.Concat(rows...)
	return task, nil
}

// newest lists all pictures of a data folder, the newest first.
func newest(ctx context.Context, dataDir string) ([]gallery.Hit, error) {
	dir := filepath.Join(dataDir, gallery.Place)
	if !isDir(dir) {
		return nil, leafserve.InvalidField("gallery", "there are no pictures in %s: name the --data-dir of a server", dir)
	}
	folder, err := gallery.Open(dir)
	if err != nil {
		return nil, err
	}
	return folder.Index().Of("").Newest(ctx, math.MaxInt)
}

// hashOf identifies some texts: SHA-256, hex.
func hashOf(texts []string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(texts, "\x00"))))
}
