package incus

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// template sends or receives the text of a template. The client's own ways
// know no context, leave connections open, and one panics when the daemon
// goes away.
func (r *Runtime) template(ctx context.Context, method string, at place, name, content string) ([]byte, error) {
	c := r.in(ctx, at.project)
	info, err := c.GetConnectionInfo()
	if err != nil {
		return nil, err
	}
	url := api.NewURL().Path("1.0", "instances", at.name, "metadata", "templates").Project(at.project).WithQuery("path", name)
	req, err := http.NewRequestWithContext(ctx, method, info.URL+url.String(), strings.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.DoHTTP(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	const most = 1 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		var answer api.Response
		if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
			answer.Error = resp.Status
		}
		return nil, api.StatusErrorf(resp.StatusCode, "%s", answer.Error)
	}
	return body, nil
}

func (r *Runtime) readTemplate(ctx context.Context, at place, name string) (string, error) {
	text, err := r.template(ctx, http.MethodGet, at, name, "")
	return string(text), err
}

func (r *Runtime) writeTemplate(ctx context.Context, at place, name, text string) error {
	_, err := r.template(ctx, http.MethodPost, at, name, text)
	return err
}
