package certs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	acmeproto "github.com/mholt/acmez/v3/acme"
)

// provider sets the TXT records of DNS-01 (RFC 8555, section 8.4). Names are
// whole, without a dot behind. One name may have several values at a time.
type provider interface {
	set(ctx context.Context, name, value string) error
	delete(ctx context.Context, name, value string) error
}

// providers by name, with the options that each needs.
var providers = map[string]func(options, Node) (provider, error){
	"rfc2136": newRFC2136,
	"exec":    newProgram,
	"webhook": newWebhook,
}

// dnsTimeout bounds one change of a record.
const dnsTimeout = 2 * time.Minute

// solver solves DNS-01 by a provider.
type solver struct {
	provider
	wait    time.Duration // after a record was set, until the authority may look
	options options       // whose values are in no error
	node    Node          // nor those of its program's environment
}

// newSolver reads the options of a provider, all of which must be known.
func newSolver(name string, given map[string]string, n Node) (*solver, error) {
	open, ok := providers[name]
	if !ok {
		return nil, fmt.Errorf("there is no DNS provider %q; there are %s", name, strings.Join(slices.Sorted(maps.Keys(providers)), ", "))
	}
	o := options{}
	maps.Copy(o, given)
	s := &solver{options: given, node: n}
	wait, err := time.ParseDuration(cmp.Or(o.take("wait"), "0s"))
	if err != nil || wait < 0 || wait > 10*time.Minute {
		return nil, fmt.Errorf("dns provider %s: option \"wait\" is how long a record takes to be seen, as in \"30s\", up to 10m", name)
	}
	s.wait = wait
	if s.provider, err = open(o, n); err != nil {
		return nil, fmt.Errorf("dns provider %s: %w", name, err)
	}
	if len(o) > 0 {
		return nil, fmt.Errorf("dns provider %s has no option %q", name, slices.Sorted(maps.Keys(o))[0])
	}
	return s, nil
}

// Present sets the record. It implements acmez.Solver.
func (s *solver) Present(ctx context.Context, c acmeproto.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	return s.hide("set", s.set(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()))
}

// Wait returns when the authority may look. It implements acmez.Waiter.
func (s *solver) Wait(ctx context.Context, _ acmeproto.Challenge) error {
	t := time.NewTimer(s.wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// CleanUp deletes the record, also when the attempt was ended. It implements
// acmez.Solver.
func (s *solver) CleanUp(ctx context.Context, c acmeproto.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dnsTimeout)
	defer cancel()
	return s.hide("delete", s.delete(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()))
}

// openOptions have values that errors may show.
var openOptions = []string{"server", "zone", "key", "algorithm", "wait"}

// hide takes the values of other options out of an error: what a program or a
// server says may repeat them.
func (s *solver) hide(what string, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for name, value := range s.options {
		if !slices.Contains(openOptions, name) && len(value) >= 4 { // shorter ones are in words
			text = strings.ReplaceAll(text, value, "(secret)")
		}
	}
	for _, value := range s.node.Program.Environment {
		if len(value) >= 4 {
			text = strings.ReplaceAll(text, value, "(secret)")
		}
	}
	return errors.New(what + " a TXT record: " + text)
}

type options map[string]string

// take removes an option.
func (o options) take(name string) string {
	value := o[name]
	delete(o, name)
	return value
}

// need is take of what must be there.
func (o options) need(name, example string) (string, error) {
	if o[name] == "" {
		return "", fmt.Errorf("option %q is missing, as in %q", name, example)
	}
	return o.take(name), nil
}
