package metrics_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	dashboardFile = "../deploy/grafana/leafserve.json"
	alertsFile    = "../deploy/prometheus/alerts.yaml"
)

// dashboard is what Grafana reads, as far as we look at it.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID          int
		Type, Title string
		Datasource  struct{ UID string }
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	raw, err := os.ReadFile(dashboardFile)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// rule is one alert.
type rule struct {
	Alert, Expr, For string
	Labels           map[string]string
	Annotations      map[string]string
}

func readAlerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	f, err := os.Open(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Groups[0].Rules
}

// What stands in PromQL beside the names of metrics.
var (
	texts    = regexp.MustCompile(`"[^"]*"`)
	matchers = regexp.MustCompile(`\{[^}]*\}`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	calls    = regexp.MustCompile(`[a-z_]+\s*\(`)
	words    = regexp.MustCompile(`[A-Za-z_:][A-Za-z0-9_:]*`)
	matched  = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\s*(?:=~|!~|!=|=)`)
)

var operators = []string{"and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count"}

// namesIn gives the metrics and the labels that a query names.
func namesIn(query string) (metrics, labels []string) {
	query = texts.ReplaceAllString(query, `""`)
	for _, m := range matchers.FindAllString(query, -1) {
		for _, l := range matched.FindAllStringSubmatch(m, -1) {
			labels = append(labels, l[1])
		}
	}
	query = ranges.ReplaceAllString(matchers.ReplaceAllString(query, ""), "")
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		labels = append(labels, words.FindAllString(g[1], -1)...)
	}
	query = calls.ReplaceAllString(grouping.ReplaceAllString(query, ""), "(")
	for _, w := range words.FindAllString(query, -1) {
		if !slices.Contains(operators, w) {
			metrics = append(metrics, w)
		}
	}
	return metrics, labels
}

func TestNamesIn(t *testing.T) {
	for _, tc := range []struct{ query, metrics, labels string }{
		{`up`, "[up]", "[]"},
		{`sum by (a, b) (rate(x_total{c="d", e=~"f|g"}[5m])) / on (h) y > 0.5`, "[x_total y]", "[c e a b h]"},
		{`histogram_quantile(0.95, sum by (le) (rate(x_bucket[$__rate_interval])))`, "[x_bucket]", "[le]"},
		{`max(a) > min_over_time((max(b))[1h:1m]) or c unless d`, "[a b c d]", "[]"},
		{`max by (a) (b{c="d{e}"})`, "[b]", "[c a]"},
	} {
		t.Run(tc.query, func(t *testing.T) {
			m, l := namesIn(tc.query)
			if fmt.Sprint(m) != tc.metrics || fmt.Sprint(l) != tc.labels {
				t.Errorf("namesIn(%q) = %v, %v, want %s, %s", tc.query, m, l, tc.metrics, tc.labels)
			}
		})
	}
}

// registry gives all names of series of a full registry, and all their labels;
// Prometheus adds job and instance.
func registry(t *testing.T) (series, labels map[string]bool) {
	t.Helper()
	series, labels = map[string]bool{}, map[string]bool{"job": true, "instance": true, "le": true}
	for name, family := range scrape(t, full()) {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				labels[l.GetName()] = true
			}
			if m.Histogram == nil {
				series[name] = true
				continue
			}
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				series[name+part] = true
			}
		}
	}
	return series, labels
}

// check fails for a metric or a label that a query names and nobody has.
func check(t *testing.T, query string, series, labels map[string]bool) (used []string) {
	t.Helper()
	used, named := namesIn(query)
	if len(used) == 0 {
		t.Errorf("%q asks for nothing", query)
	}
	for _, m := range used {
		if !series[m] {
			t.Errorf("%q asks for %s, which does not exist", query, m)
		}
	}
	for _, l := range named {
		if !labels[l] {
			t.Errorf("%q has the label %s, which no metric has", query, l)
		}
	}
	if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
		t.Errorf("%q has an odd number of brackets", query)
	}
	return used
}

// TestDashboard: it asks for what there is, and shows all that there is.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 38 {
		t.Errorf("dashboard %q %q of schema %d, want names and the schema of Grafana 10, 38", d.UID, d.Title, d.SchemaVersion)
	}
	series, labels := registry(t)
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			check(t, strings.ReplaceAll(strings.TrimPrefix(v.Definition, "label_values"), ", "+v.Name+")", ")"), series, labels)
		}
	}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 {
			t.Errorf("panel %q: id %d or place %+v cannot be", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q asks nobody, or another data source than the variable's", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range check(t, target.Expr, series, labels) {
				shown[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")] = true
			}
		}
	}
	for name := range scrape(t, full()) {
		if strings.HasPrefix(name, "leafserve_") && !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// TestAlerts: each asks for what there is and says what to do.
func TestAlerts(t *testing.T) {
	series, labels := registry(t)
	rules := readAlerts(t)
	if len(rules) == 0 {
		t.Fatal("there are none")
	}
	for _, r := range rules {
		t.Run(r.Alert, func(t *testing.T) {
			check(t, r.Expr, series, labels)
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["runbook"] == "" {
				t.Errorf("%+v lacks a name, a severity, a summary or a runbook", r)
			}
		})
	}
}
