package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
)

// pass pushes a commit and does one pass.
func (n *node) pass(t *testing.T, project string) reconcile.Report {
	t.Helper()
	n.source.push(project)
	r, err := n.Pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// steps are the steps of a report, each with its end.
func steps(r reconcile.Report) string {
	var out []string
	for _, s := range r.Steps {
		line := s.Step
		if s.State != reconcile.Done {
			line += ": " + string(s.State) + " " + s.Error
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func (n *node) observe(t *testing.T) runtime.Actual {
	t.Helper()
	a, err := n.engine.Open(scope).Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (n *node) id(t *testing.T, name string) runtime.ID {
	t.Helper()
	for _, c := range n.observe(t).Containers {
		if c.Name == name {
			return c.ID
		}
	}
	t.Fatalf("there is no container %s", name)
	return ""
}

var scope = runtime.Scope{Fleet: "5a6b7c8d9e0f1a2b3c4d5e6f", Server: "lab", Prefix: "swage-"}

// order records the calls of Do as they begin.
func (n *node) order() *[]string {
	var mu sync.Mutex
	var out []string
	n.engine.Fault = func(c runtime.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Method == "Do" && !c.After {
			out = append(out, strings.SplitN(c.Step.String(), " (", 2)[0])
		}
		return nil
	}
	return &out
}

// [R5] depends_on is kept: what is depended on comes first and stops last.
func TestDependenciesAreKept(t *testing.T) {
	n := newNode()
	log := n.order()
	all := `containers: {app: depends_on: ["api"], api: depends_on: ["database"], database: {}}`
	n.pass(t, all)
	want := []string{"create project web", "create container web/database", "create container web/api", "create container web/app"}
	if !slices.Equal(*log, want) {
		t.Errorf("created: %q", *log)
	}
	*log = nil
	n.pass(t, `containers: {app: {depends_on: ["api"], state: "stopped"}, api: {depends_on: ["database"], state: "stopped"}, database: state: "stopped"}`)
	want = []string{"stop container web/app", "stop container web/api", "stop container web/database"}
	if !slices.Equal(*log, want) {
		t.Errorf("stopped: %q", *log)
	}
}

// [R5] What depends on a failure waits, and says for what; nothing else does.
func TestADependentWaitsForWhatFails(t *testing.T) {
	n := newNode()
	n.engine.Fault = func(c runtime.Call) error {
		if c.Step != nil && !c.After && c.Step.Container().Name == "database" {
			return errors.New("no room")
		}
		return nil
	}
	n.source.push(`containers: {app: depends_on: ["database"], database: {}, other: {}}`)
	if _, err := n.Pass(t.Context()); err == nil || n.running(t) != "other" {
		t.Errorf("%v; %s runs", err, n.running(t))
	}
	for _, c := range n.Report().Containers {
		want := map[string]string{"app": "waiting waits for the step: create container web/database (tiny/1, running)", "database": "failed no room", "other": "running "}[c.Name]
		if got := string(c.State) + " " + c.Reason; got != want {
			t.Errorf("%s: %q, want %q", c.Name, got, want)
		}
	}
}

// serve answers on port 18080 of a container's address with the status that code
// holds.
func serve(t *testing.T, addr netip.Addr, code *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr.String(), "18080"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// [F5] An alias moved to another container switches when that one is healthy;
// the old target is deleted only then.
func TestAnAliasFollowsWhenItsTargetIsHealthy(t *testing.T) {
	n := newNode()
	var table atomic.Pointer[edge.Table]
	n.Agent.Publish = func(e reconcile.Edge) error { table.Store(e.Table); return nil }
	leads := func() string {
		d := table.Load().Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: "site.lab.example.com", Path: "/", Time: time.Now()})
		return d.Route.Addr.Addr().String()
	}
	n.source.push(`containers: blue: {}, aliases: site: {container: "blue", program: "http", port: 18080}`)
	stop := n.start(t)
	await(t, "blue runs", func() bool { return n.Report().State == reconcile.Applied })
	old := n.observe(t).Addr[n.id(t, "blue")].String()
	n.source.push(`containers: green: {
		id: "222222222222222222222222"
		health: {port: 18080, interval: "50ms"}
	}
	aliases: site: {container: "green", program: "http", port: 18080}`)
	await(t, "green is made", func() bool { return n.running(t) == "blue green" })
	var code atomic.Int64
	code.Store(500)
	serve(t, n.observe(t).Addr["222222222222222222222222"], &code)
	await(t, "the reason is told", func() bool {
		return slices.ContainsFunc(n.Report().Containers, func(c reconcile.ContainerReport) bool {
			return c.Name == "green" && c.State == reconcile.StateCreating
		})
	})
	stays := func() {
		t.Helper()
		if leads() != old || n.running(t) != "blue green" {
			t.Errorf("the alias leads to %s, not to %s; %s run", leads(), old, n.running(t))
		}
	}
	stays()
	// So it does for later passes of the same commit, and for another agent.
	n.engine.Meddle("222222222222222222222222", func(c *runtime.Container) { c.Color = "ffffff" })
	await(t, "a pass put back what was changed", func() bool {
		return slices.ContainsFunc(n.observe(t).Containers, func(c runtime.Container) bool { return c.Name == "green" && c.Color == "" })
	})
	stays()
	stop()
	n.restart()
	n.Agent.Publish = func(e reconcile.Edge) error { table.Store(e.Table); return nil }
	n.start(t)
	await(t, "the next agent waits for green", func() bool {
		return slices.ContainsFunc(n.Report().Containers, func(c reconcile.ContainerReport) bool {
			return c.Name == "green" && c.State == reconcile.StateCreating
		})
	})
	stays()
	code.Store(200)
	await(t, "green is healthy and blue gone", func() bool { return n.running(t) == "green" && n.Report().State == reconcile.Applied })
	if got := n.observe(t).Addr["222222222222222222222222"].String(); leads() != got {
		t.Errorf("the alias leads to %s, not to %s", leads(), got)
	}
}

// A health check that is never answered fails the commit with its reason, and
// a later answer mends it without a new one.
func TestHealthFailsAndRecovers(t *testing.T) {
	n := newNode()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	n.source.push(`containers: app: health: {port: 18080, interval: "50ms", deadline: "300ms"}, containers: next: depends_on: ["app"]`)
	go func() { ended <- n.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	await(t, "it fails", func() bool { return n.Report().State == reconcile.Failed })
	if r := n.Report(); !strings.Contains(r.Error, "health: web/app: ") || n.running(t) != "app" {
		t.Errorf("%s; %s runs", r.Error, n.running(t))
	}
	var code atomic.Int64
	code.Store(204)
	serve(t, n.observe(t).Addr[n.id(t, "app")], &code)
	await(t, "it recovers", func() bool { return n.Report().State == reconcile.Applied && n.running(t) == "app next" })
}

// A health check that a commit takes away is made no more, and neither its
// container nor the commit waits for it, or has failed because of it.
func TestA5HealthTakenAway(t *testing.T) {
	n := newNode()
	n.source.push(`containers: {app: health: {port: 18080, interval: "50ms", deadline: "300ms"}, other: {}}`)
	n.start(t)
	await(t, "it fails", func() bool { return n.Report().State == reconcile.Failed })
	var asked atomic.Int64
	listener, err := net.Listen("tcp", netip.AddrPortFrom(n.observe(t).Addr[n.id(t, "app")], 18080).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			conn.Close()
		}
	}()
	await(t, "it is asked", func() bool { return asked.Load() > 0 })
	n.source.push(`containers: {app: {}, other: {}}`)
	await(t, "the commit is applied", func() bool { return n.Report().State == reconcile.Applied })
	for _, c := range n.Report().Containers {
		if string(c.State) != "running" {
			t.Errorf("%s is %s: %s", c.Name, c.State, c.Reason)
		}
	}
	before := asked.Load()
	time.Sleep(500 * time.Millisecond)
	if after := asked.Load(); after > before+1 { // one may be under way
		t.Errorf("it is asked %d times more", after-before)
	}
}

// [R7] While a health check is waited for, drift is put back all the same.
func TestDriftIsPutBackWhileHealthIsWaitedFor(t *testing.T) {
	n := newNode()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	n.source.push(`containers: {app: health: {port: 18080, deadline: "1m"}, other: {}}`)
	go func() { ended <- n.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	await(t, "both run", func() bool { return n.running(t) == "app other" })
	n.engine.Meddle(n.id(t, "other"), func(c *runtime.Container) { c.Status = runtime.Stopped })
	await(t, "it is started again", func() bool { return n.running(t) == "app other" })
}

// The same drift, which is heard of while a step runs.
func TestDriftDuringAStepIsPutBackWhileHealthIsWaitedFor(t *testing.T) {
	n := newNode()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	n.engine.Fault = func(c runtime.Call) error {
		if c.Step == nil || !c.After || c.Step.Container().Name != "slow" || n.running(t) != "app other slow" {
			return nil
		}
		n.engine.Meddle(n.id(t, "other"), func(c *runtime.Container) { c.Status = runtime.Stopped })
		for range 20 { // turns of the loop, one of which hears of it
			_ = n.Approve(ctx, "none")
		}
		return nil
	}
	n.source.push(`containers: {app: health: {port: 18080, deadline: "1m"}, other: {}, slow: depends_on: ["other"]}`)
	go func() { ended <- n.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	await(t, "slow is made", func() bool { return strings.Contains(n.running(t), "slow") })
	await(t, "other is started again", func() bool { return n.running(t) == "app other slow" })
}

// [R6] Held deletions are done once a person approves them, and an approval
// counts for what it was given for only.
func TestApprove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		n.source.push(`containers: {one1: id: "111111111111111111111111", two2: id: "222222222222222222222222"}`)
		go func() { ended <- n.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		n.source.push(`project: comment: "nothing"`)
		synctest.Wait()
		r := n.Report()
		if r.State != reconcile.Incomplete || len(r.Held) != 2 || n.running(t) != "one1 two2" {
			t.Fatalf("%s, held %v, %s runs", r.State, r.Held, n.running(t))
		}
		if err := n.Approve(ctx, "abc"); err == nil || !strings.Contains(err.Error(), r.Held[0].Plan) {
			t.Errorf("another plan: %v", err)
		}
		if err := n.Approve(ctx, r.Held[0].Plan); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n.running(t) != "" || n.Report().State != reconcile.Applied {
			t.Errorf("%s runs, %s", n.running(t), n.Report().State)
		}
		if err := n.Approve(ctx, r.Held[0].Plan); err == nil {
			t.Error("nothing is held, and approved")
		}
		n.source.push(`containers: {one1: id: "111111111111111111111111", two2: id: "222222222222222222222222"}`)
		synctest.Wait()
		n.source.push(`project: comment: "again"`)
		synctest.Wait()
		if n.running(t) != "one1 two2" {
			t.Errorf("an approval counted twice: %s runs", n.running(t))
		}
	})
}

// [R3] One process works on a server; a second one refuses and names it.
func TestTheLeaseKeepsASecondAgentOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.Holder = runtime.Holder{Name: "the first"}
		n.engine.Now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		n.source.push(`containers: one1: {}`)
		first := n.Agent
		go func() { ended <- first.Run(ctx) }()
		synctest.Wait()
		time.Sleep(2 * runtime.LeaseTime)
		n.restart()
		n.Accepted = &memory{} // on another machine
		n.Holder = runtime.Holder{Name: "the second"}
		n.source.push(`containers: {one1: {}, two2: {}}`)
		var taken *runtime.Taken
		if _, err := n.Pass(t.Context()); !errors.As(err, &taken) || taken.Holder.Name != "the first" {
			t.Errorf("beside the first: %v", err)
		}
		if _, err := n.Plan(t.Context()); err != nil {
			t.Errorf("a plan needs no lease: %v", err)
		}
		cancel()
		<-ended
		if _, err := n.Pass(t.Context()); err != nil {
			t.Errorf("after the first: %v", err)
		}
	})
}

// [R3] Who waits for the lease, however long, takes it soon after its end.
func TestTheLeaseIsTakenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.engine.Now = time.Now
		n.source.push(`containers: one1: {}`)
		var ends []func()
		for _, name := range []string{"the first", "the second"} {
			n.restart()
			n.Holder = runtime.Holder{Name: name}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			agent := n.Agent
			go func() { ended <- agent.Run(ctx) }()
			ends = append(ends, func() { cancel(); <-ended })
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if r := n.Report(); r.State != reconcile.Failed || !strings.Contains(r.Error, "the first") {
			t.Errorf("beside the first: %s %s", r.State, r.Error)
		}
		ends[0]()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if r := n.Report(); r.State != reconcile.Applied {
			t.Errorf("six seconds after the first: %s %s", r.State, r.Error)
		}
		ends[1]()
	})
}

