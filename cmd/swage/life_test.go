package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"swage/reconcile"
	"swage/reconcile/api"
	"swage/runtime"
)

// The life of containers on a real Incus, with everything that can go wrong
// around it.

// plan is what is left to do for the work tree: nothing, once it is applied.
func (s *site) plan() string {
	s.Helper()
	var out, errs bytes.Buffer
	code := run(s.Context(), []string{
		"plan", "--server", "lab", "--incus-socket", s.incusSocket(), "--state-dir", s.path("state"), s.path("work"),
	}, &out, &errs, openIncus)
	if code != 0 && code != int(exitHeld) {
		s.Fatalf("plan: exit code %d\n%s", code, errs.String())
	}
	return out.String()
}

// converged fails the test if the plan is not empty.
func (s *site) converged() {
	s.Helper()
	if got := s.plan(); got != "no changes\n" {
		s.Errorf("the plan is not empty:\n%s", got)
	}
}

// stepsLogged counts the steps that the agents of the site have ended.
func (s *site) stepsLogged() int {
	s.Helper()
	log, err := os.ReadFile(s.path("agent.log"))
	if err != nil {
		s.Fatal(err)
	}
	return bytes.Count(log, []byte(" msg=step "))
}

// named is the container of a name, as Incus shows it.
func (s *site) named(name string) instance {
	s.Helper()
	for _, i := range s.allInstances() {
		if i.Config["user.swage.name"] == name && i.Config["user.swage.role"] == "" {
			return i
		}
	}
	s.Fatalf("Incus has no container %s", name)
	return instance{}
}

// container is what status tells of a container.
func (s *site) container(name string) reconcile.ContainerReport {
	s.Helper()
	for _, c := range s.status().Containers {
		if c.Name == name {
			return c
		}
	}
	return reconcile.ContainerReport{}
}

// on runs an incus command on a container.
func (s *site) on(c instance, command ...string) string {
	s.Helper()
	at := slices.Index(command, "%")
	command[at] = c.Name
	return s.incus(append([]string{"--project", c.Project}, command...)...)
}

// answers is a condition: the alias answers 200 with the text.
func (s *site) answers(alias, text string) func() bool {
	return func() bool {
		status, body := s.get(alias)
		return status == 200 && strings.Contains(body, text)
	}
}

// swage runs the program beside the agent, inside the lab.
func (s *site) swage(args ...string) (string, error) {
	s.Helper()
	bin, err := programs()
	if err != nil {
		s.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "lab"), append([]string{"exec", "--dir", s.lab, "--", filepath.Join(bin, "swage")}, args...)...)
	cmd.Env = append(os.Environ(), "INCUS_SOCKET="+s.incusSocket())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// inLab runs a command as root where the daemon is.
func (s *site) inLab(args ...string) string {
	s.Helper()
	bin, err := programs()
	if err != nil {
		s.Fatal(err)
	}
	return s.command(filepath.Join(bin, "lab"), append([]string{"exec", "--dir", s.lab, "--"}, args...)...)
}

// generations is a fleet that changes in every way from one generation to the
// next: each has a creation, a claim, a copy, changes with and without a
// restart, a rename, a move, a stop or a start, a pause or a resume, and
// deletions of what the one before had, one of them with a snapshot.
type generations struct {
	ids      map[string]runtime.ID
	archives map[runtime.ID]bool // that must be there: of what had a snapshot when it went
}

// keep has a container that goes with the next generation leave an archive.
func (g *generations) keep(s *site, n int) {
	s.Helper()
	c := s.named(fmt.Sprintf("kept-%d", n))
	s.on(c, "snapshot", "create", "%", "one")
	id := runtime.ID(c.Config["user.swage.id"])
	s.eventually("the snapshot is known", func() bool {
		return slices.ContainsFunc(s.status().Snapshots, func(x reconcile.SnapshotReport) bool { return x.ID == id })
	})
	if g.archives == nil {
		g.archives = map[runtime.ID]bool{}
	}
	g.archives[id] = true
}

func (g *generations) id(name string) runtime.ID {
	if g.ids == nil {
		g.ids = map[string]runtime.ID{}
	}
	if g.ids[name] == "" {
		g.ids[name] = runtime.NewID()
	}
	return g.ids[name]
}

