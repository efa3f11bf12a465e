package git

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChange(t *testing.T) {
	bare, work := fixture(t)
	write(t, work, "fleet/swage.cue", "one")
	write(t, work, "fleet/projects/web/a.cue", "two")
	write(t, work, "fleet/projects/web/run.sh", "three")
	commit(t, work)
	base := head(t, work)
	for name, c := range map[string]struct {
		folder string
		do     func()
		want   string
	}{
		"nothing":                       {"fleet", func() { run(t, work, "commit", "-q", "--allow-empty", "-m", "x") }, ""},
		"a file":                        {"fleet", func() { write(t, work, "fleet/swage.cue", "2") }, "swage.cue"},
		"at the root":                   {"", func() { write(t, work, "fleet/swage.cue", "2") }, "fleet/swage.cue"},
		"beside the folder":             {"fleet", func() { write(t, work, "fleet2/x", "2"); write(t, work, "swage.cue", "2") }, "../fleet2/x ../swage.cue"},
		"only its mode":                 {"fleet", func() { _ = os.Chmod(filepath.Join(work, "fleet/projects/web/run.sh"), 0o755) }, "projects/web/run.sh"},
		"a link with the same content":  {"fleet", func() { relink(t, work, "fleet/projects/web/a.cue", "two") }, "projects/web/a.cue"},
		"a folder that goes":            {"fleet", func() { run(t, work, "rm", "-rq", "fleet/projects") }, "projects/web/a.cue projects/web/run.sh"},
		"a file that becomes a folder":  {"fleet", func() { run(t, work, "rm", "-q", "fleet/swage.cue"); write(t, work, "fleet/swage.cue/x", "1") }, "swage.cue swage.cue/x"},
		"a submodule":                   {"fleet", func() { run(t, work, "update-index", "--add", "--cacheinfo", "160000,"+base+",fleet/sub") }, "sub"},
		"a file that goes and its twin": {"fleet", func() { run(t, work, "mv", "fleet/swage.cue", "fleet/swage2.cue") }, "swage.cue swage2.cue"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, work, "reset", "-q", "--hard", base)
			run(t, work, "clean", "-qdff")
			c.do()
			if name != "a submodule" {
				run(t, work, "add", "-A")
			}
			run(t, work, "commit", "-q", "--allow-empty", "-m", "change")
			run(t, work, "push", "-qf", "origin", "HEAD:change")
			got, err := Local{Path: bare, Folder: c.folder}.Change(t.Context(), "", base, head(t, work))
			if err != nil || strings.Join(got.Files, " ") != c.want || !got.Forward {
				t.Errorf("%q, %t, %v; want %q", got.Files, got.Forward, err, c.want)
			}
			back, err := Local{Path: bare, Folder: c.folder}.Change(t.Context(), "", head(t, work), base)
			if err != nil || !slices.Equal(back.Files, got.Files) || back.Forward {
				t.Errorf("back: %q, %t, %v", back.Files, back.Forward, err)
			}
		})
	}
}

func relink(t *testing.T, work, name, to string) {
	t.Helper()
	name = filepath.Join(work, name)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}
