package incus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// bench is one scope of the lab with what it takes to look at it from outside.
type bench struct {
	*testing.T
	rt     *Runtime
	socket string
}

func newBench(t *testing.T, socket, ramdisks string) *bench {
	t.Helper()
	scope := runtime.Scope{Fleet: runtime.NewID(), Server: "lab", Bridge: "incusbr0", StoragePool: "default", Ramdisks: ramdisks}
	scope.Prefix = "m" + string(scope.Fleet[:8]) + "-"
	rt, err := Open(socket, scope)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t, rt, socket}
	b.do(runtime.CreateProject{Project: runtime.Project{Name: "web"}})
	t.Cleanup(func() {
		a, err := rt.Observe(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, c := range a.Containers {
			b.do(runtime.DeleteContainer{Target: c})
			if _, err := os.Stat(ramdiskDir(scope, c.ID)); err == nil {
				t.Errorf("the ramdisk of %s is left", c.Ref())
			}
		}
		b.do(runtime.DeleteProject{Project: runtime.Project{Name: "web"}})
	})
	return b
}

func (b *bench) do(step runtime.Step) runtime.Done {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := b.rt.Do(ctx, step)
	if err != nil {
		b.Error(err)
	}
	return d
}

// update changes c as set does, and holds what is observed then to it.
func (b *bench) update(c *runtime.Container, set func(*runtime.Container)) {
	b.Helper()
	step := runtime.UpdateContainer{From: *c, To: *c}
	set(&step.To)
	if step.Restarts() {
		step.To.Status = runtime.Running
	}
	b.do(step)
	*c = step.To
	b.observed(*c)
}

func (b *bench) observed(want runtime.Container) {
	b.Helper()
	a, err := b.rt.Observe(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range a.Containers {
		if c.ID == want.ID {
			if d := cmp.Diff(want, c, runtimetest.Equal); d != "" {
				b.Errorf("observed (-want +got):\n%s", d)
			}
			return
		}
	}
	b.Errorf("%s is gone", want.Ref())
}

// incus runs the command of that name on the instance of a container, whose
// name stands as {} in args.
func (b *bench) incus(c runtime.Container, args ...string) string {
	b.Helper()
	out, err := b.try(c, args...)
	if err != nil {
		b.Errorf("incus %v: %v", args, err)
	}
	return out
}

func (b *bench) try(c runtime.Container, args ...string) (string, error) {
	b.Helper()
	at, err := b.rt.find(context.Background(), c.ID)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "{}", at.name)
	}
	cmd := exec.CommandContext(ctx, "incus", args...)
	cmd.Env = append(os.Environ(), "INCUS_DIR="+filepath.Dir(b.socket), "INCUS_CONF="+b.TempDir(), "INCUS_PROJECT="+at.project)
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

// inside runs a shell command in a container. On a busy machine Incus now and
// then loses the end of what a short one says; the last word tells.
func (b *bench) inside(c runtime.Container, command string) string {
	b.Helper()
	for range 20 {
		out, whole := strings.CutSuffix(b.incus(c, "exec", "{}", "--", "sh", "-c", command+"\necho whole"), "whole\n")
		if whole {
			return strings.TrimSpace(out)
		}
	}
	b.Fatalf("%s: Incus loses what it says", command)
	return ""
}

// record is what Incus itself says of an instance, flat.
func (b *bench) record(c runtime.Container) map[string]string {
	b.Helper()
	at, err := b.rt.find(b.Context(), c.ID)
	if err != nil {
		b.Fatal(err)
	}
	var in struct {
		Description string
		Config      map[string]string
		Devices     map[string]map[string]string
	}
	if err := json.Unmarshal([]byte(b.incus(c, "query", "/1.0/instances/{}?project="+at.project)), &in); err != nil {
		b.Fatal(err)
	}
	out := map[string]string{"description": in.Description}
	for k, v := range in.Config {
		out[k] = v
	}
	for name, d := range in.Devices {
		for k, v := range d {
			out[name+"."+k] = v
		}
	}
	return out
}