// of is the wanted state of a generation: "project/name status" by ID.
func (g *generations) of(n int) map[runtime.ID]string {
	want := map[runtime.ID]string{}
	add := func(project, name, key, status string) { want[g.id(key)] = project + "/" + name + " " + status }
	odd := n%2 == 1
	choose := func(even, odds string) string {
		if odd {
			return odds
		}
		return even
	}
	for _, name := range []string{"live", "restarted", "source"} {
		add("web", name, name, "Running")
	}
	add("web", choose("before", "after"), "renamed", "Running")
	add(choose("web", "other"), "moved", "moved", "Running")
	add("web", "halted", "halted", choose("Running", "Stopped"))
	add("web", "paused", "paused", choose("Running", "Frozen"))
	for _, name := range []string{"made", "kept", "copied", "claimed"} {
		name = fmt.Sprintf("%s-%d", name, n)
		add("web", name, name, "Running")
	}
	return want
}

// write puts a generation into the work tree.
func (g *generations) write(s *site, n int) {
	s.Helper()
	files := map[string]string{"web": "project: prespawn: [{count: 1}]\n", "other": ""}
	states := map[string]string{"Stopped": "stopped", "Frozen": "paused", "Running": "running"}
	want := g.of(n)
	for _, id := range slices.Sorted(maps.Keys(want)) {
		ref, status, _ := strings.Cut(want[id], " ")
		project, name, _ := strings.Cut(ref, "/")
		extra := fmt.Sprintf(", state: %q", states[status])
		kind, _, _ := strings.Cut(name, "-")
		switch kind {
		case "live":
			extra += fmt.Sprintf(", comment: \"generation %d\"", n)
		case "restarted":
			extra += fmt.Sprintf(", environment_vars: GENERATION: \"%d\"", n)
		case "copied":
			extra += ", copy_from: container: \"source\""
		case "claimed":
		default:
			extra += ", bypass_prespawn: true"
		}
		files[project] += fmt.Sprintf("containers: %q: {id: %q%s}\n", name, id, extra)
	}
	for project, text := range files {
		name := "projects/" + project + "/all.cue"
		if _, err := os.Stat(filepath.Join(s.path("work"), name)); text != "" || err == nil {
			s.write(name, text)
		}
	}
}

// check compares all that carries the mark with a generation, and all that is
// kept of those before it.
func (g *generations) check(s *site, n int) {
	s.Helper()
	want := g.of(n)
	archives := maps.Clone(g.archives)
	deleted := map[runtime.ID]bool{} // what the generations before declared
	for before := range n {
		for id := range g.of(before) {
			_, wanted := want[id]
			deleted[id] = !wanted
		}
	}
	spares := 0
	ramdisks := map[string]bool{}
	for _, i := range s.allInstances() {
		id := runtime.ID(i.Config["user.swage.id"])
		switch i.Config["user.swage.role"] {
		case "spare":
			spares++
			if i.Status != "Running" {
				s.Errorf("the spare %s is %s", i.Name, i.Status)
			}
			continue
		case "archive":
			if !deleted[id] {
				s.Errorf("the archive %s is not wanted, or is there twice", i.Name)
			}
			delete(archives, id)
			delete(deleted, id)
			continue
		}
		ramdisks[string(id)] = true
		if i.Config["user.swage.name"] == "rock" { // which no generation changes
			continue
		}
		got := i.Config["user.swage.project"] + "/" + i.Config["user.swage.name"] + " " + i.Status
		if want[id] != got {
			s.Errorf("%s (%s): %q, want %q", i.Name, id, got, want[id])
		}
		delete(want, id)
	}
	if len(want) > 0 || len(archives) > 0 || spares != 1 {
		s.Errorf("missing: %v, archives of %v; %d spares", want, archives, spares)
	}
	for _, dir := range strings.Fields(s.inLab("ls", s.path("state/ramdisks"))) {
		if !ramdisks[dir] {
			s.Errorf("the ramdisk %s belongs to nothing", dir)
		}
		delete(ramdisks, dir)
	}
	if len(ramdisks) > 0 {
		s.Errorf("no ramdisk for %v", ramdisks)
	}
}

// TestKilledAtEachStep [R8]: the agent is killed when so many steps have ended,
// and a moment later; the next one ends what it began.
func TestKilledAtEachStep(t *testing.T) {
	s := newSite(t)
	var g generations
	s.start()
	g.write(s, 0)
	s.settled(s.push())
	g.check(s, 0)
	random := rand.New(rand.NewPCG(1, 2))
	const steps = 17 // of a generation
	var boundaries []int
	for k := range steps {
		boundaries = append(boundaries, k)
	}
	if os.Getenv("SWAGE_SOAK") == "" {
		random.Shuffle(steps, func(i, j int) { boundaries[i], boundaries[j] = boundaries[j], boundaries[i] })
		boundaries = boundaries[:4]
	}
	for i, k := range boundaries {
		n := i + 1
		g.keep(s, i)
		g.write(s, n)
		before := s.stepsLogged()
		commit := s.push()
		s.eventually(fmt.Sprintf("%d steps have ended", k), func() bool { return s.stepsLogged() >= before+k })
		late := time.Duration(random.IntN(100)) * time.Millisecond
		time.Sleep(late) // into the middle of the next
		s.stop(syscall.SIGKILL)
		began := time.Now()
		s.start()
		s.settled(commit)
		t.Logf("killed %v after step %d, converged in %v", late, k, time.Since(began).Round(time.Millisecond))
		g.check(s, n)
		s.converged()
		if t.Failed() {
			t.Fatalf("killed %v after step %d of generation %d", late, k, n)
		}
	}
}

