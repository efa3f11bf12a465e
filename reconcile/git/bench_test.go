package git

import (
	"fmt"
	"testing"

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
