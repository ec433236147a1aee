package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/ort"
	"leafserve/queue"
)

// finding is one line of `doctor`.
type finding struct {
	Part string `json:"part"`
	OK   bool   `json:"ok"`
	Text string `json:"text"` // what was found, or what to do
}

func doctorCommand(cfg *Config) *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is there, what is missing and what to do",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if server != "" {
				return askServer(cmd.Context(), server)
			}
			return printFindings(cmd, cfg, examine(cmd.Context(), cfg))
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringVar(&cfg.HTTP.Redis, "redis", cfg.HTTP.Redis, "also look whether this Redis answers")
	cmd.Flags().StringVar(&server, "server", "", "only ask whether the server at this URL is ready (for container health checks)")
	return cmd
}

// examine looks at every part that the service needs.
func examine(ctx context.Context, cfg *Config) []finding {
	found := []finding{{"program", true, fmt.Sprintf("leafserve %s, %s, %s/%s, %d cores", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())}}
	look := func(part string, err error, text string) {
		if err != nil {
			text = err.Error()
		}
		found = append(found, finding{part, err == nil, text})
	}
	lib, err := ort.FindLibrary(cfg.Runtime.Library)
	look("ONNX Runtime library", err, fmt.Sprintf("%s (from %s, %s, checksum %s)", lib.Path, lib.Source, known(lib.Flavour), checked(lib)))
	if err == nil {
		rt, err := cfg.openRuntime()
		look("ONNX Runtime", err, describeRuntime(rt))
	}
	folder, err := cfg.describe()
	if err != nil {
		look("model", err, "")
	} else {
		look("model", nil, fmt.Sprintf("%s in %s, encoders %s", folder.Info.Name, folder.Dir, strings.Join(folder.Info.Encoders, ", ")))
	}
	data, err := cfg.dataDir()
	look("data folder", err, data)
	if cfg.HTTP.Redis != "" {
		client, err := queue.Connect(ctx, cfg.HTTP.Redis)
		look("Redis", err, "answers")
		if err == nil {
			client.Close()
		}
	}
	return found
}

func known(s string) string {
	if s == "" {
		return "unknown build"
	}
	return s + " build"
}

func checked(lib ort.Library) string {
	if lib.Verified {
		return "verified"
	}
	return "not in our table"
}

func describeRuntime(rt *ort.Runtime) string {
	if rt == nil {
		return ""
	}
	text := fmt.Sprintf("version %s, provider %s, %d threads", rt.Version, rt.Provider, rt.Threads)
	if rt.Fallback != nil {
		text += fmt.Sprintf("; no CUDA: %v", rt.Fallback)
	}
	return text
}

// printFindings fails when a part is missing, so that scripts notice.
func printFindings(cmd *cobra.Command, cfg *Config, found []finding) error {
	var missing []string
	for _, f := range found {
		if !f.OK {
			missing = append(missing, f.Part)
		}
	}
	if err := writeFindings(cmd.OutOrStdout(), cfg, found); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not ready: %s", strings.Join(missing, ", "))
	}
	return nil
}

func writeFindings(out io.Writer, cfg *Config, found []finding) error {
	if cfg.JSON {
		return printJSON(out, found)
	}
	w := newTable(out)
	for _, f := range found {
		mark := map[bool]string{true: "ok", false: "MISSING"}[f.OK]
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.Part, f.Text)
	}
	return w.Flush()
}

// askServer succeeds when GET /readyz does.
func askServer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/readyz", nil)
	if err != nil {
		return leafserve.InvalidField("server", "--server is %q, want a URL such as http://127.0.0.1:8080", url)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return errors.Join(fmt.Errorf("%s is not ready: %s", url, strings.TrimSpace(string(text))), err)
	}
	return nil
}

// version is set by the Makefile.
var version string

// programVersion is the version, or what the build knows of its commit.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "dev-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "dev"
}

func versionCommand(cfg *Config) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.JSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"version": programVersion(), "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "leafserve", programVersion())
			return err
		},
	}
}