// recorded says for each value of runtimetest.Fields, but for the first, what
// Incus has then. An empty one is absent; those of all other values are absent
// too when the field has its first.
var recorded = map[string][]map[string]string{
	"Name": {
		{"user.swage.name": "Under_Score", "user.swage.host": "Under-Score"},
		{"user.swage.name": strings.Repeat("x", 100), "user.swage.host": strings.Repeat("x", 63)},
	},
	"Env": {
		{"environment.GREETING": "hello", "environment.PORT": "8080"},
		{"environment.GREETING": " =,\"' \\ $HOME é ", "environment.PORT": "", "environment.EMPTY": ""},
		{"environment.LONG": strings.Repeat("0123456789abcdef", 2048), "environment.GREETING": ""},
		{"environment.EMPTY": "no more", "environment.LONG": ""},
	},
	"Keys":    {{}, {}, {}}, // see TestInsideDebian
	"Ramdisk": {{"ramdisk.path": "/ramdisk", "ramdisk.shift": "true"}},
	"Autostart": {
		{"user.swage.no-autostart": "true"},
	},
	"Resources.CPU": {
		{"limits.cpu": "1"},
		{"limits.cpu": "", "limits.cpu.allowance": "50ms/100ms"},
		{"limits.cpu.allowance": "150ms/100ms"},
		{"limits.cpu.allowance": "33ms/100ms"},
		{"limits.cpu": "2", "limits.cpu.allowance": ""},
	},
	"Resources.Memory":    {{"limits.memory": "268435456"}, {"limits.memory": "1073741824"}, {"limits.memory": "536875008"}},
	"Resources.Processes": {{"limits.processes": "512"}, {"limits.processes": ""}, {"limits.processes": "20000"}},
	"Resources.Disk":      {{"root.size": "1073741824", "root.pool": "default"}, {"root.size": "2147483648"}},
	"Firewall":            {{}, {}}, // the kernel's; here they are only kept
	"Publish":             {{}, {}},
	"Snapshots": {
		{"user.swage.snapshots.schedule": "@daily", "user.swage.snapshots.expiry": "", "snapshots.schedule": ""},
		{"user.swage.snapshots.schedule": "0 4 1 * *", "user.swage.snapshots.expiry": "30", "user.swage.keep": "7"},
		{"user.swage.snapshots.schedule": "", "user.swage.snapshots.expiry": "3650", "user.swage.keep": ""},
	},
	"DependsOn": {{"user.swage.depends-on": "db"}, {"user.swage.depends-on": "cache db"}},
	"Color":     {{"user.swage.color": "e74c3c"}, {"user.swage.color": "#fff"}},
	"Comment":   {{"description": "two\nlines é "}, {"description": strings.Repeat("c", 16_000)}},
	"Realms":    {{}, {"user.swage.realms": "0123456789abcdef01234567 890abcdef12345678901cdef"}},
	"Protected": {{"user.swage.protected": "true"}},
	"Asked":     {{"user.swage.asked": "stopped"}, {"user.swage.asked": "paused"}},
	"Commit":    {{"user.swage.commit": "c1"}, {"user.swage.commit": "c2"}},
	"Declared":  {{"user.swage.declared": "c1"}, {"user.swage.declared": "c2"}},
	"Replaced":  {{"user.swage.replaced": "true"}},
	"Applied":   {{"user.swage.applied": "a1"}, {"user.swage.applied": "a2"}},
}

func TestEveryFieldIsWhereIncusActsOnIt(t *testing.T) {
	s := socket(t)
	for _, status := range []runtime.Status{runtime.Running, runtime.Paused, runtime.Stopped} {
		t.Run(string(status), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, s, ramdisks())
			c := runtimetest.Plain("tiny/1", status)
			b.do(runtime.CreateContainer{New: c})
			plain := b.record(c)
			if plain["boot.autostart"] != "false" {
				t.Error("the daemon may start it by itself")
			}
			for _, f := range runtimetest.Fields {
				if len(recorded[f.Name]) != len(f.Values)-1 {
					t.Errorf("%s has %d values and %d are in the table", f.Name, len(f.Values)-1, len(recorded[f.Name]))
					continue
				}
				var seen []string
				for i, want := range recorded[f.Name] {
					b.update(&c, f.Values[i+1])
					have := b.record(c)
					for k, v := range want {
						seen = append(seen, k)
						if have[k] != v {
							t.Errorf("%s, value %d: %s is %.80q, want %.80q", f.Name, i+1, k, have[k], v)
						}
					}
				}
				b.update(&c, f.Values[0])
				have := b.record(c)
				for _, k := range seen {
					if have[k] != plain[k] && f.Name != "Asked" {
						t.Errorf("%s taken back: %s is %.80q, was %.80q", f.Name, k, have[k], plain[k])
					}
				}
				if c.Status != status {
					b.do(runtime.PauseContainer{Target: c})
				}
				c.Status, c.Asked = status, status
			}
		})
	}
}

