package api

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"

	"swage/reconcile"
)

// Bounds of plans that are asked for over HTTP.
const (
	plansAtOnce  = 2
	plansWaiting = 8 // and their bodies, in temporary files
	plansOfToken = 5 // of both: half, so that bodies which never come stop no other's

	// maxArchive is of a repository that is sent for a plan, in bytes as sent.
	// What it unpacks to is bounded by schema.Load, which reads it.
	maxArchive = 64 << 20

	// The directory of an archive: its bytes, the length of a name, and names
	// together with all folders that they name.
	maxDirectory = 3 << 20
	maxName      = 1024
	maxNames     = 100000
)

// plans answers plans, few at once.
type plans struct {
	plan func(context.Context, fs.FS) (reconcile.Proposal, error)
	// Both are of bounded capacity; who holds a place in one has sent to it.
	places, running chan struct{}

	mu sync.Mutex
	of map[string]int // places by token; without one nobody is told from others
}

func newPlans(plan func(context.Context, fs.FS) (reconcile.Proposal, error)) *plans {
	return &plans{plan: plan, places: make(chan struct{}, plansAtOnce+plansWaiting), running: make(chan struct{}, plansAtOnce), of: map[string]int{}}
}

// enter takes a place for a request, if there is one for its token as well.
// The token is good: who asks was let in.
func (p *plans) enter(r *http.Request) (leave func(), ok bool) {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if token != "" && p.of[token] >= plansOfToken {
		return nil, false
	}
	select {
	case p.places <- struct{}{}:
	default:
		return nil, false
	}
	p.of[token]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.of[token]--; p.of[token] == 0 {
			delete(p.of, token)
		}
		<-p.places
	}, true
}

func (p *plans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	leave, ok := p.enter(r)
	if !ok { // before any of the body is read
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusTooManyRequests, "many plans are asked for already; ask again in a moment")
		return
	}
	defer leave()
	body, err := spool(http.MaxBytesReader(w, r.Body, maxArchive))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the archive has more than %d bytes", maxArchive))
		return
	case err != nil:
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	defer body.Close()
	select {
	case p.running <- struct{}{}:
		defer func() { <-p.running }()
	case <-r.Context().Done():
		return // the client has gone
	}
	tree, err := unpack(body)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	proposal, err := p.plan(r.Context(), tree)
	switch {
	case err == nil:
		answer(w, proposal)
	case r.Context().Err() != nil:
	case errors.Is(err, reconcile.ErrNotObserved):
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, err.Error())
	default:
		problem(w, http.StatusUnprocessableEntity, err.Error())
	}
}

// spool keeps a body in a file without a name, which goes when it is closed.
func spool(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "swage-plan-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unpack reads the directory of an archive.
func unpack(f *os.File) (fs.FS, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	directory := &counted{ReaderAt: f, left: maxDirectory}
	z, err := zip.NewReader(directory, info.Size())
	if errors.Is(err, errDirectory) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("the body is not a zip archive of a repository: %w", err)
	}
	directory.left = -1 // files are bounded by who reads them
	names, seen := 0, make(map[string]bool, len(z.File))
	for _, f := range z.File {
		name := strings.TrimSuffix(f.Name, "/")
		switch names += 1 + strings.Count(name, "/"); {
		case len(name) > maxName:
			return nil, fmt.Errorf("the archive has a name of %d bytes; a name may have %d", len(name), maxName)
		case names > maxNames:
			return nil, errDirectory
		case !fs.ValidPath(name) || strings.Contains(name, "\\"):
			return nil, fmt.Errorf("the archive has a file %q, which is no path inside of it", name)
		case seen[name]:
			return nil, fmt.Errorf("the archive has two files %q", name)
		}
		seen[name] = true
	}
	return z, nil
}

var errDirectory = errors.New("the archive has too many files")

// counted is a file of which a part of that many bytes is read; below 0, all.
type counted struct {
	io.ReaderAt
	left int
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	if c.left < 0 {
		return c.ReaderAt.ReadAt(b, at)
	}
	n, err := c.ReaderAt.ReadAt(b, at)
	if c.left -= n; c.left < 0 {
		c.left = 0
		return 0, errDirectory
	}
	return n, err
}
