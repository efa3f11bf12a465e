package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"swage/schema"
)

// TestDefaults [F1] [F3] [F4] [F5] [F6]: what is not said is as the reference
// says.
func TestDefaults(t *testing.T) {
	f := mustLoad(t, fleetOf("projects/web/app.cue", `
containers: app: {health: {}, publish: [{listen: ":2222", port: 22}], firewall: [{direction: "egress", action: "drop"}]}
aliases: app: {container: "app", paths: "/a": container: "app"}
project: prespawn: [{count: 1}]
`))
	if f.MaxDeletes != 5 || f.ArchiveDays != 7 || f.Parallel != 8 || f.Settle != 3*time.Second || f.ReportDrift || f.AutoRollback || f.Programs["terminal"].Instances != 99 {
		t.Errorf("the fleet: %+v", f)
	}
	hidden := cmp.Options{cmpopts.IgnoreUnexported(schema.Container{}, schema.Project{}, schema.Alias{}, schema.Server{}), cmpopts.IgnoreFields(schema.Container{}, "Programs"), cmpopts.EquateEmpty(), cmpopts.IgnoreTypes(schema.Pos{}), cmpopts.EquateComparable(schema.Secret{})}
	same := func(what string, want, got any) {
		t.Helper()
		if d := cmp.Diff(want, got, hidden); d != "" {
			t.Errorf("%s:\n%s", what, d)
		}
	}
	same("the server", schema.Server{
		Listen: []string{":443"}, Bridge: "incusbr0", StoragePool: "default", MaxContainers: -1,
		ProjectPrefix: "swage-", ImageServer: "https://images.linuxcontainers.org",
	}, f.Servers["lab"])
	p := f.Projects[0]
	same("the container", schema.Container{
		Name: "app", Server: "lab", Image: "debian/13", Kit: true, Autostart: true, AI: true, Cache: true, Ramdisk: true,
		State: "running", ProxyOpen: true,
		Publish:  []schema.Publish{{Listen: ":2222", Protocol: "tcp", Port: 22}},
		Firewall: []schema.FirewallRule{{Direction: "egress", Action: "drop", Enabled: true}},
		Health: &schema.Health{
			Program: "http", Port: 80, Path: "/",
			Interval: 2 * time.Second, Timeout: 5 * time.Second, HealthyAfter: 2, Deadline: 2 * time.Minute,
		},
	}, p.Containers[0])
	same("the alias", schema.Alias{
		Name: "app", Containers: []string{"app"}, Program: "http", Port: 80, TargetPath: "/", AllowPathOverride: true, Enabled: true,
		Paths: []schema.AliasPath{{Path: "/a", Container: "app", Program: "http", Port: 80}},
	}, p.Aliases[0])
	p.Containers, p.Aliases = nil, nil
	same("the project", schema.Project{Name: "web", MaxContainers: -1, Prespawn: []schema.Prespawn{{"debian/13", true, 1}}}, p)
}

