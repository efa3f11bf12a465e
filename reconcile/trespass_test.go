package reconcile

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"swage/runtime"
	"swage/schema"
)

// Two realms, a project of each, one of both, and one of none.
const (
	realmA, realmB = "aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbb"

	idA, idA2, idB, idS, idDrawn = "a00000000000000000000001", "a00000000000000000000002", "b00000000000000000000001", "500000000000000000000001", "d00000000000000000000001"
)

func twoRealms() map[string]string {
	return map[string]string{
		"swage.cue":           `id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com", signers: ssh: ["ann@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"]`,
		"servers/lab.cue":     ``,
		"servers/far.cue":     ``,
		"lib/env/env.cue":     "package env\nA: \"1\"\n",
		"README.md":           "hello",
		"projects/a/p.cue":    `project: {id: "0000000000000000000000aa", realm_ids: ["` + realmA + `"]}`,
		"projects/a/one.cue":  "containers: one: {\n\tid: \"" + idA + "\", server: \"lab\"\n\tenvironment_vars: {T: {file: \"/etc/a\"}, U: \"u\"}\n}\naliases: \"one-a\": {container: \"one\", program: \"http\", port: 3000}\n",
		"projects/a/two.cue":  "containers: two: {id: \"" + idA2 + "\", server: \"lab\"}\n",
		"projects/b/all.cue":  "project: realm_ids: [\"" + realmB + "\"]\ncontainers: bee: {\n\tid: \"" + idB + "\", server: \"lab\"\n\tenvironment_vars: T: {file: \"/etc/b\"}\n}\naliases: \"bee-b\": {container: \"bee\", program: \"http\"}\n",
		"projects/ab/p.cue":   "project: {id: \"0000000000000000000000ab\", realm_ids: [\"" + realmA + "\", \"" + realmB + "\"]}\npermissions: {groups: ops: {type: \"token\", header: \"X-Key\", value: {file: \"/etc/ops\"}}, permissions: ops: http: true}\n",
		"projects/ab/mix.cue": "containers: {\n\tmine: {realm_ids: [\"" + realmA + "\"], server: \"lab\"}\n\tyours: {realm_ids: [\"" + realmB + "\"], server: \"lab\"}\n\tours: {id: \"" + idS + "\", server: \"lab\"}\n}\n",
		"projects/no/c.cue":   "containers: free: {server: \"lab\"}\n",
	}
}

