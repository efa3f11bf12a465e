package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swage/reconcile"
)

// release are the programs as users have them, without the race detector.
func (s *site) release() (lab, swage string) {
	s.Helper()
	dir, err := filepath.Abs("../../.bin")
	if err != nil {
		s.Fatal(err)
	}
	return filepath.Join(dir, "lab"), filepath.Join(dir, "swage")
}

// released runs a command of the release on the work tree in the lab.
func (s *site) released(command string) string {
	s.Helper()
	lab, swage := s.release()
	return s.command(lab, "exec", "--dir", s.lab, "--", swage, command,
		"--incus-socket", s.incusSocket(), "--state-dir", s.path("state"), s.path("work"))
}

// BenchmarkPushToFirst200 is the time from `git push` of a new tiny container
// to its first answer through the edge, beside `incus launch` of the same
// image in the same lab: medians, and the push as a multiple of
// 1.5 × launch + 150 ms.
func BenchmarkPushToFirst200(b *testing.B) {
	s := newSite(b)
	s.startProgram(s.release())
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

// BenchmarkApply20 is `swage apply` of 20 new tiny containers beside
// `xargs -P4 incus launch` of as many.
func BenchmarkApply20(b *testing.B) {
	s := newSite(b)
	s.write("projects/web/first.cue", "containers: first: {}\n")
	s.released("apply")
	var applies, launches []time.Duration
	for i := 0; b.Loop(); i++ {
		var file, names strings.Builder
		for j := range 20 {
			fmt.Fprintf(&file, "containers: \"app-%d-%d\": {}\n", i, j)
			fmt.Fprintf(&names, "bench-%s-%d-%d\n", s.scope.Fleet[:6], i, j)
		}
		s.write(fmt.Sprintf("projects/web-%d/apps.cue", i), file.String())
		began := time.Now()
		s.released("apply")
		applies = append(applies, time.Since(began))

		began = time.Now()
		s.command("sh", "-c", "printf '"+names.String()+"' | xargs -P4 -I{} incus launch --quiet tiny/1 {}")
		launches = append(launches, time.Since(began))
		s.command("sh", "-c", "printf '"+names.String()+"' | xargs -P4 incus delete --force")
		// Both begin beside as many others: what Incus takes grows with them.
		s.write(fmt.Sprintf("projects/web-%d/apps.cue", i), "")
		s.released("apply")
	}
	apply, launch := median(applies), median(launches)
	b.ReportMetric(float64(apply.Milliseconds()), "apply-ms")
	b.ReportMetric(float64(launch.Milliseconds()), "launch-ms")
	b.ReportMetric(float64(apply)/float64(launch), "apply/launch")
}

// BenchmarkEmptyPlan is `swage plan` with nothing to do over 100 running
// containers, beside one query of Incus for all of them with their state.
func BenchmarkEmptyPlan(b *testing.B) {
	s := newSite(b)
	var file strings.Builder
	for j := range 100 {
		fmt.Fprintf(&file, "containers: \"app-%d\": {}\n", j)
	}
	s.write("projects/web/apps.cue", file.String())
	s.released("apply")
	var plans, queries []time.Duration
	for b.Loop() {
		began := time.Now()
		if out := s.released("plan"); out != "no changes\n" {
			b.Fatal(out)
		}
		plans = append(plans, time.Since(began))
		began = time.Now()
		s.incus("query", "/1.0/instances?recursion=2&all-projects=true")
		queries = append(queries, time.Since(began))
	}
	plan, query := median(plans), median(queries)
	b.ReportMetric(float64(plan.Milliseconds()), "plan-ms")
	b.ReportMetric(float64(query.Milliseconds()), "query-ms")
	b.ReportMetric(float64(plan)/float64(query*3/2+50*time.Millisecond), "plan/bound")
}

// BenchmarkClaim is the time from the end of a push to the first answer of a
// container that comes from the warm pool.
func BenchmarkClaim(b *testing.B) {
	s := newSite(b)
	lab, swage := s.release()
	s.startProgram(lab, swage)
	s.write("projects/web/pool.cue", `project: prespawn: [{container_image: "tiny/1", kit: true, count: 2}]`+"\ncontainers: first: {}\n")
	s.settled(s.push())
	var claims []time.Duration
	for i := 0; b.Loop(); i++ {
		s.eventually("the pool is full", func() bool {
			r := s.status()
			return r.State == reconcile.Applied && r.Projects[0].Spares == 2
		})
		name := fmt.Sprintf("app-%d", i)
		s.write("projects/web/"+name+".cue", fmt.Sprintf("containers: %q: {}\naliases: %q: container: %q\n", name, name, name))
		s.push()
		began := time.Now()
		s.eventually(name+" answers", func() bool { status, _ := s.get(name); return status == 200 })
		claims = append(claims, time.Since(began))
	}
	b.ReportMetric(float64(median(claims).Milliseconds()), "claim-ms")
}

// BenchmarkIdle is what an agent with 100 running containers takes when nothing
// happens: the share of a core over the time, and its memory.
func BenchmarkIdle(b *testing.B) {
	s := newSite(b)
	s.startProgram(s.release())
	var file strings.Builder
	for j := range 100 {
		fmt.Fprintf(&file, "containers: \"app-%d\": {}\n", j)
	}
	s.write("projects/web/apps.cue", file.String())
	s.settled(s.push())
	span := 30 * time.Second
	if os.Getenv("SWAGE_SOAK") != "" {
		span = 5 * time.Minute
	}
	for b.Loop() {
		before, _ := s.usage()
		time.Sleep(span) // the time itself is what is measured
		after, rss := s.usage()
		b.ReportMetric(100*(after-before).Seconds()/span.Seconds(), "%core")
		b.ReportMetric(float64(rss>>20), "MiB")
	}
}

// usage is the CPU time and the resident memory of the agent.
func (s *site) usage() (cpu time.Duration, rss int64) {
	s.Helper()
	pid := s.agent.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.Fatal(err)
	}
	// proc_pid_stat(5): fields 14 and 15 in ticks of 10 ms, 24 in pages.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	n := func(field int) int64 {
		v, err := strconv.ParseInt(f[field-3], 10, 64)
		if err != nil {
			s.Fatal(err)
		}
		return v
	}
	return time.Duration(n(14)+n(15)) * 10 * time.Millisecond, n(24) * int64(os.Getpagesize())
}
