package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestS3HostileFolder: every command that reads a working folder says what in it
// is no plain file, and waits for none.
func TestS3HostileFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("INCUS_FILE", filepath.Join(t.TempDir(), "incus.json"))
	for name, text := range map[string]string{"swage.cue": hostileSwage, "servers/lab.cue": "", "projects/web/app.cue": "containers: app: {}\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := exec.Command("sh", "-euc", "git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm first")
	git.Dir = dir
	git.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := git.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	try := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := make(chan int, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { code <- run(ctx, append(args, dir), &out, &out, openFile) }()
		select {
		case c := <-code:
			return c, out.String()
		case <-time.After(20 * time.Second):
			t.Fatalf("%v waits", args)
			return 0, ""
		}
	}
	commands := [][]string{{"validate"}, {"plan"}, {"plan", "--server", "lab"}, {"apply"}, {"plan", "--against", "HEAD"}, {"plan", "--node", "https://api.lab.example.com"}}
	t.Setenv("SWAGE_TOKEN", "x")
	for _, args := range commands[:5] {
		if code, out := try(args...); code != 0 {
			t.Errorf("%v of a good folder: %d %s", args, code, out)
		}
	}
	for _, c := range []struct {
		what, name string
		make       func(name string) error
	}{
		{"a FIFO", "projects/web/x.cue", func(name string) error { return syscall.Mkfifo(name, 0o644) }},
		{"a FIFO at the root", "swage.json", func(name string) error { return syscall.Mkfifo(name, 0o644) }},
		{"a link to an endless device", "projects/web/x.yaml", func(name string) error { return os.Symlink("/dev/zero", name) }},
		{"a link to itself", "servers/x.cue", func(name string) error { return os.Symlink("x.cue", name) }},
		{"a folder in itself", "projects/x", func(name string) error { return os.Symlink(".", name) }},
		{"a folder of devices", "lib", func(name string) error { return os.Symlink("/dev", name) }},
		{"a socket", "projects/web/y.cue", func(name string) error { return syscall.Mknod(name, syscall.S_IFSOCK|0o644, 0) }},
	} {
		name := filepath.Join(dir, c.name)
		if err := c.make(name); err != nil {
			t.Fatal(err)
		}
		for _, args := range commands {
			if code, out := try(args...); code != 1 || !strings.Contains(out, c.name+": is no plain file") {
				t.Errorf("%v with %s: %d %s", args, c.what, code, out)
			}
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestA3AnothersRepositoryAbove: a repository that somebody else put above the
// folder is not taken for one's own; that of the folder's owner is, and so is one
// that is named. A folder's name is no pattern.
func TestA3AnothersRepositoryAbove(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const mallory, alice = 65533, 65532
	top := filepath.Join(t.TempDir(), "[shared]*")
	below := filepath.Join(top, "mine", "deep")
	for _, d := range []string{below, filepath.Join(top, "servers")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"swage.cue": hostileSwage, "servers/lab.cue": ""} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		file, folder int // whose they are
		dir, want    string
	}{
		{0, 0, below, "ok: 1 server"},
		{mallory, 0, below, "belongs to user 65533; to use that repository, name its folder"},
		{mallory, alice, below, "belongs to user 65533"},
		{alice, alice, below, "ok: 1 server"},
		{0, alice, below, "ok: 1 server"},
		{mallory, 0, top, "ok: 1 server"},
	} {
		if err := os.Chown(filepath.Join(top, "swage.cue"), row.file, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(below, row.folder, 0); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if run(t.Context(), []string{"validate", row.dir}, &out, &out, openFile); !strings.Contains(out.String(), row.want) {
			t.Errorf("%+v: %s", row, out.String())
		}
	}
}