// [R7] Changes of different kinds behind swage's back are each put back at
// once; the same one again and again is not.
func TestOneDriftAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		n.source.push(`containers: app: {environment_vars: A: "1", resources: memory: "1GiB"}`)
		go func() { ended <- n.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		synctest.Wait()
		id := n.id(t, "app")
		good := n.observe(t).Containers[0]
		for name, change := range map[string]func(*runtime.Container){
			"stopped": func(c *runtime.Container) { c.Status = runtime.Stopped },
			"paused":  func(c *runtime.Container) { c.Status = runtime.Paused },
			"env":     func(c *runtime.Container) { c.Env = nil },
			"memory":  func(c *runtime.Container) { c.Resources.Memory = 1 },
		} {
			n.engine.Meddle(id, change)
			synctest.Wait()
			if got := n.observe(t).Containers[0]; !got.Same(good) {
				t.Errorf("%s: not put back at once: %v", name, runtime.Changes(good, got))
			}
		}
		writes := n.engine.Writes()
		for range 600 {
			n.engine.Meddle(id, func(c *runtime.Container) { c.Status = runtime.Stopped })
			time.Sleep(100 * time.Millisecond)
		}
		if got := n.engine.Writes() - writes - 600; got > 20 {
			t.Errorf("a container that never runs was started some %d times within a minute", got)
		}
	})
}

