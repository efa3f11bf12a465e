package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// Bounds on a request for objects, in bytes: of what it wants, and of all of
// it, which is mostly what the client has.
const (
	maxWants   = 64 << 10
	maxRequest = 16 << 20
)

// reachable lets a request to git-upload-pack pass, version 0 of
// gitprotocol-pack(5), if all that it wants is led to by a branch. Over HTTP git
// itself does not see to that: it asks whether commits are ancestors of a
// branch, and of files and trees nothing.
func (l Local) reachable(ctx context.Context, body io.Reader) (io.Reader, error) {
	var wants bytes.Buffer
	limited := &io.LimitedReader{R: body, N: maxWants}
	in := io.TeeReader(limited, &wants)
	var asked []plumbing.Hash
	for {
		text, err := packet(in)
		if limited.N <= 0 {
			return nil, fmt.Errorf("the request wants more than fits into %d bytes", maxWants)
		}
		if errors.Is(err, io.EOF) && wants.Len() == 0 {
			return &wants, nil
		}
		if err != nil {
			return nil, errors.New("this is no request of git, or it broke off")
		}
		if text == nil {
			break
		}
		fields := strings.Fields(string(text))
		switch {
		case len(fields) >= 2 && fields[0] == "want" && plumbing.IsHash(fields[1]):
			asked = append(asked, plumbing.NewHash(fields[1]))
		case len(fields) > 0 && (fields[0] == "shallow" || fields[0] == "deepen" || fields[0] == "deepen-since" || fields[0] == "deepen-not"):
		default:
			return nil, errors.New("this is no request of git")
		}
	}
	if err := l.onBranches(ctx, asked); err != nil {
		return nil, err
	}
	return io.MultiReader(&wants, body), nil
}

// onBranches refuses commits that no branch leads to, and what is no commit.
func (l Local) onBranches(ctx context.Context, asked []plumbing.Hash) error {
	if len(asked) == 0 {
		return nil
	}
	_, all, err := open(l.Path, l.Names)
	if err != nil {
		return err
	}
	tips, err := branches(l.Path)
	if err != nil {
		return err
	}
	for _, h := range asked {
		ok := slices.Contains(tips, h)
		for _, tip := range tips {
			ok = ok || all.follows(ctx, h, tip) == nil // it may have moved on since it was listed
		}
		if !ok {
			return fmt.Errorf("no branch leads to %s; fetch again", h)
		}
	}
	return nil
}
