package incus

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

func TestTheImageOfAnInstanceIsReadAsAFleetWritesIt(t *testing.T) {
	for _, c := range []struct{ os, release, want string }{
		{"Debian", "trixie", "debian/13"},
		{"debian", "12", "debian/12"},
		{"ubuntu", "noble", "ubuntu/24.04"},
		{"Alpinelinux", "3.22", "alpine/3.22"},
		{"Fedora", "42", "fedora/42"},
		{"", "", ""},
		{"Debian", "", ""},
	} {
		in := &api.Instance{InstancePut: api.InstancePut{Config: api.ConfigMap{"image.os": c.os, "image.release": c.release}}}
		if got := imageOf(in); got != c.want {
			t.Errorf("%q %q is %q, want %q", c.os, c.release, got, c.want)
		}
	}
}

func TestKeysAreReadFromAFile(t *testing.T) {
	const file = "# mine\nssh-ed25519 B b\n\n  ssh-ed25519 A a  \nssh-ed25519 B b"
	if got := keyLines(file); !slices.Equal(got, []string{"ssh-ed25519 A a", "ssh-ed25519 B b"}) {
		t.Errorf("read %q", got)
	}
}

// TestAdoptingLeavesTheInstanceAsItIs: what others wrote stands there still,
// and what they call it, and whoever has no business with it is told why.
func TestAdoptingLeavesTheInstanceAsItIs(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "a" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	instance := foreign(t, scope)
	defer clean(t, rt)
	c := rt.in(t.Context(), "default")
	before, _, err := c.GetInstance(foreignName(scope))
	if err != nil {
		t.Fatal(err)
	}
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	w := inhabited("taken", runtime.Running)
	must(t, rt, runtime.AdoptContainer{New: w, Instance: instance})
	after, _, err := c.GetInstance(foreignName(scope))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range after.Config {
		if strings.HasPrefix(k, markPrefix) {
			delete(after.Config, k)
		} else if before.Config[k] != v {
			t.Errorf("%s was %q and is %q", k, before.Config[k], v)
		}
	}
	if len(after.Config) != len(before.Config) || !slices.Equal(after.Profiles, before.Profiles) || len(after.Devices) != len(before.Devices) {
		t.Errorf("it was %+v and is %+v", before.InstancePut, after.InstancePut)
	}
	_, err = rt.Inspect(t.Context(), instance)
	if err == nil || !strings.Contains(err.Error(), "carries the mark of fleet") {
		t.Errorf("error %v", err)
	}
	_, err = rt.Inspect(t.Context(), "default/no-such-one")
	if err == nil || !strings.Contains(err.Error(), "there is none of this name") {
		t.Errorf("error %v", err)
	}
}

// TestA5NoPipeInsideIsWaitedFor: an instance whose root puts a pipe in the place
// of a file that is read gets an error at once.
func TestA5NoPipeInsideIsWaitedFor(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default"}
	scope.Prefix = "a" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	instance := foreign(t, scope)
	defer clean(t, rt)
	c := rt.in(t.Context(), "default")
	state, _, err := c.GetInstanceState(foreignName(scope))
	if err != nil {
		t.Fatal(err)
	}
	if state.Pid == 0 {
		t.Fatal("it does not run")
	}
	for _, words := range [][]string{{"mkdir", "-p", "/root/.ssh"}, {"mkfifo", keysFile}} {
		words[len(words)-1] = fmt.Sprintf("/proc/%d/root%s", state.Pid, words[len(words)-1])
		inside := append([]string{"--target", fmt.Sprint(state.Pid), "--user", "--setuid", "0", "--setgid", "0"}, words...)
		if out, err := exec.Command("nsenter", inside...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", inside, err, out)
		}
	}
	failed := make(chan error, 1)
	go func() {
		_, err := rt.Inspect(t.Context(), instance)
		failed <- err
	}()
	select {
	case err := <-failed:
		if err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("error %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for whoever writes to the pipe")
	}
}
