package incus

import (
	"slices"
	"strings"
	"testing"

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
