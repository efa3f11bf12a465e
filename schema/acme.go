package schema

import (
	"encoding/base64"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dnsOptions are the options of each provider of tls.dns, beside wait, which
// all have. What a node alone knows, such as its local_services, is checked by
// package certs.
var dnsOptions = map[string]struct{ required, optional []string }{
	"exec":    {required: []string{"program"}},
	"rfc2136": {required: []string{"server"}, optional: []string{"zone", "key", "secret", "algorithm"}},
	"webhook": {required: []string{"url"}, optional: []string{"token"}},
}

// maxDNSWait bounds the option wait, as package certs does.
const maxDNSWait = 10 * time.Minute

// dns checks the provider of DNS-01 and its options. The value of an option is
// checked where the file has it plainly; no error repeats one.
func (r *resolver) dns(d *declared[rawServer]) {
	dns := d.raw.TLS.DNS
	if dns.Provider == "" {
		return
	}
	known, ok := dnsOptions[dns.Provider]
	if !ok {
		r.add(d.in("tls", "dns", "provider"), "there is no DNS provider %q; there are %s", cut(dns.Provider), strings.Join(slices.Sorted(maps.Keys(dnsOptions)), ", "))
		return
	}
	at := d.in("tls", "dns", "options")
	if wait, ok := plain(dns.Options["wait"]); ok {
		if span, err := time.ParseDuration(wait); err != nil || span < 0 || span > maxDNSWait {
			r.add(at.in("wait"), "wants how long a record takes to be seen, as in \"30s\", up to 10m")
		}
	}
	if dns.Provider == "exec" {
		r.dnsProgram(d)
		return
	}
	for _, name := range known.required {
		if text, ok := plain(dns.Options[name]); dns.Options[name].IsZero() || ok && text == "" {
			r.add(at, "option %q of %s is missing", name, dns.Provider)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dns.Options)) {
		if name != "wait" && !slices.Contains(known.required, name) && !slices.Contains(known.optional, name) {
			r.add(at.in(name), "is no option of %s, which has %s and wait", dns.Provider, strings.Join(slices.Concat(known.required, known.optional), ", "))
		}
	}
	switch dns.Provider {
	case "webhook":
		if text, ok := plain(dns.Options["url"]); ok && text != "" && !isHookURL(text) {
			r.add(at.in("url"), "wants an https URL; http is for the server itself only")
		}
	case "rfc2136":
		r.tsig(at, dns.Options)
	}
}

// tsig checks the key that signs updates of a name server (RFC 8945).
func (r *resolver) tsig(at spot, options map[string]Secret) {
	if server, ok := plain(options["server"]); ok && server != "" && !isNameServer(server) {
		r.add(at.in("server"), "wants the address of a name server, as in \"192.0.2.53:53\"")
	}
	if options["key"].IsZero() != options["secret"].IsZero() {
		r.add(at, "wants key and secret together: the name of the TSIG key and its value in Base64")
	}
	if text, ok := plain(options["secret"]); ok {
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			r.add(at.in("secret"), "is not Base64")
		}
	}
	if text, ok := plain(options["algorithm"]); ok && text != "" {
		switch strings.TrimSuffix(strings.ToLower(text), ".") {
		case "hmac-sha256", "hmac-sha384", "hmac-sha512":
		default:
			r.add(at.in("algorithm"), "wants hmac-sha256, hmac-sha384 or hmac-sha512")
		}
	}
}

// plain returns the value of a secret that is written plainly.
func plain(s Secret) (text string, ok bool) {
	if s.IsZero() {
		return "", false
	}
	text, err := s.Reveal(Keys{})
	return text, err == nil
}

func isHookURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// isNameServer accepts a host or an address, with or without a port.
func isNameServer(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), "53"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && host != "" && !strings.ContainsAny(host, " /")
}
