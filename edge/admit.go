package edge

import (
	"net/netip"
	"time"

	"swage/edge/limit"
)

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
	document := t.documentOf(&x.request)
	if known, ok := x.link.recall(document, x.r, x.begun); ok {
		x.evidence, x.request.Identity = known, known.identity
		return
	}
	claims := document.claims(make([]claim, 0, fewClaims), x.r)
	if len(claims) == 0 {
		return
	}
	try := p.attempt(x.request.Client, document, claims)
	if x.wait = p.guesses.Begin(try, x.request.Time); x.wait > 0 {
		return
	}
	failed := true // also if the verifier panics
	defer func() { p.guesses.End(try, failed, x.request.Time) }()
	x.evidence = verify(x.r.Context(), p.verifier, claims)
	x.request.Identity = x.evidence.identity
	x.request.Time = time.Now()
	failed = x.evidence.failed
	x.link.vouch(document, x.r, x.evidence, x.request.Time)
	if x.evidence.err != nil {
		p.log.Warn("a credential could not be checked", "error", x.evidence.err, "request_id", x.idString())
	}
}

// attempt is what the claims of a client are to the throttle. What is wrong for
// one document may be tried once for each other.
func (p *Proxy) attempt(client netip.Addr, d *document, claims []claim) limit.Attempt {
	allows := d.digest()
	user, texts := "", append(make([]string, 0, 1+5*fewClaims), string(allows[:]))
	for i := range claims {
		c := &claims[i]
		if c.user != "" {
			user = c.user
		}
		texts = append(texts, c.from.Header, c.from.Cookie, c.from.Param, c.user, c.value)
	}
	return p.guesses.Attempt(client, user, texts...)
}

// busyPause is after how long it is worth to come again where a credential
// could not be checked.
const busyPause = 2 * time.Second

// refuse answers that a decision does not let the request through. Where a
// credential would help, it asks for one; or it says when to come again, if one
// was not looked at or could not be judged.
func (x *exchange) refuse(d Decision) {
	why, h := d.refusal(), x.w.Header()
	again := func(after time.Duration) { h.Set("Retry-After", limit.RetryAfter(after)) }
	switch {
	case why != unproven:
	case x.wait > 0:
		why = tooMany
		again(x.wait)
	case x.evidence.err != nil:
		why = busy
		again(busyPause)
	default:
		if d.Ask&AskBasic != 0 {
			h.Add("WWW-Authenticate", `Basic realm="swage", charset="UTF-8"`)
		}
		if d.Ask&AskBearer != 0 {
			h.Add("WWW-Authenticate", `Bearer realm="swage"`)
		}
	}
	x.page(why)
}
