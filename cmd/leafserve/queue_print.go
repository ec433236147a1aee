package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/httpapi"
)

// printPage prints one page of a list, or gives err.
func printPage[T any](cmd *cobra.Command, cfg *Config, rows []T, next string, err error, table func(io.Writer, []T)) error {
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), httpapi.NewPage(rows, next))
	}
	w := newTable(cmd.OutOrStdout())
	table(w, rows)
	if err := w.Flush(); err != nil {
		return err
	}
	if next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "There are more: --cursor %s\n", next)
	}
	return nil
}

func printJobs(w io.Writer, jobs []leafserve.Job) {
	fmt.Fprintln(w, "JOB\tSTATE\tKIND\tPRIORITY\tCREATED\tPROMPT")
	for _, j := range jobs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", j.ID, j.State, j.Kind, j.Request.Priority, moment(j.CreatedAt), line(promptOf(j.Request), 50))
	}
}

func printDead(w io.Writer, letters []leafserve.JobDetail) {
	fmt.Fprintln(w, "JOB\tCLIENT\tATTEMPTS\tCREATED\tERROR")
	for _, d := range letters {
		said := ""
		if d.Job.Error != nil {
			said = d.Job.Error.Message
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", d.Job.ID, dash(d.Client), len(d.Attempts), moment(d.Job.CreatedAt), line(said, 70))
	}
}

func printDetail(out io.Writer, d leafserve.JobDetail) error {
	j, w := d.Job, newTable(out)
	state := string(j.State)
	if d.Dead {
		state += ", a dead letter"
	}
	for _, row := range [][2]string{
		{"job", j.ID}, {"state", state}, {"kind", j.Kind}, {"client", d.Client}, {"request", d.RequestID}, {"worker", d.Worker},
		{"model", j.Request.Model}, {"priority", fmt.Sprint(j.Request.Priority)}, {"prompt", promptOf(j.Request)},
		{"step", fmt.Sprintf("%d of %d", j.Progress.Step, j.Progress.Steps)}, {"created", moment(j.CreatedAt)},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], dash(line(row[1], 200)))
	}
	if j.FinishedAt != nil {
		fmt.Fprintf(w, "ended\t%s\n", moment(*j.FinishedAt))
	}
	if j.Error != nil {
		fmt.Fprintf(w, "error\t%s (%s)\n", line(j.Error.Message, 1000), j.Error.Kind)
	}
	if len(d.Attempts) > 0 {
		fmt.Fprintln(w, "\nATTEMPT\tSTARTED\tWORKER\tERROR")
	}
	for i, a := range d.Attempts {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", i+1, moment(a.Started), dash(line(a.Worker, 60)), dash(line(a.Error, 1000)))
	}
	return w.Flush()
}

func printStats(out io.Writer, s leafserve.QueueStats) error {
	w := newTable(out)
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintf(w, "takes jobs\t%s\nruns jobs\t%s\n", yes[s.Accepting], yes[!s.Paused])
	fmt.Fprintf(w, "queued\t%d, %d of them for later; %.1f MB\nrunning\t%d\ndead letters\t%d\nmean run\t%s\n",
		s.Queued, s.Delayed, float64(s.Bytes)/1e6, s.Running, s.Dead, span(s.MeanRunMS))
	if len(s.Levels) > 0 {
		fmt.Fprintln(w, "\nMODEL\tPRIORITY\tQUEUED\tOLDEST")
	}
	for _, l := range s.Levels {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", line(l.Model, 60), l.Priority, l.Queued, span(l.OldestMS))
	}
	if len(s.Clients) > 0 {
		fmt.Fprintln(w, "\nCLIENT\tQUEUED\tRUNNING")
	}
	for _, c := range s.Clients {
		fmt.Fprintf(w, "%s\t%d\t%d\n", dash(c.Name), c.Queued, c.Running)
	}
	if len(s.Workers) > 0 {
		fmt.Fprintln(w, "\nWORKER\tMODELS\tSILENT")
	}
	for _, k := range s.Workers {
		fmt.Fprintf(w, "%s\t%s\t%s\n", line(k.Name, 60), line(strings.Join(k.Models, ", "), 60), span(k.SilentMS))
	}
	return w.Flush()
}

// promptOf is the prompt of a request, or the first of its list.
func promptOf(r leafserve.Request) string {
	if len(r.Prompts) > 0 {
		return fmt.Sprintf("%s (and %d more)", line(r.Prompts[0], 30), len(r.Prompts)-1)
	}
	return r.Prompt
}

// line makes one line of at most n characters of a text that may come from
// anybody: nothing in it can move a terminal's cursor, or a table's columns.
func line(text string, n int) string {
	out := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text))
	if len(out) > n {
		out = append(out[:n-1], '…')
	}
	return string(out)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// span words milliseconds, 0 as unknown.
func span(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}
