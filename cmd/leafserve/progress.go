package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar shows how far long work is, on a terminal only.
type bar struct {
	progress *mpb.Progress
	bar      *mpb.Bar
	shown    bool // there is a terminal
}

// newBar starts a bar on standard error, unless that is no terminal or --json
// was given.
func newBar(cmd *cobra.Command, cfg *Config, what string) *bar {
	return newBarWith(cmd, cfg, what, 40, decor.AverageETA(decor.ET_STYLE_GO))
}

// newBarWith is newBar for a bar of some columns that is followed by tail.
func newBarWith(cmd *cobra.Command, cfg *Config, what string, columns int, tail ...decor.Decorator) *bar {
	var out io.Writer
	if f, ok := cmd.ErrOrStderr().(*os.File); ok && isatty.IsTerminal(f.Fd()) && !cfg.JSON {
		out = f
	}
	p := mpb.New(mpb.WithOutput(out), mpb.WithWidth(columns))
	b := p.AddBar(0,
		mpb.PrependDecorators(decor.Name(what+" ")),
		mpb.AppendDecorators(append([]decor.Decorator{decor.CountersNoUnit("%d/%d ")}, tail...)...),
		mpb.BarRemoveOnComplete())
	return &bar{p, b, out != nil}
}

// set says that done of all is done.
func (b *bar) set(done, all int) {
	b.bar.SetTotal(int64(all), false)
	b.bar.SetCurrent(int64(done))
}

// write prints a line above the bar.
func (b *bar) write(line string) { b.progress.Write([]byte(line + "\n")) }

// done removes the bar.
func (b *bar) done() {
	b.bar.SetTotal(-1, true)
	b.progress.Wait()
}
