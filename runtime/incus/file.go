package incus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// file is a request for a file of an instance, to whatever daemon the scope
// names. The client's own calls cannot be cancelled.
func (r *Runtime) file(ctx context.Context, method string, at place, path string, content io.Reader, mode string) (*http.Response, error) {
	info, err := r.client.GetConnectionInfo()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(info.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the daemon: %w", err)
	}
	u = u.JoinPath("1.0", "instances", at.name, "files")
	u.RawQuery = url.Values{"project": {at.project}, "path": {path}}.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, err
	}
	if content != nil {
		for k, v := range map[string]string{"type": "file", "write": "overwrite", "mode": mode, "uid": "0", "gid": "0"} {
			req.Header.Set("X-Incus-"+k, v)
		}
	}
	resp, err := r.client.DoHTTP(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, api.StatusErrorf(resp.StatusCode, "%s %s: %s", method, path, text)
	}
	return resp, nil
}

// maxFile bounds what is read of a file of an instance.
const maxFile = 1 << 20

// readFile is empty for one that is not there. Root of the instance may have put
// anything in its place: of what is no regular file nothing is asked, since to
// open a pipe waits for whoever writes to it.
func (r *Runtime) readFile(ctx context.Context, at place, path string) (string, error) {
	files, err := r.in(ctx, at.project).GetInstanceFileSFTP(at.name)
	if err != nil {
		return "", err
	}
	defer files.Close()
	defer context.AfterFunc(ctx, func() { files.Close() })()
	info, err := files.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file in the instance", path)
	}
	f, err := files.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, errors.Join(err, ctx.Err()))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}

// removeFile may find nothing.
func (r *Runtime) removeFile(ctx context.Context, at place, path string) error {
	resp, err := r.file(ctx, http.MethodDelete, at, path, nil, "")
	if notFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// writeFile replaces a file, and makes it root's.
func (r *Runtime) writeFile(ctx context.Context, at place, path, mode, text string) error {
	resp, err := r.file(ctx, http.MethodPost, at, path, strings.NewReader(text), mode)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// readDir is empty for a folder that is not there.
func (r *Runtime) readDir(ctx context.Context, at place, path string) ([]string, error) {
	resp, err := r.file(ctx, http.MethodGet, at, path, nil, "")
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Metadata []string `json:"metadata"`
	}
	if resp.Header.Get("X-Incus-type") != "directory" {
		return nil, nil
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer)
	return answer.Metadata, err
}
