package schema_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"swage/schema"
)

// hostFleet is a fleet of one server, with more files.
func hostFleet(files map[string]string) fstest.MapFS {
	tree := fstest.MapFS{
		"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.example.com"`)},
		"servers/lab.cue": {Data: []byte("")},
	}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return tree
}

// TestS9RepositoryNamesProgramsOnly [G8]: a server's file has the name of a
// program; its path, its arguments and its environment stand in the node file.
func TestS9RepositoryNamesProgramsOnly(t *testing.T) {
	for _, row := range []struct{ options, want string }{
		{`{program: "dns-hook"}`, ""},
		{`{program: "dns-hook", wait: "30s"}`, ""},
		{`{program: "/bin/bash", BASH_ENV: "$(id > /tmp/owned)"}`, `here stands the name: "dns-hook"`},
		{`{program: "/bin/bash"}`, `programs: "dns-hook": {command: ["/usr/local/bin/dns-hook"]`},
		{`{program: "bash/../../bin/sh"}`, "found a path"},
		{`{program: "bash -c id"}`, "want the name of a program"},
		{`{program: {file: "/etc/swage/secrets/program"}}`, "wants a name, not a secret"},
		{`{program: {env: "SHELL"}}`, "wants a name, not a secret"},
		{`{program: "dns-hook", LD_PRELOAD: "/srv/x.so"}`, "LD_PRELOAD: is no option of exec"},
		{`{program: "dns-hook", args: "-c"}`, "args: is no option of exec"},
		{`{}`, `option "program" is missing`},
	} {
		_, err := schema.Load(context.Background(), hostFleet(map[string]string{
			"servers/lab.cue": `tls: {type: "acme", dns: {provider: "exec", options: ` + row.options + `}}`,
		}))
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.options, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "servers/lab.cue:1:")):
			t.Errorf("%s: %v, want %q", row.options, err, row.want)
		}
	}
}

// TestS9NodeFilePrograms: what the node file may say of programs.
func TestS9NodeFilePrograms(t *testing.T) {
	load := func(programs string) (schema.Node, error) {
		return schema.LoadNode("agent.cue", []byte(`server: "lab", source: push: true, programs: `+programs))
	}
	n, err := load(`"dns-hook": {command: ["/usr/local/bin/dns-hook", "--zone", "example.com"], environment: TOKEN: {file: "/etc/swage/dns-token"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if p := n.Programs["dns-hook"]; len(p.Command) != 3 || p.Command[0] != "/usr/local/bin/dns-hook" || p.Environment["TOKEN"].IsZero() {
		t.Errorf("%+v", n.Programs)
	}
	for programs, want := range map[string]string{
		`hook: {}`:                                         "command: is missing",
		`hook: command: []`:                                "wants the absolute path of a program",
		`hook: command: ["hook"]`:                          "wants the absolute path of a program",
		`hook: command: "/bin/hook"`:                       "put it into [ ]",
		`"my hook": command: ["/bin/hook"]`:                "is not allowed",
		`hook: {command: ["/a"], environ: {}}`:             "there is no such field",
		`hook: {command: ["/a"], environment: "A=b": "c"}`: "is not allowed",
	} {
		if _, err := load(programs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", programs, err, want)
		}
	}
}

// TestS9NamesOfInterfaces [G8]: a bridge is no name that stands for every
// interface in /proc/sys/net.
func TestS9NamesOfInterfaces(t *testing.T) {
	for name, fits := range map[string]bool{
		"incusbr0": true, "br-lan": true, "all": false, "default": false, "lo": false,
		"../x": false, "a/b": false, "br0 up": false, "br0;id": false, "br.100": false, "-o": false, "": false, "averylongbridgename": false,
	} {
		_, err := schema.Load(context.Background(), hostFleet(map[string]string{"servers/lab.cue": "network: bridge: \"" + name + "\""}))
		if (err == nil) != fits {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestS18DomainsOfTheFleet [F10]: the domain of the fleet, the zones of all of
// its servers, what lies in them and what stands above them is no custom
// domain, whoever asks for it.
func TestS18DomainsOfTheFleet(t *testing.T) {
	const zone, above = "lies in the zone", "is the domain of the fleet, containers.example.com, or stands above it"
	for domain, want := range map[string]string{
		"containers.example.com":          above,
		"example.com":                     above,
		"com":                             above,
		"lab.containers.example.com":      zone + " lab.containers.example.com",
		"far.containers.example.com":      zone + " far.containers.example.com",
		"x.lab.containers.example.com":    zone,
		"x.y.far.containers.example.com":  zone,
		"api.far.containers.example.com":  zone,
		"shop.example.com":                "",
		"www.example.net":                 "",
		"xcontainers.example.com":         "",
		"ample.com":                       "",
		"containers.example.com.evil.org": "",
		"free.containers.example.com":     "", // no server's zone
		"net":                             "want a whole domain",
	} {
		for _, alias := range []string{
			`aliases: "my-api": {container: "web", domains: ["` + domain + `"]}`,
			`aliases: "my-api": {container: "web", domains: ["www.example.org", "` + domain + `"]}`,
		} {
			_, err := schema.Load(context.Background(), hostFleet(map[string]string{
				"servers/far.cue":    "",
				"projects/a/web.cue": `containers: web: server: "lab"` + "\n" + alias,
			}))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", domain, err, want)
			}
		}
	}
	// S18 as it was found.
	_, err := schema.Load(context.Background(), hostFleet(map[string]string{
		"swage.cue":          `id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.localhost"`,
		"projects/a/web.cue": `containers: web: {}, aliases: "my-api": {container: "web", domains: ["containers.localhost"]}`,
	}))
	if err == nil || !strings.Contains(err.Error(), "is the domain of the fleet") {
		t.Error(err)
	}
}

// TestS9EvaluationReachesNothing [G8]: no expression reads a file of the host,
// a variable, or the network, nor runs a program.
func TestS9EvaluationReachesNothing(t *testing.T) {
	file := t.TempDir() + "/secret"
	if err := os.WriteFile(file, []byte("of-the-host"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OF_THE_HOST", "of-the-host")
	for name, text := range map[string]string{
		"a file that is embedded":  "@extern(embed)\npackage web\ncontainers: web: comment: c\nlet c = text\ntext: string @embed(file=\"" + file + "\",type=text)\n",
		"a folder":                 "@extern(embed)\npackage web\ncontainers: web: comment: _c[\"" + file + "\"]\n_c: _ @embed(glob=\"" + file + "*\",type=text)\n",
		"a file of a command":      "import \"tool/file\"\ncontainers: web: comment: (file.Read & {filename: \"" + file + "\", contents: string}).contents\n",
		"a program":                "import \"tool/exec\"\ncontainers: web: comment: (exec.Run & {cmd: [\"cat\", \"" + file + "\"], stdout: string}).stdout\n",
		"the environment":          "import \"tool/os\"\ncontainers: web: comment: (os.Getenv & {OF_THE_HOST: string}).OF_THE_HOST\n",
		"a variable by injection":  "containers: web: comment: _v\n_v: string @tag(OF_THE_HOST)\n",
		"a call":                   "import \"tool/http\"\ncontainers: web: comment: (http.Get & {url: \"https://127.0.0.1:1/\"}).response.body\n",
		"a module of the internet": "import \"example.com/other@v0\"\ncontainers: web: comment: other.x\n",
		"a package of the host":    "import \"" + file + "\"\ncontainers: web: comment: secret.x\n",
		"a program of WebAssembly": "@extern(\"wasm\")\npackage web\ncontainers: web: comment: c(1)\nlet c = f\nf: _ @extern(\"" + file + "\", abi=c, sig=\"func(int64): int64\")\n",
	} {
		f, err := schema.Load(context.Background(), hostFleet(map[string]string{"projects/a/web.cue": text}))
		if err != nil && strings.Contains(err.Error(), "of-the-host") || f != nil && strings.Contains(f.Projects[0].Containers[0].Comment, "of-the-host") {
			t.Errorf("%s is read: %v", name, err)
		}
		if err == nil {
			t.Errorf("%s: it is taken, with %q", name, f.Projects[0].Containers[0].Comment)
		}
	}
}
