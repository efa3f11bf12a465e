package schema_test

import (
	"context"
	"strings"
	"testing"

	"swage/schema"
)

// TestD12OptionsOfACME: validate refuses what no provider of DNS-01 takes.
// Values that stand elsewhere are left to the server that has them.
func TestD12OptionsOfACME(t *testing.T) {
	for _, row := range []struct{ dns, want string }{
		{`{provider: "route53"}`, `there is no DNS provider "route53"; there are exec, rfc2136, webhook`},
		{`{provider: "exec"}`, `option "program" is missing`},
		{`{provider: "exec", options: {program: "dns-hook", wait: "soon"}}`, "wait: wants how long"},
		{`{provider: "rfc2136"}`, `option "server" of rfc2136 is missing`},
		{`{provider: "rfc2136", options: {server: ""}}`, `option "server" of rfc2136 is missing`},
		{`{provider: "rfc2136", options: {server: "192.0.2.53:53"}}`, ""},
		{`{provider: "rfc2136", options: {server: "192.0.2.53"}}`, ""},
		{`{provider: "rfc2136", options: {server: "[2001:db8::53]:53"}}`, ""},
		{`{provider: "rfc2136", options: {server: "2001:db8::53"}}`, ""},
		{`{provider: "rfc2136", options: {server: "192.0.2.53:dns"}}`, "server: wants the address of a name server"},
		{`{provider: "rfc2136", options: {server: {env: "NAME_SERVER"}}}`, ""},
		{`{provider: "rfc2136", options: {server: "ns.example.com", key: "swage"}}`, "wants key and secret together"},
		{`{provider: "rfc2136", options: {server: "ns.example.com", key: "swage", secret: {env: "TSIG"}, algorithm: "HMAC-SHA512."}}`, ""},
		{`{provider: "rfc2136", options: {server: "ns.example.com", key: "swage", secret: "hunter2!"}}`, "secret: is not Base64"},
		{`{provider: "rfc2136", options: {server: "ns.example.com", algorithm: "hmac-md5"}}`, "algorithm: wants hmac-sha256"},
		{`{provider: "rfc2136", options: {server: "ns.example.com", sevrer: "x"}}`, "sevrer: is no option of rfc2136, which has server, zone"},
		{`{provider: "rfc2136", options: {server: "ns.example.com", wait: "11m"}}`, "wait: wants how long"},
		{`{provider: "rfc2136", options: {server: "ns.example.com", wait: "10m"}}`, ""},
		{`{provider: "webhook"}`, `option "url" of webhook is missing`},
		{`{provider: "webhook", options: {url: "http://dns.example.com/hook"}}`, "url: wants an https URL"},
		{`{provider: "webhook", options: {url: "http://127.0.0.1:8053/hook"}}`, ""},
		{`{provider: "webhook", options: {url: "https://dns.example.com/hook", token: {env: "HOOK"}}}`, ""},
		{`{provider: "webhook", options: {url: "https://dns.example.com/hook", key: "x"}}`, "key: is no option of webhook"},
	} {
		_, err := schema.Load(context.Background(), hostFleet(map[string]string{
			"servers/lab.cue": `tls: {type: "acme", dns: ` + row.dns + `}`,
		}))
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.dns, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "servers/lab.cue:1:")):
			t.Errorf("%s: %v, want %q", row.dns, err, row.want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the error has the secret: %v", row.dns, err)
		}
	}
}