func loadMap(t *testing.T, files map[string]string) *schema.Fleet {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	f, err := schema.Load(context.Background(), tree)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// edit replaces text in a file; an empty old text stands for the whole file.
func edit(name, old, text string) func(map[string]string) {
	return func(files map[string]string) {
		if old == "" {
			files[name] = text
		} else {
			files[name] = strings.Replace(files[name], old, text, 1)
		}
	}
}

func remove(name string) func(map[string]string) {
	return func(files map[string]string) { delete(files, name) }
}

// [G2] A push that is held to a realm changes that realm's objects only.
func TestTrespasses(t *testing.T) {
	two := "projects/a/two.cue"
	add := func(text string) func(map[string]string) { return edit("projects/a/new.cue", "", text) }
	for name, c := range map[string]struct {
		change []func(map[string]string)
		want   string // of the only line; empty: it may
	}{
		"nothing":                   {},
		"an environment":            {change: []func(map[string]string){edit("projects/a/one.cue", `"u"`, `"v"`)}},
		"a new container":           {change: []func(map[string]string){add(`containers: new: server: "lab"`)}},
		"a new one with an id":      {change: []func(map[string]string){add(`containers: new: {id: "a00000000000000000000009", server: "lab"}`)}},
		"a deletion":                {change: []func(map[string]string){remove(two)}},
		"a rename":                  {change: []func(map[string]string){edit(two, "two:", "three:")}},
		"another file":              {change: []func(map[string]string){remove(two), add(twoRealms()[two])}},
		"an alias":                  {change: []func(map[string]string){add(`aliases: "new-a": {container: "two", program: "http"}`)}},
		"an alias that moves":       {change: []func(map[string]string){edit("projects/a/one.cue", `container: "one"`, `container: "two"`)}},
		"its project":               {change: []func(map[string]string){edit("projects/a/p.cue", "project:", `permissions: default: "deny"`+"\nproject: max_containers: 3\nproject:")}},
		"all of its project":        {change: []func(map[string]string){remove("projects/a/p.cue"), remove("projects/a/one.cue"), remove(two)}},
		"a project of its own":      {change: []func(map[string]string){edit("projects/fresh/p.cue", "", `project: realm_ids: ["`+realmA+`"], containers: new: server: "lab"`)}},
		"one among others' ":        {change: []func(map[string]string){edit("projects/ab/mix.cue", "mine: {", `mine: {comment: "x", `)}},
		"a new one among others'":   {change: []func(map[string]string){edit("projects/ab/new.cue", "", `containers: new: {realm_ids: ["`+realmA+`"], server: "lab"}`)}},
		"an alias to it":            {change: []func(map[string]string){edit("projects/ab/new.cue", "", `aliases: "mine-a": {container: "mine", program: "http"}`)}},
		"a copy of its own":         {change: []func(map[string]string){add(`containers: new: {server: "lab", copy_from: container: "one"}`)}},
		"its secret, elsewhere":     {change: []func(map[string]string){edit(two, `server: "lab"`, `server: "lab", environment_vars: S: {file: "/etc/a"}`)}},
		"a comment":                 {change: []func(map[string]string){edit(two, "containers", "// better\ncontainers")}},
		"notes in its own project":  {change: []func(map[string]string){edit("projects/a/notes.md", "", "x")}},
		"its firewall and health":   {change: []func(map[string]string){edit(two, `server: "lab"`, `server: "lab", health: {port: 80}, firewall: [{direction: "egress", action: "drop"}]`)}},
		"the project's doc is kept": {change: []func(map[string]string){edit("projects/ab/mix.cue", "mine: {", `mine: {permissions: {inherit: true, default: "deny"}, `)}},

		"its archive":               {change: []func(map[string]string){edit("projects/ab/new.cue", "", `containers: new: {id: "e000000000000000000000a1", realm_ids: ["`+realmA+`"], server: "lab"}`)}},
		"an archive of its project": {change: []func(map[string]string){add(`containers: new: {id: "e000000000000000000000a2", server: "lab"}`)}},
		"a copy of its archive":     {change: []func(map[string]string){add(`containers: new: {server: "lab", copy_from: archive: "e000000000000000000000a1"}`)}},

		"another realm's archive in its project": {[]func(map[string]string){add(`containers: new: {id: "e000000000000000000000b1", server: "lab"}`)}, "is that of something else"},
		"an archive of two realms":               {[]func(map[string]string){add(`containers: new: {id: "e000000000000000000000b2", server: "lab"}`)}, "is that of something else"},
		"an archive of a shared project":         {[]func(map[string]string){add(`containers: new: {id: "e000000000000000000000b3", server: "lab"}`)}, "is that of something else"},
		"a copy of another realm's archive":      {[]func(map[string]string){add(`containers: new: {server: "lab", copy_from: archive: "e000000000000000000000b1"}`)}, "its source is not a container of the realm"},

		"swage.cue":               {[]func(map[string]string){edit("swage.cue", "example.com\", s", "example.org\", s")}, "swage.cue: holds nothing of the realm"},
		"the signers":             {[]func(map[string]string){edit("swage.cue", "", `id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"`)}, "swage.cue: holds nothing"},
		"a server":                {[]func(map[string]string){edit("servers/lab.cue", "", "maintenance: true")}, "servers/lab.cue: holds nothing"},
		"a lib":                   {[]func(map[string]string){edit("lib/env/env.cue", `"1"`, `"2"`)}, "lib/env/env.cue: holds nothing"},
		"a README":                {[]func(map[string]string){remove("README.md")}, "README.md: holds nothing"},
		"CI settings":             {[]func(map[string]string){edit(".github/workflows/x.yml", "", "x")}, ".github/workflows/x.yml: holds nothing"},
		"outside of the folder":   {[]func(map[string]string){edit("../other/swage.cue", "", "x")}, "../other/swage.cue: holds nothing"},
		"hidden in its project":   {[]func(map[string]string){edit("projects/a/.gitattributes", "", "x")}, "projects/a/.gitattributes: holds nothing"},
		"others' comments":        {[]func(map[string]string){edit("projects/b/all.cue", "containers", "// worse\ncontainers")}, "projects/b/all.cue: holds nothing"},
		"an empty file of others": {[]func(map[string]string){edit("projects/b/new.cue", "", "")}, "projects/b/new.cue: holds nothing"},
		"another's container": {
			[]func(map[string]string){edit("projects/ab/mix.cue", "yours: {", `yours: {comment: "x", `)},
			"projects/ab/mix.cue:3:2: container ab/yours: does not belong to the realm " + realmA + " alone",
		},
		"one of both":           {[]func(map[string]string){edit("projects/ab/mix.cue", "ours: {id", `ours: {comment: "x", id`)}, "container ab/ours: does not belong"},
		"another's deletion":    {[]func(map[string]string){edit("projects/ab/mix.cue", "\tyours: {realm_ids: [\""+realmB+"\"], server: \"lab\"}\n", "")}, "projects/ab/mix.cue:3:2: container ab/yours: does not belong"},
		"the project of both":   {[]func(map[string]string){edit("projects/ab/p.cue", "http: true", "https: true")}, "project ab: does not belong"},
		"its realms":            {[]func(map[string]string){edit("projects/a/p.cue", `"]`, `", "`+realmB+`"]`)}, "project a: its realm_ids cannot be changed"},
		"none any more":         {[]func(map[string]string){edit("projects/a/p.cue", "", `project: comment: "x"`)}, "project a: its realm_ids cannot be changed"},
		"a container's realms":  {[]func(map[string]string){edit(two, `server`, `realm_ids: ["`+realmA+`"], server`)}, "projects/a/two.cue:1:51: container a/two: realm_ids cannot be changed"},
		"another's to itself":   {[]func(map[string]string){edit("projects/ab/mix.cue", "yours: {realm_ids: [\""+realmB, "yours: {realm_ids: [\""+realmA)}, "container ab/yours: does not belong"},
		"nobody's to itself":    {[]func(map[string]string){edit("projects/no/c.cue", `server`, `realm_ids: ["`+realmA+`"], server`)}, "container no/free: does not belong"},
		"into nobody's project": {[]func(map[string]string){edit("projects/no/new.cue", "", `containers: new: {realm_ids: ["`+realmA+`"], server: "lab"}`)}, "container no/new: the project no is not in the realm"},
		"a project of none":     {[]func(map[string]string){edit("projects/fresh/p.cue", "", `containers: new: {server: "lab", realm_ids: ["`+realmA+`"]}`)}, "project fresh: does not belong"},
		"a project of both":     {[]func(map[string]string){edit("projects/fresh/p.cue", "", `project: realm_ids: ["`+realmA+`", "`+realmB+`"]`)}, "project fresh: does not belong"},
		"another's id": {
			[]func(map[string]string){edit("projects/b/all.cue", "containers: bee: {\n\tid: \""+idB+"\", ", "containers: bee: {\n\t"), add(`containers: new: {id: "` + idB + `", server: "lab"}`)},
			"container b/bee: does not belong",
		},
		"a drawn id":                   {[]func(map[string]string){add(`containers: new: {id: "` + idDrawn + `", server: "lab"}`)}, "projects/a/new.cue:1:19: container a/new: the id " + idDrawn + " is that of something else"},
		"a drawn id for an old one":    {[]func(map[string]string){edit(two, idA2, idDrawn)}, "container a/two: the id " + idDrawn},
		"an archive's id":              {[]func(map[string]string){add(`containers: new: {id: "e00000000000000000000001", server: "lab"}`)}, "is that of something else"},
		"a spare's id":                 {[]func(map[string]string){add(`containers: new: {id: "e00000000000000000000002", server: "lab"}`)}, "is that of something else"},
		"the name of one that is held": {[]func(map[string]string){edit("projects/ab/new.cue", "", `containers: gone: {realm_ids: ["`+realmA+`"], server: "lab"}`)}, "container ab/gone: a container of this name is still on the server"},
		"the name of a project":        {[]func(map[string]string){edit("projects/old/p.cue", "", `project: realm_ids: ["`+realmA+`"]`)}, "project old: a project of this name or id is still"},
		"the id of a project":          {[]func(map[string]string){edit("projects/fresh/p.cue", "", `project: {realm_ids: ["`+realmA+`"], id: "f00000000000000000000001"}`)}, "project fresh: a project of this name or id is still"},
		"another server":               {[]func(map[string]string){add(`containers: new: server: "far"`)}, "container a/new: a push that is held to a realm adds containers to the server lab only"},
		"another's data":               {[]func(map[string]string){add(`containers: new: {server: "lab", copy_from: {project: "b", container: "bee"}}`)}, "projects/a/new.cue:1:34: container a/new: its source is not a container of the realm"},
		"what is not declared":         {[]func(map[string]string){add(`containers: new: {server: "lab", copy_from: {project: "ab", container: "gone"}}`)}, "its source is not a container"},
		"its own, elsewhere":           {[]func(map[string]string){add(`containers: new: {server: "lab", copy_from: {container: "one", server: "far"}}`)}, "its source is not a container"},
		"an archive":                   {[]func(map[string]string){add(`containers: new: {server: "lab", copy_from: archive: "` + idB + `"}`)}, "its source is not a container"},
		"an instance of nobody's":      {[]func(map[string]string){add(`containers: new: {server: "lab", adopt: "default/old"}`)}, "adopt takes over"},
		"a port of the server":         {[]func(map[string]string){edit(two, `server: "lab"`, `server: "lab", publish: [{listen: ":2022", port: 22}]`)}, "publish opens ports"},
		"a secret of the node":         {[]func(map[string]string){edit(two, `server: "lab"`, `server: "lab", environment_vars: S: {file: "/etc/b"}`)}, "projects/a/two.cue:1:66: container a/two: a secret that the server reads"},
		"a variable of the agent":      {[]func(map[string]string){edit(two, `server: "lab"`, `server: "lab", environment_vars: S: {env: "B"}`)}, "a secret that the server reads"},
		"an encrypted one":             {[]func(map[string]string){edit(two, `server: "lab"`, `server: "lab", environment_vars: S: {age: "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"}`)}, "a secret that the server reads"},
		"a secret in permissions":      {[]func(map[string]string){edit("projects/a/p.cue", "project:", `permissions: {groups: x: {type: "token", header: "X-K", value: {file: "/etc/b"}}, permissions: x: http: true}`+"\nproject:")}, "project a: a secret that the server reads"},
		"a project's secret, shown":    {[]func(map[string]string){edit("projects/ab/mix.cue", "mine: {", `mine: {environment_vars: S: {file: "/etc/ops"}, `)}, "container ab/mine: a secret that the server reads"},
		"an alias to another's":        {[]func(map[string]string){edit("projects/ab/new.cue", "", `aliases: "yours-a": {container: "yours", program: "http"}`)}, "alias ab/yours-a: does not belong"},
		"a path to another's":          {[]func(map[string]string){edit("projects/ab/new.cue", "", `aliases: "mine-a": {container: "mine", program: "http", paths: "/x": {container: "yours", program: "http"}}`)}, "alias ab/mine-a: does not belong"},
		"another's alias":              {[]func(map[string]string){edit("projects/b/all.cue", `aliases: "bee-b": {container: "bee", program: "http"}`, "")}, "projects/b/all.cue:6:10: alias b/bee-b: does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			files := twoRealms()
			before := loadMap(t, inFolder(files))
			for _, change := range c.change {
				change(files)
			}
			after := loadMap(t, inFolder(files))
			have := Desired(before, "lab")
			for i, h := range have.Containers {
				if h.Ref() == "no/free" {
					have.Containers[i].ID = idDrawn
				}
			}
			have.Containers = append(have.Containers, runtime.Container{ID: "c00000000000000000000001", Project: "ab", Name: "gone", Realms: []string{realmB}})
			have.Projects = append(have.Projects, runtime.Project{Name: "old", ID: "f00000000000000000000001"})
			have.Archives = []runtime.Archive{
				{ID: "e00000000000000000000001", Project: "no"},
				{ID: "e000000000000000000000a1", Project: "ab", Realms: []string{realmA}},
				{ID: "e000000000000000000000a2", Project: "a"},
				{ID: "e000000000000000000000b1", Project: "a", Realms: []string{realmB}},
				{ID: "e000000000000000000000b2", Project: "ab", Realms: []string{realmA, realmB}},
				{ID: "e000000000000000000000b3", Project: "ab"},
			}
			have.Spares = append(have.Spares, runtime.Spare{ID: "e00000000000000000000002"}, runtime.Spare{})
			found := Trespasses(realmA, before, after, differing(twoRealms(), files), "lab", have)
			if c.want == "" && len(found) > 0 || c.want != "" && !strings.Contains(found.Error(), c.want) {
				t.Errorf("got\n%v\nwant %q", found, c.want)
			}
			for _, p := range found {
				if p.Pos.File == "" {
					t.Errorf("%v stands nowhere", p)
				}
			}
		})
	}
}

