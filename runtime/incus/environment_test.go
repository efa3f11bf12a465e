package incus

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// values that some reader of an environment takes for more than text.
var values = map[string]string{
	"PLAIN":   "production",
	"QUOTES":  `say "hi", it's`,
	"WRAPPED": `"all of it"`,
	"SINGLE":  `'all of it'`,
	"DOLLAR":  "$HOME ${PLAIN} $(id) `id`",
	"PERCENT": "100% %n %h %%",
	"BACK":    `\ \\ a\tb \x41 \`,
	"LEADING": "   three blanks",
	"TAB":     "a\tb",
	"UNICODE": "żółw 日本 😀",
	"EQUALS":  "a=b=c;d&e|f>g*?[h]~!{i}",
	"LONG":    strings.Repeat("0123456789abcdef", 490), // as pam_env reads it
	"NUMBER":  "a # b",
	"LONGEST": strings.Repeat("0123456789abcdef", 2048),
}

// beyondPAM are those that no file of pam_env can hold.
var beyondPAM = []string{"NUMBER", "LONGEST"}

func TestP2EnvironmentFilesAsText(t *testing.T) {
	env := map[string]string{"A": "1", "B": `x "y" %n \`, "C": "has # in it", "D": strings.Repeat("d", 9000), "PATH": "/opt/bin"}
	for _, c := range []struct{ what, got, want string }{
		{"no drop-in", managerText(nil), ""},
		{"no profile", profileText(nil), ""},
		{"nothing of PAM", pamText(nil, ""), ""},
		{
			"drop-in", managerText(map[string]string{"A": "1", "B": `x "y" %n \` + "\t"}),
			"# Written by swage from environment_vars; what is changed here is lost.\n[Manager]\n" +
				"DefaultEnvironment=\"A=1\"\n" + `DefaultEnvironment="B=x \"y\" %%n \\\x09"` + "\n",
		},
		{
			"PAM", pamText(env, "LANG=C"),
			"LANG=C\n" + pamBegin + "\nA=1\n" + `B="x "y" %n \"` + "\n" +
				"# C holds a number sign, which pam_env takes for a comment; see /etc/profile.d/swage.sh\n" +
				"# D is longer than pam_env reads; see /etc/profile.d/swage.sh\n" +
				"PATH=/opt/bin\n" + pamEnd + "\n",
		},
		{"no user drop-in", userText(nil), ""},
		{
			"user drop-in", userText(map[string]string{"A": "1", "B": `x "y" $HOME %n \`}),
			"# Written by swage from environment_vars; what is changed here is lost.\n" + `A="1"` + "\n" + `B="x \"y\" $$HOME %n \\"` + "\n",
		},
		{"the same again", pamText(env, pamText(env, "LANG=C\n")), pamText(env, "LANG=C\n")},
		{"behind what others added", pamText(map[string]string{"A": "2"}, pamText(env, "X=1\n")+"Y=2\n"), "X=1\nY=2\n" + pamBegin + "\nA=2\n" + pamEnd + "\n"},
		{"others' lines stay", pamText(nil, pamText(env, "X=1\n")+"Y=2\n"), "X=1\nY=2\n"},
		{"a block without an end", pamText(nil, "X=1\n"+pamBegin+"\nY=2\n"), "X=1\nY=2\n"},
		{"an end without a block", pamText(nil, "X=1\n"+pamEnd+"\nY=2\n"), "X=1\n" + pamEnd + "\nY=2\n"},
		{
			"profile", profileText(map[string]string{"A": "it's", "PATH": "/opt/bin"}),
			"# Written by swage from environment_vars; what is changed here is lost.\n" +
				`[ -n "${A+set}" ] || export A='it'\''s'` + "\nexport PATH='/opt/bin'\n",
		},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, c.got, c.want)
		}
	}
	if a, b := environmentNote(map[string]string{"A": "1", "B": "2"}), environmentNote(map[string]string{"A": "1\nB=2"}); a == b || a == "" {
		t.Errorf("two environments have the note %q", a)
	}
	if environmentNote(nil) != "" || !unwritten("", env) || unwritten(environmentNote(env), env) || unwritten(asFound, env) || !unwritten(environmentNote(env), nil) {
		t.Error("what is written is not told from what is not")
	}
}

