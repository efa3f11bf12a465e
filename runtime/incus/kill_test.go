package incus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// dying stands between a Runtime and its Incus. It lets a number of requests
// that change something through, and then none at all, as if the process had
// been killed: before the next one, or before its answer.
type dying struct {
	mu    sync.Mutex
	left  int
	heard bool // the last request still reaches Incus
	dead  bool
}

// pass reports whether a request reaches Incus, and whether its answer comes
// back.
func (d *dying) pass(req *http.Request) (there, back bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.dead:
		return false, false
	case req.Method == http.MethodGet && !strings.HasSuffix(req.URL.Path, "/sftp"):
		return true, true
	case d.left > 0:
		d.left--
		return true, true
	}
	d.dead = true
	return d.heard, false
}

func (d *dying) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// front is a socket at which d stands.
func front(t *testing.T, d *dying) string {
	t.Helper()
	behind := socket(t)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", behind)
	}}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "unix.socket"}) },
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Context().Value(deaf{}) != nil {
				return errors.New("nobody listens")
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		there, back := d.pass(req)
		if !there {
			panic(http.ErrAbortHandler)
		}
		if !back {
			// It is sent to its end, whatever becomes of who asked.
			req = req.WithContext(context.WithValue(context.WithoutCancel(req.Context()), deaf{}, true))
		}
		proxy.ServeHTTP(w, req)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
		<-ended
	})
	return path
}

type deaf struct{}

// world is what a test of a step has made: the step, and how all must look
// when it was done.
type world struct {
	step  runtime.Step
	check func(t *testing.T, rt *Runtime, a runtime.Actual)
}

// TestAKilledProcessLeavesNothingBehind kills the process before and after
// each request of a step that changes something. Another one then observes and
// does what a plan would ask for, until it asks for nothing.
func TestAKilledProcessLeavesNothingBehind(t *testing.T) {
	socket(t)
	for _, c := range []struct {
		name string
		make func(t *testing.T, rt *Runtime) world
	}{
		{"copy", aCopy},
		{"archive", anArchive},
		{"restore", aRestore},
		{"claim", aClaim},
		{"spare", aSpare},
		{"adopt", anAdoption},
		{"create", aCreation},
		{"update", anUpdate},
		{"move", aMove},
		{"delete", aDeletion},
	} {
		for _, heard := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, heard %t", c.name, heard), func(t *testing.T) {
				// Every third one where time is short.
				stride := 3
				if os.Getenv("SWAGE_SOAK") != "" {
					stride = 1
				}
				requests := 0
				for ; requests < 30; requests += stride {
					if !killedAfter(t, requests, heard, c.make) {
						break
					}
				}
				if requests == 0 || requests >= 30 {
					t.Errorf("it was killed %d times", requests)
				}
				t.Logf("killed up to request %d", requests)
			})
		}
	}
}

// killedAfter reports whether the step was cut short.
func killedAfter(t *testing.T, requests int, heard bool, prepare func(*testing.T, *Runtime) world) bool {
	t.Helper()
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: ramdisks()}
	scope.Prefix = "k" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	defer clean(t, rt)
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	w := prepare(t, rt)

	d := &dying{left: requests, heard: heard}
	killed, err := Open(front(t, d), scope)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := killed.Observe(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = killed.Do(ctx, w.step)
	if err != nil && !d.isDead() {
		t.Fatal(err)
	}
	for {
		next, err := Open(socket(t), scope)
		if err != nil {
			t.Fatal(err)
		}
		a, err := next.Observe(ctx)
		if err != nil {
			t.Fatalf("after %d requests: %v", requests, err)
		}
		steps := planned(w.step, a)
		if len(steps) == 0 {
			w.check(t, next, a)
			break
		}
		for _, s := range steps {
			if _, err := next.Do(ctx, s); err != nil {
				t.Fatalf("after %d requests: %v", requests, err)
			}
		}
	}
	if t.Failed() {
		t.Logf("killed after %d requests", requests)
	}
	return d.isDead()
}

