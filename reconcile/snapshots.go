package reconcile

import (
	"time"

	"github.com/robfig/cron/v3"

	"swage/runtime"
)

// Snapshots that the schedule takes are the agent's: only those have a name that
// tells them from what people took, and only to those keep and expiry apply.
// Incus's own schedule gives its name and its expiry to snapshots that people take
// without naming them.

// nextSnapshot is when the next snapshot of a container is due: by its schedule
// after the newest that was taken by it or, before there is one, after since. The
// zero time: never.
func nextSnapshot(c runtime.Container, taken []runtime.Snapshot, since time.Time) time.Time {
	if c.Snapshots.Cron == "" || c.Status != runtime.Running && c.Status != runtime.Paused {
		return time.Time{}
	}
	schedule, err := cron.ParseStandard(c.Snapshots.Cron)
	if err != nil {
		return time.Time{}
	}
	for _, s := range taken {
		if s.Scheduled() && s.Taken.After(since) {
			since = s.Taken
		}
	}
	if since.IsZero() {
		return time.Time{}
	}
	return schedule.Next(since.Local())
}

// scheduled are those of a container's snapshots that its schedule took, the
// oldest first.
func (d *differ) scheduled(id runtime.ID) []runtime.Snapshot {
	var out []runtime.Snapshot
	for _, s := range d.have.Snapshots[id] {
		if s.Scheduled() {
			out = append(out, s)
		}
	}
	return out
}

// snapshots takes those that are due, removes what a container no longer keeps,
// gives the others the end that is asked for, and removes archives whose time is
// over and whose last snapshot has expired.
func (d *differ) snapshots() {
	now := d.terms.Now
	for i, w := range d.want.Containers {
		_, refused := d.refused[i]
		h := w // as it comes back from its archive
		switch j, ok := d.match[i]; {
		case refused, !ok && !d.restored[w.ID]:
			continue
		case ok:
			h = d.have.Containers[j]
		}
		list := d.scheduled(h.ID)
		expires := func(taken time.Time) time.Time {
			if w.Snapshots.Days == 0 {
				return time.Time{}
			}
			return taken.AddDate(0, 0, w.Snapshots.Days)
		}
		as := h
		as.Snapshots = w.Snapshots
		if due := nextSnapshot(as, list, d.terms.Since[h.ID]); !due.IsZero() && !due.After(now) {
			s := runtime.Snapshot{Name: runtime.SnapshotName(now), Taken: now, Expires: expires(now)}
			d.do(runtime.TakeSnapshot{Of: h.ID, Ref: w.Ref(), Snapshot: s.Name, Expires: s.Expires})
			list = append(list, s)
		}
		gone := 0
		if w.Snapshots.Keep > 0 {
			gone = max(0, len(list)-w.Snapshots.Keep)
		}
		for n, s := range list {
			ends := expires(s.Taken)
			switch {
			case n < gone, !ends.IsZero() && !ends.After(now) && !now.IsZero():
				d.do(runtime.DeleteSnapshot{Of: h.ID, Ref: w.Ref(), Snapshot: s.Name})
			case !ends.Truncate(time.Second).Equal(s.Expires.Truncate(time.Second)):
				d.do(runtime.ExpireSnapshot{Of: h.ID, Ref: w.Ref(), Snapshot: s.Name, Expires: ends})
			}
		}
	}
	for _, a := range d.have.Archives {
		if len(d.have.Snapshots[a.ID]) == 0 && a.Until.Before(now) && !d.restored[a.ID] && d.contested(a.ID) == "" {
			d.do(runtime.DeleteArchive{Archive: a})
		}
	}
}

// watchSchedules notes since when each container was seen with a schedule: what
// was due before that is not taken. It forgets what is gone.
func (a *Agent) watchSchedules(want runtime.State, now time.Time) map[runtime.ID]time.Time {
	crons := map[string]string{} // by id and by project/name
	for _, w := range want.Containers {
		crons[string(w.ID)], crons[w.Ref()] = w.Snapshots.Cron, w.Snapshots.Cron
	}
	next, out := map[runtime.ID]schedule{}, map[runtime.ID]time.Time{}
	for _, h := range a.seen.Containers {
		cron := crons[string(h.ID)]
		if cron == "" {
			cron = crons[h.Ref()]
		}
		if cron == "" {
			continue
		}
		s := a.schedules[h.ID]
		if s.cron != cron {
			s = schedule{cron, now}
		}
		next[h.ID], out[h.ID] = s, s.since
	}
	a.schedules = next
	return out
}

// schedule is one that a container was seen with.
type schedule struct {
	cron  string
	since time.Time
}

// snapshotDue is when the next snapshot of any container is due; the zero time:
// none is.
func (a *Agent) snapshotDue() time.Time {
	var due time.Time
	if a.seen == nil {
		return due
	}
	for _, h := range a.seen.Containers {
		next := nextSnapshot(h, a.seen.Snapshots[h.ID], a.schedules[h.ID].since)
		if !next.IsZero() && (due.IsZero() || next.Before(due)) {
			due = next
		}
	}
	return due
}