// readers are all the ways in which programs of a container begin. Each writes its
// environment to /run/env, NUL between two variables.
var readers = map[string]struct {
	command string
	pam     bool // and no login shell, which would read the rest
}{
	"the first program":  {command: "cat /proc/1/environ >/run/env"},
	"a unit of the boot": {command: `cat /proc/$(systemctl show -P MainPID systemd-networkd)/environ >/run/env`},
	"a unit":             {command: "systemd-run --wait -q sh -c 'env -0 >/run/env'"},
	"a unit of a user": {command: `printf '[Service]\nType=oneshot\nExecStart=sh -c "env -0 >/run/env"\n' >/etc/systemd/user/env.service
		systemctl restart user@0 && XDG_RUNTIME_DIR=/run/user/0 systemctl --user start env`},
	"su -": {command: "env -i su - -c 'env -0 >/run/env'"},
	"su":   {command: "env -i su -c 'env -0 >/run/env'", pam: true},
	"sh":   {command: "env -i sh -lc 'env -0 >/run/env'"},
	"bash": {command: "env -i bash -lc 'env -0 >/run/env'"},
	"cron": {
		command: `echo '@reboot root env -0 >/run/env.new; mv /run/env.new /run/env' >/etc/cron.d/env
		rm -f /run/crond.reboot; systemctl restart cron
		for i in $(seq 100); do [ -e /run/env ] && break; sleep 0.1; done`, pam: true,
	},
	"exec": {command: "env -0 >/run/env"},
}

// sees holds what a way of beginning a program finds in its environment to env,
// and to none of the names that it had before.
func (b *bench) sees(c runtime.Container, way string, env map[string]string) {
	b.Helper()
	r := readers[way]
	said := b.inside(c, "rm -f /run/env\n{ "+r.command+"\n} 2>&1")
	out := b.inside(c, `tr '\0\n' '\n\001' </run/env`)
	if out == "" {
		b.Errorf("%s of %s has no environment at all: %s", way, c.Image, said)
	}
	have := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, one := values[name]; one {
			have[name] = value
		}
	}
	want := maps.Clone(env)
	if r.pam {
		for _, name := range beyondPAM {
			delete(want, name)
		}
	}
	for name := range values {
		got, there := have[name]
		if name == "TAB" && way == "a unit of a user" {
			got = strings.ReplaceAll(got, `\t`, "\t") // systemd escapes what its generators print
		}
		if expected, set := want[name]; got != expected || there != set {
			b.Errorf("%s of %s sees %s=%.200q (%t), want %.200q (%t)", way, c.Image, name, got, there, expected, set)
		}
	}
}

// isUp waits until systemd has started all: before its bus is there some of its
// programs cannot be used.
const isUp = `for i in $(seq 300); do
	case "$(systemctl is-system-running 2>/dev/null)" in running|degraded) [ -S /run/dbus/system_bus_socket ] && break;; esac
	sleep 0.1
done`

func (b *bench) booted(c runtime.Container) {
	b.Helper()
	b.inside(c, isUp)
}

// TestP2EnvironmentEverywhere: every process of a container sees it, however it
// begins, from the first start on, after each change, and none after it is gone.
func TestP2EnvironmentEverywhere(t *testing.T) {
	for _, image := range []string{"debian/12", "debian/13"} {
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, socket(t), ramdisks())
			c := runtimetest.Plain(image, runtime.Running)
			c.Env = maps.Clone(values)
			b.do(runtime.CreateContainer{New: c})
			b.observed(c)
			everywhere := func() {
				t.Helper()
				b.booted(c)
				for way := range readers {
					b.sees(c, way, c.Env)
				}
			}
			everywhere()
			b.inside(c, "sed -i 1iTHEIRS=1 /etc/environment; chmod 640 /etc/environment; chown 0:7 /etc/environment")
			b.update(&c, func(c *runtime.Container) {
				c.Env = map[string]string{"PLAIN": "staging", "PERCENT": "50%", "NUMBER": "#1"}
			})
			everywhere()
			b.update(&c, func(c *runtime.Container) { c.Env = nil })
			everywhere()
			if got := b.inside(c, "cat /etc/environment; stat -c '%a %u:%g' /etc/environment; ls -d /etc/environment.swage /etc/environment.d/*swage* /etc/systemd/system.conf.d/* /etc/profile.d/swage* 2>/dev/null || true"); got != "THEIRS=1\n640 0:7" {
				t.Errorf("left: %s", got)
			}
		})
	}
}

