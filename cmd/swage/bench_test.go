package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkPushToFirst200 is the time from `git push` of a new tiny container
// to its first answer through the edge, beside `incus launch` of the same
// image in the same lab: medians, and the push as a multiple of
// 1.5 × launch + 150 ms.
func BenchmarkPushToFirst200(b *testing.B) {
	s := newSite(b)
	lab, err := filepath.Abs("../../.bin/lab")
	if err != nil {
		b.Fatal(err)
	}
	s.startProgram(lab, filepath.Join(filepath.Dir(lab), "swage")) // without the race detector
	s.write("projects/web/first.cue", "containers: first: {}\n")
	s.settled(s.push())
	var pushes, launches []time.Duration
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("app-%d", i)
		s.write("projects/web/"+name+".cue", fmt.Sprintf("containers: %q: {}\naliases: %q: container: %q\n", name, name, name))
		s.git("add", "--all")
		s.git("commit", "--quiet", "--message=change")
		began := time.Now()
		s.git("push", "--quiet", "origin", "main")
		s.eventually(name+" answers", func() bool { status, _ := s.get(name); return status == 200 })
		pushes = append(pushes, time.Since(began))

		plain := fmt.Sprintf("bench-%s-%d", s.scope.Fleet[:6], i)
		began = time.Now()
		s.incus("launch", "--quiet", "tiny/1", plain)
		launches = append(launches, time.Since(began))
		s.incus("delete", "--force", plain)
	}
	push, launch := median(pushes), median(launches)
	bound := launch*3/2 + 150*time.Millisecond
	b.ReportMetric(float64(push.Milliseconds()), "push-ms")
	b.ReportMetric(float64(launch.Milliseconds()), "launch-ms")
	b.ReportMetric(float64(push)/float64(bound), "push/bound")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
