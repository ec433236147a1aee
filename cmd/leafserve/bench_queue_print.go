package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func printQueueBench(cmd *cobra.Command, cfg *Config, f queueFigures) error {
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), f)
	}
	w := newTable(cmd.OutOrStdout())
	j, p := f.Jobs, f.Pictures
	fmt.Fprintf(w, "On %s.\n\n", f.Redis)
	fmt.Fprintf(w, "empty jobs\t%d\n", j.Measured)
	fmt.Fprintf(w, "enqueued a second, %d writers\t%.0f\n", j.Writers, j.EnqueuePerSecond)
	fmt.Fprintf(w, "claimed a second, one worker\t%.0f\n", j.ClaimPerSecond)
	fmt.Fprintf(w, "claimed, run and ended a second, one worker\t%.0f\n", j.RunPerSecond)
	fmt.Fprintf(w, "from enqueue to an idle worker's start\t%.2f ms, 99%%: %.2f ms\n", j.PickupMS.Median, j.PickupMS.P99)
	fmt.Fprintf(w, "from cancel to the end of the run's context\t%.2f ms, 99%%: %.2f ms\n", j.CancelMS.Median, j.CancelMS.P99)
	for _, d := range j.Depths {
		fmt.Fprintf(w, "with %d jobs waiting\tenqueue %.3f ms, claim %.3f ms\n", d.Queued, d.EnqueueMS, d.ClaimMS)
	}
	fmt.Fprintf(w, "\n%s on %s, %d threads; %d clients, medians of %d rounds\n", p.Model, p.Provider, p.Threads, p.Clients, p.Rounds)
	fmt.Fprintln(w, "BATCHES\tPICTURES/S\tMEAN BATCH\tTIME IN MODEL\tONE CLIENT")
	for _, v := range p.Ways {
		name := map[int]string{0: "automatic", 1: "none"}[v.Batch]
		if name == "" {
			name = fmt.Sprint("up to ", v.Batch)
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.1f\t%.1f%%\t%.1f ms\n", name, v.PerSecond, v.MeanBatch, 100*v.ModelShare, v.AloneMS)
	}
	fmt.Fprintf(w, "\nautomatic over none\t%.3f\nautomatic over the best size\t%.3f\n", p.Gain, p.OfBest)
	fmt.Fprintf(w, "from cancel to the start of the next job\t%.1f ms\n", p.CancelMS)
	return w.Flush()
}
