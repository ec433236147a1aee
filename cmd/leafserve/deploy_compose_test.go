package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// compose is what we look at of docker-compose.yaml.
type compose struct {
	Services map[string]composeService
	Volumes  map[string]any
	Networks map[string]any
	Configs  map[string]struct{ Content string }
}

type composeService struct {
	Image, Restart string
	Build          string
	Command        []string
	Environment    map[string]string
	Volumes        []string
	Networks       []string
	Configs        []struct{ Source string }
	Ports          []string
	Profiles       []string
	StopGrace      string `yaml:"stop_grace_period"`
	DependsOn      any    `yaml:"depends_on"`
	Healthcheck    struct{ Test []string }
}

func readCompose(t *testing.T) (c compose) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(document(t, "docker-compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// composeUnits gives the containers of ours. Their health check is a command of
// ours, too, which asks GET /readyz.
func composeUnits(t *testing.T) (units []unit) {
	t.Helper()
	c := readCompose(t)
	for name, s := range c.Services {
		if s.Image != "leafserve" {
			continue
		}
		u := unit{where: "compose " + name, args: s.Command, env: s.Environment, stop: durationOf(t, name, s.StopGrace)}
		cmd := doctorCommand(DefaultConfig())
		test := s.Healthcheck.Test
		if len(test) < 3 || !slices.Equal(test[:3], []string{"CMD", "leafserve", "doctor"}) || cmd.ParseFlags(test[3:]) != nil {
			t.Fatalf("%s: the health check is %q, want leafserve doctor --server URL", name, test)
		}
		u.asks = append(u.asks, cmd.Flags().Lookup("server").Value.String()+"/readyz", c.scraped(t, name))
		units = append(units, u)
	}
	return units
}

// scraped is where Prometheus asks a service.
func (c compose) scraped(t *testing.T, service string) string {
	t.Helper()
	var prometheus struct {
		Jobs []struct {
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(c.Configs["prometheus"].Content), &prometheus); err != nil {
		t.Fatal(err)
	}
	for _, job := range prometheus.Jobs {
		for _, at := range job.DNS {
			if slices.Contains(at.Names, service) {
				return askedAt(at.Port, "/metrics")
			}
		}
	}
	t.Errorf("Prometheus does not scrape %s", service)
	return ""
}

// asked is a variable of docker compose's own; the group is its name.
var asked = regexp.MustCompile(`\$\{(\w+)`)

// TestCompose: what services refer to exists, passwords come from outside, and
// ports are open to this machine alone.
func TestCompose(t *testing.T) {
	text := document(t, "docker-compose.yaml")
	example := document(t, "deploy/compose.env.example")
	for _, m := range asked.FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^#?` + m[1] + `=`).MatchString(example) {
			t.Errorf("deploy/compose.env.example does not say what %s is", m[1])
		}
	}
	c := readCompose(t)
	for name, s := range c.Services {
		t.Run(name, func(t *testing.T) { s.check(t, c) })
	}
}

// dated is an image under a name that stays the same.
var dated = regexp.MustCompile(`:(v?\d+\.\d+\.\d+|RELEASE\.)`)

func (s composeService) check(t *testing.T, c compose) {
	if s.Build == "" && !dated.MatchString(s.Image) {
		t.Errorf("image %s: want one of a version", s.Image)
	}
	if s.Restart == "" {
		t.Error("nobody says when it is restarted")
	}
	for _, name := range dependencies(s.DependsOn) {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("it waits for %s, which is no service", name)
		}
	}
	for _, volume := range s.Volumes {
		from, _, _ := strings.Cut(volume, ":")
		if strings.HasPrefix(from, ".") {
			exists(t, ".", from)
		} else if _, ok := c.Volumes[from]; !ok {
			t.Errorf("volume %s is none", from)
		}
	}
	for _, network := range s.Networks {
		if _, ok := c.Networks[network]; !ok {
			t.Errorf("network %s is none", network)
		}
	}
	for _, config := range s.Configs {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(c.Configs[config.Source].Content), &content); err != nil || len(content) == 0 {
			t.Errorf("config %s is %v (%v)", config.Source, content, err)
		}
	}
	for _, port := range s.Ports {
		if !strings.HasPrefix(port, "127.0.0.1:") {
			t.Errorf("port %s is open to the network", port)
		}
	}
}

// dependencies reads both forms of depends_on.
func dependencies(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			names = append(names, name)
		}
	case []any:
		for _, name := range v {
			names = append(names, name.(string))
		}
	}
	return names
}
