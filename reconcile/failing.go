package reconcile

// failing is a commit that has failed and is tried again. Until a pass ends
// well, or another commit comes, the report says so: the state of a commit does
// not change with each retry.
type failing struct {
	of, err   string // commit, with the mode of what stands in for it
	rollsBack bool   // see Report.RollsBack
}

// subject names what a report is about: putting a commit back is not that commit.
func subject(commit string, s *Standing) string {
	if s == nil {
		return commit
	}
	return commit + " " + string(s.Mode)
}

// follow takes up how a pass ended.
func (f *failing) follow(r *Report) {
	switch r.State {
	case Interrupted, Superseded: // it says nothing of the commit
	case Failed:
		*f = failing{subject(r.Commit, r.Standing), r.Error, r.RollsBack}
	default:
		*f = failing{}
	}
}

// showIn changes the report of a pass that goes on.
func (f failing) showIn(r *Report) {
	if f.err != "" && f.of == subject(r.Commit, r.Standing) && (r.State == Applying || r.State == Interrupted) {
		r.State, r.Error, r.RollsBack = Failed, f.err, f.rollsBack
	}
}
