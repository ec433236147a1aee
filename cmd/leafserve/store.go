package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/gallery"
)

func storeFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.Store, "store", cfg.Store, "where pictures are kept: file:///folder, s3://bucket/prefix?region=… or mem:// (default: the data folder)")
}

// openStore opens the store of the pictures, which is in the data folder unless
// it is said.
func (c *Config) openStore(ctx context.Context, r roles) (gallery.Store, error) {
	if strings.HasPrefix(c.Store, "mem:") && !(r.http && r.worker) {
		return nil, leafserve.InvalidField("store", "--store mem:// is the memory of one process: name a place that the API and its workers reach, file:///folder or s3://bucket")
	}
	if c.Store != "" {
		return gallery.OpenStore(ctx, c.Store)
	}
	data, err := c.dataDir()
	if err != nil {
		return nil, err
	}
	return gallery.Open(filepath.Join(data, gallery.Place))
}