// TestResolved [F3] [F4] [F5] [P2] [P3]: what is right and decided by more than one
// place.
func TestResolved(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"
	first := func(f *schema.Fleet) schema.Container { return f.Projects[0].Containers[0] }
	for _, c := range []struct {
		name, swage, src string
		right            func(*schema.Fleet) bool
	}{
		{"[F4] the fleet's image", `container_image: "alpine/3.22"`, `containers: app: {}`, func(f *schema.Fleet) bool { return first(f).Image == "alpine/3.22" }},
		{"[F4] its own image", `container_image: "alpine/3.22"`, `containers: app: container_image: "fedora/42"`, func(f *schema.Fleet) bool { return first(f).Image == "fedora/42" }},
		{"[F4] an image of any server", "", `containers: app: container_image: "plan9/4e/x86"`, func(f *schema.Fleet) bool { return first(f).Image == "plan9/4e/x86" }},
		{"[F4] the project's enable_proxy", "", `project: enable_proxy: false
containers: app: {}`, func(f *schema.Fleet) bool { return !first(f).ProxyOpen }},
		{"[F4] its own enable_proxy", "", `project: enable_proxy: false
containers: app: enable_proxy: true`, func(f *schema.Fleet) bool { return first(f).ProxyOpen }},
		{"[F4] realms where the project has none", "", `containers: app: realm_ids: ["0123456789abcdef01234567"]`, func(f *schema.Fleet) bool { return len(first(f).RealmIDs) == 1 }},
		{"[F4] authorized keys repeat", "", `containers: {app: ssh_authorized_keys: ["` + key + `"], two: ssh_authorized_keys: ["` + key + ` ann"]}`, func(f *schema.Fleet) bool { return len(f.Projects[0].Containers) == 2 }},
		{"[F4] a copy of what is gone", "", `containers: app: copy_from: {container: "gone", project: "nowhere", snapshot: "s"}`, func(f *schema.Fleet) bool { return first(f).CopyFrom.Container == "gone" }},
		{"[F4] the longest and the shortest name", "", "containers: {\"" + strings.Repeat("a", 100) + "\": {}, \"_-0\": {}}", func(f *schema.Fleet) bool { return len(f.Projects[0].Containers) == 2 }},
		{"[F4] one name in two files of two projects", "", `containers: app: {}`, func(f *schema.Fleet) bool { return len(f.Projects) == 2 }},
		{"[F4] an expiry in days", "", `containers: app: snapshots: {schedule: "@daily", expiry: 3650}`, func(f *schema.Fleet) bool { return first(f).Snapshots.Expiry == 3650*24*time.Hour }},
		{"[F4] 32 KiB", "", `containers: app: environment_vars: A: "` + strings.Repeat("a", 32<<10) + `"`, func(f *schema.Fleet) bool { return len(first(f).Env) == 1 }},
		{"[F4] 16,000 characters", "", `containers: app: comment: "` + strings.Repeat("é", 16000) + `"`, func(f *schema.Fleet) bool { return len(first(f).Comment) == 32000 }},
		{"[F4] a rule that is off contradicts nothing", "", `containers: app: firewall: [{direction: "egress", action: "drop"}, {direction: "egress", action: "allow", enabled: false}]`, func(f *schema.Fleet) bool { return len(first(f).Firewall) == 2 }},
		{"[F3] the warm pool does not count", "", `project: {max_containers: 1, prespawn: [{count: 20}]}
containers: app: {}`, func(f *schema.Fleet) bool { return f.Projects[0].MaxContainers == 1 }},
		{"[F3] none at all may be allowed", "", `project: max_containers: 0`, func(f *schema.Fleet) bool { return f.Projects[0].MaxContainers == 0 }},
		{"[F4] the same rule twice contradicts nothing", "", `containers: app: firewall: [{direction: "egress", action: "drop", protocol: "udp", destination_port: "53"}, {direction: "egress", action: "drop", protocol: "udp", destination_port: "53"}]`, func(f *schema.Fleet) bool { return first(f).Firewall[1].DestinationPorts[0].From == 53 }},
		{"[F4] all that cron knows", "", `containers: app: snapshots: schedule: "0-30/5 9,17 */2 jan-mar MON"`, func(f *schema.Fleet) bool { return first(f).Snapshots.Schedule != "" }},
		{"[F4] plain Linux with a key", "", `containers: app: {kit: false, ssh_authorized_keys: ["` + key + `"]}`, func(f *schema.Fleet) bool { return len(f.Warnings) == 0 }},
		{"[F4] ai: false takes one program only", "", `containers: {app: ai: false, two: {}}
aliases: {one: {container: "app", program: "terminal"}, two: {container: "two", program: "agent"}}`, func(f *schema.Fleet) bool { return len(f.Projects[0].Aliases) == 2 }},
		{"[P2] where a JWT stands", "", `containers: app: {}
permissions: groups: a: {type: "jwt", algorithm: "HS256", secret: {env: "S"}}`, func(f *schema.Fleet) bool {
			return f.Projects[0].Permissions.Groups["a"].JWT.Sources[0].Header == "Authorization"
		}},
		{"[P2] every form of hash and key", "", `containers: app: {}
permissions: groups: {
	a: {type: "password", username: "a", hash: "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo"}
	b: {type: "password", username: "b", hash: "$2b$12$` + strings.Repeat("a", 53) + `"}
	c: {type: "password", username: "c", hash: "$sha256$salt$` + strings.Repeat("0", 64) + `"}
	d: {type: "jwt", algorithm: "RS256", jwks_url: "https://login.example.com/jwks.json"}
	e: {type: "jwt", algorithm: "EdDSA", public_key: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}
	f: {type: "token", header: "X-Key", value: "plain"}
}`, func(f *schema.Fleet) bool { return len(f.Projects[0].Permissions.Groups) == 6 }},
		{"[F4] what a container changes of a program", "", `containers: app: programs: {terminal: cache: false, http: cache: false}`, func(f *schema.Fleet) bool {
			p := first(f).Programs
			return p["terminal"].NoCache && p["terminal"].HonoursLevel && p["http"].NoCache && !p["files"].NoCache
		}},
		{"[P3] the full level", "", `containers: app: {}
permissions: {groups: a: {type: "ip", range: "10.0.0.1"}, permissions: a: {terminal: level: "execute", files: level: "write"}}`, func(f *schema.Fleet) bool {
			cells := f.Projects[0].Permissions.Cells["a"]
			return cells["terminal"].Level == "" && cells["files"].Level == "write"
		}},
		{"[F5] the longest path first", "", `containers: app: {}
aliases: app: {container: "app", paths: {"/a": container: "app", "/a/b/": container: "app"}}`, func(f *schema.Fleet) bool { return f.Projects[0].Aliases[0].Paths[0].Path == "/a/b" }},
		{"[F4] instance 1 of a program that is checked", "", `containers: app: health: program: "code"`, func(f *schema.Fleet) bool { return first(f).Health.Index == 1 }},
		{"[F5] port 443 of https", "", `containers: app: {}
aliases: app: {container: "app", program: "https"}`, func(f *schema.Fleet) bool { return f.Projects[0].Aliases[0].Port == 443 }},
		{"[F5] instance 1 of a program", "", `containers: app: {}
aliases: app: {container: "app", program: "terminal"}`, func(f *schema.Fleet) bool { return f.Projects[0].Aliases[0].Index == 1 }},
	} {
		tree := fleetOf("projects/web/deep/er/app.cue", c.src)
		tree["swage.cue"] = &fstest.MapFile{Data: []byte(swageFile + c.swage)}
		if strings.Contains(c.name, "two projects") {
			tree["projects/more/app.cue"] = &fstest.MapFile{Data: []byte(c.src)}
		}
		f, err := schema.Load(t.Context(), tree)
		if err != nil || !c.right(f) {
			t.Errorf("%s: %v, %+v", c.name, err, f)
		}
	}
}

