package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"swage/reconcile"
)

// Status asks the agent at a socket for its newest report.
func Status(ctx context.Context, socket string) (*reconcile.Report, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no agent answers at %s (start one with `swage agent`, or name its socket with --socket): %w", socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the agent at %s answered %s", socket, resp.Status)
	}
	var r reconcile.Report
	return &r, json.NewDecoder(resp.Body).Decode(&r)
}

// Node is an agent that is reached over HTTPS.
type Node struct {
	URL   string // of its API, "https://api.<zone>"
	Token string
	CA    []byte // PEM that is trusted besides the system's; may be empty
}

// Plan asks what a repository would change there. Nothing is
// changed.
func (n Node) Plan(ctx context.Context, tree fs.FS) (reconcile.Proposal, error) {
	var body bytes.Buffer
	if err := pack(&body, tree); err != nil {
		return reconcile.Proposal{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(n.URL, "/")+"/api/v1/plan", &body)
	if err != nil {
		return reconcile.Proposal{}, err
	}
	if req.URL.Scheme != "https" {
		return reconcile.Proposal{}, fmt.Errorf("%s would send the token in the clear; name the node as https://api.<zone>", n.URL)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	req.Header.Set("Content-Type", "application/zip")
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if len(n.CA) > 0 && !roots.AppendCertsFromPEM(n.CA) {
		return reconcile.Proposal{}, errors.New("the file of the certificate authority holds no PEM certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	transport.DisableKeepAlives = true
	transport.DialContext = dialLocalhost
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this node only
	}
	resp, err := client.Do(req)
	if err != nil {
		return reconcile.Proposal{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxArchive))
	if err != nil {
		return reconcile.Proposal{}, err
	}
	if resp.StatusCode != http.StatusOK {
		var p struct{ Detail string }
		if json.Unmarshal(text, &p) != nil || p.Detail == "" {
			return reconcile.Proposal{}, fmt.Errorf("%s answered %s", n.URL, resp.Status)
		}
		return reconcile.Proposal{}, fmt.Errorf("%s: %s", n.URL, p.Detail)
	}
	var out reconcile.Proposal
	return out, json.Unmarshal(text, &out)
}

// dialLocalhost takes names below localhost for this machine (RFC 6761,
// section 6.3), which not every resolver does.
func dialLocalhost(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("localhost", port)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
