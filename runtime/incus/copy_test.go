package incus

import (
	"testing"

	client "github.com/lxc/incus/v6/client"
	"golang.org/x/crypto/ssh"

	"swage/runtime"
)

// TestACopyIsNotItsSource: what identifies a Debian to others is its own.
func TestACopyIsNotItsSource(t *testing.T) {
	socket(t)
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: ramdisks()}
	scope.Prefix = "i" + string(scope.Fleet[:8]) + "-"
	rt := opened(t, scope)
	defer clean(t, rt)
	must(t, rt, runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	from, to := inhabited("source", runtime.Stopped), inhabited("copy", runtime.Stopped)
	must(t, rt, runtime.CreateContainer{New: from})
	in, _, err := rt.seek(t.Context(), from.ID)
	if err != nil {
		t.Fatal(err)
	}
	at := located(in)
	const machine = "00112233445566778899aabbccddeeff\n"
	put(t, rt, from.ID, "/etc/machine-id", machine)
	if err := rt.in(t.Context(), at.project).CreateInstanceFile(at.name, "/etc/ssh", client.InstanceFileArgs{Type: "directory", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	put(t, rt, from.ID, "/etc/ssh/ssh_host_dsa_key", "obsolete")
	put(t, rt, from.ID, "/etc/ssh/sshd_config", "kept")
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		if err := rt.newHostKey(t.Context(), at, kind); err != nil {
			t.Fatal(err)
		}
	}
	must(t, rt, runtime.CopyContainer{New: to, From: from.ID})
	holds(t, rt, from.ID, "/etc/machine-id", machine)
	holds(t, rt, to.ID, "/etc/ssh/ssh_host_dsa_key", "")
	holds(t, rt, to.ID, "/etc/ssh/sshd_config", "kept")
	read := func(id runtime.ID, path string) string {
		in, _, err := rt.seek(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := rt.readFile(t.Context(), located(in), path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if id := read(to.ID, "/etc/machine-id"); len(id) != len(machine) || id == machine {
		t.Errorf("the machine-id is %q", id)
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		path := "/etc/ssh/ssh_host_" + kind + "_key"
		private, public := read(to.ID, path), read(to.ID, path+".pub")
		key, err := ssh.ParsePrivateKey([]byte(private))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(ssh.MarshalAuthorizedKey(key.PublicKey())); got != public || private == read(from.ID, path) {
			t.Errorf("%s: the public key is %q, and that of the private one %q", kind, public, got)
		}
	}
}
