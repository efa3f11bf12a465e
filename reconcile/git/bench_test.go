package git

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"swage/schema"
)

// BenchmarkReload is what one changed file of 5,000 costs the agent, from the
// commit to the fleet.
func BenchmarkReload(b *testing.B) {
	bare, work := fixture(b)
	write(b, work, "swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n")
	write(b, work, "servers/lab.cue", "")
	write(b, work, "projects/web/app/a.cue", "")
	for i := range 5000 {
		write(b, work, fmt.Sprintf("projects/p%d/c%d.cue", i/20, i), fmt.Sprintf("containers: \"c-%d\": environment_vars: A: \"1\"\n", i))
	}
	commit(b, work)
	run(b, bare, "gc", "-q")
	src := Follow(bare, "main", "")
	var loader schema.Loader
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		write(b, work, "projects/p7/c140.cue", fmt.Sprintf("containers: \"c-140\": environment_vars: A: \"%d\"\n", i))
		commit(b, work)
		b.StartTimer()
		s, err := src.Latest(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		f, err := loader.Load(b.Context(), s.Tree)
		if err != nil || len(f.Projects) < 250 {
			b.Fatal(err)
		}
		if i == 0 {
			b.ResetTimer() // the first reads everything
		}
	}
}

// large is a web server with 2,000 commits of 5,000 files, a work tree of it,
// and a mirror that is up to date.
func large(b *testing.B) (*Remote, string) {
	bare, work := fixture(b)
	write(b, work, "swage.cue", "id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\n")
	write(b, work, "servers/lab.cue", "")
	write(b, work, "projects/web/app/a.cue", "")
	for i := range 5000 {
		write(b, work, fmt.Sprintf("projects/p%d/c%d.cue", i/20, i), fmt.Sprintf("containers: \"c-%d\": environment_vars: A: \"1\"\n", i))
	}
	commit(b, work)
	// Two thousand commits at once, as git fast-import takes them.
	var history strings.Builder
	for i := range 2000 {
		text := fmt.Sprintf("containers: \"c-140\": environment_vars: A: \"h%d\"\n", i)
		fmt.Fprintf(&history, "commit refs/heads/main\ncommitter a <a@example.com> %d +0000\ndata 1\nx\n", 1700000000+i)
		if i == 0 {
			fmt.Fprint(&history, "from refs/heads/main^0\n")
		}
		fmt.Fprintf(&history, "M 644 inline projects/p7/c140.cue\ndata %d\n%s\n", len(text), text)
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = bare, strings.NewReader(history.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	run(b, bare, "gc", "-q")
	run(b, work, "pull", "-q", "origin", "main")
	r := newRemote(b, serveWeb(b, filepath.Dir(bare)).options(b))
	if _, err := r.Latest(b.Context()); err != nil {
		b.Fatal(err)
	}
	return r, work
}

// BenchmarkPoll is a poll that finds nothing new. The CPU time is of this
// process, in which the web server runs too.
func BenchmarkPoll(b *testing.B) {
	r, _ := large(b)
	before := cpu(b, syscall.RUSAGE_SELF)
	for b.Loop() {
		if err := r.sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b, syscall.RUSAGE_SELF)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func cpu(b *testing.B, who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFetch is one changed file of 5,000, from the poll to the fleet. The
// CPU time of the fetch is that of this process and of every git, the server's
// too.
func BenchmarkFetch(b *testing.B) {
	r, work := large(b)
	var loader schema.Loader
	var fetched, self, started time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		write(b, work, "projects/p7/c140.cue", fmt.Sprintf("containers: \"c-140\": environment_vars: A: \"%d\"\n", i))
		commit(b, work)
		b.StartTimer()
		begin, mine, theirs := time.Now(), cpu(b, syscall.RUSAGE_SELF), cpu(b, syscall.RUSAGE_CHILDREN)
		if err := r.sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		fetched += time.Since(begin)
		self += cpu(b, syscall.RUSAGE_SELF) - mine
		started += cpu(b, syscall.RUSAGE_CHILDREN) - theirs
		s, err := r.Latest(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		f, err := loader.Load(b.Context(), s.Tree)
		if err != nil || len(f.Projects) < 250 {
			b.Fatal(err)
		}
		if i == 0 {
			b.ResetTimer() // the first reads everything
			fetched, self, started = 0, 0, 0
		}
	}
	for unit, d := range map[string]time.Duration{"fetch": fetched, "self-cpu": self, "git-cpu": started} {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), unit+"-ms/op")
	}
}
