package schema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"swage/schema"
)

func mustLoad(t *testing.T, tree fstest.MapFS) *schema.Fleet {
	t.Helper()
	f, err := schema.Load(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestWholeFile [F2]: the example of a whole project file, as Go sees it.
func TestWholeFile(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"
	tree := fleetOf("projects/shop/web.cue", `
project: {id: "67e89abc123def456789abcd", color: "#e74c3c", max_containers: 20}
containers: web: {
	id:               "890abcdef12345678901cdef"
	server:           "lab"
	container_image:  "debian/13"
	environment_vars: NODE_ENV: "production"
	ssh_public_key:   "`+key+`"
	permissions: {
		groups: office:      {type: "ip", range: "203.0.113.0/24"}
		permissions: office: {terminal: true, http: "*"}
		default: "deny"
	}
}
aliases: "my-api": {container: "web", program: "http", port: 3000, domains: ["api.example.org"]}
`)
	p := mustLoad(t, tree).Projects[0]
	every := []schema.PortRange{{From: 1, To: 65535}}
	want := schema.Container{
		Pos: schema.Pos{File: "projects/shop/web.cue", Line: 3, Column: 13}, Name: "web",
		ID: "890abcdef12345678901cdef", Server: "lab", Image: "debian/13", Kit: true,
		Env: map[string]schema.Secret{"NODE_ENV": schema.Plain("production")}, PublicKey: key,
		Autostart: true, AI: true, Cache: true, Ramdisk: true, State: "running", ProxyOpen: true,
		Permissions: &schema.Permissions{
			Groups: map[string]schema.Group{"office": {Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}},
			Cells:  map[string]map[string]schema.Cell{"office": {"terminal": {Ports: every}, "http": {Ports: every}}},
		},
	}
	ignore := cmp.Options{
		cmpopts.IgnoreFields(schema.Container{}, "Programs"), cmpopts.IgnoreUnexported(schema.Container{}, schema.Project{}, schema.Alias{}),
		cmp.Comparer(func(a, b schema.Secret) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmpopts.EquateEmpty(), cmpopts.IgnoreFields(schema.Permissions{}, "Pos"), cmpopts.IgnoreFields(schema.Group{}, "Pos"), cmpopts.IgnoreFields(schema.Cell{}, "Pos"),
	}
	if d := cmp.Diff(want, p.Containers[0], ignore); d != "" {
		t.Error(d)
	}
	if p.MaxContainers != 20 || p.Color != "#e74c3c" || p.ID != "67e89abc123def456789abcd" || p.Permissions != nil {
		t.Errorf("%+v", p)
	}
	a := p.Aliases[0]
	if a.Program != "http" || a.Port != 3000 || a.Containers[0] != "web" || a.Domains[0] != "api.example.org" || !a.Enabled || !a.AllowPathOverride || a.TargetPath != "/" {
		t.Errorf("%+v", a)
	}
}

// TestFormats [F1]: CUE, YAML and JSON say the same, also with expressions.
func TestFormats(t *testing.T) {
	forms := map[string]string{
		"app.cue":  "containers: app: {comment: \"a\\nb é\", kit: false, ssh_authorized_keys: [], resources: {cpu: 1.5, memory: \"2GiB\"}, snapshots: expiry: 7}\n",
		"exp.cue":  "let n = 6\ncontainers: app: {comment: \"a\" + \"\\nb é\", kit: !true, ssh_authorized_keys: [], resources: {cpu: 3 / 2, memory: \"\\(2)GiB\"}, snapshots: expiry: n + 1}\n",
		"app.yaml": "containers:\n  app:\n    comment: |-\n      a\n      b é\n    kit: false\n    ssh_authorized_keys: []\n    resources:\n      cpu: 1.5\n      memory: 2GiB\n    snapshots:\n      expiry: 7\n",
		"app.json": "{\"containers\": {\"app\": {\"comment\": \"a\\nb \\u00e9\", \"kit\": false, \"ssh_authorized_keys\": [], \"resources\": {\"cpu\": 1.5, \"memory\": \"2GiB\"}, \"snapshots\": {\"expiry\": 7}}}}",
	}
	for name, src := range forms {
		c := mustLoad(t, fleetOf("projects/web/"+name, src)).Projects[0].Containers[0]
		if c.Comment != "a\nb é" || c.Kit || c.CPU != 1.5 || c.Memory != 2<<30 || c.Snapshots.Expiry != 7*24*time.Hour {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestInherit [P1]: what applies to a container, with and without documents of
// its own and of its project.
func TestInherit(t *testing.T) {
	const project = `permissions: {
	groups: office: {type: "ip", range: "203.0.113.0/24"}
	groups: home: {type: "ip", range: "198.51.100.0/24"}
	permissions: office: {http: true, terminal: true}
	permissions: home: http: true
	default: "allow"
}
`
	const own = `containers: app: permissions: {
	%s
	groups: home: {type: "ip", range: "10.0.0.0/8"}
	permissions: office: terminal: false
	%s
}
`
	for _, c := range []struct{ name, src, want string }{
		{"none", "containers: app: {}", "none"},
		{"the project's", project + "containers: app: {}", "allow home(198.51.100.0/24){http} office(203.0.113.0/24){http terminal}"},
		{"merged", project + fmt.Sprintf(own, "inherit: true", ""), "allow home(10.0.0.0/8){http} office(203.0.113.0/24){http !terminal}"},
		{"merged, own default", project + fmt.Sprintf(own, "inherit: true", `default: "deny"`), "deny home(10.0.0.0/8){http} office(203.0.113.0/24){http !terminal}"},
		{"its own", project + "containers: app: permissions: {}", "deny"},
		{"inherits from nothing", "containers: app: permissions: inherit: true", "deny"},
	} {
		f := mustLoad(t, fleetOf("projects/web/app.cue", c.src))
		if got := describe(f.Projects[0].Containers[0].Permissions); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	tree := fleetOf("projects/web/app.cue", "containers: app: {}")
	tree["swage.cue"].Data = []byte(swageFile + "default_permissions: \"deny\"\n")
	if got := describe(mustLoad(t, tree).Projects[0].Containers[0].Permissions); got != "deny" {
		t.Errorf("default_permissions: %s", got)
	}
}

func describe(p *schema.Permissions) string {
	if p == nil {
		return "none"
	}
	out := "deny"
	if p.DefaultAllow {
		out = "allow"
	}
	for _, name := range []string{"home", "office"} {
		g, ok := p.Groups[name]
		if !ok {
			continue
		}
		var cells []string
		for _, program := range []string{"http", "terminal"} {
			if c, ok := p.Cells[name][program]; ok {
				not := ""
				if len(c.Ports) == 0 {
					not = "!"
				}
				cells = append(cells, not+program)
			}
		}
		out += fmt.Sprintf(" %s(%s){%s}", name, g.Ranges[0], strings.Join(cells, " "))
	}
	return out
}

// TestPrograms [E2]: the catalogue, its names, and changes to it.
func TestPrograms(t *testing.T) {
	tree := fleetOf("projects/web/app.cue", `
containers: app: programs: display: instances: 3
aliases: one: {container: "app", program: "notify", index: 2}
`)
	tree["swage.cue"].Data = []byte(swageFile + "programs: mail: {port: 2525, levels: [\"read\", \"send\"]}\nprograms: terminal: port: 7600\n")
	f := mustLoad(t, tree)
	c := f.Projects[0].Containers[0]
	if p := c.Programs["display"]; p.Port != 3998 || p.InstanceBase != 4000 || p.Instances != 3 || f.Programs["display"].Instances != 99 {
		t.Errorf("%+v", p)
	}
	if f.Programs["terminal"].Port != 7600 || f.Programs["mail"].Slug != "mail" || f.Programs["notifications"].Slug != "n" || f.Programs["code"].InstanceBase != 60000 {
		t.Errorf("%+v", f.Programs)
	}
	if a := f.Projects[0].Aliases[0]; a.Program != "notifications" || a.Index != 2 || a.Port != 0 {
		t.Errorf("%+v", a)
	}
}

// TestSecretsAreNotShown [F8].
func TestSecretsAreNotShown(t *testing.T) {
	s := schema.Plain("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "in", struct{ S schema.Secret }{s})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "in", struct{ S schema.Secret }{s})
	j, err := json.Marshal(map[string]any{"s": s, "p": &s})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %d %x %v %+v %#v", s, s, s, s, s, s, s, &s, struct{ S schema.Secret }{s}, struct{ S *schema.Secret }{&s}) + log.String() + string(j)
	if strings.Contains(all, "hunter") || strings.Contains(all, fmt.Sprintf("%x", "hunter")) {
		t.Error("the value shows: ", all)
	}
}

// TestReveal [F8]: each form gives its value where it can be had, and an error
// for this value alone where not.
func TestReveal(t *testing.T) {
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	a := armor.NewWriter(&sealed)
	w, err := age.Encrypt(a, mine.Recipient())
	if err == nil {
		_, err = w.Write([]byte("from age"))
		err = errors.Join(err, w.Close(), a.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	f := mustLoad(t, fleetOf("projects/web/app.cue", fmt.Sprintf(`containers: app: environment_vars: {
	AGE: {age: %q}
	FILE: {file: "/etc/secret"}
	ENV: {env: "TOKEN"}
	PLAIN: "plain"
}`, sealed.String())))
	env := f.Projects[0].Containers[0].Env
	keys := schema.Keys{
		Identities: []age.Identity{mine},
		ReadFile:   func(name string) ([]byte, error) { return []byte("from " + name + "\n"), nil },
		LookupEnv:  func(name string) (string, bool) { return "from " + name, true },
	}
	for name, want := range map[string]string{"AGE": "from age", "FILE": "from /etc/secret", "ENV": "from TOKEN", "PLAIN": "plain"} {
		if got, err := env[name].Reveal(keys); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		_, err := env[name].Reveal(schema.Keys{})
		if (err == nil) != (name == "PLAIN") {
			t.Errorf("%s without keys: %v", name, err)
		}
	}
	_, err = env["AGE"].Reveal(schema.Keys{Identities: []age.Identity{other}})
	if err == nil || !strings.Contains(err.Error(), "not encrypted to any age key of this node") {
		t.Errorf("with another key: %v", err)
	}
}

// TestNode [F6]: the node file, with its defaults and its problems.
func TestNode(t *testing.T) {
	n, err := schema.LoadNode("agent.cue", []byte("server: \"lab\"\nsource: {url: \"https://git.example.com/ops/fleet.git\", token: {file: \"/t\"}}\nlimits: evaluation_time: \"1m30s\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n.Source.Branch != "main" || n.Source.Poll != 30*time.Second || n.Source.Token.IsZero() || n.Limits.EvaluationTime != 90*time.Second ||
		n.Limits.EvaluationMemory != 512<<20 || n.Limits.FileBytes != 1<<20 || n.Incus.Socket == "" {
		t.Errorf("%+v", n)
	}
	if n.Limits.TreeBytes != 64<<20 || n.Limits.Files != 20000 {
		t.Errorf("%+v", n.Limits)
	}
	const lab = "server: \"lab\"\n"
	for src, want := range map[string]string{
		"server: \"lab\"\nsource: {}\n":                                    "agent.cue:2:9: source: wants exactly one of path, url and push: true",
		"server: \"lab\"\nsource: {path: \"srv\"}\n":                       `agent.cue:2:16: source.path: found "srv", want an absolute path, as in "/srv/fleet.git"`,
		"source: path: \"/srv\"\nserver: \"a\" + \"b\"\n":                  "agent.cue: holds expressions; a node file is plain data",
		"server: \"lab\"\nsorce: path: \"/srv\"\nsource: path: \"/srv\"\n": `agent.cue:2:1: sorce: there is no such field; did you mean "source"?`,
		"{}":                               "agent.cue:1:1: server: is missing; want 1 to 63 of a-z, 0-9 and -, not starting or ending with -\nagent.cue:1:1: source: is missing; want a struct { … }",
		lab + "source: url: \"git://a/b\"": `agent.cue:2:14: source.url: found "git://a/b", want an address of Git over https or ssh, as in "https://git.example.com/ops/fleet.git"`,
		lab + "source: {path: \"/srv\", branch: \"a b\"}":                       `agent.cue:2:32: source.branch: found "a b", want the name of a branch, as in "main"`,
		lab + "source: {path: \"/srv\", push: true}":                            `agent.cue:2:9: source: wants exactly one of path, url and push: true`,
		lab + "source: {path: \"/srv\", folder: \"/a\"}":                        `agent.cue:2:32: source.folder: found "/a", want a folder inside the repository, as in "fleets/production"`,
		lab + "source: {path: \"/srv\", folder: \"a/../../b\"}":                 `agent.cue:2:32: source.folder: found "a/../../b", want a folder inside the repository, as in "fleets/production"`,
		lab + "source: path: \"/srv\"\nlimits: file_bytes: 1073741825":          `agent.cue:3:21: limits.file_bytes: found 1073741825, want a number of bytes from 1 to 1073741824`,
		lab + "source: path: \"/srv\"\nlimits: tree_bytes: 17179869185":         `agent.cue:3:21: limits.tree_bytes: found 17179869185, want a number of bytes from 1 to 17179869184`,
		lab + "source: {url: \"https://example.com/x\", poll: \"0s\"}":          `agent.cue:2:46: source.poll: is no time at all, or too much; want a time span with its unit, as in "2s"`,
		lab + "source: {url: \"https://example.com/x\", poll: \"9999999999h\"}": `agent.cue:2:46: source.poll: is no time at all, or too much; want a time span with its unit, as in "2s"`,
		lab + "source: path: \"/srv\"\nlimits: evaluation_time: \"0.0s\"":       `agent.cue:3:26: limits.evaluation_time: is no time at all, or too much; want a time span with its unit, as in "2s"`,
		lab + "source: path: \"/srv\"\nlimits: files: 10000001":                 `agent.cue:3:16: limits.files: found 10000001, want a whole number from 1 to 10000000`,
	} {
		if _, err := schema.LoadNode("agent.cue", []byte(src)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", src, err)
		}
	}
}

// TestNoEvaluatorNoFork [F9]: a program that forgot EvaluateMain is told so,
// instead of starting itself without end.
func TestNoEvaluatorNoFork(t *testing.T) {
	t.Setenv("SWAGE_EVALUATES", "1")
	_, err := schema.Load(t.Context(), fleetOf("projects/web/app.cue", "let a = \"x\"\ncontainers: app: comment: a\n"))
	if err == nil || !strings.Contains(err.Error(), "EvaluateMain must be called first") {
		t.Error(err)
	}
}
