package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const limit = 1 << 10

// node is a folder of secrets, and what lies beside it.
func node(t *testing.T) (folder, outside string) {
	t.Helper()
	dir := t.TempDir()
	folder, outside = filepath.Join(dir, "secrets"), filepath.Join(dir, "outside")
	for _, d := range []string{folder, outside, filepath.Join(folder, "deep/er"), filepath.Join(folder, "..2026")} {
		must(t, os.MkdirAll(d, 0o700))
	}
	for file, text := range map[string]string{
		"secrets/db": "hunter22\n", "secrets/deep/er/key": "deep", "secrets/..2026/tls": "whole", "outside/shadow": "root",
		"secrets/limit": strings.Repeat("x", limit), "secrets/long": strings.Repeat("x", limit+1), "secrets2": "neighbour",
	} {
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	for link, to := range map[string]string{
		"deep/up": "../db", "..data": "..2026", "tls": "..data/tls", "out": "../outside/shadow", "lost-out": "../outside/none",
		"absolute": filepath.Join(outside, "shadow"), "absolute-in": filepath.Join(folder, "db"), "dir-out": "../outside",
		"loop": "loop2", "loop2": "loop", "dangling": "none", "null": "/dev/null", "proc": "/proc/self/environ",
	} {
		must(t, os.Symlink(to, filepath.Join(folder, link)))
	}
	must(t, unix.Mkfifo(filepath.Join(folder, "fifo"), 0o600))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(s) })
	must(t, unix.Bind(s, &unix.SockaddrUnix{Name: filepath.Join(folder, "socket")}))
	return folder, outside
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon fails a test that hangs instead of waiting for it.
func soon(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it blocks")
	}
}

// TestS2FilesBelowFolders [F8]: what a repository may name of a node's files.
func TestS2FilesBelowFolders(t *testing.T) {
	folder, outside := node(t)
	const gone, escapes = "no such file", "escapes"
	for _, row := range []struct{ path, want, fails string }{
		{"db", "hunter22\n", ""},
		{"./deep//er/../../db", "hunter22\n", ""},
		{"deep/er/key", "deep", ""},
		{"deep/up", "hunter22\n", ""},
		{"tls", "whole", ""},
		{"..data/tls", "whole", ""},
		{"limit", strings.Repeat("x", limit), ""},
		{"long", "", "has more than 1024 bytes"},
		{"none", "", gone},
		{"db/none", "", "not a directory"},
		{"dangling", "", gone},
		{".", "", "outside of the folders"},
		{"deep", "", "is a folder"},
		{"fifo", "", "no regular file"},
		{"socket", "", "no regular file"},
		{"loop", "", "too many"},
		{"out", "", escapes},
		{"lost-out", "", escapes},
		{"dir-out/shadow", "", escapes},
		{"dir-out/none", "", escapes},
		{"absolute", "", escapes},
		{"absolute-in", "", escapes},
		{"null", "", escapes},
		{"proc", "", escapes},
		{"../outside/shadow", "", "outside of the folders"},
		{"../secrets2", "", "outside of the folders"},
	} {
		soon(t, func() {
			got, err := Folders{folder}.Read(folder+"/"+row.path, limit)
			if string(got) != row.want || (err == nil) != (row.fails == "") || err != nil && !strings.Contains(err.Error(), row.fails) {
				t.Errorf("%s: %.20q, %v; want %.20q, %q", row.path, got, err, row.want, row.fails)
			}
		})
	}
	for _, path := range []string{
		"/dev/zero", "/dev/null", "/dev/tty", "/proc/self/environ", "/proc/self/fd/0", "/etc/shadow", "/", "", "db", "secrets/db",
		outside + "/shadow", folder + "2", folder,
	} {
		if (Folders{folder}).Covers(path) {
			t.Errorf("%q counts as below the folder", path)
		}
		if _, err := (Folders{folder}).Read(path, limit); err == nil || !strings.Contains(err.Error(), "outside of the folders") || !strings.Contains(err.Error(), folder) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Folders(nil).Read(folder+"/db", limit); err == nil || !strings.Contains(err.Error(), "lists: none") {
		t.Errorf("no folder at all: %v", err)
	}
	if got, err := (Folders{outside, filepath.Dir(folder), folder}).Read(folder+"/db", limit); string(got) != "hunter22\n" {
		t.Errorf("one folder in another: %q, %v", got, err)
	}
	if _, err := (Folders{folder + "/none"}).Read(folder+"/none/db", limit); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the folder "+folder+"/none") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestS2OutsideIsNotTold: an error says the same of a file outside of the
// folders whether it is there or not, so that nobody learns what root has.
func TestS2OutsideIsNotTold(t *testing.T) {
	folder, outside := node(t)
	for _, pair := range [][2]string{
		{outside + "/shadow", outside + "/none"},
		{folder + "/dir-out/shadow", folder + "/dir-out/none"},
		{folder + "/../outside/shadow", folder + "/../outside/none"},
		{folder + "/out", folder + "/lost-out"},
	} {
		var said [2]string
		for i, path := range pair {
			_, err := Folders{folder}.Read(path, limit)
			if err == nil {
				t.Fatalf("%s was read", path)
			}
			said[i] = strings.ReplaceAll(err.Error(), path, "")
		}
		if said[0] != said[1] {
			t.Errorf("one that is there: %s; one that is not: %s", said[0], said[1])
		}
	}
}

// TestS2NoDeviceIsOpened: what is no regular file is refused wherever it is,
// in a node file too, without waiting for a writer.
func TestS2NoDeviceIsOpened(t *testing.T) {
	folder, _ := node(t)
	for _, path := range []string{"/dev/zero", "/dev/null", folder + "/fifo", folder + "/socket", folder, folder + "/null"} {
		soon(t, func() {
			if got, err := Read(path, limit); err == nil {
				t.Errorf("%s: read %d bytes", path, len(got))
			}
		})
	}
	if got, err := Read(folder+"/absolute-in", limit); string(got) != "hunter22\n" || err != nil {
		t.Errorf("a link of the operator's: %q, %v", got, err)
	}
	// It has no size that anybody could ask beforehand.
	if got, err := Read("/proc/self/smaps", 16); err == nil || !strings.Contains(err.Error(), "more than 16 bytes") {
		t.Errorf("a file without a size: %q, %v", got, err)
	}
}

// TestS2SwapWhileReading: while a link is swapped again and again, each read
// yields one of the two whole values or an error, and nothing from outside.
func TestS2SwapWhileReading(t *testing.T) {
	folder, outside := node(t)
	must(t, os.MkdirAll(filepath.Join(folder, "..2027"), 0o700))
	must(t, os.WriteFile(filepath.Join(folder, "..2027/tls"), []byte("other"), 0o600))
	must(t, os.WriteFile(filepath.Join(outside, "tls"), []byte("root"), 0o600))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			to := []string{"..2026", "../outside", "..2027", "fifo"}[i%4]
			if os.Symlink(to, filepath.Join(folder, "next")) != nil || os.Rename(filepath.Join(folder, "next"), filepath.Join(folder, "..data")) != nil {
				return
			}
		}
	}()
	seen := map[string]int{}
	soon(t, func() {
		for range 2000 {
			got, err := Folders{folder}.Read(folder+"/tls", limit)
			if err == nil {
				seen[string(got)]++
			}
		}
	})
	close(stop)
	<-stopped
	for text := range seen {
		if text != "whole" && text != "other" {
			t.Errorf("read %q", text)
		}
	}
	if len(seen) == 0 {
		t.Error("nothing was read at all")
	}
}
