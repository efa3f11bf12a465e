package reconcile

import (
	"slices"
	"testing"
	"time"

	"swage/runtime"
)

// plan is the part of a Diff about snapshots of one container that runs.
func snapshotSteps(now time.Time, since time.Time, s runtime.Schedule, taken ...runtime.Snapshot) []string {
	c := runtime.Container{ID: "111111111111111111111111", Project: "web", Name: "db", Image: "tiny/1", Status: runtime.Running, Asked: runtime.Running, Snapshots: s}
	project := []runtime.Project{{Name: "web"}}
	have := runtime.State{Projects: project, Containers: []runtime.Container{c}, Snapshots: map[runtime.ID][]runtime.Snapshot{c.ID: taken}}
	plan := Diff(have, runtime.State{Projects: project, Containers: []runtime.Container{c}}, Terms{Now: now, Since: map[runtime.ID]time.Time{c.ID: since}})
	var out []string
	for _, s := range plan.Steps {
		out = append(out, s.String())
	}
	return out
}

// TestL2SnapshotsOfPeopleStay [R6]: keep and expiry concern what the schedule
// took. TestD5: a changed expiry reaches what is there.
func TestL2SnapshotsOfPeopleStay(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 0, 0, 0, time.Local) }
	daily := func(day int, ends time.Time) runtime.Snapshot {
		return runtime.Snapshot{Name: runtime.SnapshotName(at(day, 0)), Taken: at(day, 0), Expires: ends}
	}
	hand := func(name string, day int) runtime.Snapshot { return runtime.Snapshot{Name: name, Taken: at(day, 12)} }
	name := func(t time.Time) string { return runtime.SnapshotName(t) }
	never := time.Time{}
	for what, c := range map[string]struct {
		now, since time.Time
		schedule   runtime.Schedule
		taken      []runtime.Snapshot
		want       []string
	}{
		"nothing is due before the first time": {at(10, 12), at(10, 9), runtime.Schedule{Cron: "@daily"}, nil, nil},
		"it is due":                            {at(11, 1), at(10, 9), runtime.Schedule{Cron: "@daily"}, nil, []string{"take snapshot " + name(at(11, 1)) + " of web/db"}},
		"one for many that were missed":        {at(20, 1), at(10, 9), runtime.Schedule{Cron: "@daily"}, nil, []string{"take snapshot " + name(at(20, 1)) + " of web/db"}},
		"it was taken":                         {at(11, 1), at(10, 9), runtime.Schedule{Cron: "@daily"}, []runtime.Snapshot{daily(11, never)}, nil},
		"a person's does not count as taken":   {at(11, 13), at(10, 9), runtime.Schedule{Cron: "@daily"}, []runtime.Snapshot{hand("mine", 11)}, []string{"take snapshot " + name(at(11, 13)) + " of web/db"}},
		"nobody knows since when":              {at(11, 1), never, runtime.Schedule{Cron: "@daily"}, nil, nil},
		"nor what the time is":                 {never, at(10, 9), runtime.Schedule{Cron: "@daily", Days: 1}, []runtime.Snapshot{daily(1, at(2, 0))}, nil},
		"keep": {
			at(11, 1), at(1, 9),
			runtime.Schedule{Cron: "@daily", Keep: 2},
			[]runtime.Snapshot{daily(8, never), hand("before-upgrade", 8), daily(9, never), hand("snap0", 9), daily(10, never), daily(11, never)},
			[]string{"delete snapshot " + name(at(8, 0)) + " of web/db", "delete snapshot " + name(at(9, 0)) + " of web/db"},
		},
		"names that only look like ours": {
			at(11, 1), at(1, 9),
			runtime.Schedule{Cron: "@daily", Keep: 1, Days: 1},
			[]runtime.Snapshot{hand("swage-before", 1), hand("20261101-000000", 2), hand("swage-20261101", 3), daily(11, at(12, 0))},
			nil,
		},
		"expiry raised": {
			at(11, 1), at(1, 9),
			runtime.Schedule{Cron: "@daily", Days: 30},
			[]runtime.Snapshot{daily(11, at(12, 0)), hand("mine", 11)},
			[]string{"keep snapshot " + name(at(11, 0)) + " of web/db until " + at(11, 0).AddDate(0, 0, 30).UTC().Format(time.RFC3339)},
		},
		"expiry removed": {
			at(11, 1), at(1, 9),
			runtime.Schedule{Cron: "@daily"},
			[]runtime.Snapshot{daily(11, at(12, 0))},
			[]string{"keep snapshot " + name(at(11, 0)) + " of web/db without an end"},
		},
		"expiry lowered": {
			at(11, 1), at(1, 9),
			runtime.Schedule{Cron: "@daily", Days: 2},
			[]runtime.Snapshot{daily(8, at(30, 0)), daily(11, at(30, 0))},
			[]string{"delete snapshot " + name(at(8, 0)) + " of web/db", "keep snapshot " + name(at(11, 0)) + " of web/db until " + at(13, 0).UTC().Format(time.RFC3339)},
		},
		"the schedule removed": {at(20, 1), at(1, 9), runtime.Schedule{}, []runtime.Snapshot{daily(8, never), hand("mine", 8)}, nil},
	} {
		if got := snapshotSteps(c.now, c.since, c.schedule, c.taken...); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", what, got, c.want)
		}
	}
}
