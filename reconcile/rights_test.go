package reconcile

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"swage/schema"
)

// TestA1PlansSayRights: who may push, plan, read, sign or say where callers come
// from is told by a plan, in every form, and by its being not empty.
func TestA1PlansSayRights(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"
	container := ""
	fleet := func(swage, server string) *schema.Fleet {
		t.Helper()
		f, err := schema.Load(t.Context(), fstest.MapFS{
			"swage.cue":        {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.test"` + "\n" + swage)},
			"servers/lab.cue":  {Data: []byte(server)},
			"projects/p/a.cue": {Data: []byte(container)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const ci = `tokens: ci: {value: "sesame", allow: ["push"]}`
	publishing := func(ports string) *schema.Fleet {
		container = `containers: web: {id: "890abcdef12345678901cdef", publish: [` + ports + `]}`
		defer func() { container = "" }()
		return fleet("", "")
	}
	const postgres = `{listen: "0.0.0.0:5432", protocol: "tcp", port: 5432}`
	for name, c := range map[string]struct {
		before, after *schema.Fleet
		want          []string
	}{
		"nothing":       {fleet("", ci), fleet("", ci), nil},
		"a token":       {fleet("", ""), fleet("", ci), []string{"! RIGHTS token ci gains: push servers/lab.cue"}},
		"no token":      {fleet("", ci), fleet("", ""), []string{"- rights token ci loses: push servers/lab.cue"}},
		"a new server":  {nil, fleet("", ci), []string{"! RIGHTS token ci gains: push servers/lab.cue"}},
		"another value": {fleet("", ci), fleet("", strings.ReplaceAll(ci, "sesame", "street")), []string{"! RIGHTS token ci gains: push servers/lab.cue", "- rights token ci loses: push servers/lab.cue"}},
		"of a realm": {
			fleet("", ""), fleet("", `tokens: ci: {value: "sesame", allow: ["push"], realm: "5a6b7c8d9e0f1a2b3c4d5e6a"}`),
			[]string{"+ rights token ci gains: push in realm 5a6b7c8d9e0f1a2b3c4d5e6a servers/lab.cue"},
		},
		"reading": {
			fleet("", ""), fleet("", `tokens: ci: {value: "sesame", allow: ["read"], expires_at: "2030-01-01T00:00:00Z"}`),
			[]string{"+ rights token ci gains: read until 2030-01-01T00:00:00Z servers/lab.cue"},
		},
		"a balancer": {
			fleet("", ""), fleet("", `proxy_protocol: ["0.0.0.0/0"]`),
			[]string{"! RIGHTS network 0.0.0.0/0 gains: say where callers come from (proxy_protocol) servers/lab.cue"},
		},
		"a port of a new container": {
			fleet("", ""), publishing(postgres),
			[]string{"! RIGHTS who reaches tcp 0.0.0.0:5432 gains: port 5432 of p/web, past the edge projects/p/a.cue"},
		},
		"another port": {publishing(strings.Replace(postgres, "0.0.0.0", "192.0.2.1", 1)), publishing(postgres), []string{
			"! RIGHTS who reaches tcp 0.0.0.0:5432 gains: port 5432 of p/web, past the edge projects/p/a.cue",
			"- rights who reaches tcp 192.0.2.1:5432 loses: port 5432 of p/web, past the edge projects/p/a.cue",
		}},
		"no signers": {fleet(`signers: ssh: ["ann@example.com `+key+`"]`, ""), fleet("", ""), []string{
			"! RIGHTS everyone who may push gains: push what nobody signed, unless the node file has signers swage.cue",
			`- rights signer "ann@example.com" loses: sign commits swage.cue`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var p Proposal
			p.Add("lab", Plan{}, nil, c.after)
			p.AddRights(c.before, c.after)
			var got []string
			for _, line := range strings.Split(p.Text(false), "\n") {
				if strings.Contains(line, "rights ") || strings.Contains(line, "RIGHTS ") {
					if at := strings.Index(line, ".cue:"); at >= 0 {
						line = line[:at] + ".cue"
					}
					got = append(got, line)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if p.Empty() != (c.want == nil) {
				t.Error("whether it is empty does not follow its rights")
			}
			if n := strings.Count(p.Markdown(), "| rights |"); n != len(c.want) {
				t.Errorf("%d rows in Markdown", n)
			}
			if strings.Contains(p.Text(false)+p.Markdown(), "sesame") {
				t.Error("it holds a secret")
			}
		})
	}
}

// TestA5FileNamesInMarkdown: the name of a file stays within the code that says
// where something stands.
func TestA5FileNamesInMarkdown(t *testing.T) {
	load := func(name, permissions string) *schema.Fleet {
		f, err := schema.Load(t.Context(), fstest.MapFS{
			"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.test"`)},
			"servers/lab.cue": {},
			name:              {Data: []byte(`containers: web: {id: "890abcdef12345678901cdef", publish: [{listen: ":5432", protocol: "tcp", port: 5432}], ` + permissions + `}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const name = "projects/p/a` | ok |<img src=x>@all `.cue"
	before, after := load("projects/p/a.cue", `enable_proxy: false`), load(name, `permissions: default: "allow"`)
	plan := Between(before, load(name, `environment_vars: A: "b", permissions: default: "allow"`), "lab")
	access, err := AccessBetween(before, after, "lab", plan, time.Now())
	if err != nil || len(access) == 0 {
		t.Fatal(access, err)
	}
	var p Proposal
	p.Add("lab", plan, access, after)
	p.AddRights(nil, after)
	text := p.Markdown()
	if !strings.Contains(text, "src=x") {
		t.Fatal(text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "` |<img") || strings.Contains(line, "` | ok") || strings.Count(line, "`")%2 != 0 || strings.Contains(line, " | ok ") && !strings.Contains(line, ` \| ok `) {
			t.Errorf("%s", line)
		}
	}
}