// inFolder is what lies in the fleet's folder.
func inFolder(files map[string]string) map[string]string {
	out := maps.Clone(files)
	maps.DeleteFunc(out, func(name, _ string) bool { return strings.HasPrefix(name, "../") })
	return out
}

func differing(before, after map[string]string) []string {
	var out []string
	for name, text := range after {
		if was, ok := before[name]; !ok || was != text {
			out = append(out, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// What is said of others' containers is left out.
func TestProposalWithin(t *testing.T) {
	p := Proposal{Version: 1, Servers: []ServerProposal{{
		Server: "lab", Steps: []ProposedStep{{Step: "a", Container: "a/one"}, {Step: "project"}, {Step: "b", Container: "b/bee"}},
		Held:  []Held{{What: "a", Ref: "a/one"}, {What: "b", Ref: "b/bee", Why: idB}},
		Opens: []Opening{{Container: "b/bee"}}, Drift: []Drift{{Ref: "b/bee"}},
	}}}
	text := p.Within(func(ref string) bool { return ref == "a/one" }).Text(false)
	if want := "  a ()\n! held: a: \n0 to create, 0 to change, 0 to delete, 1 held\n"; strings.TrimLeft(text, " ") != strings.TrimLeft(want, " ") {
		t.Errorf("got %q, want %q", text, want)
	}
}

// Whatever one realm may not change the other may not either, unless it is its
// own.
func TestRealmsAreApart(t *testing.T) {
	f := loadMap(t, twoRealms())
	var b bytes.Buffer
	for _, realm := range []string{realmA, realmB} {
		for _, ref := range []string{"a/one", "a/two", "b/bee", "ab/mine", "ab/yours", "ab/ours", "no/free"} {
			project, name, _ := strings.Cut(ref, "/")
			if InRealm(f, realm, project, name) {
				b.WriteString(realm[:1] + ":" + ref + " ")
			}
		}
	}
	if want := "a:a/one a:a/two a:ab/mine b:b/bee b:ab/yours "; b.String() != want {
		t.Errorf("got %s, want %s", &b, want)
	}
	if InRealm(nil, realmA, "a", "one") {
		t.Error("there is no fleet")
	}
}
