package reconcile_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// D3, [F7] What cannot change is held alone: everything else of the commit is
// applied to that container, above all what takes access away.
func TestD3OnlyTheFieldIsHeld(t *testing.T) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA ann"
	for _, test := range []struct{ name, change, what string }{
		{"image", `container_image: "tiny/2"`, "change the image of container web/app"},
		{"kit", `kit: false`, "change the kit of container web/app"},
		{"both", `container_image: "tiny/2", kit: false`, "change the kit of container web/app"},
		{"secret", `environment_vars: {PORT: "1", KEY: {file: "/etc/swage/secrets/gone"}}`, "change the environment of container web/app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode()
			n.Agent.Keys = schema.Keys{ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist }}
			n.source.push(`containers: app: {id: "890abcdef12345678901cdef", environment_vars: PORT: "1", publish: [{listen: ":2222", port: 22}], ssh_authorized_keys: ["` + key + `"]}`)
			if _, err := n.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.source.push(`containers: app: {id: "890abcdef12345678901cdef", comment: "new", resources: memory: "1GiB", environment_vars: PORT: "1", firewall: [{direction: "ingress", action: "drop", protocol: "tcp", source: "203.0.113.0/24"}]} & {` + test.change + `}`)
			r, err := n.Pass(t.Context())
			if err != nil || r.State != reconcile.Incomplete || !strings.HasPrefix(r.Outcome(), "applied, ") || !strings.HasSuffix(r.Outcome(), " held") {
				t.Fatalf("%s (%s), %v", r.State, r.Outcome(), err)
			}
			if !slices.ContainsFunc(r.Held, func(h reconcile.Held) bool { return h.What == test.what && h.Ref == "web/app" }) {
				t.Errorf("held: %+v", r.Held)
			}
			c := n.observe(t).Containers[0]
			if len(c.Keys) > 0 || len(c.Publish) > 0 || len(c.Firewall) != 1 || c.Comment != "new" || c.Resources.Memory != 1<<30 || c.Image != "tiny/1" || !c.Kit || c.Env["PORT"] != "1" || len(c.Env) != 1 {
				t.Errorf("the container is %+v", c)
			}
			if line := n.Report().Containers[0]; line.State != reconcile.StateHeld || line.Reason == "" || line.Status != runtime.Running {
				t.Errorf("listed as %s (%s)", line.State, line.Reason)
			}
			// The next pass has nothing more to do.
			writes := n.engine.Writes()
			if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Incomplete || n.engine.Writes() != writes {
				t.Errorf("a second pass: %s, %v, %d writes", r.State, err, n.engine.Writes()-writes)
			}
		})
	}
}

// A new default image in swage.cue holds nothing but the image of each container.
func TestD3ANewDefaultImageHoldsNothingElse(t *testing.T) {
	n := newNode()
	n.source.push(`containers: {one1: id: "111111111111111111111111", two2: id: "222222222222222222222222"}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.source.push(`containers: {one1: {id: "111111111111111111111111", container_image: "tiny/2", state: "stopped"}, two2: {id: "222222222222222222222222", container_image: "tiny/2", environment_vars: A: "1"}, three: {}}`)
	r, err := n.Pass(t.Context())
	if err != nil || r.State != reconcile.Incomplete || len(r.Held) != 2 || n.running(t) != "three two2" {
		t.Errorf("%s, %v, held %+v, %s runs", r.State, err, r.Held, n.running(t))
	}
}

// L11, [F8] A secret that is missing holds the environment of its container and
// nothing else, and is taken up by itself once it is there, and when it changes.
func TestL11ASecretThatAppearsIsTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		var secret []byte
		n.Agent.Keys = schema.Keys{ReadFile: func(name string) ([]byte, error) {
			if secret == nil {
				return nil, errors.New(name + ": no such file")
			}
			return secret, nil
		}}
		n.source.push(`containers: {
	app: {id: "890abcdef12345678901cdef", environment_vars: KEY: {file: "/etc/swage/secrets/key"}}
	other: {}
}`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		r := n.Report()
		if r.State != reconcile.Incomplete || len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "environment_vars.KEY: read a secret: /etc/swage/secrets/key: no such file") || !strings.Contains(r.Held[0].Why, "swage retry") || n.running(t) != "other" {
			t.Fatalf("%s: %+v; %s runs", r.State, r.Held, n.running(t))
		}
		env := func(want string) {
			t.Helper()
			synctest.Wait()
			for _, c := range n.observe(t).Containers {
				if c.Name == "app" && c.Env["KEY"] == want && n.Report().State == reconcile.Applied && len(n.Report().Held) == 0 {
					return
				}
			}
			t.Fatalf("%s %+v: %+v", n.Report().State, n.Report().Held, n.observe(t).Containers)
		}
		secret = []byte("hunter2\n")
		n.SecretsChanged()
		env("hunter2")
		secret = []byte("other\n")
		n.SecretsChanged()
		time.Sleep(10 * time.Second) // of the fake clock: a restart a moment ago is no reason
		env("other")
		// One that is lost leaves the container as it is.
		secret = nil
		n.SecretsChanged()
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Incomplete || len(r.Held) != 1 || n.running(t) != "app other" {
			t.Fatalf("%s: %+v; %s runs", r.State, r.Held, n.running(t))
		}
		secret = []byte("back\n")
		if err := n.Retry(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		env("back")
		cancel()
		<-ended
	})
}

// D14 With drift: "report" a commit changes what it changes, and nothing that
// somebody else changed.
func TestD14ACommitLeavesDriftAlone(t *testing.T) {
	n := newNode()
	n.source.settings = "drift: \"report\"\nsettle: \"0s\"\n"
	app := func(fields string) string {
		return `containers: app: {id: "890abcdef12345678901cdef", environment_vars: {A: "1", B: "1"}, ` + fields + `}`
	}
	n.source.push(app(`comment: "one"`))
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.engine.Meddle("890abcdef12345678901cdef", func(c *runtime.Container) {
		c.Env = map[string]string{"A": "by hand", "B": "1"}
		c.Resources.Memory = 1 << 30
	})
	for i, fields := range []string{`comment: "two"`, `comment: "two", resources: cpu: 2`} {
		n.source.push(app(fields))
		r, err := n.Pass(t.Context())
		if err != nil || r.State != reconcile.Applied || len(r.Drift) != 1 || !slices.Equal(r.Drift[0].Changed, []string{"environment_vars.A changed", "resources.memory unlimited → 1GiB"}) {
			t.Errorf("%s: %s, %v, drift %+v", fields, r.State, err, r.Drift)
		}
		c := n.observe(t).Containers[0]
		if c.Env["A"] != "by hand" || c.Resources.Memory != 1<<30 || c.Comment != "two" || (c.Resources.CPU == 2) != (i == 1) {
			t.Errorf("%s: %+v", fields, c)
		}
		for _, s := range r.Steps {
			if s.Effect != runtime.Live {
				t.Errorf("%s: %s is %s", fields, s.Step, s.Effect)
			}
		}
	}
	// What the commit itself changes is its own, drift or not.
	n.source.push(`containers: app: {id: "890abcdef12345678901cdef", environment_vars: {A: "2", B: "1"}, comment: "two", resources: cpu: 2}`)
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := n.observe(t).Containers[0]; c.Env["A"] != "2" || c.Resources.Memory != 1<<30 {
		t.Errorf("%+v", c)
	}
}
