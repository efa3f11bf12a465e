package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"swage/reconcile"
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
	for _, i := range s.instances() {
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
// deletions of what the one before had, one of them to an archive.
type generations struct{ ids map[string]runtime.ID }

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
	archives := map[runtime.ID]bool{}
	for i := range n {
		archives[g.id(fmt.Sprintf("kept-%d", i))] = true
	}
	spares := 0
	ramdisks := map[string]bool{}
	for _, i := range s.instances() {
		id := runtime.ID(i.Config["user.swage.id"])
		switch i.Config["user.swage.role"] {
		case "spare":
			spares++
			if i.Status != "Running" {
				s.Errorf("the spare %s is %s", i.Name, i.Status)
			}
			continue
		case "archive":
			if !archives[id] {
				s.Errorf("the archive %s is not wanted, or is there twice", i.Name)
			}
			delete(archives, id)
			continue
		}
		got := i.Config["user.swage.project"] + "/" + i.Config["user.swage.name"] + " " + i.Status
		if want[id] != got {
			s.Errorf("%s (%s): %q, want %q", i.Name, id, got, want[id])
		}
		delete(want, id)
		ramdisks[string(id)] = true
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
		boundaries = boundaries[:5]
	}
	for i, k := range boundaries {
		n := i + 1
		old := s.named(fmt.Sprintf("kept-%d", n-1))
		s.on(old, "snapshot", "create", "%", "one")
		s.eventually("the snapshot is known", func() bool {
			return slices.ContainsFunc(s.status().Snapshots, func(x reconcile.SnapshotReport) bool { return string(x.ID) == old.Config["user.swage.id"] })
		})
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