// [R6] What is protected keeps running under the document of the last commit
// that declared it, also for the next process; without that commit it has no
// route.
func TestWhatIsKeptKeepsItsDocument(t *testing.T) {
	n := newNode()
	var table *edge.Table
	publish := func(e reconcile.Edge) error { table = e.Table; return nil }
	n.Agent.Publish = publish
	verdict := func() string {
		p := n.observe(t).Projects[0].ID
		d := func(client string) edge.Verdict {
			return table.Decide(edge.Request{
				Client: netip.MustParseAddr(client), Host: string(p) + "-111111111111111111111111-http.lab.example.com", Path: "/", Time: time.Now(),
			}).Verdict
		}
		return fmt.Sprint(d("203.0.113.9"), " ", d("198.51.100.1"))
	}
	declared := func(office string) string {
		return `containers: {app: {
			id: "111111111111111111111111"
			protected: true
			permissions: {groups: office: {type: "ip", range: "` + office + `"}, permissions: office: http: true}
		}, other: {}}`
	}
	n.pass(t, declared("198.51.100.0/24"))
	n.pass(t, declared("203.0.113.0/24")) // leaves the container as it is
	if got := verdict(); got != "allow deny" {
		t.Fatalf("while it is declared: %s", got)
	}
	r := n.pass(t, `containers: other: {}`)
	if len(r.Held) != 1 || verdict() != "allow deny" {
		t.Errorf("held %v, %s", r.Held, verdict())
	}
	n.restart()
	n.Agent.Publish = publish
	n.pass(t, `containers: {other: {}, more: {}}`)
	if got := verdict(); got != "allow deny" {
		t.Errorf("after a restart and another commit: %s", got)
	}
	n.engine.Meddle("111111111111111111111111", func(c *runtime.Container) { c.Declared = "lost" })
	n.restart()
	n.Agent.Publish = publish
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := verdict(); got != "not found not found" {
		t.Errorf("when that commit cannot be read: %s", got)
	}
}