// A value that was written behind swage's back is a difference, never taken
// for what is wanted, and goes when it is put right.
func TestWhatSwageWouldNotHaveWrittenIsADifference(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	c := runtimetest.Full("tiny/1", runtime.Stopped)
	b.do(runtime.CreateContainer{New: c})
	for _, key := range []string{
		"environment.MORE=1", "environment.GREETING=bye", "limits.memory=50%", "limits.cpu=1-1", "limits.cpu.allowance=10%",
		"snapshots.expiry=5m", "snapshots.schedule=@hourly", "snapshots.pattern=x", "user.swage.snapshots.schedule=@yearly", "user.swage.snapshots.expiry=many", "user.swage.firewall=[", "user.swage.publish=7",
		"user.swage.keep=many", "user.swage.no-autostart=", "user.swage.protected=", "user.swage.keys=x",
		"user.swage.cpu=7.5", "raw.lxc=", "user.swage.asked=running", "user.swage.color=000",
	} {
		b.incus(c, "config", "set", "{}", key)
		a, err := b.rt.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have := a.Containers[0]
		if have.Same(c) {
			t.Errorf("%s is not seen", key)
		}
		b.do(runtime.UpdateContainer{From: have, To: c})
		b.observed(c)
	}
	for _, args := range [][]string{{"set", "{}", "root", "size=3GiB"}, {"remove", "{}", "ramdisk"}} {
		b.incus(c, append([]string{"config", "device"}, args...)...)
		a, err := b.rt.Observe(t.Context())
		if err != nil || a.Containers[0].Same(c) {
			t.Errorf("%v is not seen: %v", args, err)
			continue
		}
		b.do(runtime.UpdateContainer{From: a.Containers[0], To: c})
		b.observed(c)
	}
}

