package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"swage/runtime"
)

const webID = "111111111111111111111111"

// TestL4ADeletionIsReversible [R6]: a container that a commit takes away is kept
// as an archive, and comes back under its id, whatever else the commit that
// brings it back changes of it.
func TestL4ADeletionIsReversible(t *testing.T) {
	const web = `web: {id: "` + webID + `", `
	for name, c := range map[string]struct{ before, after, want string }{
		"as it was":     {web + `}`, web + `}`, "restore container web/web from its archive (tiny/1, running)"},
		"changed":       {web + `}`, web + `environment_vars: A: "1", comment: "back"}`, "restore container web/web from its archive (tiny/1, running)"},
		"renamed":       {web + `}`, `new: id: "` + webID + `"`, "restore container web/new from its archive (tiny/1, running)"},
		"stopped":       {web + `}`, web + `state: "stopped"}`, "restore container web/web from its archive (tiny/1, stopped)"},
		"paused":        {web + `state: "paused"}`, web + `state: "paused"}`, "restore container web/web from its archive (tiny/1, paused)"},
		"fresh, claims": {web + `}`, web + `cache: false, bypass_prespawn: true}`, "restore container web/web from its archive (tiny/1, running)"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode()
			n.pass(t, "containers: {other: {}, "+c.before+"}")
			log := n.order()
			n.pass(t, "containers: other: {}")
			if want := "delete container web/web, keep an archive for 7 days"; len(*log) != 1 || (*log)[0] != want {
				t.Fatalf("%q, want %q", *log, want)
			}
			a := n.observe(t)
			if len(a.Containers) != 1 || len(a.Archives) != 1 || time.Until(a.Archives[0].Until) < 6*24*time.Hour {
				t.Fatalf("%+v", a.State)
			}
			*log = nil
			n.pass(t, "containers: {other: {}, "+c.after+"}")
			if want := strings.SplitN(c.want, " (", 2)[0]; len(*log) != 1 || (*log)[0] != want {
				t.Fatalf("%q, want %q", *log, want)
			}
			*log = nil
			if _, err := n.Pass(t.Context()); err != nil || len(*log) != 0 {
				t.Errorf("the plan is not empty: %q, %v", *log, err)
			}
			if a := n.observe(t); len(a.Containers) != 2 || len(a.Archives) != 0 {
				t.Errorf("%+v", a.State)
			}
		})
	}
}

// TestL4AnArchiveIsInTheWayOfNothing: it counts against no limit, its name is
// free, and what could not bring it back as it was is held with the way out.
func TestL4AnArchiveIsInTheWayOfNothing(t *testing.T) {
	n := newNode()
	n.pass(t, `containers: {web: id: "`+webID+`", other: {}}`)
	n.pass(t, `containers: other: {}`)
	n.pass(t, `project: max_containers: 2, containers: {other: {}, web: id: "222222222222222222222222"}`)
	if n.running(t) != "other web" || len(n.observe(t).Archives) != 1 {
		t.Errorf("%s runs, %+v", n.running(t), n.observe(t).Archives)
	}
	for src, want := range map[string]string{
		`old: {id: "` + webID + `", container_image: "tiny/2"}`:     `which has container_image "tiny/1" and kit true; write those to have it back, or another id for a new container`,
		`old: {id: "` + webID + `", kit: false}`:                    `which has container_image "tiny/1" and kit true; write those to have it back, or another id for a new container`,
		`old: {id: "` + webID + `", copy_from: container: "other"}`: "its id is that of the archive of web/web, which comes back with it; take copy_from and adopt away, or write another id",
	} {
		r := n.pass(t, `containers: {other: {}, web: id: "222222222222222222222222", `+src+`}`)
		if len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, want) {
			t.Errorf("%s: held %+v, want %q", src, r.Held, want)
		}
	}
}

// TestL4AnArchiveEnds when its time is over, with its project; without prune:
// archive there is none.
func TestL4AnArchiveEnds(t *testing.T) {
	n := newNode()
	n.engine.Now = func() time.Time { return time.Now().AddDate(0, 0, -8) }
	n.pass(t, `containers: web: id: "`+webID+`"`)
	n.pass(t, "")
	if a := n.observe(t); len(a.Archives) != 1 || len(a.Projects) != 1 {
		t.Fatalf("%+v", a.State)
	}
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := n.observe(t); len(a.Archives) != 0 || len(a.Projects) != 0 {
		t.Errorf("%+v", a.State)
	}
}

// TestL4Interrupted: whatever call fails, and however, the rows are there in the
// end.
func TestL4Interrupted(t *testing.T) {
	for at := range 12 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(at, " ", after), func(t *testing.T) {
				n := newNode()
				n.pass(t, `containers: {other: {}, web: {id: "`+webID+`", comment: "rows"}}`)
				calls := 0
				n.engine.Fault = func(c runtime.Call) error {
					if c.After != after {
						return nil
					}
					if calls++; calls-1 == at {
						return errors.New("interrupted")
					}
					return nil
				}
				for _, src := range []string{"containers: other: {}", `containers: {other: {}, web: {id: "` + webID + `", comment: "rows"}}`} {
					n.source.push(src)
					for range 3 {
						_, _ = n.Pass(t.Context()) // one of them is interrupted
					}
				}
				n.engine.Fault = nil
				if _, err := n.Pass(t.Context()); err != nil {
					t.Fatal(err)
				}
				a := n.observe(t)
				if len(a.Archives) != 0 || n.running(t) != "other web" || n.id(t, "web") != webID {
					t.Errorf("%+v", a.State)
				}
			})
		}
	}
}
