package git

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// mostCommits bounds how far back trailers are looked for.
const mostCommits = 10000

// Allowed is the greatest number in a trailer Swage-Allow-Delete of the commits
// that to has and from has not. A commit that cannot be found allows nothing.
func (l Local) Allowed(ctx context.Context, from, to string) (int, error) {
	return l.AllowedIncoming(ctx, "", from, to)
}

// AllowedIncoming is Allowed of a commit of a push, whose objects are still in
// quarantine.
func (l Local) AllowedIncoming(ctx context.Context, quarantine, from, to string) (int, error) {
	objects, err := l.incoming(quarantine)
	if err != nil {
		return 0, err
	}
	old, err := object.GetCommit(objects, plumbing.NewHash(from))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read commit %s: %w", from, err)
	}
	tip, err := object.GetCommit(objects, plumbing.NewHash(to))
	if err != nil {
		return 0, fmt.Errorf("read commit %s: %w", to, err)
	}
	most, walked := 0, 0
	var had map[plumbing.Hash]bool // what from leads to, once it is asked for
	iter := object.NewCommitPreorderIter(tip, nil, []plumbing.Hash{old.Hash})
	err = iter.ForEach(func(c *object.Commit) error {
		if walked++; walked > mostCommits || ctx.Err() != nil {
			return storer.ErrStop
		}
		n := allows(c.Message)
		if n <= most {
			return nil
		}
		// A merge may lead past from to what it already has.
		if had == nil {
			if had, err = ancestors(ctx, old); err != nil {
				return err
			}
		}
		if !had[c.Hash] {
			most = n
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("walk from commit %s: %w", to, err)
	}
	return most, ctx.Err()
}

// ancestors are a commit and all that it leads to, as far as they are there.
func ancestors(ctx context.Context, of *object.Commit) (map[plumbing.Hash]bool, error) {
	all := map[plumbing.Hash]bool{}
	err := object.NewCommitPreorderIter(of, nil, nil).ForEach(func(c *object.Commit) error {
		all[c.Hash] = true
		if len(all) > mostHistory {
			return fmt.Errorf("its history has more than %d commits", mostHistory)
		}
		return ctx.Err()
	})
	return all, err
}

// allows reads the trailer of a message: a line of its last paragraph.
func allows(message string) int {
	paragraphs := strings.Split(strings.TrimSpace(strings.ReplaceAll(message, "\r\n", "\n")), "\n\n")
	if len(paragraphs) < 2 {
		return 0
	}
	most := 0
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		key, value, _ := strings.Cut(line, ":")
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && strings.EqualFold(key, "Swage-Allow-Delete") {
			most = max(most, n)
		}
	}
	return most
}
