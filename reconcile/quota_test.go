package reconcile

import (
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"swage/runtime"
)

// definedIn are the fields of a definition of the schema.
func definedIn(t *testing.T, file, definition string) map[string]bool {
	t.Helper()
	src, err := os.ReadFile("../schema/" + file)
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(src), "\n#"+definition+": {\n")
	body, _, end := strings.Cut(body, "\n}\n")
	if !ok || !end {
		t.Fatalf("%s has no #%s", file, definition)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t([a-z_]+)[!?]?:`).FindAllStringSubmatch(body, -1) {
		out[m[1]] = true
	}
	return out
}

// judged is what a push that is held to realmA is told of a change.
func judged(t *testing.T, before, after map[string]string) string {
	t.Helper()
	was, is := loadMap(t, before), loadMap(t, after)
	found := Trespasses(realmA, was, is, differing(before, after), "lab", Desired(was, "lab"))
	if len(found) == 0 {
		return ""
	}
	return found.Error()
}

// TestS18RealmFields [G2]: for every field of a project and of a container
// whether a push that is held to its realm may change it. A field that is new
// in the schema has no row, and fails until somebody decides.
func TestS18RealmFields(t *testing.T) {
	const may = ""
	rows := map[string]map[string][]struct{ was, is, want string }{
		"Project": {
			"id":      {{``, `id: "0000000000000000000000ac"`, may}, {``, `id: "f00000000000000000000001"`, "of this name or id is still on the server"}},
			"color":   {{``, `color: "fff"`, may}},
			"comment": {{``, `comment: "x"`, may}},
			"protected": {
				{``, `protected: true`, may}, {`protected: true`, ``, may}, // against mistakes, not against its owner
			},
			"max_containers": {
				{`max_containers: 5`, `max_containers: 4`, may},
				{``, `max_containers: 4`, may},
				{`max_containers: 5`, `max_containers: 6`, "max_containers cannot be raised or left out by a push that is held to a realm; it is 5"},
				{`max_containers: 5`, ``, "max_containers cannot be raised or left out"},
				{`max_containers: 5`, `max_containers: 100000`, "max_containers cannot be raised"},
			},
			"realm_ids":    {{``, `realm_ids: ["` + realmB + `"]`, "its realm_ids cannot be changed"}},
			"enable_proxy": {{``, `enable_proxy: false`, may}, {`enable_proxy: false`, ``, may}},
			"prespawn": {
				{`prespawn: [{count: 3}]`, `prespawn: [{count: 2}]`, may},
				{`prespawn: [{count: 3}]`, ``, may},
				{`prespawn: [{count: 3}]`, `prespawn: [{count: 1}, {container_image: "alpine/3.20", count: 2}]`, may},
				{``, `prespawn: [{count: 1}]`, "prespawn cannot be raised by a push that is held to a realm; the counts add up to 0"},
				{`prespawn: [{count: 3}]`, `prespawn: [{count: 20}]`, "the counts add up to 3"},
				{`prespawn: [{count: 3}]`, `prespawn: [{count: 3}, {container_image: "alpine/3.20", count: 1}]`, "prespawn cannot be raised"},
			},
		},
		"Container": {
			"id":                  {{``, `id: "a00000000000000000000009"`, may}, {``, `id: "e00000000000000000000001"`, "is that of something else"}},
			"server":              {{`server: "lab"`, `server: "far"`, "server cannot be changed"}},
			"container_image":     {{``, `container_image: "debian/12"`, may}},
			"kit":                 {{``, `kit: false`, may}},
			"environment_vars":    {{``, `environment_vars: A: "b"`, may}, {``, `environment_vars: A: {file: "/etc/swage/secrets/b"}`, "a secret that the server reads"}, {``, `environment_vars: A: {env: "B"}`, "a secret that the server reads"}},
			"ssh_public_key":      {{``, `ssh_public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"`, may}},
			"ssh_authorized_keys": {{``, `ssh_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"]`, may}},
			"color":               {{``, `color: "fff"`, may}},
			"comment":             {{``, `comment: "x"`, may}},
			"autostart":           {{``, `autostart: false`, may}},
			"ai":                  {{``, `ai: false`, may}},
			"cache":               {{``, `cache: false`, may}},
			"bypass_prespawn":     {{``, `bypass_prespawn: true`, may}},
			"ramdisk":             {{`ramdisk: false`, ``, may}},
			"realm_ids":           {{``, `realm_ids: ["` + realmA + `"]`, "realm_ids cannot be changed"}},
			"state":               {{``, `state: "stopped"`, may}},
			"enable_proxy":        {{``, `enable_proxy: true`, may}},
			"permissions":         {{``, `permissions: default: "allow"`, may}},
			"programs":            {{``, `programs: http: cache: false`, may}},
			// No quota of the project's: limits of the server bound them all.
			"resources":  {{`resources: {cpu: 1, memory: "1GiB", disk: "2GiB"}`, `resources: {cpu: 2, memory: "4GiB", disk: "20GiB"}`, may}},
			"firewall":   {{``, `firewall: [{direction: "ingress", action: "allow"}]`, may}},
			"publish":    {{``, `publish: [{listen: ":2222", port: 22}]`, "publish opens ports of the server"}, {`publish: [{listen: ":2222", port: 22}]`, ``, may}, {`publish: [{listen: ":2222", port: 22}]`, `publish: [{listen: ":22", port: 22}]`, "publish opens ports"}},
			"snapshots":  {{``, `snapshots: schedule: "@hourly"`, may}},
			"copy_from":  {{``, `copy_from: container: "one"`, may}, {``, `copy_from: {project: "b", container: "bee"}`, "its source is not a container of the realm"}, {``, `copy_from: archive: "` + idB + `"`, "its source is not a container"}},
			"depends_on": {{``, `depends_on: ["one"]`, may}},
			"health":     {{``, `health: port: 80`, may}},
			"protected":  {{``, `protected: true`, may}, {`protected: true`, ``, may}},
			"adopt":      {{``, `adopt: "default/old"`, "adopt takes over what belongs to nobody's realm"}},
		},
	}
	for definition, file := range map[string]string{"Project": "project.cue", "Container": "container.cue"} {
		fields := definedIn(t, file, definition)
		for field := range fields {
			if len(rows[definition][field]) == 0 {
				t.Errorf("may a realm change %s of #%s? nobody has decided", field, definition)
			}
		}
		for field, changes := range rows[definition] {
			if !fields[field] {
				t.Errorf("#%s has no field %s", definition, field)
			}
			for _, c := range changes {
				with := func(text string) map[string]string {
					files := twoRealms()
					if definition == "Container" {
						if !strings.Contains(text, "server:") {
							text = "server: \"lab\"\n" + text
						}
						if !strings.Contains(text, "\nid:") && field != "id" {
							text = "id: \"" + idA2 + "\"\n" + text
						}
						files["projects/a/two.cue"] = "containers: two: {\n" + text + "\n}\n"
						return files
					}
					if field != "realm_ids" || text == "" {
						text = "realm_ids: [\"" + realmA + "\"]\n" + text
					}
					files["projects/a/p.cue"] = "project: {\n" + text + "\n}\n"
					files["projects/old/p.cue"] = "project: {id: \"f00000000000000000000001\", realm_ids: [\"" + realmB + "\"]}\n"
					if field == "id" { // unique in the fleet; what is gone from it may still run
						delete(files, "projects/old/p.cue")
					}
					return files
				}
				before, after := with(c.was), with(c.is)
				was, is := loadMap(t, before), loadMap(t, after)
				have := Desired(was, "lab")
				have.Projects = append(have.Projects, runtime.Project{Name: "old", ID: "f00000000000000000000001"})
				have.Archives = []runtime.Archive{{ID: "e00000000000000000000001"}}
				got := ""
				if found := Trespasses(realmA, was, is, differing(before, after), "lab", have); len(found) > 0 {
					got = found.Error()
				}
				if c.want == may && got != "" || !strings.Contains(got, c.want) {
					t.Errorf("#%s.%s: %q to %q: %s; want %q", definition, field, c.was, c.is, got, c.want)
				}
			}
		}
	}
}

