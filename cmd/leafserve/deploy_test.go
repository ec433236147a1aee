package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/metrics"
	"leafserve/queue"
)

// unit is one of our containers as docker-compose.yaml or a manifest has it.
type unit struct {
	where string
	args  []string          // of leafserve
	env   map[string]string // over the image's; of a value that the file does not have, somethingElse
	stop  time.Duration     // from SIGTERM to SIGKILL
	asks  []string          // URLs, with the port that they are asked at, of its probes and metrics
}

// somethingElse stands for a value that only the cluster knows. It is a number
// and a text, for whatever flag.
const somethingElse = "3"

// TestDeployments: whatever docker-compose.yaml and the manifests say to
// leafserve is something that it knows.
func TestDeployments(t *testing.T) {
	units := composeUnits(t)
	for _, dir := range []string{"base", "overlays/gpu"} {
		units = append(units, readCluster(t, filepath.Join(kubernetes, dir)).units()...)
	}
	roles := map[string]int{}
	for _, u := range units {
		t.Run(u.where, func(t *testing.T) {
			cfg := u.settings(t)
			u.checkStop(t, cfg)
			u.checkProbes(t, cfg)
			roles[u.args[0]]++
		})
	}
	if want := map[string]int{"api": 3, "worker": 3}; !maps.Equal(roles, want) {
		t.Errorf("containers by command are %v, want %v", roles, want)
	}
}

// settings gives the configuration that a container runs with. Each variable
// must be a flag of its command: another would do nothing.
func (u unit) settings(t *testing.T) *Config {
	t.Helper()
	cfg, cmd := commandOf(t, u.args)
	for name, value := range u.env {
		flag := flagOf(cmd, name)
		switch {
		case !strings.HasPrefix(name, "LEAFSERVE_"):
		case flag == "":
			t.Errorf("%s: leafserve %s has no such setting", name, u.args[0])
		case cmd.Flags().Changed(flag):
			t.Errorf("%s does nothing beside --%s", name, flag)
		default:
			if err := cmd.Flags().Set(flag, value); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, value := range imageEnv(t) {
		if flag := flagOf(cmd, name); flag != "" && !cmd.Flags().Changed(flag) {
			if err := cmd.Flags().Set(flag, value); err != nil {
				t.Errorf("%s of the image: %v", name, err)
			}
		}
	}
	if err := cfg.checkService(); err != nil {
		t.Error(err)
	}
	if cfg.HTTP.Redis == "" || cfg.Store == "" {
		t.Errorf("Redis is %q and the store %q: its processes would not meet", cfg.HTTP.Redis, cfg.Store)
	}
	return cfg
}

// commandOf reads a command line of serve, api or worker.
func commandOf(t *testing.T, args []string) (*Config, *cobra.Command) {
	t.Helper()
	cfg := DefaultConfig()
	for _, cmd := range []*cobra.Command{serveCommand(cfg), apiCommand(cfg), workerCommand(cfg)} {
		if len(args) == 0 || cmd.Name() != args[0] {
			continue
		}
		if err := cmd.ParseFlags(args[1:]); err != nil || cmd.Flags().NArg() > 0 {
			t.Fatalf("leafserve %q: %v, arguments left %q", args, err, cmd.Flags().Args())
		}
		return cfg, cmd
	}
	t.Fatalf("leafserve %q runs no service", args)
	return nil, nil
}

// flagOf is the flag of a variable, "" where the command has none.
func flagOf(cmd *cobra.Command, variable string) string {
	name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, "LEAFSERVE_")), "_", "-")
	if cmd.Flags().Lookup(name) == nil {
		return ""
	}
	return name
}

// imageSetting is a line of a Dockerfile's ENV.
var imageSetting = regexp.MustCompile(`(?m)^ +(LEAFSERVE_\w+)=(\S+)`)

// imageEnv gives the settings in Dockerfile, which must be those in
// Dockerfile.cuda and known to serve.
func imageEnv(t *testing.T) map[string]string {
	t.Helper()
	var images []map[string]string
	for _, name := range []string{"Dockerfile", "Dockerfile.cuda"} {
		env := map[string]string{}
		for _, m := range imageSetting.FindAllStringSubmatch(document(t, name), -1) {
			env[m[1]] = m[2]
			if flagOf(serveCommand(DefaultConfig()), m[1]) == "" {
				t.Errorf("%s sets %s, which serve does not know", name, m[1])
			}
		}
		images = append(images, env)
	}
	if len(images[0]) == 0 || !maps.Equal(images[0], images[1]) {
		t.Errorf("the images' settings are %v and %v, want the same", images[0], images[1])
	}
	return images[0]
}

// lastAnswers is what httpapi's Server and queue's Worker take after their grace.
const lastAnswers = 5 * time.Second

// checkStop: nothing is killed that would have ended by itself.
func (u unit) checkStop(t *testing.T, cfg *Config) {
	t.Helper()
	need := cfg.HTTP.DrainDelay + cfg.HTTP.Grace + lastAnswers
	if u.args[0] == "worker" {
		need = cfg.Worker.Grace + lastAnswers
	}
	if u.stop <= need {
		t.Errorf("it is killed %v after SIGTERM and may need %v", u.stop, need)
	}
}

