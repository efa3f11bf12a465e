package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for _, row := range []struct {
		live uint64
		want int
	}{
		{0, 1000}, {4 << 20, 1000}, {16 << 20, 400}, {32 << 20, 200}, {64 << 20, 100}, {1 << 30, 100},
	} {
		if got := gcPercent(row.live); got != row.want {
			t.Errorf("%d MiB live: %d, want %d", row.live>>20, got, row.want)
		}
	}
}

// TestGroupLimit: the least of all groups from the process's own up to the
// root counts.
func TestGroupLimit(t *testing.T) {
	for _, row := range []struct {
		what  string
		files map[string]string
		want  int64
	}{
		{"none", map[string]string{"self": "0::/a/b\n"}, 0},
		{"no version 2", map[string]string{"self": "5:memory:/a\n"}, 0},
		{"unlimited", map[string]string{"self": "0::/a\n", "a/memory.max": "max\n"}, 0},
		{"its own", map[string]string{"self": "0::/a/b\n", "a/b/memory.max": "1000\n", "a/memory.max": "max\n"}, 1000},
		{"one above", map[string]string{"self": "1:x:/\n0::/a/b\n", "a/b/memory.max": "1000\n", "a/memory.max": "500\n"}, 500},
	} {
		dir := t.TempDir()
		for name, text := range row.files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := groupLimit(filepath.Join(dir, "self"), dir); got != row.want {
			t.Errorf("%s: %d, want %d", row.what, got, row.want)
		}
	}
}