// planned is what a plan would ask for where step was wanted.
func planned(step runtime.Step, a runtime.Actual) (steps []runtime.Step) {
	want := step.Container()
	i := slices.IndexFunc(a.Containers, func(c runtime.Container) bool { return c.ID == want.ID })
	for _, s := range a.Spares {
		if s.Image == "" {
			steps = append(steps, runtime.DeleteSpare{Spare: s})
		}
	}
	switch s := step.(type) {
	case runtime.DeleteContainer:
		if i >= 0 {
			s.Target = a.Containers[i]
			steps = append(steps, s)
		}
	case runtime.CreateSpare:
		if len(a.Spares) == 0 {
			steps = append(steps, s)
		}
	default:
		switch {
		case i < 0:
			steps = append(steps, step)
		case a.Containers[i].Project != want.Project:
			steps = append(steps, runtime.MoveContainer{From: a.Containers[i], To: want})
		case a.Containers[i].Status != want.Status && want.Status == runtime.Running:
			steps = append(steps, runtime.StartContainer{Target: want})
		case a.Containers[i].Status != want.Status && want.Status == runtime.Stopped:
			steps = append(steps, runtime.StopContainer{Target: want})
		case len(runtime.Changes(a.Containers[i], want)) > 0:
			steps = append(steps, runtime.UpdateContainer{From: a.Containers[i], To: want})
		}
	}
	return steps
}

func must(t *testing.T, rt *Runtime, s runtime.Step) runtime.Done {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := rt.Do(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func clean(t *testing.T, rt *Runtime) {
	t.Helper()
	for range 2 { // what has snapshots is an archive after the first
		a, err := rt.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range a.Containers {
			must(t, rt, runtime.DeleteContainer{Target: c})
		}
		for _, s := range a.Spares {
			must(t, rt, runtime.DeleteSpare{Spare: s})
		}
		for _, s := range a.Archives {
			must(t, rt, runtime.DeleteArchive{Archive: s})
		}
	}
	a, err := rt.Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Projects { // only empty ones can be
		must(t, rt, runtime.DeleteProject{Project: p})
	}
}

// inhabited is a container with something in every place that a step must mind.
func inhabited(name string, status runtime.Status) runtime.Container {
	return runtime.Container{
		ID: runtime.NewID(), Project: "web", Name: name, Image: "tiny/1", Kit: true, Status: status, Asked: status,
		Env:     map[string]string{"OF": name},
		Keys:    []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA " + name},
		Ramdisk: true, Autostart: true, Color: "fff", Comment: "of " + name, Commit: "c1",
	}
}

// reboot is what a restart of the host does to a ramdisk.
func reboot(t *testing.T, rt *Runtime, id runtime.ID) {
	t.Helper()
	if err := rt.unmountRamdisk(id); err != nil {
		t.Fatal(err)
	}
}

func aCopy(t *testing.T, rt *Runtime) world {
	from := inhabited("source", runtime.Stopped)
	must(t, rt, runtime.CreateContainer{New: from})
	put(t, rt, from.ID, "/etc/data", "precious")
	to := inhabited("copy", runtime.Stopped)
	to.Ramdisk = false
	reboot(t, rt, from.ID)
	return world{runtime.CopyContainer{New: to, From: from.ID}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		only(t, a, from, to)
		holds(t, rt, to.ID, "/etc/data", "precious")
		holds(t, rt, to.ID, keysFile, to.Keys[0]+"\n")
		holds(t, rt, from.ID, keysFile, from.Keys[0]+"\n")
	}}
}

func anArchive(t *testing.T, rt *Runtime) world {
	c := inhabited("old", runtime.Stopped)
	c.Snapshots = runtime.Schedule{Cron: "@yearly", Days: 3}
	must(t, rt, runtime.CreateContainer{New: c})
	put(t, rt, c.ID, "/etc/data", "kept")
	snapshot(t, rt.scope, c.ID, "one")
	put(t, rt, c.ID, "/etc/data", "kept until the end")
	reboot(t, rt, c.ID)
	return world{runtime.DeleteContainer{Target: c, Archives: true, Keep: time.Hour}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		only(t, a)
		if len(a.Archives) != 1 || !cmp.Equal(a.Archives[0], runtime.Archive{ID: c.ID, Project: "web", Name: "old", Image: "tiny/1", Kit: true, Until: a.Archives[0].Until}, runtimetest.Equal) ||
			time.Until(a.Archives[0].Until) < 50*time.Minute {
			t.Errorf("archives %+v", a.Archives)
		}
		if s := a.Snapshots[c.ID]; len(s) != 1 || s[0].Name != "one" || !s[0].Expires.IsZero() {
			t.Errorf("snapshots %+v", s)
		}
		holds(t, rt, c.ID, "/etc/data", "kept until the end")
		holds(t, rt, c.ID, keysFile, "")
		in, _, err := rt.seek(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		for k := range in.Config {
			if strings.HasPrefix(k, envPrefix) || strings.HasPrefix(k, "snapshots.") || k == keyKeys || k == rawLXC || strings.HasPrefix(k, "volatile.eth0") {
				t.Errorf("the archive has %s", k)
			}
		}
		if len(in.Devices) != 1 || in.Devices[root] == nil {
			t.Errorf("the archive has %v", in.Devices)
		}
	}}
}

func aRestore(t *testing.T, rt *Runtime) world {
	c := inhabited("old", runtime.Running)
	must(t, rt, runtime.CreateContainer{New: c})
	put(t, rt, c.ID, "/etc/data", "kept")
	must(t, rt, runtime.DeleteContainer{Target: c, Archives: true, Keep: time.Hour})
	return world{runtime.RestoreContainer{New: c}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		only(t, a, c)
		if len(a.Archives) != 0 {
			t.Errorf("archives %+v", a.Archives)
		}
		holds(t, rt, c.ID, "/etc/data", "kept")
		holds(t, rt, c.ID, keysFile, c.Keys[0]+"\n")
	}}
}