// TestDriftIsPutBackAtOnce [R7]: what is changed with the incus command is as
// it was about a second later, and with drift: "report" is only told.
func TestDriftIsPutBackAtOnce(t *testing.T) {
	s := newSite(t)
	const app = `containers: app: {id: "111111111111111111111111", environment_vars: A: "1", resources: memory: "256MiB"}
aliases: app: container: "app"
`
	s.write("projects/web/app.cue", app)
	s.start()
	s.settled(s.push())
	s.eventually("it answers", s.answers("app", `"A":"1"`))
	is := func(key, value string) func() bool {
		return func() bool { return s.named("app").Config[key] == value }
	}
	runs := func() bool { return s.named("app").Status == "Running" }
	for _, c := range []struct {
		name    string
		command []string // % is the instance
		mended  func() bool
	}{
		{"stopped", []string{"stop", "%", "--force"}, runs},
		{"paused", []string{"pause", "%"}, runs},
		{"another environment", []string{"config", "set", "%", "environment.A=2"}, is("environment.A", "1")},
		{"another limit", []string{"config", "set", "%", "limits.memory=1GiB"}, is("limits.memory", "268435456")},
		{"no ramdisk", []string{"config", "device", "remove", "%", "ramdisk"}, func() bool {
			return strings.Contains(s.on(s.named("app"), "config", "device", "show", "%"), "path: /ramdisk")
		}},
		{"deleted", []string{"delete", "%", "--force"}, func() bool {
			return len(s.instances()) == 1 && runs()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.on(s.named("app"), c.command...)
			changed := time.Now()
			s.eventually(c.name+" is mended", c.mended)
			s.eventually("it answers as before", s.answers("app", `"A":"1"`))
			took := time.Since(changed)
			t.Logf("put back after %v", took.Round(time.Millisecond))
			if took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			s.eventually("all is applied", func() bool { return s.status().State == reconcile.Applied })
			s.eventually("the plan is empty", func() bool { return s.plan() == "no changes\n" })
		})
	}
	if id := s.named("app").Config["user.swage.id"]; id != "111111111111111111111111" {
		t.Errorf("the id is now %s", id)
	}

	t.Run("renamed", func(t *testing.T) { // which is as good a name as any
		s.on(s.named("app"), "stop", "%", "--force")
		s.eventually("it runs again", runs)
		s.write("projects/web/app.cue", strings.Replace(app, "environment", `state: "stopped", environment`, 1))
		s.settled(s.push())
		s.on(s.named("app"), "rename", "%", "by-hand")
		s.write("projects/web/app.cue", app)
		s.settled(s.push())
		s.eventually("it answers under its URL", s.answers("app", `"A":"1"`))
		if got := s.instances(); len(got) != 1 {
			t.Errorf("%d instances", len(got))
		}
		s.converged()
	})

	t.Run("reported", func(t *testing.T) {
		fleet, err := os.ReadFile(filepath.Join(s.path("work"), "swage.cue"))
		if err != nil {
			t.Fatal(err)
		}
		s.write("swage.cue", string(fleet)+"drift: \"report\"\n")
		s.settled(s.push())
		s.on(s.named("app"), "config", "set", "%", "environment.A=2")
		changed := time.Now()
		s.eventually("it is drifted", func() bool {
			c := s.container("app")
			return c.State == reconcile.StateDrifted && c.Reason == "environment_vars.A changed"
		})
		t.Logf("reported after %v", time.Since(changed).Round(time.Millisecond))
		if out, _ := s.swage("status", "--socket", s.path("sock")); !strings.Contains(out, "drift: web/app was changed behind swage's back: environment_vars.A changed") {
			t.Errorf("status:\n%s", out)
		}
		if is("environment.A", "1")() {
			t.Error("it was put back")
		}
		s.write("swage.cue", string(fleet))
		s.settled(s.push())
		s.eventually("it is put back once that is asked for", is("environment.A", "1"))
	})
}

