package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"swage/reconcile"
	"swage/reconcile/api"
)

// TestPushTranscripts runs the blocks "console push" of docs/guide.md in one
// shell beside an agent that is the remote, and compares what comes with what
// the guide shows; -update writes that. Times, hashes and ids that were drawn are shown as ….
func TestPushTranscripts(t *testing.T) {
	for _, program := range []string{"git", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("needs " + program + ": `make test` installs it")
		}
	}
	const guide = "../../docs/guide.md"
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```console push\n(.*?)```").FindAllSubmatchIndex(text, -1)
	var commands []string
	for _, b := range blocks {
		for line := range strings.Lines(string(text[b[2]:b[3]])) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, strings.TrimSuffix(command, "\n"))
			}
		}
	}
	if len(commands) == 0 {
		t.Fatal("the guide shows no push")
	}
	said := transcribe(t, commands)
	var b strings.Builder
	end, n := 0, 0
	for _, block := range blocks {
		b.Write(text[end:block[2]])
		end = block[3]
		for range strings.Count("\n"+string(text[block[2]:block[3]]), "\n$ ") {
			fmt.Fprintf(&b, "$ %s\n%s", commands[n], said[n])
			n++
		}
	}
	b.Write(text[end:])
	if b.String() == string(text) {
		return
	}
	if *update {
		if err := os.WriteFile(guide, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for i, c := range commands {
		if !strings.Contains(string(text), "$ "+c+"\n"+said[i]) {
			t.Errorf("$ %s\n%s\nis not what the guide shows; run go test ./cmd/swage -run Transcripts -update", c, said[i])
		}
	}
}

// transcribe gives what each command says, in one shell after the other.
func transcribe(t *testing.T, commands []string) []string {
	dir := t.TempDir()
	port, sshPort := pushAgent(t, dir)
	var script strings.Builder
	script.WriteString("ssh() { command $LED -n \"$@\"; }\n")
	for i, c := range commands {
		fmt.Fprintf(&script, "%s\necho; echo %s\n", c, mark(i))
	}
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.Stdin = filepath.Join(dir, "here"), strings.NewReader(script.String())
	cmd.Env = pushEnv(dir, port, sshPort)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	// What differs from one run to the next.
	rest = strings.ReplaceAll(strings.ReplaceAll(rest, ":"+port+"/", "/"), dir, "")
	rest = regexp.MustCompile(`[0-9]+\.[0-9]+ s\b`).ReplaceAllString(rest, "… s")
	rest = regexp.MustCompile(`\b[0-9a-f]{7,40}(\.\.\.?)[0-9a-f]{7,40}\b`).ReplaceAllString(rest, "…$1…")
	rest = regexp.MustCompile(`\b[0-9a-f]{24}-[0-9a-f]{24}-`).ReplaceAllString(rest, "…-…-")
	rest = regexp.MustCompile(`(?m)[ \t]+$`).ReplaceAllString(rest, "")
	said := make([]string, len(commands))
	for i := range commands {
		got, after, ok := strings.Cut(rest, "\n"+mark(i)+"\n")
		if !ok {
			t.Fatalf("$ %s\ndoes not end:\n%s", commands[i], rest)
		}
		said[i], rest = got, after
	}
	return said
}

// pushAgent starts an agent that is a remote, with one commit.
func pushAgent(t *testing.T, dir string) (port, sshPort string) {
	t.Helper()
	var ports []string
	var taken []net.Listener // until both are drawn
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, p, _ := net.SplitHostPort(l.Addr().String())
		ports, taken = append(ports, p), append(taken, l)
	}
	for _, l := range taken {
		l.Close()
	}
	sh := func(in, command string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", command)
		cmd.Dir, cmd.Env = filepath.Join(dir, in), pushEnv(dir, ports[0], ports[1])
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	key := sh("", "ssh-keygen -q -t ed25519 -N '' -C ann -f ann; cat ann.pub")
	socket, err := os.MkdirTemp("", "push") // a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(socket) })
	for name, text := range map[string]string{
		"agent.cue":                  fmt.Sprintf("server: \"node-us\", source: {push: true, ssh: {listen: \"127.0.0.1:%s\", keys: ann: {key: %q, allow: [\"push\"]}}}, socket: %q, state_dir: %q\n", ports[1], key, socket+"/s", dir+"/state"),
		"first/swage.cue":            "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\", domain: \"containers.example.com\"\n",
		"first/servers/node-us.cue":  fmt.Sprintf("listen: [\"127.0.0.1:%s\"], tokens: {ann: {value: \"ann\", allow: [\"push\"]}, shop: {value: \"shop\", allow: [\"push\"], realm: \"aaaaaaaaaaaaaaaaaaaaaaaa\"}}\n", ports[0]),
		"first/projects/web/app.cue": "containers: app: {}\naliases: site: {container: \"app\", program: \"http\", port: 3000}\n",
		"here/.keep":                 "",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	agent := exec.Command("swage", "agent", "--config", filepath.Join(dir, "agent.cue"))
	agent.Env = pushEnv(dir, ports[0], ports[1])
	log := &strings.Builder{}
	agent.Stderr = log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	wait := func(what string, done func(*reconcile.Report) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			r, err := api.Socket(socket + "/s").Status(t.Context())
			if err == nil && done(r) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come: %v", what, err)
			}
		}
	}
	wait("the agent", func(*reconcile.Report) bool { return true })
	sh("first", "git init -q -b main; git add -A; git commit -qm first; git push -q ../state/fleet.git main")
	wait("the first commit", func(r *reconcile.Report) bool { return r.State == reconcile.Applied })
	sh("here", "git clone -q https://ann@git.node-us.containers.example.com/fleet bobs; ssh-keyscan -t ed25519 -p "+ports[1]+" 127.0.0.1 2>/dev/null | sed 's/^[^ ]*/*/' > ../known_hosts")
	return ports[0], ports[1]
}

// pushEnv leads the names of the guide to loopback, and answers for a person
// who is asked for a password.
func pushEnv(dir, port, sshPort string) []string {
	const host = "git.node-us.containers.example.com"
	env := append(os.Environ(), "HOME="+dir, "INCUS_FILE="+filepath.Join(dir, "incus.json"), "LC_ALL=C",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_SSL_CAINFO="+filepath.Join(dir, "state", "ca.crt"), // counts more than what is configured
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	ssh := "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o HostName=127.0.0.1 -p " + sshPort + " -o UserKnownHostsFile=" + dir + "/known_hosts -i " + dir + "/ann"
	config := [][2]string{
		{"core.sshCommand", ssh},
		{"http.curloptResolve", host + ":" + port + ":127.0.0.1"},
		{"url.https://ann@" + host + ":" + port + "/.insteadOf", "https://ann@" + host + "/"},
		{"url.https://shop@" + host + ":" + port + "/.insteadOf", "https://shop@" + host + "/"},
		{"credential.helper", `!f() { test "$1" = get && sed -n 's/^username=/password=/p'; }; f`},
		// Advice differs from one git to the next.
		{"advice.pushUpdateRejected", "false"},
	}
	env = append(env, "LED="+ssh)
	for i, c := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)))
	return env
}
