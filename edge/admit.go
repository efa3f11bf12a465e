package edge

import "time"

// admit identifies a request, and then has the table in force decide it. The
// two are apart because identification takes time; a table that comes between
// them may ask for what was not looked at, so that a refusal under it counts
// only once the request was identified under it too.
func (p *Proxy) admit(x *exchange) {
	const rounds = 3 // tables do not change that fast; more would be a way to wait for ever
	for range rounds {
		t := p.live.table.Load()
		p.identify(x, t)
		p.live.admit(x)
		if x.decision.Verdict != Deny || x.table == t {
			break
		}
	}
}

func (p *Proxy) identify(x *exchange, t *Table) {
	x.evidence, x.wait, x.request.Identity = evidence{}, 0, Identity{}
	claims := t.documentOf(&x.request).claims(x.r)
	if len(claims) == 0 {
		return
	}
	try := p.guesses.attempt(x.request.Client, claims)
	if x.wait = p.guesses.begin(try, time.Now()); x.wait > 0 {
		return
	}
	failed := true // also if the verifier panics
	defer func() { p.guesses.end(try, failed, time.Now()) }()
	x.evidence = verify(x.r.Context(), p.verifier, claims)
	x.request.Identity = x.evidence.identity
	x.request.Time = time.Now()
	failed = x.evidence.failed
	if x.evidence.err != nil {
		p.log.Warn("a credential could not be checked", "error", x.evidence.err, "request_id", x.idString(), "container", x.decision.Container)
	}
}
