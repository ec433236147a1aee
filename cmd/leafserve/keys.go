package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/keys"
)

func keysCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make, list and revoke API keys"}
	cmd.AddCommand(
		newKeyCommand(cfg),
		&cobra.Command{
			Use: "list", Short: "List who has a key",
			RunE: func(cmd *cobra.Command, _ []string) error { return listKeys(cmd, cfg) },
		},
		&cobra.Command{
			Use: "revoke NAME", Short: "Take a key away; servers refuse it with their next request", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return revokeKey(cmd, cfg, args[0]) },
		},
	)
	for _, c := range cmd.Commands() {
		dataFlags(c, cfg)
		keysFlag(c, cfg)
	}
	return cmd
}

func keysFlag(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.HTTP.Keys, "keys", cfg.HTTP.Keys, "file of API keys (default: keys.yaml in the data folder)")
}

func newKeyCommand(cfg *Config) *cobra.Command {
	var client leafserve.Client
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make a key and print it, this once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client.Name = args[0]
			if client.Weight == 0 { // which the file would read as "not given"
				return leafserve.InvalidField("weight", "weight of %.64s is 0, want a number above 0", client.Name)
			}
			return newKey(cmd, cfg, client)
		},
	}
	cmd.Flags().BoolVar(&client.Admin, "admin", false, "may operate the queue and see the jobs of all")
	cmd.Flags().Float64Var(&client.Weight, "weight", 1, "share of the workers against other keys")
	cmd.Flags().IntVar(&client.Queued, "queued", 0, "jobs that may wait, 0 for no bound but the queue's")
	cmd.Flags().IntVar(&client.Running, "running", 0, "jobs that may run at once, 0 for no bound")
	cmd.Flags().IntVar(&client.PerMinute, "per-minute", 0, "jobs accepted a minute, and at once, 0 for no bound")
	return cmd
}

// keysFile is where the keys are.
func (c *Config) keysFile() (string, error) {
	if c.HTTP.Keys != "" {
		return c.HTTP.Keys, nil
	}
	data, err := c.dataDir()
	return filepath.Join(data, "keys.yaml"), err
}

// watchKeys opens the file of keys. One that was named must be there: a typing
// error would open the service to everybody.
func (c *Config) watchKeys(log *slog.Logger) (*keys.Ring, error) {
	path, err := c.keysFile()
	if err != nil {
		return nil, err
	}
	if c.HTTP.Keys != "" {
		if _, err := keys.Read(path); err != nil {
			return nil, err
		}
	}
	return keys.Watch(path, log)
}

// newKey prints nothing but the token on standard output, for scripts.
func newKey(cmd *cobra.Command, cfg *Config, client leafserve.Client) error {
	path, err := cfg.keysFile()
	if err != nil {
		return err
	}
	token, err := keys.Add(path, client, time.Now())
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]string{"name": client.Name, "token": token})
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "The key of %s follows. Keep it: %s has its hash only.\nSend it as Authorization: Bearer KEY.\n", client.Name, path)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
	return err
}

// listKeys lists none where there is no file.
func listKeys(cmd *cobra.Command, cfg *Config) error {
	path, err := cfg.keysFile()
	if err != nil {
		return err
	}
	all, err := keys.Read(path)
	if err != nil && leafserve.KindOf(err) != leafserve.NotFound {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"object": "list", "data": append([]keys.Key{}, all...)})
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "There is no file of keys at %s: a server of it is open to everybody.\n", path)
	}
	w := newTable(cmd.OutOrStdout())
	fmt.Fprintln(w, "NAME\tADMIN\tWEIGHT\tQUEUED\tRUNNING\tPER MINUTE\tCREATED")
	for _, k := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, map[bool]string{true: "yes", false: "no"}[k.Admin], fmt.Sprint(cmp.Or(k.Weight, 1)),
			orDash(k.Queued), orDash(k.Running), orDash(k.PerMinute), k.Created.Format(time.DateOnly))
	}
	return w.Flush()
}

// orDash is a bound in a table: a dash for none.
func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func revokeKey(cmd *cobra.Command, cfg *Config, name string) error {
	path, err := cfg.keysFile()
	if err != nil {
		return err
	}
	if err := keys.Revoke(path, name); err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]string{"revoked": name})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "The key of %s is revoked.\n", name)
	return err
}
