// Command leafserve makes pictures from prompts with a text encoder that
// survives typos: as an HTTP service (serve, api, worker) and on the command
// line (generate, encode, tokenize …). `leafserve help` lists the subcommands.
//
// It exits 0 when it did what was asked, 2 when the request was wrong and 1
// when anything else went wrong; the one sentence on standard error says what
// to do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"leafserve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// run is the program without its process, for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	redis.SetLogger(redisLog{})
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "leafserve: stopped")
		return exitFailed
	}
	fmt.Fprintln(stderr, "leafserve:", strings.TrimSpace(err.Error()))
	if leafserve.KindOf(err) == leafserve.Invalid {
		return exitUsage
	}
	return exitFailed
}

// rootCommand puts the subcommands together.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "leafserve",
		Short:         "Pictures from prompts, with a text encoder that survives typos",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	cfg := DefaultConfig()
	root.PersistentFlags().StringVar(&cfg.File, "config", cfg.File, "YAML file with values for flags, by their names")
	root.PersistentFlags().BoolVar(&cfg.JSON, "json", cfg.JSON, "print results as JSON")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return fillFlags(cmd, cfg.File) }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return leafserve.Errorf(leafserve.Invalid, "%w: see %s --help", wrongValue(err), cmd.CommandPath())
	})
	root.AddCommand(
		serveCommand(cfg), apiCommand(cfg), workerCommand(cfg), generateCommand(cfg), compareCommand(cfg),
		attackCommand(cfg), invertCommand(cfg), encodeCommand(cfg),
		tokenizeCommand(cfg), scheduleCommand(cfg), modelsCommand(cfg), doctorCommand(cfg), benchCommand(cfg), versionCommand(cfg),
		evalCommand(cfg), trainCommand(cfg), keysCommand(cfg), queueCommand(cfg),
	)
	root.InitDefaultHelpCmd()
	usageErrors(root)
	return root
}

// usageErrors makes a wrong number of arguments, or an unknown subcommand, a
// usage error like a wrong flag. A command that only has subcommands prints its
// help when none is named.
func usageErrors(cmd *cobra.Command) {
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	check := cmd.Args
	if cmd.Name() == "help" {
		check = func(cmd *cobra.Command, args []string) error {
			_, rest, err := cmd.Root().Find(args)
			return errors.Join(err, cobra.NoArgs(cmd, rest))
		}
	}
	if check == nil {
		check = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return leafserve.Errorf(leafserve.Invalid, "%w: see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
	for _, c := range cmd.Commands() {
		usageErrors(c)
	}
}

// printJSON writes v as one indented JSON document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// newTable aligns columns that tabs separate; Flush writes them.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
