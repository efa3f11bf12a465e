package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"swage/edge/certs"
	"swage/reconcile"
	"swage/reconcile/hostfile"
	"swage/runtime"
	"swage/schema"
)

// TestS9ProgramsOfTheNode [G8]: which program runs, with what arguments and in
// what environment, the node file says; a commit has its name.
func TestS9ProgramsOfTheNode(t *testing.T) {
	f := &front{programs: map[string]schema.NodeProgram{
		"dns-hook": {Command: []string{"/usr/local/bin/dns-hook", "--zone"}, Environment: map[string]schema.Secret{"TOKEN": schema.Plain("hunter22")}},
	}}
	edge := func(options map[string]string) reconcile.Edge {
		e := reconcile.Edge{TLS: schema.TLS{Type: "acme", Directory: "https://127.0.0.1:1/", DNSProvider: "exec", DNSOptions: map[string]schema.Secret{}}}
		for name, value := range options {
			e.TLS.DNSOptions[name] = schema.Plain(value)
		}
		return e
	}
	s, err := f.settings(edge(map[string]string{"program": "dns-hook", "wait": "1s"}))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Node.Program.Command, []string{"/usr/local/bin/dns-hook", "--zone"}) || s.Node.Program.Environment["TOKEN"] != "hunter22" || len(s.Options) != 1 {
		t.Errorf("%+v", s)
	}
	for _, name := range []string{"/bin/bash", "bash", "", "dns-hook2"} {
		_, err := f.settings(edge(map[string]string{"program": name}))
		if err == nil || !strings.Contains(err.Error(), "it names dns-hook") {
			t.Errorf("%q: %v", name, err)
		}
	}
	f.programs = nil
	if _, err := f.settings(edge(map[string]string{"program": "dns-hook"})); err == nil || !strings.Contains(err.Error(), `programs: "dns-hook": command: [`) {
		t.Errorf("a node file without programs: %v", err)
	}
}

