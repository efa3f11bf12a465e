package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"swage/reconcile"
)

// maxPush bounds what one push may send, in bytes.
const maxPush = 1 << 30

// Prepare makes the bare repository that pushes go to, unless it is there, and
// gives it its hooks: command is called with the name of the hook. A push may
// come meanwhile: each part is in place whole, hooks before anything can be
// pushed, and what a git at work has in quarantine stays.
func Prepare(ctx context.Context, dir, branch string, command ...string) error {
	if err := closed(dir); err != nil {
		return err
	}
	_, err := gogit.PlainOpen(dir)
	switch {
	case errors.Is(err, gogit.ErrRepositoryNotExists):
		if err := makeRepository(ctx, dir, branch, command); err != nil {
			return fmt.Errorf("make the repository %s: %w", dir, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("open the repository %s: %w", dir, err)
	}
	if !running().workIn(dir) {
		sweep(dir, time.Now()) // of an agent that was killed
	}
	if err := writeHooks(dir, command); err != nil {
		return err
	}
	return configure(ctx, dir)
}

// makeRepository makes one beside its place, and moves it there.
func makeRepository(ctx context.Context, dir, branch string, command []string) error {
	making := dir + ".new"
	if err := errors.Join(os.RemoveAll(making), closed(making)); err != nil {
		return err
	}
	head := plumbing.NewBranchReferenceName(branch)
	if _, err := gogit.PlainInitWithOptions(making, &gogit.PlainInitOptions{Bare: true, InitOptions: gogit.InitOptions{DefaultBranch: head}}); err != nil {
		return err
	}
	if err := writeHooks(making, command); err != nil {
		return err
	}
	if err := configure(ctx, making); err != nil {
		return err
	}
	// os.Rename does not take the place of a folder, even an empty one.
	return syscall.Rename(making, dir)
}

// configure writes the settings of the repository, all at once: half of them may
// hide the branch, or let in what is not checked.
func configure(ctx context.Context, dir string) error {
	file := filepath.Join(dir, "config")
	was, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	making := file + ".swage"
	if err := os.WriteFile(making, was, 0o644); err != nil {
		return err
	}
	defer os.Remove(making)
	for _, c := range [][]string{
		{"receive.procReceiveRefs", "refs/heads"},
		{"receive.advertisePushOptions", "true"},
		{"receive.fsckObjects", "true"},
		{"receive.unpackLimit", "1"}, // for pushes from this machine, which no Server serves
		{"core.bigFileThreshold", "1m"},
		{"receive.maxInputSize", fmt.Sprint(maxPush)},
		{"transfer.hideRefs", "refs"}, // but for branches, see below
	} {
		if _, err := stock(ctx, dir, nil, append([]string{"config", "--file", making, "--replace-all"}, c...)...); err != nil {
			return err
		}
	}
	if _, err := stock(ctx, dir, nil, "config", "--file", making, "--add", "transfer.hideRefs", "!refs/heads"); err != nil {
		return err
	}
	is, err := os.ReadFile(making)
	if err != nil || bytes.Equal(was, is) {
		return err
	}
	return os.Rename(making, file)
}

func writeHooks(dir string, command []string) error {
	var quoted []string
	for _, word := range command {
		quoted = append(quoted, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	if err := os.MkdirAll(filepath.Join(dir, "hooks"), 0o755); err != nil {
		return err
	}
	for _, hook := range []string{"pre-receive", "proc-receive"} {
		script := "#!/bin/sh\n# Written by swage at each start.\nexec " + strings.Join(quoted, " ") + " " + hook + "\n"
		// Another process may be reading the old one.
		temporary := filepath.Join(dir, "hooks", "."+hook)
		if err := os.WriteFile(temporary, []byte(script), 0o755); err != nil {
			return err
		}
		if err := os.Rename(temporary, filepath.Join(dir, "hooks", hook)); err != nil {
			return err
		}
	}
	return nil
}

// closed makes sure of a folder that only its owner reads, however open the one
// above is: repositories hold what people wrote into them plainly.
func closed(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// Update is one ref that a push wants to change.
type Update struct {
	Old string `json:"old"` // full hashes; zeroes: no such ref
	New string `json:"new"`
	Ref string `json:"ref"`
}

// Deletes reports whether the ref is to go.
func (u Update) Deletes() bool { return strings.Trim(u.New, "0") == "" }

// OfBranch reports whether the ref is a branch.
func (u Update) OfBranch() bool { return strings.HasPrefix(u.Ref, "refs/heads/") }

// Incoming is a commit of a push whose objects are still apart, in quarantine
// (git-receive-pack(1)), as a tree and raw. refused are what other refs of the
// push are to be, which are not taken: the objects of tags among them may come.
func (l Local) Incoming(quarantine, commit string, refused ...string) (s reconcile.Snapshot, raw []byte, err error) {
	all, err := l.incoming(quarantine)
	if err != nil {
		return s, nil, err
	}
	if text, err := readSmall(filepath.Join(l.Path, "refs", "heads", filepath.FromSlash(l.Branch))); err == nil && strings.TrimSpace(text) == "" {
		return s, nil, l.errEmptyBranch()
	}
	tips, err := branches(l.Path)
	if err != nil {
		return s, nil, err
	}
	hash := plumbing.NewHash(commit)
	if raw, err = rawObject(all, hash); err == nil {
		s, err = Local{Folder: l.Folder}.snapshotOf(all, hash)
	}
	if err == nil {
		err = all.admit(quarantine, hash, tips, refused)
	}
	return s, raw, err
}

// incoming are the objects of the repository and, unless it is empty, of the
// quarantine of a push.
func (l Local) incoming(quarantine string) (*objects, error) {
	_, all, err := open(l.Path, l.Names)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", l.Path, err)
	}
	if quarantine == "" {
		return all, nil
	}
	top, err := filepath.EvalSymlinks(l.Path) // git names real paths
	if err != nil {
		return nil, err
	}
	inside, err := filepath.Rel(filepath.Join(top, "objects"), quarantine)
	if err != nil || !filepath.IsLocal(inside) || !strings.HasPrefix(inside, "tmp_objdir-") {
		return nil, fmt.Errorf("%s is no quarantine of %s", quarantine, l.Path)
	}
	all.dirs = append([]string{quarantine}, all.dirs...)
	return all, nil
}