// [R7] With drift: "report" what was changed by hand is left alone and said;
// what a commit changes is done.
func TestDriftIsReported(t *testing.T) {
	for _, report := range []bool{false, true} {
		n := newNode()
		n.source.settings = ""
		if report {
			n.source.settings = "drift: \"report\"\nsettle: \"0s\"\n"
		}
		n.pass(t, `containers: app: environment_vars: A: "1"`)
		n.engine.Meddle(n.id(t, "app"), func(c *runtime.Container) { c.Env = map[string]string{"A": "2"} })
		r, err := n.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Drift) != 1 || !slices.Equal(r.Drift[0].Changed, []string{"environment_vars.A changed"}) {
			t.Errorf("drift %v", r.Drift)
		}
		want := map[bool]string{false: "1", true: "2"}[report]
		if got := n.observe(t).Containers[0].Env["A"]; got != want {
			t.Errorf("report %t: A is %s", report, got)
		}
		if state := n.Report().Containers[0].State; report && state != reconcile.StateDrifted {
			t.Errorf("it is %s", state)
		}
		n.pass(t, `containers: app: environment_vars: A: "3"`)
		if got := n.observe(t).Containers[0].Env["A"]; got != "3" {
			t.Errorf("report %t: after a commit A is %s", report, got)
		}
	}
}