// checkProbes: what is asked for its health and its metrics exists, where it listens.
func (u unit) checkProbes(t *testing.T, cfg *Config) {
	t.Helper()
	listens := cfg.HTTP.Addr
	if u.args[0] == "worker" {
		listens = cfg.Observe.Addr
	}
	host, port, err := net.SplitHostPort(listens)
	if err != nil || !net.ParseIP(host).IsUnspecified() {
		t.Errorf("it listens on %q (%v), where nobody outside the container can ask", listens, err)
	}
	if len(u.asks) == 0 {
		t.Error("nobody asks for its health")
	}
	probes := probeServer(t)
	for _, ask := range u.asks {
		to, err := url.Parse(ask)
		if err != nil || to.Port() != port {
			t.Errorf("asked is %s (%v), it listens on %s", ask, err, listens)
			continue
		}
		w := httptest.NewRecorder()
		probes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, to.Path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("GET %s: status %d", to.Path, w.Code)
		}
	}
}

// probeServer answers the routes that machines ask.
func probeServer(t *testing.T) http.Handler {
	t.Helper()
	client, stop, err := queue.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return httpapi.NewProbes(httpapi.Config{Jobs: jobs{queue.New(client, queue.Config{})}, Metrics: metrics.New("").Handler()}).Handler()
}

// TestDeploymentDoctor: the health check of the images and of docker-compose.yaml
// is a command of ours.
func TestDeploymentDoctor(t *testing.T) {
	for _, name := range []string{"Dockerfile", "Dockerfile.cuda"} {
		_, check, found := strings.Cut(document(t, name), `CMD ["leafserve", "doctor", "--server", "`)
		server, _, _ := strings.Cut(check, `"`)
		if _, port, err := net.SplitHostPort(strings.TrimPrefix(server, "http://")); !found || err != nil || !strings.HasSuffix(imageEnv(t)["LEAFSERVE_ADDR"], ":"+port) {
			t.Errorf("%s asks %q (%v) for its health", name, server, err)
		}
	}
}

// TestScaling: KEDA counts what waits in the queue of the manifests, and scales
// what is there.
func TestScaling(t *testing.T) {
	base := readCluster(t, filepath.Join(kubernetes, "base"))
	added := readCluster(t, filepath.Join(kubernetes, "components", "keda"))
	worker := base.object(t, "Deployment", "leafserve-worker")
	scaled := added.object(t, "ScaledObject", "leafserve-worker")
	if target := scaled.Spec.ScaleTargetRef.Name; target != worker.Metadata.Name || len(scaled.Spec.Triggers) != 1 {
		t.Fatalf("%d triggers scale %q, want one that scales %q", len(scaled.Spec.Triggers), target, worker.Metadata.Name)
	}
	trigger := scaled.Spec.Triggers[0].Metadata
	env := base.env(worker.container())
	for _, name := range []string{trigger["addressFromEnv"], trigger["passwordFromEnv"]} {
		if env[name] == "" {
			t.Errorf("KEDA takes %s from the worker, which has %v", name, slices.Sorted(maps.Keys(env)))
		}
	}
	client, stop, err := queue.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	q := queue.New(client, queue.Config{Name: env["LEAFSERVE_QUEUE"]})
	if _, err := q.Enqueue(t.Context(), leafserve.Request{Model: "a"}, leafserve.Submission{}); err != nil {
		t.Fatal(err)
	}
	if n, err := client.ZCard(t.Context(), trigger["listName"]).Result(); n != 1 || err != nil {
		t.Errorf("with one job waiting, %s has %d (%v)", trigger["listName"], n, err)
	}
}

// TestPodMonitor: it finds every container of ours, by its labels and port.
func TestPodMonitor(t *testing.T) {
	base := readCluster(t, filepath.Join(kubernetes, "base"))
	monitor := readCluster(t, filepath.Join(kubernetes, "components", "podmonitor")).object(t, "PodMonitor", "leafserve")
	ports := map[string]string{}
	for _, e := range monitor.Spec.PodMetricsEndpoints {
		ports[e.Port] = e.Path
	}
	for _, d := range base.deployments() {
		if c := d.container(); ports[c.Ports[0].Name] != "/metrics" {
			t.Errorf("%s: port %s is not scraped, but %v", d.Metadata.Name, c.Ports[0].Name, ports)
		}
		for name, value := range monitor.Spec.Selector.MatchLabels {
			if base.Labels[0].Pairs[name] != value || !base.Labels[0].IncludeTemplates {
				t.Errorf("the monitor looks for %s=%s, the base labels pods with %v", name, value, base.Labels[0])
			}
		}
	}
}

// exists says what of the paths is not there, below the repository's root.
func exists(t *testing.T, from string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(filepath.Join(root, from, path)); err != nil {
			t.Error(err)
		}
	}
}

// durationOf reads a duration of a file.
func durationOf(t *testing.T, where, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
	return d
}

// askedAt is a URL as it is asked of a container.
func askedAt(port int, path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", port, path) }