// TestServer [F6]: a server file in which all is said.
func TestServer(t *testing.T) {
	tree := fleetOf("projects/web/app.cue", "")
	tree["servers/lab.cue"] = &fstest.MapFile{Data: []byte(`
listen: ["192.0.2.1:443", "192.0.2.2:443"]
http: [":80"]
ssh: [":22"]
public_addresses: ["203.0.113.7", "2001:db8::7"]
tls: {type: "files", certificates: [{certificate: "/c.pem", key: "/c.key"}]}
network: {bridge: "br0", subnets: ["10.20.0.0/16"]}
storage_pool: "fast"
limits: {containers: 5, memory: "2GiB"}
incus: {remote: "https://incus.example.com:8443", project_prefix: "x-"}
placement: group: "fast"
tokens: ci: {value_sha256: "` + strings.Repeat("0", 64) + `", allow: ["read", "push"], realm: "0123456789abcdef01234567", expires_at: "2030-01-31T12:00:00Z"}
maintenance: true
`)}
	s := mustLoad(t, tree).Servers["lab"]
	if len(s.Listen) != 2 || len(s.HTTP) != 1 || len(s.SSH) != 1 || len(s.PublicAddrs) != 2 || len(s.TLS.Certificates) != 1 || s.Bridge != "br0" ||
		len(s.Subnets) != 1 || s.StoragePool != "fast" || s.MaxContainers != 5 || s.MaxMemory != 2<<30 || s.IncusRemote == "" || s.ProjectPrefix != "x-" ||
		s.Group != "fast" || s.Member != "" || !s.Maintenance {
		t.Errorf("%+v", s)
	}
	if token := s.Tokens["ci"]; token.ExpiresAt.Year() != 2030 || len(token.Allow) != 2 || token.Realm == "" {
		t.Errorf("%+v", token)
	}
}