// [R10] A container that matches takes a spare, and the pool refills.
func TestTheWarmPool(t *testing.T) {
	n := newNode()
	pool := `project: prespawn: [{container_image: "tiny/1", kit: true, count: 2}]`
	n.pass(t, pool+"\ncontainers: one1: {}")
	spares := n.observe(t).Spares
	if len(spares) != 2 {
		t.Fatalf("spares %v", spares)
	}
	r := n.pass(t, pool+"\ncontainers: {one1: {}, two2: {}, three3: bypass_prespawn: true, four4: ramdisk: false, five5: container_image: \"tiny/2\"}")
	if got := steps(r); strings.Count(got, "from the warm pool") != 1 || !strings.Contains(got, "web/two2 (tiny/1, from the warm pool)") {
		t.Errorf("%s", got)
	}
	if got := n.observe(t).Spares; len(got) != 2 {
		t.Errorf("spares after the claim: %v", got)
	}
	alone := newNode()
	alone.pass(t, pool)
	if got := alone.observe(t).Spares; len(got) != 2 {
		t.Errorf("a pool without a container: %v", got)
	}
	n.pass(t, "containers: {one1: {}, two2: {}}")
	if got := n.observe(t).Spares; len(got) != 0 {
		t.Errorf("spares that nobody asks for: %v", got)
	}
}

// [F4] copy_from: chains are ordered, an archive can be copied, and a source
// that is gone later is no error.
func TestCopies(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: {bbb1: copy_from: container: "ccc1", aaa1: copy_from: container: "bbb1", ccc1: {container_image: "tiny/2", id: "333333333333333333333333"}}`)
	if got := n.running(t); got != "aaa1 bbb1 ccc1" {
		t.Fatalf("%s runs", got)
	}
	for _, c := range n.observe(t).Containers {
		if c.Image != "tiny/2" {
			t.Errorf("%s has the image %s", c.Name, c.Image)
		}
	}
	n.engine.TakeSnapshot("333333333333333333333333", "before")
	r := n.pass(t, `containers: {bbb1: copy_from: container: "ccc1", aaa1: copy_from: container: "bbb1"}`)
	if a := n.observe(t).Archives; len(a) != 1 || len(r.Held) > 0 {
		t.Fatalf("archives %v, held %v", a, r.Held)
	}
	all := `containers: {bbb1: copy_from: container: "ccc1", aaa1: copy_from: container: "bbb1"
		ddd1: copy_from: archive: "333333333333333333333333"
		eee1: copy_from: {archive: "333333333333333333333333", snapshot: "none"}}`
	r = n.pass(t, all)
	if n.running(t) != "aaa1 bbb1 ddd1" || len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "there is no snapshot none; there are before") {
		t.Errorf("%s runs, held %v", n.running(t), r.Held)
	}
}

// [F4] copy_from: what another server has, once it is there.
func TestCopiesFromAnotherServer(t *testing.T) {
	n := newNode()
	const copied = `containers: {here: {}, copied: copy_from: {server: "there", container: "web1"}}`
	r := n.pass(t, copied)
	if len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "there is no there:web/web1") || n.running(t) != "here" {
		t.Fatalf("%s runs, held %v", n.running(t), r.Held)
	}
	there := scope
	there.Server, there.Prefix = "there", "there-"
	source := runtime.Container{ID: "333333333333333333333333", Project: "web", Name: "web1", Image: "tiny/2", Status: runtime.Stopped}
	for _, s := range []runtime.Step{runtime.CreateProject{Project: runtime.Project{Name: "web"}}, runtime.CreateContainer{New: source}} {
		if _, err := n.engine.Open(there).Do(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if r := n.pass(t, copied); !strings.Contains(steps(r), "create container web/copied (copy of there:web/web1, running)") {
		t.Errorf("steps %s", steps(r))
	}
	if n.running(t) != "copied here" || n.observe(t).Containers[0].Image != "tiny/2" {
		t.Errorf("%s runs: %+v", n.running(t), n.observe(t).Containers[0])
	}
	// The source is read at creation only.
	n.engine.Fault = func(c runtime.Call) error {
		if c.Method == "Seek" {
			return errors.New("the other server is away")
		}
		return nil
	}
	if r := n.pass(t, copied); len(r.Held) > 0 {
		t.Errorf("held %v", r.Held)
	}
}

// [F4] An instance is adopted if that changes nothing of it, else refused with
// what would change.
func TestAdopt(t *testing.T) {
	n := newNode()
	n.engine.AddForeign("default/old", runtime.Container{Image: "tiny/1", Env: map[string]string{"A": "1"}, Status: runtime.Running})
	r := n.pass(t, `containers: app: {adopt: "default/old", environment_vars: A: "2"}`)
	if len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "environment_vars.A changed, ramdisk false → true") {
		t.Fatalf("held %v", r.Held)
	}
	n.pass(t, `containers: app: {adopt: "default/old", environment_vars: A: "1", ramdisk: false, autostart: false}`)
	if n.running(t) != "app" {
		t.Errorf("%s runs: %v", n.running(t), n.Report().Held)
	}
	if r := n.pass(t, `containers: app: {adopt: "default/old", environment_vars: A: "1", ramdisk: false, autostart: false}`); len(r.Held) > 0 {
		t.Errorf("held %v", r.Held)
	}
}

// [F4] After a reboot of the host what has autostart: false rests until a
// commit changes it.
func TestAutostart(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: {app: {}, job1: autostart: false, ice1: {autostart: false, state: "paused"}}`)
	n.engine.Reboot()
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.running(t); got != "app" {
		t.Errorf("after the reboot %s runs", got)
	}
	n.pass(t, `containers: {app: {}, job1: {autostart: false, color: "#fff"}, ice1: {autostart: false, state: "paused"}}`)
	if got := n.running(t); got != "app job1" {
		t.Errorf("after a commit %s runs", got)
	}
}

