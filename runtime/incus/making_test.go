package incus

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// opened is a Runtime of the lab. Its records go with the test.
func opened(t *testing.T, scope runtime.Scope) *Runtime {
	t.Helper()
	rt, err := Open(socket(t), scope)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		names, err := rt.in(context.Background(), "").GetProjectNames()
		if err != nil {
			t.Error(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, rt.recordPrefix(notes)) || strings.HasPrefix(name, rt.recordPrefix(lease)) {
				_ = rt.in(context.Background(), "").DeleteProject(name) // several Runtimes do so
			}
		}
	})
	return rt
}

// foreignName is that of the instance that a test adopts.
func foreignName(s runtime.Scope) string { return "foreign-" + string(s.Fleet[:8]) }

// foreign makes a running instance whose address Incus was not told.
func foreign(t *testing.T, s runtime.Scope) string {
	rt := opened(t, s)
	c := rt.in(context.Background(), "default")
	a, err := rt.allocate(t.Context(), s.Fleet)
	if err != nil {
		t.Fatal(err)
	}
	name := foreignName(s)
	op, err := c.CreateInstance(api.InstancesPost{
		Name: name, Type: api.InstanceTypeContainer, Start: true,
		Source: api.InstanceSource{Type: "image", Alias: "tiny/1"},
		InstancePut: api.InstancePut{
			Config: map[string]string{
				"environment.FOREIGN": "yes", "user.theirs": "kept",
				rawLXC: a.raw("") + lineHost + " = theirs\n",
			},
			Profiles: []string{"default"},
		},
	})
	if err := finish(c, op, err); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		at := place{project: "default", name: name}
		if err := rt.kill(context.Background(), &at); err != nil {
			if notFound(err) {
				return
			}
			t.Error(err)
		}
		op, err := c.DeleteInstance(name)
		if err := finish(c, op, err); err != nil {
			t.Error(err)
		}
	})
	return "default/" + name
}

func snapshot(t *testing.T, s runtime.Scope, id runtime.ID, name string) {
	t.Helper()
	rt := opened(t, s)
	at, err := rt.find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.takeSnapshot(t.Context(), at, name, nil); err != nil {
		t.Fatal(err)
	}
}

// pid is that of a container's init on this host.
func pid(t *testing.T, s runtime.Scope, id runtime.ID) int64 {
	t.Helper()
	rt := opened(t, s)
	project, name := "default", foreignName(s)
	if id != "" {
		in, _, err := rt.seek(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		project, name = in.Project, in.Name
	}
	state, _, err := rt.in(t.Context(), project).GetInstanceState(name)
	if err != nil {
		t.Fatal(err)
	}
	return state.Pid
}

// start is when the init of a container began, in ticks of the host.
func start(t *testing.T, s runtime.Scope, id runtime.ID) string {
	t.Helper()
	n := pid(t, s, id)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fmt.Sprint(n, " ", fields[19])
}

func TestIncusKeepsTheContractOfMaking(t *testing.T) {
	daemon, identity := overNetwork(t)
	runtimetest.RunMaking(t, "tiny/1", func(t *testing.T, s runtime.Scope) runtime.Runtime {
		s.Ramdisks, s.Identity = ramdisks(), identity
		return opened(t, s)
	},
		runtimetest.Hands{Foreign: foreign, Snapshot: snapshot, Copy: copyByHand, NoQuota: poolDriver(t) == "dir", Start: start, Daemon: daemon})
}