func aClaim(t *testing.T, rt *Runtime) world {
	spare := must(t, rt, runtime.CreateSpare{Spare: runtime.Spare{Project: "web", Image: "tiny/1", Kit: true}}).Spare
	c := inhabited("new", runtime.Running)
	began := start(t, rt.scope, spare.ID)
	return world{runtime.ClaimContainer{New: c, Spare: spare}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		only(t, a, c)
		if len(a.Spares) != 0 {
			t.Errorf("spares %v", a.Spares)
		}
		holds(t, rt, c.ID, keysFile, c.Keys[0]+"\n")
		if now := start(t, rt.scope, c.ID); now != began {
			t.Errorf("it was started again: %s, then %s", began, now)
		}
	}}
}

func aSpare(t *testing.T, rt *Runtime) world {
	spare := runtime.Spare{Project: "web", Image: "tiny/1"}
	return world{runtime.CreateSpare{Spare: spare}, func(t *testing.T, rt *Runtime, a runtime.Actual) {
		only(t, a)
		if len(a.Spares) != 1 || a.Spares[0].Kind() != spare {
			t.Errorf("spares %v", a.Spares)
		}
	}}
}

func anAdoption(t *testing.T, rt *Runtime) world {
	instance := foreign(t, rt.scope)
	found, err := rt.Inspect(t.Context(), instance)
	if err != nil {
		t.Fatal(err)
	}
	c := inhabited("taken", runtime.Running)
	step := runtime.AdoptContainer{New: c, Instance: instance}
	step.New = step.Adopted(found)
	return world{step, func(t *testing.T, rt *Runtime, a runtime.Actual) { only(t, a, step.New) }}
}

// only holds what is observed to these containers, and Incus to no instance
// besides in our project.
func only(t *testing.T, a runtime.Actual, want ...runtime.Container) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(a.Containers, func(c runtime.Container) bool { return c.ID == w.ID && c.Same(w) }) {
			t.Errorf("there is no %+v among %+v", w, a.Containers)
		}
	}
	if len(a.Containers) != len(want) {
		t.Errorf("there are %d containers, not %d", len(a.Containers), len(want))
	}
}

func put(t *testing.T, rt *Runtime, id runtime.ID, path, text string) {
	t.Helper()
	in, _, err := rt.seek(t.Context(), id)
	if err == nil {
		err = rt.writeFile(t.Context(), located(in), path, "0644", text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, rt *Runtime, id runtime.ID, path, want string) {
	t.Helper()
	in, _, err := rt.seek(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rt.readFile(t.Context(), located(in), path); err != nil || got != want {
		t.Errorf("%s in %s holds %q, want %q (%v)", path, in.Name, got, want, err)
	}
}
