package incus

import (
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"

	"swage/runtime"
)

// TestS20TheFolderOfRamdisksStaysClosed: whoever made it, and with whatever
// mode, nobody but root passes it.
func TestS20TheFolderOfRamdisksStaysClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	for _, c := range []struct {
		name string
		make func(dir string) error
		want string // of the error
	}{
		{"missing, with the folder above", func(string) error { return nil }, ""},
		{"open", func(dir string) error { return os.MkdirAll(dir, 0o755) }, ""},
		{"for a group", func(dir string) error {
			return errorsOf(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o770))
		}, ""},
		{"a link to a folder that is open", func(dir string) error {
			return errorsOf(os.MkdirAll(filepath.Dir(dir), 0o755), os.Symlink(t.TempDir(), dir))
		}, "must be a folder of its own and no link"},
		{"a file", func(dir string) error {
			return errorsOf(os.MkdirAll(filepath.Dir(dir), 0o755), os.WriteFile(dir, nil, 0o600))
		}, "must be a folder of its own and no link"},
		{"of somebody else", func(dir string) error { return errorsOf(os.MkdirAll(dir, 0o700), os.Chown(dir, 65534, 65534)) }, "belongs to user 65534"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state", "ramdisks")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			rt := &Runtime{scope: runtime.Scope{Ramdisks: dir}}
			id := runtime.NewID()
			err := rt.mountRamdisk(id, 1<<20)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := rt.unmountRamdisk(id); err != nil {
					t.Error(err)
				}
			})
			is, err := os.Lstat(dir)
			if err != nil || is.Mode() != os.ModeDir|0o700 {
				t.Errorf("it is %v, %v", is.Mode(), err)
			}
			if got := asNobody(t, filepath.Join(dir, string(id), "data")); got != syscall.EACCES {
				t.Errorf("a user of the host may list a ramdisk: %v", got)
			}

			// Opened by hand it is closed again, and told.
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			var told []string
			w := repairer{r: rt, lost: map[runtime.ID]bool{}}
			for range 2 {
				w.ramdisks(func(r runtime.Repair) { told = append(told, r.What) })
			}
			if is, err := os.Lstat(dir); err != nil || is.Mode().Perm() != 0o700 || len(told) != 1 {
				t.Errorf("it is %v, %v; told %q", is.Mode(), err, told)
			}
		})
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// asNobody opens a folder as a user without rights, on a thread of its own.
func asNobody(t *testing.T, dir string) error {
	t.Helper()
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // for ever: the thread ends with the goroutine
		const nobody = 65534
		if _, _, no := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); no != 0 {
			done <- no
			return
		}
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err == nil {
			syscall.Close(fd)
		}
		done <- err
	}()
	return <-done
}

func TestS20ProcessesAreWrittenAndRead(t *testing.T) {
	for n, want := range map[int]string{0: "4096", 512: "512", runtime.NoLimit: ""} {
		if got := processes(n); got != want || readProcesses(got) != n {
			t.Errorf("%d is written %q and read %d", n, got, readProcesses(got))
		}
	}
	for _, odd := range []string{"0", "-5", "many", "50%"} { // by hand: put right
		if n := readProcesses(odd); n == 0 || n == runtime.NoLimit {
			t.Errorf("%q is read as %d", odd, n)
		}
	}
}
