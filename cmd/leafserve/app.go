package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/ort"
	"leafserve/pipeline"
	"leafserve/queue"
	"leafserve/weights/builtin"
)

// openRuntime finds and loads ONNX Runtime.
func (c *Config) openRuntime() (*ort.Runtime, error) {
	cfg := c.Runtime
	switch {
	case !slices.Contains(ort.Providers, cfg.Provider):
		return nil, leafserve.InvalidField("provider", "provider %q is unknown, want one of: %s", cfg.Provider, strings.Join(ort.Providers, ", "))
	case cfg.Threads < 0:
		return nil, leafserve.InvalidField("threads", "--threads is %d, want 0 or more", cfg.Threads)
	case cfg.Device < 0:
		return nil, leafserve.InvalidField("device", "--device is %d, want the number of a GPU, from 0", cfg.Device)
	}
	lib, err := ort.FindLibrary(cfg.Library)
	if err != nil {
		return nil, err
	}
	// The system's loader would look for a bare file name in its own folders.
	if cfg.Library, err = filepath.Abs(lib.Path); err != nil {
		return nil, err
	}
	return ort.Open(cfg)
}

// modelDir finds the folder of the configured model; the built-in one is
// unpacked first.
func (c *Config) modelDir(model string) (string, error) {
	if model == builtin.Name {
		cache, err := c.cacheDir()
		if err != nil {
			return "", err
		}
		return builtin.Unpack(cache)
	}
	if strings.ContainsRune(model, filepath.Separator) || isDir(model) {
		return model, nil
	}
	data, err := c.dataDir()
	if err != nil {
		return "", err
	}
	if dir := filepath.Join(data, "models", model); isDir(dir) {
		return dir, nil
	}
	return "", leafserve.InvalidField("model", "there is no model %q: name a folder in diffusers' layout, or one of: %s", model, strings.Join(c.modelNames(), ", "))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// modelNames lists the models that have a name: the built-in one and the
// folders under models in the data folder.
func (c *Config) modelNames() []string {
	names := []string{builtin.Name}
	data, err := c.dataDir()
	if err != nil {
		return names
	}
	entries, _ := os.ReadDir(filepath.Join(data, "models")) // none is no error
	for _, e := range entries {
		// The built-in model is unpacked beside them when --data-dir is given.
		if e.IsDir() && !strings.HasPrefix(e.Name(), builtin.Name+"-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// describe reads the configured model's folder without its weights.
func (c *Config) describe() (*pipeline.Folder, error) { return c.describeModel(c.Model) }

// describeModel reads the folder of a model, and what encoders were attached to it.
func (c *Config) describeModel(model string) (*pipeline.Folder, error) {
	folder, err := c.ownFolder(model)
	if err != nil {
		return nil, err
	}
	root, err := c.encodersDir()
	if err != nil { // no data folder, so nothing in it
		return folder, nil
	}
	return folder, folder.Adopt(root)
}

// ownFolder reads the folder of a model alone.
func (c *Config) ownFolder(model string) (*pipeline.Folder, error) {
	dir, err := c.modelDir(model)
	if err != nil {
		return nil, err
	}
	return pipeline.Describe(dir)
}

// encodersDir is where the attached encoders of all models lie.
func (c *Config) encodersDir() (string, error) {
	data, err := c.dataDir()
	return filepath.Join(data, "encoders"), err
}

// load opens the runtime and loads the configured model.
func (c *Config) load() (*pipeline.Model, error) {
	folder, err := c.describe()
	if err != nil {
		return nil, err
	}
	rt, err := c.openRuntime()
	if err != nil {
		return nil, err
	}
	return pipeline.Load(rt, folder)
}

// redisLog takes what the client of Redis says of each failed connection: the
// error that it returns in the end is what people read.
type redisLog struct{}

// Printf logs for those who look for it.
func (redisLog) Printf(ctx context.Context, format string, args ...any) {
	slog.DebugContext(ctx, fmt.Sprintf(format, args...))
}

// openQueue connects to Redis, or starts the embedded one. close ends both.
func (c *Config) openQueue(ctx context.Context) (q *queue.Queue, close func(), err error) {
	var client redis.UniversalClient
	if c.HTTP.Redis == "" {
		client, close, err = c.openEmbedded(ctx)
	} else {
		client, err = queue.Connect(ctx, c.HTTP.Redis)
		close = func() { client.Close() }
	}
	if err != nil {
		return nil, nil, err
	}
	return queue.New(client, c.Queue), close, nil
}
