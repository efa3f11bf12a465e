package git

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// https is a server that is reached by gitprotocol-http(5).
type https struct {
	url      string
	username string
	password func() (string, error) // nil: none is sent
	bearer   bool                   // is how the server wants it (RFC 6750)
	client   *http.Client
}

// newHTTPS trusts the system's authorities and, besides, those that the options
// name.
func newHTTPS(o RemoteOptions, username string) (*https, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, errors.New("source.url is no URL")
	}
	if u.User != nil {
		return nil, errors.New("source.url holds a name or a password; write them as source.username and source.token, which are never shown")
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("source.ca: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("source.ca: %s holds no PEM certificate", o.CA)
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	if o.Certificate != "" {
		pair := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
			if err != nil {
				return nil, fmt.Errorf("source.client_certificate: %w", err)
			}
			return &c, nil
		}
		if _, err := pair(nil); err != nil {
			return nil, err
		}
		t.TLSClientConfig.GetClientCertificate = pair
	}
	t.MaxResponseHeaderBytes = 64 << 10
	t.IdleConnTimeout = 5 * time.Minute // longer than most polls are apart
	return &https{url: strings.TrimSuffix(o.URL, "/"), username: username, password: o.Password, client: &http.Client{
		Transport: t,
		// A token is for the server that the node file names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (h *https) open(ctx context.Context) (conversation, error) {
	body, err := h.do(ctx, http.MethodGet, "/info/refs?service=git-upload-pack", "application/x-git-upload-pack-advertisement", nil)
	if err != nil {
		return nil, err
	}
	return &exchange{h, body}, nil
}

// exchange is one conversation over HTTP.
type exchange struct {
	*https
	body io.ReadCloser
}

func (e *exchange) advertised() io.Reader { return e.body }

func (e *exchange) request(ctx context.Context, body []byte) (io.Reader, error) {
	e.body.Close()
	var err error
	e.body, err = e.do(ctx, http.MethodPost, "/git-upload-pack", "application/x-git-upload-pack-result", body)
	if err != nil {
		e.body = http.NoBody
	}
	return e.body, err
}

func (e *exchange) Close() error { return e.body.Close() }

func (h *https) do(ctx context.Context, method, path, want string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "git/swage") // some forges tell Git by it
	req.Header.Set("Accept", want)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	}
	if h.password != nil {
		password, err := h.password()
		if err != nil {
			return nil, fmt.Errorf("source.token: %w", err)
		}
		if h.bearer {
			req.Header.Set("Authorization", "Bearer "+password)
		} else {
			req.SetBasicAuth(h.username, password)
		}
	}
	resp, err := h.client.Do(req)
	if err != nil {
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return nil, fmt.Errorf("%w; if the server's authority is a private one, name its file as source.ca", err)
		}
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusOK && kind == want {
		return resp.Body, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized && h.password != nil && !h.bearer && wantsBearer(resp.Header) {
		h.bearer = true // from now on
		return h.do(ctx, method, path, want, body)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized && h.password == nil:
		return nil, fmt.Errorf("%s wants a token; name one as source.token", h.url)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("%s refuses source.token (%s); check that it may read the repository and has not expired", h.url, resp.Status)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s is not there, or source.token may not see it (%s)", h.url, resp.Status)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		to, _, _ := strings.Cut(resp.Header.Get("Location"), "/info/refs")
		return nil, fmt.Errorf("%s leads to %q; name that as source.url if it is meant", h.url, note([]byte(to)))
	case resp.StatusCode == http.StatusOK:
		return nil, fmt.Errorf("%s answers, but is no Git repository (%q); check source.url", h.url, note([]byte(kind)))
	}
	return nil, fmt.Errorf("%s answers %s", h.url, resp.Status)
}

// wantsBearer reports whether a server takes tokens as bearer tokens and in no
// other way (RFC 9110, 11.6.1).
func wantsBearer(h http.Header) bool {
	bearer := false
	for _, challenge := range h.Values("WWW-Authenticate") {
		scheme, _, _ := strings.Cut(strings.TrimSpace(challenge), " ")
		if strings.EqualFold(scheme, "Basic") {
			return false
		}
		bearer = bearer || strings.EqualFold(scheme, "Bearer")
	}
	return bearer
}