// TestS18QuotasOfARealm [G2]: what a realm may have is not more after its own
// push, whichever way it goes about it.
func TestS18QuotasOfARealm(t *testing.T) {
	project := func(more string) string { return `project: {realm_ids: ["` + realmA + `"]` + more + "}\n" }
	base := map[string]string{
		"swage.cue":        `id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"`,
		"servers/lab.cue":  "",
		"projects/a/p.cue": project(`, max_containers: 5, prespawn: [{count: 2}]`),
	}
	with := func(files map[string]string) map[string]string {
		out := maps.Clone(base)
		maps.Copy(out, files)
		maps.DeleteFunc(out, func(_, text string) bool { return text == "gone" })
		return out
	}
	for name, c := range map[string]struct {
		before, after map[string]string
		want          string
	}{
		"a project without a limit":      {nil, map[string]string{"projects/more/p.cue": project("")}, "the projects of the realm may have 5 containers"},
		"a project beside the first":     {nil, map[string]string{"projects/more/p.cue": project(", max_containers: 1")}, "may have 5 containers"},
		"a part of the first":            {nil, map[string]string{"projects/a/p.cue": project(", max_containers: 3"), "projects/more/p.cue": project(", max_containers: 2")}, ""},
		"in the place of the first":      {nil, map[string]string{"projects/a/p.cue": "gone", "projects/more/p.cue": project(", max_containers: 5, prespawn: [{count: 2}]")}, ""},
		"more in the place of the first": {nil, map[string]string{"projects/a/p.cue": "gone", "projects/more/p.cue": project(", max_containers: 6")}, "may have 5 containers"},
		"spares of a new project":        {nil, map[string]string{"projects/a/p.cue": project(", max_containers: 3, prespawn: [{count: 2}]"), "projects/more/p.cue": project(", max_containers: 2, prespawn: [{count: 1}]")}, "adds up to 2"},
		"from one to the other": {
			map[string]string{"projects/b/p.cue": project(", max_containers: 2")},
			map[string]string{"projects/a/p.cue": project(", max_containers: 3"), "projects/b/p.cue": project(", max_containers: 4")},
			"project b: max_containers cannot be raised",
		},
		"after all was deleted":          {map[string]string{"projects/a/p.cue": "gone"}, map[string]string{"projects/a/p.cue": project("")}, "may have 0 containers"},
		"a realm without a limit":        {map[string]string{"projects/a/p.cue": project("")}, map[string]string{"projects/more/p.cue": project("")}, ""},
		"spares where there is no limit": {map[string]string{"projects/a/p.cue": project("")}, map[string]string{"projects/more/p.cue": project(", prespawn: [{count: 20}]")}, "adds up to 0"},
	} {
		after := with(c.before)
		maps.Copy(after, c.after)
		maps.DeleteFunc(after, func(_, text string) bool { return text == "gone" })
		if got := judged(t, with(c.before), after); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s; want %q", name, got, c.want)
		}
	}
}
