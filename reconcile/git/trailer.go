package git

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"swage/reconcile"
)

// mostCommits bounds how far back trailers are looked for.
const mostCommits = 10000

// Allowances are the commits with a trailer Swage-Allow-Delete of those that to
// has and from has not. Commits that cannot be found allow nothing, and history
// ends where a parent is not there, as in a shallow clone.
func (l Local) Allowances(ctx context.Context, from, to string) ([]reconcile.Allowance, error) {
	return l.AllowancesIncoming(ctx, "", from, to)
}

// AllowancesIncoming is Allowances of a commit of a push, whose objects are still
// in quarantine.
func (l Local) AllowancesIncoming(ctx context.Context, quarantine, from, to string) ([]reconcile.Allowance, error) {
	all, err := l.incoming(quarantine)
	if err != nil {
		return nil, err
	}
	old, err := object.GetCommit(all, plumbing.NewHash(from))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", from, err)
	}
	var had map[plumbing.Hash]bool // what from leads to, once it is asked for
	var out []reconcile.Allowance
	plain := Local{Folder: l.Folder}
	seen := map[plumbing.Hash]bool{old.Hash: true}
	for next := []plumbing.Hash{plumbing.NewHash(to)}; len(next) > 0 && len(seen) <= mostCommits; next = next[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if seen[next[0]] {
			continue
		}
		seen[next[0]] = true
		c, err := object.GetCommit(all, next[0])
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read commit %s: %w", next[0], err)
		}
		next = append(next, c.ParentHashes...)
		allowed := allows(c.Message)
		if len(allowed) == 0 {
			continue
		}
		// A merge may lead past from to what it already has.
		if had == nil {
			if had, err = ancestors(ctx, all, old.Hash); err != nil {
				return nil, err
			}
		}
		if had[c.Hash] {
			continue
		}
		after, err := plain.snapshotOf(all, c.Hash)
		if err != nil || len(c.ParentHashes) == 0 {
			continue
		}
		before, err := plain.snapshotOf(all, c.ParentHashes[0])
		if err != nil {
			continue
		}
		for _, a := range allowed {
			a.Before, a.After = before.Tree, after.Tree
			out = append(out, a)
		}
	}
	return out, nil
}

// ancestors are a commit and all that it leads to, as far as they are there.
func ancestors(ctx context.Context, all *objects, of plumbing.Hash) (map[plumbing.Hash]bool, error) {
	out := map[plumbing.Hash]bool{}
	for next := []plumbing.Hash{of}; len(next) > 0; next = next[1:] {
		if out[next[0]] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := object.GetCommit(all, next[0])
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read commit %s: %w", next[0], err)
		}
		if out[c.Hash] = true; len(out) > mostHistory {
			return nil, fmt.Errorf("the history of commit %s has more than %d commits", of, mostHistory)
		}
		next = append(next, c.ParentHashes...)
	}
	return out, nil
}

// allows reads the trailers of a message: lines of its last paragraph, each a
// number or the name of a server and a number.
func allows(message string) (out []reconcile.Allowance) {
	paragraphs := strings.Split(strings.TrimSpace(strings.ReplaceAll(message, "\r\n", "\n")), "\n\n")
	if len(paragraphs) < 2 {
		return nil
	}
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		key, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		if !strings.EqualFold(key, "Swage-Allow-Delete") || len(words) == 0 || len(words) > 2 {
			continue
		}
		a := reconcile.Allowance{}
		if len(words) == 2 {
			a.Server = words[0]
		}
		var err error
		if a.Max, err = strconv.Atoi(words[len(words)-1]); err == nil && a.Max > 0 {
			out = append(out, a)
		}
	}
	return out
}
