package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/attack"
	"leafserve/eval"
	"leafserve/eval/data"
	"leafserve/tensor"
)

// zeroshotFlags are the flags of `eval zeroshot` beside the shared ones.
type zeroshotFlags struct {
	evalFlags
	task, anchors, classes string
	attacks                []string
}

func zeroshotCommand(cfg *Config) *cobra.Command {
	f := &zeroshotFlags{}
	cmd := &cobra.Command{
		Use:   "zeroshot",
		Short: "Classification of texts, or of pictures by damaged class prompts",
		Long: `Zero-shot classification, clean, with random typos and under attack.

texts: each text goes to the class whose anchor is nearest. The searches bring
the margin down, with every character of the data. The texts are the
captions of a data folder, or a file of labelled texts: .csv with
label,title,description as AG-News is published, else {"text","label"} a line.

pictures: each picture of a data folder goes to the class whose prompt is
nearest, while all class prompts are damaged.`,
		Example: `  leafserve eval zeroshot --limit 50
  leafserve eval zeroshot --task pictures --edits 1,2 --rho 20
  leafserve eval zeroshot --data ag_news/test.csv --limit 1000 --edits 1`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	f.register(cmd, cfg, "zeroshot", 1, 2, 3, 4, 5)
	cmd.Flags().StringVar(&f.data, "data", "", "folder with captions.jsonl and classes.jsonl, or file of labelled texts (default: the built-in captions)")
	cmd.Flags().StringVar(&f.task, "task", "texts", "texts or pictures")
	cmd.Flags().StringSliceVar(&f.attacks, "attacks", []string{attack.Charmer}, "searches on texts: charmer, leaf")
	cmd.Flags().StringVar(&f.anchors, "anchors", "text", "of texts: text (the classes' prompts) or image (their pictures)")
	cmd.Flags().StringVar(&f.classes, "classes", "", `file of {"name","prompt","image"} a line, for labelled texts (default: the four of AG-News)`)
	cmd.Flags().StringVar(&f.Constraint, "constraint", "", "strict, no-increase, none (default: none for labelled texts, as in the paper, else strict: without it \"cat\" becomes \"bat\")")
	return cmd
}

func (f *zeroshotFlags) run(cmd *cobra.Command, cfg *Config) error {
	for _, c := range []struct {
		flag, v string
		want    []string
	}{{"task", f.task, []string{"texts", "pictures"}}, {"anchors", f.anchors, []string{"text", "image"}}} {
		if !slices.Contains(c.want, c.v) {
			return leafserve.InvalidField(c.flag, "--%s is %q, want %s or %s", c.flag, c.v, c.want[0], c.want[1])
		}
	}
	if err := checkAttacks(f.attacks, attack.Charmer, attack.Leaf); err != nil {
		return err
	}
	f.Own = map[string]string{"task": f.task}
	if f.task == "texts" {
		f.Own["anchors"] = f.anchors
	}
	if f.Constraint == "" {
		f.Constraint = attack.Strict
		if f.isFile() {
			f.Constraint = attack.None
		}
	}
	l, err := f.load(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	if f.task == "pictures" {
		task, err := f.pictures(cmd.Context(), l)
		if err != nil {
			return err
		}
		return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
			return eval.ZeroShotPictures(ctx, r, task)
		})
	}
	task, err := f.texts(cmd.Context(), l)
	if err != nil {
		return err
	}
	return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
		return eval.ZeroShotTexts(ctx, r, task, f.attacks)
	})
}

// pictures reads a data folder for --task pictures.
func (f *zeroshotFlags) pictures(ctx context.Context, l *lab) (task eval.Pictures, err error) {
	set, err := f.captions()
	if err != nil {
		return task, err
	}
	task = eval.Pictures{Class: set.Class, Prompts: prompts(set.Classes)}
	for _, c := range set.Classes {
		task.Typos = append(task.Typos, c.Typos)
	}
	task.Images, err = l.pictures(ctx, set)
	return task, err
}

// texts reads captions or labelled texts for --task texts.
func (f *zeroshotFlags) texts(ctx context.Context, l *lab) (task eval.Texts, err error) {
	if f.isFile() {
		return f.labelled(ctx, l)
	}
	set, err := f.captions()
	if err != nil {
		return task, err
	}
	if f.anchors == "image" {
		set = set.Depicted()
	}
	task.Class, task.Prompts = set.Class, prompts(set.Classes)
	for _, c := range set.Captions {
		task.Texts = append(task.Texts, c.Text)
		task.Typos = append(task.Typos, c.Typos)
	}
	if f.anchors == "image" {
		pictures, err := l.pictures(ctx, set)
		if err != nil {
			return task, err
		}
		task.Anchors = eval.ClassMeans(pictures, task.Class)
	}
	return task, nil
}

// labelled reads a file of labelled texts.
func (f *zeroshotFlags) labelled(ctx context.Context, l *lab) (task eval.Texts, err error) {
	beside, classes := data.Folder{}, data.News()
	if f.classes != "" {
		var name string
		beside, name = data.Around(f.classes)
		if classes, err = beside.Classes(name); err != nil {
			return task, err
		}
	}
	folder, name := data.Around(f.data)
	examples, err := folder.Texts(name, classes)
	if err != nil {
		return task, err
	}
	for _, e := range examples {
		task.Texts = append(task.Texts, e.Text)
		task.Class = append(task.Class, e.Class)
	}
	task.Prompts = prompts(classes)
	f.Data, f.Own["classes"] = f.data, fmt.Sprint(classes)
	if f.DataHash, err = folder.Hash(name); err == nil && f.anchors == "image" {
		task.Anchors, err = f.imageAnchors(ctx, l, beside, classes)
	}
	return task, err
}

// imageAnchors embeds the classes' own pictures.
func (f *zeroshotFlags) imageAnchors(ctx context.Context, l *lab, folder data.Folder, classes []data.Class) (tensor.Tensor, error) {
	var names []string
	for _, c := range classes {
		if c.Image == "" {
			return tensor.Tensor{}, leafserve.InvalidField("classes", `class %q has no "image" for --anchors image: give --classes with one a class`, c.Name)
		}
		names = append(names, c.Image)
	}
	images, err := folder.Images(names)
	if err != nil {
		return tensor.Tensor{}, err
	}
	return l.embed(ctx, images)
}

// prompts are the text anchors of classes.
func prompts(classes []data.Class) []string {
	var out []string
	for _, c := range classes {
		out = append(out, c.Prompt)
	}
	return out
}
