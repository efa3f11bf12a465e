package reconcile

// failing is a commit that has failed and is tried again. Until a pass ends
// well, or another commit comes, the report says so: the state of a commit does
// not change with each retry.
type failing struct {
	commit, err string
	rollsBack   bool // see Report.RollsBack
}

// follow takes up how a pass ended.
func (f *failing) follow(r *Report) {
	switch r.State {
	case Interrupted, Superseded: // it says nothing of the commit
	case Failed:
		*f = failing{r.Commit, r.Error, r.RollsBack}
	default:
		*f = failing{}
	}
}

// showIn changes the report of a pass that goes on.
func (f failing) showIn(r *Report) {
	if f.err != "" && f.commit == r.Commit && (r.State == Applying || r.State == Interrupted) {
		r.State, r.Error, r.RollsBack = Failed, f.err, f.rollsBack
	}
}
