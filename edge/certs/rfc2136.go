package certs

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// recordTTL is for records that are gone in a minute.
const recordTTL = 60

// rfc2136 changes the records of a name server (RFC 2136), signed by TSIG (RFC
// 8945) where the server has a key.
type rfc2136 struct {
	server, zone           string // zone may be empty: the server knows
	key, algorithm, secret string
	node                   Node
}

func newRFC2136(o options, n Node) (provider, error) {
	server, err := o.need("server", "192.0.2.53:53")
	if err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
	}
	p := &rfc2136{server: server, node: n, algorithm: dns.Fqdn(cmp.Or(strings.ToLower(o.take("algorithm")), "hmac-sha256"))}
	if zone := o.take("zone"); zone != "" {
		p.zone = dns.Fqdn(zone)
	}
	p.key, p.secret = o.take("key"), o.take("secret")
	if (p.key == "") != (p.secret == "") {
		return nil, errors.New(`options "key" and "secret" belong together: the name of the TSIG key and its value in Base64`)
	}
	if p.key == "" {
		return p, nil
	}
	p.key = dns.CanonicalName(p.key)
	if _, err := base64.StdEncoding.DecodeString(p.secret); err != nil {
		return nil, errors.New(`option "secret" is not Base64`)
	}
	switch p.algorithm {
	case dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512:
		return p, nil
	default:
		return nil, errors.New(`option "algorithm" takes hmac-sha256, hmac-sha384 or hmac-sha512`)
	}
}

func (p *rfc2136) set(ctx context.Context, name, value string) error {
	return p.update(ctx, name, value, (*dns.Msg).Insert)
}

func (p *rfc2136) delete(ctx context.Context, name, value string) error {
	return p.update(ctx, name, value, (*dns.Msg).Remove)
}

func (p *rfc2136) update(ctx context.Context, name, value string, change func(*dns.Msg, []dns.RR)) error {
	zone := p.zone
	if zone == "" {
		var err error
		if zone, err = p.zoneOf(ctx, dns.Fqdn(name)); err != nil {
			return err
		}
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	change(m, []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL},
		Txt: []string{value},
	}})
	_, err := p.ask(ctx, m)
	return err
}

// zoneOf finds the zone that a name is in, as the server itself has it: a name
// that is not there is answered with the SOA of its zone (RFC 2308, section 3).
func (p *rfc2136) zoneOf(ctx context.Context, name string) (string, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeSOA)
	answer, err := p.ask(ctx, m)
	if err != nil {
		return "", err
	}
	for _, rr := range append(answer.Answer, answer.Ns...) {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return soa.Hdr.Name, nil
		}
	}
	return "", fmt.Errorf("the name server %s knows no zone of %s; option \"zone\" may name it", p.server, name)
}

func (p *rfc2136) ask(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: "tcp", Dialer: p.node.dialer(p.server)}
	if p.key != "" {
		c.TsigSecret = map[string]string{p.key: p.secret}
		m.SetTsig(p.key, p.algorithm, 300, time.Now().Unix())
	}
	answer, _, err := c.ExchangeContext(ctx, m, p.server)
	switch {
	case err != nil:
		return nil, fmt.Errorf("name server %s: %w", p.server, err)
	case answer.Rcode == dns.RcodeSuccess, answer.Rcode == dns.RcodeNameError && m.Opcode == dns.OpcodeQuery:
		return answer, nil
	default:
		return nil, fmt.Errorf("name server %s refuses: %s", p.server, dns.RcodeToString[answer.Rcode])
	}
}