// TestP2ClaimedEnvironment: of a container from the warm pool all that begins
// sees it at once, and the first program after a restart.
func TestP2ClaimedEnvironment(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	spare := b.do(runtime.CreateSpare{Spare: runtime.Spare{Project: "web", Image: "debian/13", Kit: true}}).Spare
	in, _, err := b.rt.seek(t.Context(), spare.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.rt.run(t.Context(), located(in), "sh", "-c", isUp); err != nil {
		t.Fatal(err)
	}
	c := runtimetest.Plain("debian/13", runtime.Running)
	c.Kit, c.Env = true, maps.Clone(values)
	step := runtime.ClaimContainer{New: c, Spare: spare}
	if said := step.String(); !strings.Contains(said, "first program sees environment_vars after a restart") {
		t.Errorf("the plan says %q", said)
	}
	b.do(step)
	b.observed(c)
	for way := range readers {
		if way == "the first program" || way == "a unit of the boot" {
			b.sees(c, way, nil)
		} else {
			b.sees(c, way, c.Env)
		}
	}
	b.do(runtime.StopContainer{Target: c})
	b.do(runtime.StartContainer{Target: c})
	b.observed(c)
	b.booted(c)
	b.sees(c, "the first program", c.Env)
	b.sees(c, "a unit of the boot", c.Env)
}

// TestP2EnvironmentIsWrittenAgain: what a version before this one made, or a
// note that is gone, is seen and made good without a restart.
func TestP2EnvironmentIsWrittenAgain(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	c := runtimetest.Plain("debian/13", runtime.Running)
	c.Env = map[string]string{"PLAIN": "1"}
	b.do(runtime.CreateContainer{New: c})
	b.booted(c)
	first := b.inside(c, "stat -c %i:%Y /proc/1; rm -r /etc/systemd/system.conf.d /etc/environment /etc/profile.d/swage.sh; systemctl daemon-reload")
	b.incus(c, "config", "unset", "{}", keyEnvironment)
	from := c
	from.Unwritten = true
	b.observed(from)
	b.do(runtime.UpdateContainer{From: from, To: c})
	b.observed(c)
	b.sees(c, "a unit", c.Env)
	b.sees(c, "su -", c.Env)
	if got := b.inside(c, "stat -c %i:%Y /proc/1"); got != first {
		t.Errorf("it was restarted: %s, then %s", first, got)
	}
}

// TestP2EnvironmentOfCopiesAndArchives: values may be secrets, so a copy has its
// own and an archive none.
func TestP2EnvironmentOfCopiesAndArchives(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	files := fmt.Sprintf("cat %s %s %s %s 2>/dev/null || true", managerFile, userFile, pamFile, profileFile)
	c := runtimetest.Plain("debian/13", runtime.Running)
	c.Env = map[string]string{"PLAIN": "of the source"}
	b.do(runtime.CreateContainer{New: c})
	for name, env := range map[string]map[string]string{"bare": nil, "own": {"QUOTES": "of the copy"}} {
		d := runtimetest.Plain("debian/13", runtime.Running)
		d.Name, d.Env = name, env
		b.do(runtime.CopyContainer{New: d, From: c.ID, Of: c.Ref()})
		b.observed(d)
		if got := b.inside(d, files); strings.Contains(got, "of the source") || strings.Count(got, "of the copy") != 4*len(env) {
			t.Errorf("the copy %s has %s", name, got)
		}
	}
	if got := b.inside(c, files); strings.Count(got, "of the source") != 4 {
		t.Errorf("the source has %s", got)
	}
	b.do(runtime.DeleteContainer{Target: c, Archives: true})
	in, _, err := b.rt.seek(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{managerFile, userFile, pamFile, profileFile} {
		if got, err := b.rt.readFile(t.Context(), located(in), name); err != nil || strings.Contains(got, "source") {
			t.Errorf("%s of the archive holds %q, %v", name, got, err)
		}
	}
	b.do(runtime.RestoreContainer{New: c})
	b.observed(c)
	if got := b.inside(c, files); strings.Count(got, "of the source") != 4 {
		t.Errorf("what was restored has %s", got)
	}
}

// TestP2EnvironmentStaysInside: whatever root of a container puts in the way, what
// is written stays within the container's root, and a file of another kind is an
// error that names it, and no obstacle to a deletion.
func TestP2EnvironmentStaysInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 24)
	plant := map[string]string{
		"absolute links":      "rm -rf /etc/systemd/system.conf.d /etc/environment; ln -s " + outside + " /etc/systemd/system.conf.d; ln -s " + victim + " /etc/environment; ln -s " + victim + " /etc/profile.d/swage.sh",
		"relative links":      "rm -rf /etc/systemd/system.conf.d; ln -sfn " + up + outside + " /etc/systemd/system.conf.d; ln -sf " + up + victim + " /etc/environment",
		"a linked folder":     "mv /etc/profile.d /etc/profile.own; ln -s " + up + outside + " /etc/profile.d; ln -sf /proc/1/root/" + victim + " /etc/environment",
		"links to half files": "ln -sf " + victim + " /etc/environment.swage; mkdir -p /etc/systemd/system.conf.d; ln -sf " + victim + " " + managerFile + ".swage; ln -sf " + victim + " " + profileFile + ".swage",
	}
	for what, command := range plant {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, socket(t), ramdisks())
			c := runtimetest.Plain("debian/13", runtime.Running)
			b.do(runtime.CreateContainer{New: c})
			b.booted(c)
			b.inside(c, command)
			for i, running := range []bool{true, false} {
				from := c
				from.Unwritten = running
				to := c
				to.Env = map[string]string{"PLAIN": fmt.Sprint("value", i)}
				if running { // written while it runs, as for a claim
					at, err := b.rt.find(t.Context(), c.ID)
					if err == nil {
						err = b.rt.giveEnvironment(t.Context(), at, to.Env)
					}
					if err != nil {
						t.Logf("running: %v", err) // a link that leads nowhere may be one
					}
					continue
				}
				if _, err := b.rt.Do(t.Context(), runtime.UpdateContainer{From: c, To: to}); err != nil {
					t.Logf("stopped: %v", err)
				}
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
				t.Errorf("the file of the host holds %q, %v", text, err)
			}
			if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
				t.Errorf("the folder of the host holds %v, %v", list, err)
			}
		})
	}
	t.Run("other kinds", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, socket(t), ramdisks())
		c := runtimetest.Plain("debian/13", runtime.Running)
		b.do(runtime.CreateContainer{New: c})
		b.booted(c)
		for kind, command := range map[string]string{
			"a pipe": "mkfifo /etc/environment", "a folder": "mkdir /etc/environment", "a device": "ln -s /dev/zero /etc/environment",
			"much": "head -c 2000000 /dev/zero >/etc/environment",
		} {
			b.inside(c, "rm -rf /etc/environment; "+command)
			at, err := b.rt.find(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.rt.writeEnvironment(t.Context(), at, map[string]string{"A": "1"}); err == nil || !strings.Contains(err.Error(), "/etc/environment inside the container") {
				t.Errorf("%s: %v", kind, err)
			}
			if err := b.rt.writeEnvironment(t.Context(), at, nil); err != nil {
				t.Errorf("%s in the way of a removal: %v", kind, err)
			}
		}
	})
}

// TestP2EnvironmentWithoutSystemd: an image that has nothing to read the files is
// left as it is, and its first program has the environment.
func TestP2EnvironmentWithoutSystemd(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	c := runtimetest.Plain("tiny/1", runtime.Running)
	c.Env = maps.Clone(values)
	b.do(runtime.CreateContainer{New: c})
	b.observed(c)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid(t, b.rt.scope, c.ID)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		if !strings.Contains("\x00"+string(environ), "\x00"+name+"="+value+"\x00") {
			t.Errorf("the first program has no %s", name)
		}
	}
	for _, name := range []string{"/etc/systemd", "/etc/profile.d"} {
		at, err := b.rt.find(context.Background(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := b.rt.readDir(t.Context(), at, name); err != nil || len(list) > 0 {
			t.Errorf("%s was made: %v, %v", name, list, err)
		}
	}
	b.update(&c, func(c *runtime.Container) { c.Env = nil })
}
