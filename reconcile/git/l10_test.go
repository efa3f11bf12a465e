package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestL10Prepare: whoever sees the repository sees it with its hooks and all of
// its settings, and what a git at work has in quarantine stays.
func TestL10Prepare(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "fleet.git")
	made := make(chan error, 1)
	go func() { made <- Prepare(t.Context(), bare, "main", "true") }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := os.Stat(filepath.Join(bare, "HEAD")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no repository")
		}
	}
	for _, name := range []string{"hooks/pre-receive", "hooks/proc-receive"} {
		if _, err := os.Stat(filepath.Join(bare, name)); err != nil {
			t.Errorf("the repository is there without %s", name)
		}
	}
	first, err := os.ReadFile(filepath.Join(bare, "config"))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	if last, err := os.ReadFile(filepath.Join(bare, "config")); err != nil || string(first) != string(last) {
		t.Errorf("the settings were\n%s\nand became\n%s (%v)", first, last, err)
	}

	quarantine := filepath.Join(bare, "objects", "tmp_objdir-incoming-x")
	if err := os.Mkdir(quarantine, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "cat-file", "--batch") // it waits for its input
	cmd.Dir = bare
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "comm")); err == nil && string(name) == "git\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("git does not start")
		}
	}
	if err := Prepare(t.Context(), bare, "main", "true"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(quarantine); err != nil {
		t.Error("the quarantine of a git at work is gone")
	}
	in.Close()
	_ = cmd.Wait()
	if err := Prepare(t.Context(), bare, "main", "true"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(quarantine); err == nil {
		t.Error("the quarantine of a git that was killed is still there")
	}
}