// TestOneAtATime [R3]: beside an agent another, and apply, refuse and name it;
// when it is killed the next is at work at once.
func TestOneAtATime(t *testing.T) {
	s := newSite(t)
	s.start()
	s.write("projects/web/app.cue", "containers: app: {}\n")
	s.settled(s.push())
	holder := fmt.Sprintf("another process works on this server: the agent, process %d", s.agent.Process.Pid)

	if out, err := s.swage("apply", "--server", "lab", "--state-dir", s.path("state"), s.path("work")); err == nil || !strings.Contains(out, holder) {
		t.Errorf("apply: %v\n%s", err, out)
	}
	if out, err := s.swage("agent", "--config", s.path("agent.cue")); err == nil || !strings.Contains(out, s.path("sock")) {
		t.Errorf("an agent at the same socket: %v\n%s", err, out)
	}
	// Another folder, another socket: only the lease tells.
	second := &site{TB: t, lab: s.lab, dir: s.path("second"), scope: s.scope, port: freePort(t)}
	if err := os.Mkdir(second.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	node, err := os.ReadFile(s.path("agent.cue"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(node), s.path("state"), second.path("state")), s.path("sock"), second.path("sock"))
	if err := os.WriteFile(second.path("agent.cue"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	second.start()
	defer func() { second.stop(os.Interrupt) }()
	s.eventually("the second says who is at work", func() bool {
		r := second.status()
		return r.State == reconcile.Failed && strings.Contains(r.Error, holder)
	})
	s.write("projects/web/more.cue", "containers: more: {}\n")
	s.settled(s.push())

	s.stop(syscall.SIGKILL)
	killed := time.Now()
	s.eventually("the second is at work", func() bool { return second.status().State == reconcile.Applied })
	t.Logf("a waiting agent took over after %v", time.Since(killed).Round(time.Millisecond))
	if took := time.Since(killed); took > 20*time.Second {
		t.Errorf("a waiting agent took over after %v", took)
	}
	second.stop(syscall.SIGKILL)
	killed = time.Now()
	s.start()
	s.eventually("a new agent is at work", func() bool { return s.status().State == reconcile.Applied })
	t.Logf("a new agent was at work %v after the kill", time.Since(killed).Round(time.Millisecond))
	s.converged()
	if got := s.instances(); len(got) != 2 {
		t.Errorf("%d instances, want two", len(got))
	}
}

// TestApprovals [R6]: deletions that are held wait for a person, who approves
// with the program or in a commit.
func TestApprovals(t *testing.T) {
	s := newSite(t)
	s.start()
	fleet, err := os.ReadFile(filepath.Join(s.path("work"), "swage.cue"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("swage.cue", strings.Replace(string(fleet), "max: 20", "max: 1", 1))
	const three = "containers: {one1: {}, two2: {}, three3: {}}\naliases: one: container: \"one1\"\n"
	s.write("projects/web/app.cue", three)
	s.settled(s.push())
	s.eventually("it answers", s.answers("one", "one1"))
	held := func(commit string) *reconcile.Report {
		t.Helper()
		var r *reconcile.Report
		s.eventually("the deletions are held", func() bool {
			r = s.status()
			return r.Commit == commit && r.State == reconcile.Incomplete
		})
		return r
	}

	// With an id four4 is no new name of what goes.
	s.write("projects/web/app.cue", fmt.Sprintf("containers: {three3: {}, four4: id: %q}\n", runtime.NewID()))
	r := held(s.push())
	if len(r.Held) != 2 || r.Held[0].Plan == "" || s.named("four4").Status != "Running" {
		t.Fatalf("held %+v", r.Held)
	}
	if out, err := s.swage("status", "--socket", s.path("sock")); err == nil || !strings.Contains(out, "swage approve "+r.Held[0].Plan) {
		t.Errorf("status: %v\n%s", err, out)
	}
	if c := s.container("one1"); c.State != reconcile.StateHeld || c.Status != runtime.Running || len(c.URLs) == 0 {
		t.Errorf("what is held: %+v", c)
	}
	if out, err := s.swage("approve", "--socket", s.path("sock"), "000000000000"); err == nil || !strings.Contains(out, r.Held[0].Plan) {
		t.Errorf("approve of another plan: %v\n%s", err, out)
	}
	s.stop(syscall.SIGKILL) // what is held stays held
	s.start()
	held(r.Commit)
	if out, err := s.swage("approve", "--socket", s.path("sock"), r.Held[0].Plan); err != nil {
		t.Fatalf("approve: %v\n%s", err, out)
	}
	s.settled(r.Commit)
	if got := s.instances(); len(got) != 2 {
		t.Errorf("%d instances, want two", len(got))
	}
	s.converged()

	// By a trailer: one is not enough for two, two are. It counts for its own
	// commit alone.
	push := func(trailer string, how ...string) string {
		s.git("add", "--all")
		s.git(append([]string{"commit", "--quiet", "--allow-empty", "--message=change\n\n" + trailer}, how...)...)
		s.git("push", "--quiet", "--force", "origin", "main")
		return strings.TrimSpace(s.git("rev-parse", "HEAD"))
	}
	s.write("projects/web/app.cue", fmt.Sprintf("containers: five5: id: %q\n", runtime.NewID()))
	held(push("Swage-Allow-Delete: 1"))
	held(push("Swage-Allow-Delete: 2"))
	s.git("reset", "--quiet", "--soft", "HEAD^")
	s.settled(push("Swage-Allow-Delete: 2", "--amend"))
	if got := s.instances(); len(got) != 1 || got[0].Config["user.swage.name"] != "five5" {
		t.Errorf("instances %v", got)
	}
}

// TestHealth [R9] [F5]: what is not healthy yet is not deployed, and an alias
// stays with what it led to.
func TestHealth(t *testing.T) {
	s := newSite(t)
	s.start()
	s.write("projects/web/app.cue", "containers: blue: {}\naliases: site: container: \"blue\"\n")
	s.settled(s.push())
	s.eventually("blue answers", s.answers("site", `"hostname":"blue"`))

	s.write("projects/web/app.cue", `containers: {
	blue: {}
	green: {id: "222222222222222222222222", environment_vars: PORT: "80", health: {port: 8081, path: "/ready", interval: "100ms", healthy_after: 2}}
	after: {id: "333333333333333333333333", depends_on: ["green"]}
}
aliases: site: container: "green"
`)
	commit := s.push()
	s.eventually("green waits for its check", func() bool {
		c := s.container("green")
		return c.State == reconcile.StateCreating && strings.Contains(c.Reason, "health check") && c.Status == runtime.Running
	})
	s.eventually("after waits for green", func() bool { return s.container("after").State == reconcile.StateWaiting })
	if r := s.status(); r.State != reconcile.Applying && r.State != reconcile.Interrupted || r.Commit != commit {
		t.Errorf("the commit %s is %s", r.Commit, r.State)
	}
	if !s.answers("site", `"hostname":"blue"`)() {
		t.Error("the alias left blue before green was healthy")
	}
	s.stop(syscall.SIGKILL)
	s.start()
	s.eventually("the next agent waits, too", func() bool { return s.container("green").State == reconcile.StateCreating })
	s.eventually("the alias stays with blue", s.answers("site", `"hostname":"blue"`))

	green := s.named("green")
	server := exec.Command("incus", "--project", green.Project, "exec", green.Name, "--env", "PORT=8081", "--", "/sbin/init")
	server.Env = append(os.Environ(), "INCUS_DIR="+s.labEnv("INCUS_DIR"), "INCUS_CONF="+s.path("client"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	s.settled(commit)
	s.eventually("the alias has moved", s.answers("site", `"hostname":"green"`))
	if c := s.container("after"); c.State != reconcile.StateRunning {
		t.Errorf("after is %s: %s", c.State, c.Reason)
	}
}

// TestAdopted [F4]: an instance that was made by hand is taken over as it is,
// or not at all.
func TestAdopted(t *testing.T) {
	s := newSite(t)
	s.start()
	name := "by-hand-" + string(s.scope.Fleet[:6])
	s.incus("launch", "--quiet", "tiny/1", name, "--config", "environment.A=1", "--config",
		"raw.lxc=lxc.net.0.ipv4.address = 198.18.15.200/20\nlxc.net.0.ipv4.gateway = 198.18.0.1")
	t.Cleanup(func() {
		if t.Failed() {
			s.incus("delete", "--force", name)
		}
	})
	pid := s.initStarted(instance{Name: name, Project: "default"})

	s.write("projects/web/app.cue", fmt.Sprintf("containers: app: {adopt: \"default/%s\", environment_vars: A: \"2\"}\naliases: app: container: \"app\"\n", name))
	commit := s.push()
	s.eventually("the adoption is refused", func() bool {
		r := s.status()
		return r.Commit == commit && r.State == reconcile.Incomplete
	})
	if c := s.container("app"); c.State != reconcile.StateHeld || !strings.Contains(c.Reason, "it would change the instance: environment_vars.A changed, ramdisk false → true") {
		t.Errorf("app is %s: %s", c.State, c.Reason)
	}
	s.write("projects/web/app.cue", fmt.Sprintf("containers: app: {adopt: \"default/%s\", environment_vars: A: \"1\", ramdisk: false}\naliases: app: container: \"app\"\n", name))
	s.settled(s.push())
	s.converged()
	if got := s.initStarted(s.named("app")); got != pid {
		t.Errorf("init was started at %s, before at %s", got, pid)
	}
	s.eventually("it answers", s.answers("app", `"A":"1"`))
	s.stop(os.Interrupt)
	s.start()
	s.settled(strings.TrimSpace(s.git("rev-parse", "HEAD")))
	s.converged()
	s.write("projects/web/app.cue", "")
	s.settled(s.push())
	if got := s.instances(); len(got) != 0 {
		t.Errorf("instances %v", got)
	}
}

// initStarted tells processes 1 of a container apart: it is the host's number
// of the process and when it was started.
func (s *site) initStarted(c instance) string {
	s.Helper()
	for line := range strings.Lines(s.incus("--project", c.Project, "info", c.Name)) {
		if pid, ok := strings.CutPrefix(strings.TrimSpace(line), "PID: "); ok {
			stat := s.inLab("cat", "/proc/"+pid+"/stat")
			fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
			return pid + " " + fields[22-3] // proc_pid_stat(5)
		}
	}
	s.Fatalf("%s does not run", c.Name)
	return ""
}

// accepted is when the agent took up its newest commit.
func (s *site) accepted() (at time.Time) {
	s.Helper()
	err := api.Socket(s.path("sock")).Events(s.Context(), 0, false, func(e reconcile.Event) error {
		if e.Type == reconcile.CommitAccepted {
			at = e.Time
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return at
}

// TestWarmPool [R10]: a claim takes a running spare without a restart, in well
// under a second, and the pool is filled again, also by the next agent.
func TestWarmPool(t *testing.T) {
	s := newSite(t)
	s.start()
	const count = 2
	spares := func() (out []instance) {
		for _, i := range s.instances() {
			if i.Config["user.swage.role"] == "spare" && i.Status == "Running" {
				out = append(out, i)
			}
		}
		return out
	}
	full := func() bool { return len(spares()) == count && s.status().State == reconcile.Applied }
	// Nothing is to be planned between the creation and its measurement.
	fleet, err := os.ReadFile(filepath.Join(s.path("work"), "swage.cue"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("swage.cue", string(fleet)+"settle: \"0s\"\n")
	s.write("projects/web/pool.cue", fmt.Sprintf("project: prespawn: [{count: %d}]\ncontainers: first: bypass_prespawn: true\n", count))
	s.settled(s.push())
	steps := func(like string) (took []time.Duration) {
		for _, x := range s.status().Steps {
			if strings.Contains(x.Step, like) {
				took = append(took, time.Duration(x.Millis)*time.Millisecond)
			}
		}
		return took
	}
	created := steps("create container web/first")
	s.eventually("the pool is full", full)

	var pushes, commits, claims []time.Duration
	for n := range 5 {
		started := map[string]bool{}
		for _, i := range spares() {
			started[s.initStarted(i)] = true
		}
		name := fmt.Sprintf("app-%d", n)
		s.write("projects/web/"+name+".cue", fmt.Sprintf("containers: %q: environment_vars: N: \"%d\"\naliases: %q: container: %q\n", name, n, name, name))
		s.git("add", "--all")
		s.git("commit", "--quiet", "--message=change")
		began := time.Now()
		s.git("push", "--quiet", "origin", "main")
		s.eventually(name+" answers", func() bool { status, _ := s.get(name); return status == 200 })
		answered := time.Now()
		pushes = append(pushes, answered.Sub(began))
		commits = append(commits, answered.Sub(s.accepted()))
		s.settled(strings.TrimSpace(s.git("rev-parse", "HEAD")))
		claims = append(claims, steps("from the warm pool")...)
		c := s.named(name)
		if !started[s.initStarted(c)] {
			t.Errorf("%s was started again", name)
		}
		if c.Config["environment.N"] != fmt.Sprint(n) {
			t.Errorf("%s has the environment %v", name, c.Config)
		}
		_, body := s.get(name)
		if !strings.Contains(body, fmt.Sprintf("\"hostname\":%q", name)) {
			t.Errorf("%s is called otherwise: %s", name, body)
		}
		s.eventually("the pool is full again", full)
	}
	if len(claims) != 5 || len(created) != 1 {
		t.Errorf("%d of 5 were claimed, %d of 1 created", len(claims), len(created))
	} else {
		t.Logf("medians: %v from the push to the first answer, %v from the accepted commit; a claim takes %v, a creation %v",
			median(pushes), median(commits), median(claims), created[0])
		if took := median(claims); took > created[0] {
			t.Errorf("a claim takes %v, a creation %v", took, created[0])
		}
		if took := slices.Min(claims); took > time.Second {
			t.Errorf("no claim takes less than %v", took)
		}
	}

	for _, after := range []int{0, 1} {
		name := fmt.Sprintf("killed-%d", after)
		s.write("projects/web/"+name+".cue", fmt.Sprintf("containers: %q: {}\naliases: %q: container: %q\n", name, name, name))
		before := s.stepsLogged()
		commit := s.push()
		s.eventually("it is under way", func() bool { return s.stepsLogged() >= before+after })
		s.stop(syscall.SIGKILL)
		s.start()
		s.settled(commit)
		s.eventually(name+" answers", s.answers(name, ""))
		s.eventually("the pool is full again", full)
		s.converged()
	}
	if got := s.instances(); len(got) != 1+5+2+count {
		t.Errorf("%d instances", len(got))
	}
}

// TestIncusRestarts [R8]: the daemon is killed, and restarted in good order,
// while steps run. What runs keeps answering, and all is applied afterwards.
// The lab is one of its own: other tests share theirs.
func TestIncusRestarts(t *testing.T) {
	if os.Getenv("SWAGE_TEST_LAB") == "" || os.Geteuid() != 0 {
		t.Skip("needs root and a throw-away Incus: run `make test`, which brings one up")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	lab := func(verb string) {
		t.Helper()
		if out, err := exec.Command(filepath.Join(bin, "lab"), verb, "--dir", filepath.Join(dir, "l")).CombinedOutput(); err != nil {
			t.Fatalf("lab %s: %v\n%s", verb, err, out)
		}
	}
	t.Cleanup(func() { lab("down"); os.RemoveAll(dir) })
	lab("up")
	t.Setenv("SWAGE_TEST_LAB", filepath.Join(dir, "l"))

	s := newSite(t)
	s.start()
	const rock = "containers: rock: environment_vars: A: \"1\"\naliases: rock: container: \"rock\"\n"
	s.write("projects/web/rock.cue", rock)
	s.settled(s.push())
	s.eventually("it answers", s.answers("rock", `"A":"1"`))

	// Asked all the while, and never in vain.
	stop, stopped := make(chan struct{}), make(chan struct{})
	var asked, failed int
	var worst string
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			asked++
			if status, body := s.get("rock"); status != 200 {
				failed, worst = failed+1, fmt.Sprintf("%d %s", status, body)
			}
		}
	}()

	var g generations
	g.write(s, 0)
	s.write("projects/web/rock.cue", rock)
	s.settled(s.push())
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}
	if os.Getenv("SWAGE_SOAK") != "" {
		for range 10 {
			signals = append(signals, signals[0], signals[1])
		}
	}
	for i, signal := range signals {
		n := i + 1
		g.keep(s, i)
		g.write(s, n)
		before := s.stepsLogged()
		commit := s.push()
		s.eventually("steps run", func() bool { return s.stepsLogged() >= before+3*(i%5) })
		daemon := s.daemon()
		if err := syscall.Kill(daemon, signal); err != nil {
			t.Fatal(err)
		}
		s.eventually("the daemon has ended", func() bool { return s.ended(daemon) })
		if status, body := s.get("rock"); status != 200 {
			t.Errorf("while the daemon is away: %d %s", status, body)
		}
		began := time.Now()
		lab("up")
		up := time.Now()
		s.settled(commit)
		t.Logf("%v after %d steps: the daemon was back after %v, all applied %v later",
			signal, 3*(i%5), up.Sub(began).Round(time.Millisecond), time.Since(up).Round(time.Millisecond))
		g.check(s, n)
		s.converged()
		if t.Failed() {
			break
		}
	}
	close(stop)
	<-stopped
	if failed > 0 {
		t.Errorf("%d of %d requests failed, the last with %s", failed, asked, worst)
	}
	t.Logf("%d requests", asked)
}

// daemon is the process that listens at the socket of Incus.
func (s *site) daemon() int {
	s.Helper()
	conn, err := net.Dial("unix", s.incusSocket())
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		s.Fatal(err)
	}
	var peer *unix.Ucred
	if err := errors.Join(raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}), err); err != nil {
		s.Fatal(err)
	}
	return int(peer.Pid)
}

// ended reports whether a process is gone, or is only left to be reaped.
func (s *site) ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[0] == "Z"
}

// largeImage imports an image that needs 200 MiB and no time to speak of.
func (s *site) largeImage() (name string) {
	s.Helper()
	name = "large/" + string(s.scope.Fleet[:8])
	s.write("../large/metadata.yaml", "architecture: x86_64\ncreation_date: 1\n")
	s.write("../large/rootfs/zeros", "\x00")
	if err := os.Truncate(s.path("large/rootfs/zeros"), 200<<20); err != nil {
		s.Fatal(err)
	}
	s.command("tar", "-C", s.path("large"), "-czf", s.path("large.tar.gz"), "metadata.yaml", "rootfs")
	s.incus("image", "import", "--quiet", s.path("large.tar.gz"), "--alias", name)
	s.Cleanup(func() { s.incus("image", "delete", "--quiet", name) })
	return name
}

// TestAFullPool [R8]: what needs room fails and says why, shortly; what would
// not start again is not stopped; what needs no room is done, also deletions;
// and the rest by itself once there is room.
func TestAFullPool(t *testing.T) {
	s := newSite(t)
	pool := "small" + string(s.scope.Fleet[:8])
	s.incus("storage", "create", "--quiet", pool, "btrfs", "size=128MiB")
	filler := filepath.Join(s.labEnv("INCUS_DIR"), "storage-pools", pool, "filler")
	s.Cleanup(func() { // before the rest of the site
		s.stop(os.Interrupt)
		s.inLab("rm", "-f", filler)
		s.remove()
		s.incus("storage", "delete", "--quiet", pool)
	})
	fill := func() {
		t.Helper()
		for _, size := range []string{"64k", "4k"} { // the kernel may need some itself until it is synced
			s.inLab("sh", "-c", "dd if=/dev/zero of="+filler+" bs="+size+" oflag=append conv=notrunc,fsync status=none 2>/dev/null || sync")
		}
	}
	s.write("servers/lab.cue", fmt.Sprintf("listen: [\"0.0.0.0:%s\"]\nstorage_pool: %q\nincus: project_prefix: %q\n", s.port, pool, s.scope.Prefix))
	const (
		before = "containers: {app: {}, busy: environment_vars: A: \"1\", old: {}}\naliases: busy: container: \"busy\"\n"
		fewer  = "containers: {app: {}, busy: environment_vars: A: \"1\"}\naliases: busy: container: \"busy\"\n"
		after  = "containers: {app: {}, busy: environment_vars: A: \"2\"}\naliases: {busy: container: \"busy\", also: container: \"app\"}\n"
	)
	s.write("projects/web/app.cue", before)
	s.start()
	s.settled(s.push())
	s.eventually("it answers", s.answers("busy", `"A":"1"`))

	fill()
	s.write("projects/web/app.cue", fewer)
	s.settled(s.push())
	if got := s.instances(); len(got) != 2 {
		t.Errorf("%d instances, want two", len(got))
	}

	fill()
	s.write("projects/web/app.cue", after)
	commit := s.push()
	s.eventually("it is tried", func() bool {
		r := s.status()
		return r.Commit == commit && (r.State == reconcile.Applied || r.State == reconcile.Failed)
	})
	if !s.answers("busy", `"A":`)() {
		t.Errorf("what cannot start again was stopped: %+v", s.container("busy"))
	}
	s.eventually("what needs no room is applied", s.answers("also", `"hostname":"app"`))

	s.write("projects/web/more.cue", fmt.Sprintf("containers: more: container_image: %q\n", s.largeImage()))
	s.push()
	s.eventually("it fails, and the status says why", func() bool {
		c := s.container("more")
		return c.State == reconcile.StateFailed && strings.Contains(c.Reason, "failed to run tar: no space left on device")
	})
	s.eventually("swage status says so in a few words", func() bool {
		out, _ := s.swage("status", "--socket", s.path("sock"))
		return strings.Contains(out, "no space left on device") && len(out) < 3000
	})

	// Not enough for the large one, but for all else.
	s.write("projects/web/more.cue", "containers: more: {}\naliases: more: container: \"more\"\n")
	s.inLab("rm", filler)
	room := time.Now()
	commit = s.push()
	s.settled(commit)
	s.eventually("it answers", s.answers("more", "more"))
	s.eventually("the other was restarted", s.answers("busy", `"A":"2"`))
	t.Logf("applied %v after there was room", time.Since(room).Round(time.Millisecond))
	s.converged()
	if got := s.instances(); len(got) != 3 {
		t.Errorf("%d instances, want three", len(got))
	}
}
