package main

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"leafserve/keys"
)

// kubernetes is where the manifests are.
const kubernetes = root + "/deploy/kubernetes"

// object is what we look at of a manifest, of whatever kind.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template podTemplate // of a Deployment
		Selector selector
		Ports    []struct {
			TargetPort string `yaml:"targetPort"`
		} // of a Service
		ScaleTargetRef      struct{ Name string }                  `yaml:"scaleTargetRef"`
		Triggers            []struct{ Metadata map[string]string } // of a ScaledObject
		PodMetricsEndpoints []struct{ Port, Path string }          `yaml:"podMetricsEndpoints"`
	}
}

// selector is the flat one of a Service, or has matchLabels.
type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
	Flat        map[string]string `yaml:",inline"`
}

type podTemplate struct {
	Metadata struct{ Labels, Annotations map[string]string }
	Spec     struct {
		Grace      int `yaml:"terminationGracePeriodSeconds"`
		Containers []container
		Volumes    []volume
	}
}

type container struct {
	Name, Image string
	Args        []string
	EnvFrom     []struct {
		ConfigMap struct{ Name string } `yaml:"configMapRef"`
		Secret    struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	Readiness    probe `yaml:"readinessProbe"`
	Startup      probe `yaml:"startupProbe"`
	Liveness     probe `yaml:"livenessProbe"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

type volume struct {
	Name     string
	EmptyDir *struct{} `yaml:"emptyDir"`
	Secret   struct {
		SecretName string `yaml:"secretName"`
	}
	Claim struct {
		ClaimName string `yaml:"claimName"`
	} `yaml:"persistentVolumeClaim"`
}

// generator makes a ConfigMap or a Secret.
type generator struct {
	Name, Behavior        string
	Envs, Files, Literals []string
}

// cluster is a kustomization with all that it takes in.
type cluster struct {
	dir        string
	Resources  []string
	Patches    []struct{ Path string }
	ConfigMaps []generator `yaml:"configMapGenerator"`
	Secrets    []generator `yaml:"secretGenerator"`
	Labels     []struct {
		Pairs            map[string]string
		IncludeTemplates bool `yaml:"includeTemplates"`
	}
	objects []object
	values  map[string]map[string]string // by "ConfigMap NAME" and "Secret NAME"
}

// readCluster reads the kustomization in a folder; a patch of a Deployment adds
// to it, or is written over it.
func readCluster(t *testing.T, dir string) *cluster {
	t.Helper()
	c := &cluster{dir: dir, values: map[string]map[string]string{}}
	decodeAll(t, filepath.Join(dir, "kustomization.yaml"), func(d *yaml.Decoder) error { return d.Decode(c) })
	for _, name := range c.Resources {
		if path := filepath.Join(dir, name); filepath.Ext(name) != "" {
			c.objects = append(c.objects, readObjects(t, path)...)
		} else {
			below := readCluster(t, path)
			c.objects, c.Labels = append(c.objects, below.objects...), append(c.Labels, below.Labels...)
			maps.Copy(c.values, below.values)
		}
	}
	for _, g := range c.ConfigMaps {
		c.generate(t, "ConfigMap "+g.Name, g)
	}
	for _, g := range c.Secrets {
		c.generate(t, "Secret "+g.Name, g)
	}
	for _, p := range c.Patches {
		if p.Path != "" {
			for _, patch := range readObjects(t, filepath.Join(dir, p.Path)) {
				c.patch(t, patch)
			}
		}
	}
	return c
}

// decodeAll decodes every document of a file.
func decodeAll(t *testing.T, path string, decode func(*yaml.Decoder) error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	for err == nil {
		err = decode(dec)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", path, err)
	}
}

func readObjects(t *testing.T, path string) (all []object) {
	t.Helper()
	decodeAll(t, path, func(d *yaml.Decoder) error {
		var o object
		err := d.Decode(&o)
		if err == nil {
			all = append(all, o)
		}
		return err
	})
	return all
}

// generate adds to a ConfigMap or Secret, or makes it.
func (c *cluster) generate(t *testing.T, id string, g generator) {
	t.Helper()
	if there := c.values[id] != nil; there != (g.Behavior == "merge") {
		t.Errorf("%s: %s has behavior %q, there is one: %t", c.dir, id, g.Behavior, there)
	}
	if c.values[id] == nil {
		c.values[id] = map[string]string{}
	}
	lines := g.Literals
	for _, name := range g.Envs {
		text, err := os.ReadFile(filepath.Join(c.dir, name))
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, strings.Split(string(text), "\n")...)
	}
	for _, line := range lines {
		if name, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			c.values[id][name] = value
		}
	}
	for _, name := range g.Files {
		if _, err := os.Stat(filepath.Join(c.dir, name)); err != nil {
			t.Error(err)
		}
		c.values[id][name] = name
	}
}

// patch merges as kustomize does what our patches have.
func (c *cluster) patch(t *testing.T, patch object) {
	t.Helper()
	to := c.object(t, patch.Kind, patch.Metadata.Name)
	pod, with := &to.Spec.Template.Spec, patch.Spec.Template.Spec
	pod.Grace = cmp.Or(with.Grace, pod.Grace)
	pod.Volumes = append(pod.Volumes, with.Volumes...)
	into, from := to.container(), patch.container()
	if into.Name != from.Name {
		t.Errorf("%s: container %s is patched, there is %s", c.dir, from.Name, into.Name)
	}
	into.Env = append(into.Env, from.Env...) // the later one counts
	into.VolumeMounts = append(into.VolumeMounts, from.VolumeMounts...)
}

// object finds one by kind and name.
func (c *cluster) object(t *testing.T, kind, name string) *object {
	t.Helper()
	i := slices.IndexFunc(c.objects, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("%s has no %s %s", c.dir, kind, name)
	}
	return &c.objects[i]
}

func (c *cluster) deployments() (all []object) {
	return slices.DeleteFunc(slices.Clone(c.objects), func(o object) bool { return o.Kind != "Deployment" })
}

// container is the only one of a Deployment.
func (o *object) container() *container { return &o.Spec.Template.Spec.Containers[0] }

// env gives the variables of a container.
func (c *cluster) env(of *container) map[string]string {
	env := map[string]string{}
	for _, from := range of.EnvFrom {
		maps.Copy(env, c.values["ConfigMap "+from.ConfigMap.Name])
		maps.Copy(env, c.values["Secret "+from.Secret.Name])
	}
	for _, e := range of.Env {
		env[e.Name] = cmp.Or(e.Value, somethingElse)
	}
	return env
}

// units gives the containers of ours: all.
func (c *cluster) units() (units []unit) {
	for _, d := range c.deployments() {
		pod, ours := d.Spec.Template, d.container()
		ports := map[string]int{}
		for _, p := range ours.Ports {
			ports[p.Name] = p.ContainerPort
		}
		scraped, _ := strconv.Atoi(pod.Metadata.Annotations["prometheus.io/port"])
		u := unit{
			where: filepath.Base(c.dir) + " " + d.Metadata.Name, args: ours.Args, env: c.env(ours),
			stop: time.Duration(pod.Spec.Grace) * time.Second, asks: []string{askedAt(scraped, "/metrics")},
		}
		for _, p := range []probe{ours.Readiness, ours.Startup, ours.Liveness} {
			u.asks = append(u.asks, askedAt(ports[p.HTTPGet.Port], p.HTTPGet.Path))
		}
		units = append(units, u)
	}
	return units
}

// TestManifests: what the manifests refer to is there.
func TestManifests(t *testing.T) {
	for _, dir := range []string{"base", "overlays/gpu"} {
		t.Run(dir, func(t *testing.T) {
			c := readCluster(t, filepath.Join(kubernetes, dir))
			for _, d := range c.deployments() {
				c.checkVolumes(t, &d)
				c.checkSources(t, &d)
				if d.container().Liveness.HTTPGet.Path != "/healthz" {
					t.Errorf("%s: liveness asks %s: a restart would not help", d.Metadata.Name, d.container().Liveness.HTTPGet.Path)
				}
			}
			c.checkService(t)
		})
	}
}

// checkVolumes: mounts are of volumes, and those of what exists.
func (c *cluster) checkVolumes(t *testing.T, d *object) {
	t.Helper()
	volumes := map[string]volume{}
	for _, v := range d.Spec.Template.Spec.Volumes {
		volumes[v.Name] = v
		if v.EmptyDir == nil && !c.has(v.Secret.SecretName, v.Claim.ClaimName) {
			t.Errorf("%s: there is nothing for volume %s: %+v", d.Metadata.Name, v.Name, v)
		}
	}
	for _, m := range d.container().VolumeMounts {
		if _, ok := volumes[m.Name]; !ok {
			t.Errorf("%s mounts %s, which is no volume", d.Metadata.Name, m.Name)
		}
		if m.MountPath == "/etc/leafserve" && c.values["Secret "+volumes[m.Name].Secret.SecretName]["keys.yaml"] == "" {
			t.Errorf("%s: %v is mounted at %s, want keys.yaml", d.Metadata.Name, volumes[m.Name], m.MountPath)
		}
	}
}

// has says whether there is such a Secret, or such a claim.
func (c *cluster) has(secret, claim string) bool {
	return c.values["Secret "+secret] != nil || slices.ContainsFunc(c.objects, func(o object) bool {
		return o.Kind == "PersistentVolumeClaim" && o.Metadata.Name == claim
	})
}

func (c *cluster) checkSources(t *testing.T, d *object) {
	t.Helper()
	for _, from := range d.container().EnvFrom {
		if c.values["ConfigMap "+from.ConfigMap.Name] == nil && c.values["Secret "+from.Secret.Name] == nil {
			t.Errorf("%s: there is no ConfigMap %q nor Secret %q", d.Metadata.Name, from.ConfigMap.Name, from.Secret.Name)
		}
	}
}

// checkService: the Service finds the pods of the API and their port.
func (c *cluster) checkService(t *testing.T) {
	t.Helper()
	service, api := c.object(t, "Service", "leafserve"), c.object(t, "Deployment", "leafserve-api")
	labels := api.Spec.Template.Metadata.Labels
	for name, value := range service.Spec.Selector.Flat {
		if labels[name] != value || api.Spec.Selector.MatchLabels[name] != value {
			t.Errorf("the Service looks for %s=%s, the pods have %v", name, value, labels)
		}
	}
	if port := api.container().Ports[0].Name; len(service.Spec.Ports) != 1 || service.Spec.Ports[0].TargetPort != port {
		t.Errorf("the Service sends to %v, the pods have %s", service.Spec.Ports, port)
	}
}

// TestManifestsClosed: as the base stands nobody can use it, and its file of
// keys is one that the program reads.
func TestManifestsClosed(t *testing.T) {
	all, err := keys.Read(filepath.Join(kubernetes, "base", "keys.yaml"))
	if err != nil || len(all) != 1 || strings.Trim(all[0].SHA256, "0") != "" {
		t.Errorf("the keys are %+v, %v, want one that nobody holds", all, err)
	}
}

// TestManifestsListed: every manifest is part of a kustomization.
func TestManifestsListed(t *testing.T) {
	err := filepath.WalkDir(kubernetes, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "kustomization.yaml" {
			return err
		}
		list, err := os.ReadFile(filepath.Join(filepath.Dir(path), "kustomization.yaml"))
		if !strings.Contains(string(list), d.Name()) {
			t.Errorf("%s is in no kustomization", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