// TestInsideDebian sees through the eyes of a guest.
func TestInsideDebian(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	if _, _, err := b.rt.in(t.Context(), "default").GetImageAlias("debian/13"); err != nil {
		t.Skip("needs an image: run .bin/lab image debian/13")
	}
	const key, other = "ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"
	c := runtimetest.Plain("debian/13", runtime.Running)
	c.Name, c.Ramdisk, c.Keys = "First_Name", true, []string{key}
	c.Env = map[string]string{"GREETING": " a 'b' \"c\" $D é", "EMPTY": ""}
	c.Resources.Memory = 64 << 20
	d := b.do(runtime.CreateContainer{New: c})
	ready := func() {
		t.Helper()
		// Before its bus is there systemd cannot even be asked; "degraded" is up
		// as well.
		b.inside(c, "for i in $(seq 100); do networkctl >/dev/null 2>&1 && break; sleep 0.1; done; systemctl is-system-running --wait >/dev/null")
	}
	is := func(what, command, want string) {
		t.Helper()
		if got := b.inside(c, command); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	ready()
	is("hostname", "hostname", "First-Name")
	is("hostname file", "cat /etc/hostname", "First-Name")
	is("environment of init", `tr '\0' '\n' </proc/1/environ | grep -e ^GREETING -e ^EMPTY | sort`, "EMPTY=\nGREETING="+c.Env["GREETING"])
	is("environment of a command", `printf %s "$GREETING"`, strings.TrimSpace(c.Env["GREETING"]))
	is("keys", "cat /root/.ssh/authorized_keys", key)
	is("modes", "stat -c '%a %U' /root /root/.ssh /root/.ssh/authorized_keys /ramdisk", "700 root\n700 root\n600 root\n1777 root")
	is("ramdisk", "stat -f -c '%T %b %f' /ramdisk", "tmpfs 16384 16384") // all of its blocks are free
	// Its own network daemon takes the interface over, and has these again with
	// the next lease and router advertisement.
	const addresses = "ip -o addr show eth0 scope global | awk '{print $4}' | cut -d/ -f1 | sort"
	want := d.Addr.String() + "\n" + d.Addr6.String()
	b.inside(c, `for i in $(seq 300); do networkctl list --no-legend eth0 | grep -qw configured && [ "$(`+addresses+`)" = "`+want+`" ] && break; sleep 0.1; done`)
	is("addresses", "networkctl list --no-legend eth0 | grep -ow configured; "+addresses, "configured\n"+want)

	b.inside(c, "echo kept >/ramdisk/file; chmod 777 /root /root/.ssh /root/.ssh/*; chown 7:7 /root/.ssh /root/.ssh/*")
	b.update(&c, func(c *runtime.Container) { c.Keys = []string{other, key} })
	is("two keys", "cat /root/.ssh/authorized_keys", other+"\n"+key)
	is("modes put right", "stat -c '%a %u:%g' /root /root/.ssh /root/.ssh/authorized_keys", "777 0:0\n700 0:0\n600 0:0")
	b.update(&c, func(c *runtime.Container) { c.Resources.Memory = 128 << 20 })
	is("a larger ramdisk", "stat -f -c %b /ramdisk", "32768")
	b.update(&c, func(c *runtime.Container) { c.Resources.Memory = 0; c.Name = "second" })
	is("a rename waits for the next start", "hostname", "First-Name")

	// A frozen container takes keys as well.
	paused := func(c *runtime.Container) { c.Status, c.Asked = runtime.Paused, runtime.Paused }
	b.do(runtime.PauseContainer{Target: c})
	paused(&c)
	b.update(&c, func(c *runtime.Container) { c.Keys = []string{key} })
	b.do(runtime.ResumeContainer{Target: c})
	c.Status, c.Asked = runtime.Running, runtime.Running
	is("keys written while paused", "cat /root/.ssh/authorized_keys", key)

	b.do(runtime.StopContainer{Target: c})
	c.Status, c.Asked = runtime.Stopped, runtime.Stopped
	b.update(&c, func(c *runtime.Container) { c.Keys, c.Env = nil, map[string]string{"NEW": "1"} })
	if out := b.incus(c, "file", "pull", "{}/root/.ssh/authorized_keys", "-"); out != "" {
		t.Errorf("the keys are %q after the last was taken away", out)
	}
	b.do(runtime.StartContainer{Target: c})
	c.Status, c.Asked = runtime.Running, runtime.Running
	ready()
	is("hostname after a rename", "hostname; cat /etc/hostname", "second\nsecond")
	is("the ramdisk after a restart", "cat /ramdisk/file", "kept")
	is("environment after a restart", `tr '\0' '\n' </proc/1/environ | grep -e ^GREETING -e ^EMPTY -e ^NEW`, "NEW=1")

	b.update(&c, func(c *runtime.Container) { c.Env = map[string]string{"NEW": "2"} })
	ready()
	is("environment after an update", `tr '\0' '\n' </proc/1/environ | grep ^NEW; cat /ramdisk/file`, "NEW=2\nkept")
	b.update(&c, func(c *runtime.Container) { c.Ramdisk = false })
	ready()
	is("no ramdisk", "test -d /ramdisk && stat -f -c %T /ramdisk | grep tmpfs || echo none", "none")
	if _, err := os.Stat(ramdiskDir(b.rt.scope, c.ID)); err == nil {
		t.Error("its RAM is not given back")
	}
	b.update(&c, func(c *runtime.Container) { c.Ramdisk = true })
	is("a new ramdisk", "stat -f -c %T /ramdisk; ls /ramdisk", "tmpfs")
}

// TestTheRamdiskOutlivesTheDaemon has a lab of its own, to kill its daemon.
func TestTheRamdiskOutlivesTheDaemon(t *testing.T) {
	socket(t)
	dir := t.TempDir()
	lab := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, dir+"/lab", append(args, "--dir", dir+"/l")...)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("lab %v: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command("go", "build", "-o", dir+"/lab", "swage/cmd/lab").CombinedOutput(); err != nil {
		t.Fatalf("build the lab: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		lab("down")
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil || strings.Contains(string(mounts), dir) {
			t.Errorf("mounts are left below %s: %v", dir, err)
		}
	})
	lab("up")
	t.Setenv("SWAGE_TEST_LAB", dir+"/l")
	s := socket(t)
	b := newBench(t, s, dir+"/l/ramdisk")
	c := runtimetest.Plain("tiny/1", runtime.Running)
	c.Ramdisk = true
	b.do(runtime.CreateContainer{New: c})
	if err := os.WriteFile(dir+"/file", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.incus(c, "file", "push", dir+"/file", "{}/ramdisk/file")
	var st syscall.Statfs_t
	if err := syscall.Statfs(ramdiskDir(b.rt.scope, c.ID), &st); err != nil || st.Type != 0x01021994 || st.Blocks-st.Bfree != 1 {
		t.Errorf("the ramdisk is not a tmpfs with one page: %+v %v", st, err)
	}
	kept := func(after string) {
		t.Helper()
		if out := b.incus(c, "file", "pull", "{}/ramdisk/file", "-"); out != "kept" {
			t.Errorf("%q after %s", out, after)
		}
	}
	kept("nothing")
	pid := daemonOf(t, s)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab("up")
	if daemonOf(t, s) == pid {
		t.Error("the daemon is the same")
	}
	kept("a restart of the daemon")
	b.do(runtime.StopContainer{Target: c})
	b.do(runtime.StartContainer{Target: c})
	kept("a restart of both")
	b.observed(c)

	// A host that was restarted has neither mount nor folder.
	b.do(runtime.StopContainer{Target: c})
	if err := b.rt.unmountRamdisk(c.ID); err != nil {
		t.Fatal(err)
	}
	if out, err := b.try(c, "start", "{}"); err == nil {
		t.Errorf("it starts without its ramdisk: %s", out)
	}
	b.rt.boot = "another"
	a, err := b.rt.Observe(t.Context())
	if err != nil || !a.Containers[0].Asleep {
		t.Errorf("after a restart of the host: %+v, %v", a.Containers, err)
	}
	b.do(runtime.StartContainer{Target: c})
	b.observed(c)
	if out, err := b.try(c, "file", "pull", "{}/ramdisk/file", "-"); err == nil {
		t.Errorf("a new ramdisk holds %q", out)
	}
}

// daemonOf asks the kernel who listens at a socket.
func daemonOf(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(fmt.Errorf("connect to %s: %w", path, err))
	}
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}