// TestBeside [F1]: what is not of the layout is left alone, whatever it holds.
func TestBeside(t *testing.T) {
	tree := fleetOf("projects/web/app.cue", "containers: app: {}")
	for _, name := range []string{
		"README.md", "docs/a.cue", "scripts/projects/b.cue", "other.json", ".github/c.yaml", "projects/.hidden/d.cue",
		"projects/web/.e.cue", "projects/web/notes.txt", "lib/notes.txt", "site/data.json", "cue.mod/pkg/x/f.cue", "cue.mod/other.cue",
	} {
		tree[name] = &fstest.MapFile{Data: []byte("no: such: {")}
	}
	if f := mustLoad(t, tree); len(f.Projects) != 1 || len(f.Projects[0].Containers) != 1 {
		t.Errorf("%+v", f.Projects)
	}
}

// TestTwoServers [F5]: alias and domain are unique on each server, not in the
// fleet.
func TestTwoServers(t *testing.T) {
	tree := fleetOf("projects/web/app.cue", `
containers: {app: server: "lab", two: server: "two"}
project: id: "67e89abc123def456789abcd"
aliases: both: {container: ["app", "two"], domains: ["www.example.org"]}
aliases: here: {container: "app"}
`)
	tree["servers/two.cue"] = &fstest.MapFile{}
	tree["projects/more/app.cue"] = &fstest.MapFile{Data: []byte("containers: app: server: \"two\"\naliases: here: container: \"app\"\n")}
	f := mustLoad(t, tree)
	if a := f.Projects[1].Aliases[0]; !slices.Equal(a.Containers, []string{"app", "two"}) {
		t.Errorf("%+v", a)
	}
}

// TestTooLong [F1] [F4] [F9] [F10]: texts, lists and catalogues past their
// bounds, which are too long for the corpus.
func TestTooLong(t *testing.T) {
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "programs: p%d: port: %d\n", i, 30000+i)
	}
	for _, c := range []struct{ name, swage, src, want string }{
		{"a comment", "", `containers: app: comment: "` + strings.Repeat("é", 16001) + `"`, "want a text of at most 16,000 characters"},
		{"a value", "", `containers: app: environment_vars: A: "` + strings.Repeat("a", 32<<10+1) + `"`, "at most 32 KiB"},
		{"a domain", "", "containers: app: {}\naliases: app: {container: \"app\", domains: [\"" + strings.Repeat("a.", 126) + "ab\"]}", "want a domain name in lower case"},
		{"the catalogue", many.String(), `containers: app: {}`, "programs: has 1001 entries; a fleet has at most"},
	} {
		tree := fleetOf("projects/web/app.cue", c.src)
		tree["swage.cue"] = &fstest.MapFile{Data: []byte(swageFile + c.swage)}
		f, err := schema.Load(t.Context(), tree)
		if f != nil || err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v", c.name, err)
		}
	}
}
