package certs

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// want begins to obtain a certificate, unless that is under way or the last
// attempt was a moment ago. It waits for nothing.
func (a *acme) want(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.attempts[name]
	if t == nil {
		t = &attempt{}
		a.attempts[name] = t
	}
	if t.cancel != nil || time.Now().Before(t.next) || a.ctx.Err() != nil || a.cached(name) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, attemptTimeout)
	t.cancel = cancel
	a.done.Go(func() {
		defer cancel()
		a.ended(name, t, a.obtain(ctx, cancel, name))
	})
}

// attemptKey is the key of what takes the error of an attempt.
type attemptKey struct{}

// obtain makes one attempt. certmagic would try again for a month; when to try
// is decided here, since nobody may be asking any more.
func (a *acme) obtain(ctx context.Context, cancel context.CancelFunc, name string) error {
	config, err := a.configFor(name)
	if err != nil {
		return err
	}
	var failed error
	ctx = context.WithValue(ctx, attemptKey{}, func(err error) {
		failed = err
		cancel()
	})
	err = config.ObtainCertAsync(ctx, name)
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	_, err = config.CacheManagedCertificate(ctx, name)
	return err
}

// ended notes the outcome of an attempt.
func (a *acme) ended(name string, t *attempt, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t.cancel, t.err = nil, err
	if err == nil {
		delete(a.attempts, name)
		return
	}
	if a.ctx.Err() != nil || a.attempts[name] != t {
		return // forgotten
	}
	pause := min(firstPause<<min(t.failed, 20), lastPause)
	t.failed++
	t.next = time.Now().Add(pause)
	a.log.Error("no certificate", "name", name, "authority", a.host(), "err", err, "next_try", t.next)
	if n, _ := a.names.Load().find(name, time.Now()); n.zone {
		t.timer = time.AfterFunc(pause, func() { a.want(name) })
	}
}

// forget ends what goes on for a name that is not served any more.
func (a *acme) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.failures, name)
	t := a.attempts[name]
	if t == nil {
		return
	}
	delete(a.attempts, name)
	if t.cancel != nil {
		t.cancel()
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// event is told by certmagic what it does. Before it asks the authority for
// anything it asks here, so that neither a renewal nor an attempt that began
// earlier gets a certificate for a name that may have none any more.
func (a *acme) event(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	fail, _ := ctx.Value(attemptKey{}).(func(error))
	switch event {
	case "cert_obtaining":
		n, ok := a.names.Load().find(name, time.Now())
		var err error
		switch {
		case !ok:
			err = errors.New("it is not served any more")
		case n.closed:
			err = errors.New("its alias has expired")
		}
		if err != nil && fail != nil {
			fail(err)
		}
		return err
	case "cert_failed":
		err, _ := data["error"].(error)
		if fail != nil {
			fail(err)
		}
		if renewal {
			a.mu.Lock()
			a.failures[name] = failure{err, time.Now()}
			a.mu.Unlock()
			a.log.Error("a certificate cannot be renewed; it stays in use", "name", name, "authority", a.host(), "err", err)
		}
	case "cert_obtained":
		a.mu.Lock()
		delete(a.failures, name)
		a.mu.Unlock()
		a.log.Info("certificate obtained", "name", name, "authority", a.host(), "renewal", renewal)
	}
	return nil
}

// host is what people call an authority by.
func (a *acme) host() string {
	if u, err := url.Parse(a.directory); err == nil {
		return u.Host
	}
	return "the authority"
}

func (a *acme) warnings() []string {
	var out []string
	names := *a.names.Load()
	if a.zone == nil {
		out = append(out, "tls.dns is missing: only DNS-01 gives a certificate for *."+names.Zone+", which has one of swage's own authority")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range wantedOf(names) {
		if t := a.attempts[name]; t != nil && t.err != nil {
			out = append(out, fmt.Sprintf("no certificate for %s from %s: %v; the next try is not before %s",
				name, a.host(), t.err, t.next.UTC().Format(time.RFC3339)))
		}
		if f, ok := a.failures[name]; ok {
			out = append(out, fmt.Sprintf("the certificate of %s stays in use, and could not be renewed at %s: %v",
				name, f.at.UTC().Format(time.RFC3339), f.err))
		}
		if cert := a.cached(name); cert != nil {
			out = append(out, soon("the certificate of "+name, cert.Leaf)...)
		}
	}
	return out
}