// [F3] Containers that are kept count against max_containers.
func TestQuota(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: {one1: {id: "111111111111111111111111", protected: true}, two2: id: "222222222222222222222222"}`)
	r := n.pass(t, `project: max_containers: 2, containers: {two2: id: "222222222222222222222222", three3: id: "333333333333333333333333"}`)
	if n.running(t) != "one1 two2" || len(r.Held) != 2 {
		t.Errorf("%s runs, held %v", n.running(t), r.Held)
	}
}

// The journal tells what happened, in order, to who comes late, too.
func TestEvents(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: app: {}`)
	events, news := n.Events(0)
	var got []string
	for _, e := range events {
		got = append(got, e.Type+" "+e.Text)
	}
	want := []string{"commit.accepted accepted", "step.done create project web", "step.done create container web/app (tiny/1, running)", "commit.ended applied"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	n.pass(t, `containers: {app: {}, more: {}}`)
	<-news
	if more, _ := n.Events(events[len(events)-1].ID); len(more) != 3 {
		t.Errorf("then %+v", more)
	}
}

// [R8] While Incus was never reached the edge says so with 503, and no step is
// done; beside another agent nothing is served.
func TestBeforeAnythingWasSeen(t *testing.T) {
	n := newNode()
	var tables []*edge.Table
	n.Agent.Publish = func(e reconcile.Edge) error { tables = append(tables, e.Table); return nil }
	away := errors.New("connection refused")
	n.Agent.Open = func(runtime.Scope) (runtime.Runtime, error) { return nil, away }
	n.source.push(`containers: app: {}, aliases: site: {container: "app", program: "http"}`)
	if _, err := n.Pass(t.Context()); !errors.Is(err, away) {
		t.Errorf("the error is %v", err)
	}
	if len(tables) != 1 || n.engine.Writes() != 0 {
		t.Fatalf("%d tables, %d writes", len(tables), n.engine.Writes())
	}
	d := tables[0].Decide(edge.Request{Client: netip.MustParseAddr("203.0.113.9"), Host: "site.lab.example.com", Path: "/", Time: time.Now()})
	if d.Verdict != edge.Unavailable {
		t.Errorf("it answers %s (%s)", d.Verdict, d.Why)
	}
	n.Agent.Open = func(runtime.Scope) (runtime.Runtime, error) { return nil, &runtime.Taken{} }
	if _, err := n.Pass(t.Context()); err == nil || len(tables) != 1 {
		t.Errorf("beside another agent: %v, %d tables", err, len(tables))
	}
}

// [R11] A clock that nobody keeps right is warned of.
func TestTheClockIsWarnedOf(t *testing.T) {
	n := newNode()
	n.Unsynchronised = func() bool { return true }
	n.pass(t, `containers: app: {}`)
	if w := n.Report().Warnings; len(w) != 1 || !strings.Contains(w[0], "clock") {
		t.Errorf("warnings %q", w)
	}
}
