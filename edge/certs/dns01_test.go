package certs

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	acmeproto "github.com/mholt/acmez/v3/acme"
)

// wildcardChallenge is what an authority asks for "*.node.example.com".
var wildcardChallenge = acmeproto.Challenge{
	KeyAuthorization: "token.thumbprint",
	Identifier:       acmeproto.Identifier{Type: "dns", Value: zone},
}

func mustSolver(t *testing.T, name string, given map[string]string, n ...Node) *solver {
	t.Helper()
	s, err := newSolver(name, given, append(n, Node{})[0])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProgram: what a program of the operator is told, and what of its failure.
func TestProgram(t *testing.T) {
	t.Setenv("SWAGE_AGENT_SECRET", "not for hooks")
	said := filepath.Join(t.TempDir(), "said")
	token := map[string]string{"API_TOKEN": "hunter22"}
	s := mustSolver(t, "exec", nil, Node{Program: Program{
		Command:     []string{script(t, `echo "$@ $API_TOKEN $SWAGE_AGENT_SECRET" >> `+said), "--quick"},
		Environment: token,
	}})
	for _, do := range []error{s.Present(t.Context(), wildcardChallenge), s.CleanUp(t.Context(), wildcardChallenge)} {
		if do != nil {
			t.Fatal(do)
		}
	}
	got, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	record := "_acme-challenge." + zone + " " + wildcardChallenge.DNS01KeyAuthorization()
	if want := "--quick set " + record + " hunter22 \n--quick delete " + record + " hunter22 \n"; string(got) != want {
		t.Errorf("the program was told %q, want %q", got, want)
	}

	s = mustSolver(t, "exec", nil, Node{Program: Program{
		Command:     []string{script(t, "echo first >&2; echo no zone for $API_TOKEN >&2; exit 3")},
		Environment: token,
	}})
	err = s.Present(t.Context(), wildcardChallenge)
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no zone for (secret)") || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("a failure: %v", err)
	}
}

// TestWebhook: the same over HTTP.
func TestWebhook(t *testing.T) {
	var got []map[string]string
	status := http.StatusNoContent
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string]string{"method": r.Method, "authorization": r.Header.Get("Authorization"), "path": r.URL.Path}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		got = append(got, body)
		if status == http.StatusFound {
			http.Redirect(w, r, "/elsewhere", status)
			return
		}
		w.WriteHeader(status)
	}))
	defer srv.Close()
	s := mustSolver(t, "webhook", map[string]string{"url": srv.URL + "/hook-s3cret", "token": "hunter22"}, Node{Services: []string{strings.TrimPrefix(srv.URL, "http://")}})
	for _, do := range []error{s.Present(t.Context(), wildcardChallenge), s.CleanUp(t.Context(), wildcardChallenge)} {
		if do != nil {
			t.Fatal(do)
		}
	}
	if len(got) != 2 {
		t.Fatalf("%d requests", len(got))
	}
	for i, action := range []string{"set", "delete"} {
		for name, want := range map[string]string{
			"action": action, "name": "_acme-challenge." + zone, "value": wildcardChallenge.DNS01KeyAuthorization(),
			"method": "POST", "authorization": "Bearer hunter22", "path": "/hook-s3cret",
		} {
			if got[i][name] != want {
				t.Errorf("%s: %s is %q, want %q", action, name, got[i][name], want)
			}
		}
	}
	for _, status = range []int{http.StatusForbidden, http.StatusFound} {
		err := s.Present(t.Context(), wildcardChallenge)
		if err == nil || !strings.Contains(err.Error(), http.StatusText(status)) {
			t.Errorf("status %d: %v", status, err)
		}
	}
	for _, r := range got {
		if r["path"] == "/elsewhere" {
			t.Error("the token went where a redirect led")
		}
	}
	srv.Close()
	err := s.Present(t.Context(), wildcardChallenge)
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "hunter22") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
}

// TestNameServer: updates as a name server takes and refuses them.
func TestNameServer(t *testing.T) {
	n := newNameServer(t)
	local := Node{Services: []string{n.addr, "127.0.0.1:1"}}
	good := func() map[string]string {
		return map[string]string{"server": n.addr, "key": tsigKey, "secret": tsigSecret}
	}
	s := mustSolver(t, "rfc2136", good(), local)
	second := wildcardChallenge
	second.KeyAuthorization = "other.thumbprint"
	for _, do := range []error{s.Present(t.Context(), wildcardChallenge), s.Present(t.Context(), second), s.CleanUp(t.Context(), wildcardChallenge)} {
		if do != nil {
			t.Fatal(do)
		}
	}
	// The zone and the wildcard have the same record, with a value each.
	if got := n.txt["_acme-challenge."+zone+"."]; len(got) != 1 || got[0] != second.DNS01KeyAuthorization() || n.most != 2 {
		t.Errorf("left %q, at most %d", got, n.most)
	}
	for _, row := range []struct{ what, option, value, want string }{
		{"a zone that is named", "zone", "example.com", ""},
		{"a zone that it has not", "zone", "example.net", "refuses: REFUSED"},
		{"another key", "secret", "b3RoZXI=", "name server " + n.addr},
		{"nobody there", "server", "127.0.0.1:1", "refused"},
	} {
		given := good()
		given[row.option] = row.value
		err := mustSolver(t, "rfc2136", given, local).Present(t.Context(), second)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, err, row.want)
		}
		if err != nil && (strings.Contains(err.Error(), tsigSecret) || strings.Contains(err.Error(), "b3RoZXI=")) {
			t.Errorf("%s: the error holds the secret: %v", row.what, err)
		}
	}
	if err := mustSolver(t, "rfc2136", map[string]string{"server": n.addr}, local).Present(t.Context(), second); err == nil {
		t.Error("an update without a key is taken")
	}
}

// TestS9ServicesOfThisMachine [G8]: what is called without TLS is never this
// machine itself, by whatever name, unless its operator allows that service.
func TestS9ServicesOfThisMachine(t *testing.T) {
	n := newNameServer(t)
	_, port, err := net.SplitHostPort(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	const refused = "is this machine itself"
	servers := []string{"127.0.0.1", "127.8.7.6", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "169.254.169.254", "[fe80::1%lo]", "224.0.0.1"}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			servers = append(servers, p.Addr().String())
		}
	}
	for _, server := range servers {
		err := mustSolver(t, "rfc2136", map[string]string{"server": server + ":" + port, "zone": "example.com"}).Present(t.Context(), wildcardChallenge)
		if err == nil || !strings.Contains(err.Error(), refused) {
			t.Errorf("%s: %v", server, err)
		}
	}
	for _, allowed := range []Node{{Services: []string{n.addr}}, {Services: []string{"localhost:" + port, n.addr}}} {
		given := map[string]string{"server": n.addr, "key": tsigKey, "secret": tsigSecret}
		if err := mustSolver(t, "rfc2136", given, allowed).Present(t.Context(), wildcardChallenge); err != nil {
			t.Errorf("%v: %v", allowed.Services, err)
		}
	}
	for url, want := range map[string]string{
		"http://127.0.0.1:8500/v1/agent": "leads to a service of this machine",
		"http://localhost/":              "leads to a service of this machine",
		"http://[::1]:80/":               "leads to a service of this machine",
		"http://dns.example.com/":        "is an https URL",
		"ftp://localhost/":               "is an https URL",
		"unix:///run/docker.sock":        "is an https URL",
		"https://dns.example.com/hook":   "",
	} {
		_, err := newSolver("webhook", map[string]string{"url": url}, Node{Services: []string{"127.0.0.1:9000"}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
