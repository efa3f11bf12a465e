package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"

	"swage/schema"
)

// lockedKeys count what is read with them.
type lockedKeys struct{ asked atomic.Int64 }

// Unwrap is age's: somebody decrypts.
func (k *lockedKeys) Unwrap([]*age.Stanza) ([]byte, error) {
	k.asked.Add(1)
	return nil, errors.New("not for this key")
}

func (k *lockedKeys) keys() schema.Keys {
	return schema.Keys{
		Identities: []age.Identity{k},
		ReadFile: func(name string) ([]byte, error) {
			k.asked.Add(1)
			if name == "/secrets/a" {
				return []byte("stored"), nil
			}
			return nil, os.ErrNotExist
		},
		LookupEnv: func(name string) (string, bool) {
			k.asked.Add(1)
			return "stored", name == "A"
		},
	}
}

// planned is the tree of one project file.
func planned(project string) fstest.MapFS {
	return fstest.MapFS{
		"swage.cue":            {Data: []byte("id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")},
		"servers/lab.cue":      {},
		"projects/web/app.cue": {Data: []byte(project)},
	}
}

// TestS2PlanResolvesNoSecret: a plan compares what was declared with what is
// declared in force. It reads nothing of the node, and neither a right guess
// nor a wrong one of a value that is stored looks like the other.
func TestS2PlanResolvesNoSecret(t *testing.T) {
	k := &lockedKeys{}
	n := newNode()
	n.Agent.Keys = k.keys()
	const app = `containers: app: {id: "111111111111111111111111", environment_vars: {%s}}`
	n.source.push(fmt.Sprintf(app, `FILE: {file: "/secrets/a"}, ENV: {env: "A"}, PLAIN: "plain"`))
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k.asked.Load() == 0 {
		t.Fatal("the pass resolved nothing")
	}
	const same = `FILE: {file: "/secrets/a"}, ENV: {env: "A"}, PLAIN: "plain"`
	changed := func(name string) string { return "update container web/app: environment_vars." + name + " changed" }
	for _, c := range []struct{ what, vars, want string }{
		{"the same references", same, "no changes"},
		{"a right guess of a file", strings.Replace(same, `{file: "/secrets/a"}`, `"stored"`, 1), changed("FILE")},
		{"a wrong guess of a file", strings.Replace(same, `{file: "/secrets/a"}`, `"other"`, 1), changed("FILE")},
		{"a right guess of a variable", strings.Replace(same, `{env: "A"}`, `"stored"`, 1), changed("ENV")},
		{"a wrong guess of a variable", strings.Replace(same, `{env: "A"}`, `"other"`, 1), changed("ENV")},
		{"another file", strings.Replace(same, "/secrets/a", "/dev/zero", 1), changed("FILE")},
		{"a file that is not there", strings.Replace(same, "/secrets/a", "/nowhere", 1), changed("FILE")},
		{"the same value from elsewhere", strings.Replace(same, `{env: "A"}`, `{file: "/secrets/a"}`, 1), changed("ENV")},
		{"a file in place of a plain value", strings.Replace(same, `"plain"`, `{file: "/secrets/a"}`, 1), changed("PLAIN")},
		{"another plain value", strings.Replace(same, `"plain"`, `"stored"`, 1), changed("PLAIN")},
		{"what needs the key", same + `, AGE: {age: "-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n"}`, "environment_vars.AGE added"},
	} {
		k.asked.Store(0)
		p, err := n.PlanFor(t.Context(), planned(fmt.Sprintf(app, c.vars)))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		text := p.Text(false) + p.Markdown()
		if !strings.Contains(text, c.want) || c.want != "no changes" && strings.Contains(text, "no changes") {
			t.Errorf("%s:\n%swant %s", c.what, text, c.want)
		}
		for _, value := range []string{"stored", "unknown "} {
			if strings.Contains(text, value) {
				t.Errorf("%s: the plan says %q:\n%s", c.what, value, text)
			}
		}
		if got := k.asked.Load(); got != 0 {
			t.Errorf("%s: %d secrets were asked for", c.what, got)
		}
	}
}

// TestS2PlanOpensNothing: neither what the tree names for permissions nor what
// other commits of it would call is opened, read or called; not even what can
// never be read to its end.
func TestS2PlanOpensNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var called atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			called.Add(1)
			conn.Close()
		}
	}()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	k := &lockedKeys{}
	n := newNode()
	n.Agent.Keys = k.keys()
	n.source.push(`containers: app: {}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.asked.Store(0)
	read := n.Agent.Keys.ReadFile
	n.Agent.Keys.ReadFile = func(name string) ([]byte, error) {
		if name == fifo || name == "/dev/zero" {
			k.asked.Add(1)
			return nil, os.ErrPermission
		}
		return read(name)
	}
	tree := planned(fmt.Sprintf(`
containers: app: permissions: {
	groups: {
		token: {type: "token", header: "X-Token", value: {file: %q}}
		password: {type: "password", username: "a", hash: {file: "/dev/zero"}}
		jwt: {type: "jwt", algorithm: "RS256", jwks_url: "https://%s/keys", sources: [{header: "Authorization"}]}
		secret: {type: "jwt", algorithm: "HS256", secret: {env: "A"}, sources: [{header: "Authorization"}]}
	}
	permissions: {token: http: "*", password: http: "*", jwt: http: "*", secret: http: "*"}
}
containers: two2: environment_vars: {A: {file: "/dev/zero"}, B: {file: %[1]q}, C: {env: "A"}}
`, fifo, l.Addr()))
	tree["servers/lab.cue"].Data = []byte(fmt.Sprintf("tokens: a: {value: {file: %q}, allow: [\"plan\"]}\nwebhooks: github: {file: %[1]q}\nincus: image_server: \"https://%s\"\n", fifo, l.Addr()))
	done := make(chan error, 1)
	go func() {
		p, err := n.PlanFor(t.Context(), tree)
		if err == nil && !strings.Contains(p.Text(false), "create container web/two2") {
			err = errors.New(p.Text(false))
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the plan waits for a file")
	}
	if k.asked.Load() != 0 || called.Load() != 0 {
		t.Errorf("%d secrets were asked for, and %d connections made", k.asked.Load(), called.Load())
	}
}

// TestS3PlanEndsWithItsClient: an evaluation ends when nobody waits for it, and
// plans after it have their turn.
func TestS3PlanEndsWithItsClient(t *testing.T) {
	n := newNode()
	n.source.push(`containers: app: {}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	endless := "import \"list\"\ncontainers: app: comment: \"\\(list.Sum(["
	for i := range 9 {
		endless += fmt.Sprintf("for i%d in list.Range(0, 10, 1) if list.Max([i%d, 0]) >= 0 ", i, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := n.PlanFor(ctx, planned(endless+"if i0 < 0 {1}]))\"\n"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error: %v", err)
	}
	if d := time.Since(start); d > 8*time.Second { // it would be 10 s
		t.Errorf("it took %s", d)
	}
	large := planned("containers: two2: {}\n// " + strings.Repeat("x", 100<<10) + "\n")
	for range 3 { // each gives its turn back
		if p, err := n.PlanFor(t.Context(), large); err != nil || !strings.Contains(p.Text(false), "create container web/two2") {
			t.Errorf("%v\n%s", err, p.Text(false))
		}
	}
}
