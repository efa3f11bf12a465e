package git

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Forge is where the status of commits is told.
type Forge struct {
	Type       string // "github", "gitlab", "gitea" or "forgejo"
	URL        string // empty: the public service of that type
	Repository string // owner/name
	Token      string
}

// Status is what a forge shows beside a commit.
type Status struct {
	Commit string
	State  string // "pending", "success" or "failure"
	Text   string // a line; forges cut it
	Name   string // of whom it is the status
}

// teller waits for nobody long, and follows no redirect: a token is for the
// address that was named.
var teller = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// maxStatusText is what GitHub takes for a description, in characters.
const maxStatusText = 140

// Tell sets a status. Its error never holds the token.
func (f Forge) Tell(ctx context.Context, s Status) error {
	base := strings.TrimSuffix(f.URL, "/")
	text := []rune(s.Text)
	s.Text = string(text[:min(len(text), maxStatusText)])
	body := map[string]string{"state": s.State, "description": s.Text}
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"swage"}}
	var address string
	switch f.Type {
	case "github": // REST, "Create a commit status"
		address = "https://api.github.com"
		if base != "" && base != "https://github.com" {
			address = base + "/api/v3"
		}
		address += "/repos/" + f.Repository + "/statuses/" + s.Commit
		body["context"] = s.Name
		header.Set("Accept", "application/vnd.github+json")
		header.Set("X-GitHub-Api-Version", "2022-11-28")
		header.Set("Authorization", "Bearer "+f.Token)
	case "gitlab": // Commits API, "Set commit pipeline status"
		if base == "" {
			base = "https://gitlab.com"
		}
		address = base + "/api/v4/projects/" + url.PathEscape(f.Repository) + "/statuses/" + s.Commit
		body["name"] = s.Name
		if s.State == "failure" {
			body["state"] = "failed"
		}
		header.Set("PRIVATE-TOKEN", f.Token)
	case "gitea", "forgejo": // repoCreateStatus
		if base == "" {
			base = map[string]string{"gitea": "https://gitea.com", "forgejo": "https://codeberg.org"}[f.Type]
		}
		address = base + "/api/v1/repos/" + f.Repository + "/statuses/" + s.Commit
		body["context"] = s.Name
		header.Set("Authorization", "token "+f.Token)
	default:
		return fmt.Errorf("the forge %q is not known", f.Type)
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := Post(ctx, address, header, b)
	if err != nil && f.Type == "gitlab" && strings.Contains(answer, "Cannot transition status") {
		return nil // it says so already
	}
	return err
}

// Post sends a body, and gives the beginning of the answer. Any answer but one
// of success is an error. What the address holds beside host and path is in
// none.
func Post(ctx context.Context, address string, header http.Header, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return "", errors.New("the address is no URL")
	}
	req.Header = header
	resp, err := teller.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return "", fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxNote))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return string(text), fmt.Errorf("%s%s answers %s", req.URL.Host, req.URL.Path, resp.Status)
	}
	return string(text), nil
}
