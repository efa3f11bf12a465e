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
		return reconcile.Proposal{}, fmt.Errorf("%s: %w", n.URL, refusal(resp.Status, text))
	}
	var out reconcile.Proposal
	return out, json.Unmarshal(text, &out)
}

// refusal is what an answer that is not good says.
func refusal(status string, body []byte) error {
	var p struct{ Detail string }
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return errors.New("it answered " + status)
	}
	return errors.New(p.Detail)
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
