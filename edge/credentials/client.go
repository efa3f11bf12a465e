package credentials

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// newClient returns the client that fetches keys: over https only, straight to
// addresses that are allowed. They are judged when they are dialled, so that
// neither a name that changes its mind nor a redirect leads elsewhere.
func newClient(o Options, allowed func(netip.Addr) bool) *http.Client {
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	config.MinVersion = tls.VersionTLS12
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !allowed(to.Addr().Unmap().WithZone("")) {
			return fmt.Errorf("%v is not a public address; allow_private_jwks of the node file lets keys be fetched from it", to.Addr())
		}
		return nil
	}}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			Proxy:                  nil, // which would dial for us
			DialContext:            dialer.DialContext,
			TLSClientConfig:        config,
			DisableKeepAlives:      true, // one request in minutes
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case r.URL.Scheme != "https":
				return errors.New("a redirect away from https")
			case len(via) > 3:
				return errors.New("more than 3 redirects")
			}
			return nil
		},
		Jar: nil,
	}
}

// special are networks that look global and are not (RFC 6890), or that hold
// addresses of IPv4 in ones of IPv6.
var special = func() (out []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// public says that an address is one of the public Internet.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