// TestS2KeysOfTheFleet [F8]: a repository names files below the folders of the
// node file and variables that it lists; the node file itself names what it
// likes. None of both waits for a writer or reads without end.
func TestS2KeysOfTheFleet(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "secrets")
	for _, d := range []string{folder, filepath.Join(folder, "folder")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range map[string]int{"root-only": 8, "secrets/db": 8, "secrets/long": schema.MaxSecret + 1} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(folder, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LISTED", "xxxxxxxx")
	t.Setenv("UNLISTED", "not for containers")
	node, err := schema.LoadNode("agent.cue", fmt.Appendf(nil, "server: \"lab\", source: push: true, secret_folders: [%q], secret_variables: [\"LISTED\"]", folder))
	if err != nil {
		t.Fatal(err)
	}
	fleet, _, err := fleetKeys(node)
	if err != nil {
		t.Fatal(err)
	}
	const outside, variable = "outside of the folders that this server's node file lists: ", "not listed under secret_variables"
	for _, row := range []struct{ secret, fleet, node string }{
		{`{file: "` + folder + `/db"}`, "", ""},
		{`{file: "` + folder + `/fifo"}`, "no regular file", "no regular file"},
		{`{file: "` + folder + `/folder"}`, "is a folder", "is a folder"},
		{`{file: "` + folder + `/long"}`, "has more than 65536 bytes", "has more than 65536 bytes"},
		{`{file: "` + folder + `/none"}`, "no such file", "no such file"},
		{`{file: "` + folder + `/../root-only"}`, outside + folder, ""},
		{`{file: "` + dir + `/root-only"}`, outside + folder, ""},
		{`{file: "` + dir + `/none"}`, outside + folder, "no such file"},
		{`{file: "/dev/zero"}`, outside + folder, "no regular file"},
		{`{env: "LISTED"}`, "", ""},
		{`{env: "UNLISTED"}`, variable, ""},
		{`{env: "PATH"}`, variable, ""},
		{`{env: "NOT_SET"}`, variable, "not set"},
	} {
		f, err := schema.Load(t.Context(), fstest.MapFS{
			"swage.cue":          {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.example.com"`)},
			"servers/lab.cue":    {},
			"projects/a/web.cue": {Data: []byte(`containers: web: environment_vars: V: ` + row.secret)},
		})
		if err != nil {
			t.Fatal(err)
		}
		for whose, keys := range map[string]schema.Keys{"fleet": fleet, "node": nodeKeys()} {
			want := map[string]string{"fleet": row.fleet, "node": row.node}[whose]
			done := make(chan error, 1)
			go func() { // one that hangs must not hang the test
				_, err := f.Projects[0].Containers[0].Env["V"].Reveal(keys)
				done <- err
			}()
			select {
			case err := <-done:
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s, by the %s: %v, want %q", row.secret, whose, err, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s, by the %s: it blocks", row.secret, whose)
			}
		}
	}
}

// TestS9CertificateFolders [G8]: certificates that a commit names lie below
// folders that the node file lists, and what is no file makes nobody wait.
func TestS9CertificateFolders(t *testing.T) {
	node, err := schema.LoadNode("agent.cue", []byte(`server: "lab", source: push: true, certificate_folders: ["/etc/letsencrypt"]`))
	if err != nil {
		t.Fatal(err)
	}
	f := &front{certificates: certificateFolders(node)}
	for _, row := range []struct{ certificate, key, want string }{
		{"/etc/letsencrypt/live/zone/fullchain.pem", "/etc/letsencrypt/live/zone/privkey.pem", ""},
		{"/etc/swage/secrets/zone.pem", "/etc/swage/secrets/zone.key", ""},
		{"/etc/letsencrypt/live/zone/fullchain.pem", "/root/.ssh/id_rsa", "/root/.ssh/id_rsa is outside of the folders that this server's node file lists: /etc/letsencrypt, /etc/swage/secrets"},
		{"/dev/zero", "/etc/letsencrypt/key", "/dev/zero is outside"},
		{"/etc/letsencrypt/../shadow", "/etc/letsencrypt/key", "is outside"},
		{"/etc/letsencrypt", "/etc/letsencrypt", "is outside"},
		{"/etc/letsencrypt2/x", "/etc/letsencrypt/key", "is outside"},
	} {
		s, err := f.settings(reconcile.Edge{TLS: schema.TLS{Type: "files", Certificates: []schema.Certificate{{Certificate: row.certificate, Key: row.key}}}})
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) || err == nil && len(s.Files) != 1 {
			t.Errorf("%s, %s: %v, want %q", row.certificate, row.key, err, row.want)
		}
	}
	folder := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(folder, "fifo.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, err := certs.Open(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	source := certs.New(ca, t.TempDir(), hostfile.Folders{folder}.Read, slog.New(slog.DiscardHandler))
	defer source.Close()
	used := make(chan error, 1)
	go func() {
		used <- source.Use(certs.Settings{Kind: certs.Files, Files: []certs.Pair{{Certificate: folder + "/fifo.pem", Key: folder + "/fifo.pem"}}})
	}()
	select {
	case err := <-used:
		if w := strings.Join(source.Warnings(), "\n"); err != nil || !strings.Contains(w, "no regular file") {
			t.Errorf("%v, warnings %q", err, w)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a pipe blocks the goroutine that publishes")
	}
}

// TestS9IncusOfTheNode [G8]: which daemon the agent uses, the node file says.
func TestS9IncusOfTheNode(t *testing.T) {
	const socket, remote = "/var/lib/incus/unix.socket", "https://incus.example.com:8443"
	for _, row := range []struct {
		node, file string
		want       runtime.Daemon
		fails      string
	}{
		{"", "", runtime.Daemon{Socket: socket}, ""},
		{"", `socket: "` + socket + `"`, runtime.Daemon{Socket: socket}, ""},
		{`socket: "/run/incus.sock"`, "", runtime.Daemon{Socket: "/run/incus.sock"}, ""},
		{"", `socket: "/srv/mine.sock"`, runtime.Daemon{}, "servers/lab.cue names the Incus socket /srv/mine.sock"},
		{"", `socket: "/run/docker.sock"`, runtime.Daemon{}, "a repository cannot choose another one"},
		{"", `remote: "https://198.51.100.9:8443"`, runtime.Daemon{Socket: socket}, ""},
		{"", `{socket: "` + socket + `", remote: "` + remote + `"}`, runtime.Daemon{Socket: socket}, ""},
		{`remote: "` + remote + `"`, `{remote: "` + remote + `", certificate: "-----BEGIN CERTIFICATE-----\nM\n"}`, runtime.Daemon{Remote: remote, Certificate: "-----BEGIN CERTIFICATE-----\nM\n"}, ""},
		{`remote: "` + remote + `"`, `remote: "https://198.51.100.9:8443"`, runtime.Daemon{}, "has the Incus at " + remote},
		{`remote: "` + remote + `"`, "", runtime.Daemon{}, "has the Incus at " + remote},
	} {
		node, err := schema.LoadNode("agent.cue", []byte("server: \"lab\", source: push: true\nincus: {"+row.node+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := schema.Load(t.Context(), fstest.MapFS{
			"swage.cue":       {Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "containers.example.com"`)},
			"servers/lab.cue": {Data: []byte("incus: {}\nincus: " + cmp.Or(row.file, "{}"))},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ownDaemon(node, reconcile.Scope(f, "lab"))
		if (err == nil) != (row.fails == "") || err != nil && !strings.Contains(err.Error(), row.fails) || err == nil && got.Daemon != row.want {
			t.Errorf("%s; %s: %+v, %v; want %+v, %q", row.node, row.file, got.Daemon, err, row.want, row.fails)
		}
	}
}

// TestS9NodeFileFolders: what a node file without folders allows, and what it
// may list.
func TestS9NodeFileFolders(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "[/etc/swage/secrets] [] []",
		`, secret_folders: []`:          "[] [] []",
		`, secret_folders: ["/run/s"]`:  "[/run/s] [] []",
		`, secret_variables: ["A_B"]`:   "[/etc/swage/secrets] [A_B] []",
		`, certificate_folders: ["/x"]`: "[/etc/swage/secrets] [] [/x]",
		`, secret_folders: ["/"]`:       "want the absolute path of a folder",
		`, secret_folders: ["secrets"]`: "want the absolute path of a folder",
		`, secret_variables: ["A=B"]`:   "want the name of an environment variable",
		`, certificate_folders: "/x"`:   "put it into [ ]",
	} {
		n, err := schema.LoadNode("agent.cue", []byte(`server: "lab", source: push: true`+text))
		got := fmt.Sprint(n.SecretFolders, n.SecretVariables, n.CertificateFolders)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
