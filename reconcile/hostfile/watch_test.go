package hostfile_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"swage/reconcile/hostfile"
)

// TestL11FilesThatWereReadAreWatched: every way to make, change or exchange a
// file is one change, and nothing else is.
func TestL11FilesThatWereReadAreWatched(t *testing.T) {
	for name, test := range map[string]struct{ before, change func(dir string) error }{
		"made": {nil, func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o600) }},
		"made with its folder": {nil, func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "sub", "f"), []byte("a"), 0o600)
		}},
		"written, of the same size": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o600) },
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("b"), 0o600) },
		},
		"replaced": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o600) },
			func(dir string) error {
				if err := os.WriteFile(filepath.Join(dir, "new"), []byte("b"), 0o600); err != nil {
					return err
				}
				return os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "f"))
			},
		},
		"a link on its way is swapped": {
			func(dir string) error {
				for _, v := range []string{"1", "2"} {
					if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
						return err
					}
					if err := os.WriteFile(filepath.Join(dir, v, "f"), []byte(v), 0o600); err != nil {
						return err
					}
				}
				if err := os.Symlink("1", filepath.Join(dir, "now")); err != nil {
					return err
				}
				return os.Symlink("now/f", filepath.Join(dir, "f"))
			},
			func(dir string) error {
				if err := os.Symlink("2", filepath.Join(dir, "next")); err != nil {
					return err
				}
				return os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "now"))
			},
		},
		"removed": {
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), []byte("a"), 0o600) },
			func(dir string) error { return os.Remove(filepath.Join(dir, "f")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if test.before != nil {
				if err := test.before(dir); err != nil {
					t.Fatal(err)
				}
			}
			w := &hostfile.Watch{Folders: hostfile.Folders{dir}}
			_, _ = w.Read(filepath.Join(dir, "f"), 100)
			_, _ = w.Read(filepath.Join(dir, "sub", "f"), 100)
			ctx, cancel := context.WithCancel(t.Context())
			changes, ended := make(chan struct{}, 10), make(chan struct{})
			go func() {
				defer close(ended)
				w.Run(ctx, func() { changes <- struct{}{} })
			}()
			// What was not read changes nothing.
			if err := os.WriteFile(filepath.Join(dir, "other"), []byte("a"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			select {
			case <-changes:
			case <-time.After(time.Minute):
				t.Error("the change is not seen")
			}
			cancel()
			<-ended
			if len(changes) > 0 {
				t.Errorf("%d more changes", len(changes))
			}
		})
	}
}
