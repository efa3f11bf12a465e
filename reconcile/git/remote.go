package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"swage/reconcile"
)

// RemoteOptions say what a [Remote] follows, and how.
type RemoteOptions struct {
	URL      string // https://…, ssh://… or user@host:path
	Branch   string
	Folder   string                 // empty: the root
	Username string                 // over https; empty: "git"
	Password func() (string, error) // over https; nil: none
	CA       string                 // PEM file trusted besides the system's; empty: none

	// Certificate and Key are PEM files that this machine shows over https,
	// read at each connection; empty: none.
	Certificate, Key string

	SSHKey     string   // file
	KnownHosts []string // lines of a known_hosts file

	Every time.Duration // between polls
	State string        // folder for the mirror and what belongs to it
	Log   *slog.Logger
}

// Remote follows one branch of a repository on another machine, through a bare
// mirror on this one. While the other is away, the mirror's commits go on
// being served.
type Remote struct {
	Local  // reads the mirror
	to     transport
	origin string
	every  time.Duration
	log    *slog.Logger
	wake   chan struct{} // capacity one

	// Deadlines and bounds, which tests make small.
	silence time.Duration // of the other side
	whole   time.Duration // of one poll
	most    int64         // bytes of the mirror
	packs   int           // that are made one

	files sync.Mutex // held while the mirror is changed

	mu          sync.Mutex
	asked       bool  // at least once
	err         error // of the last poll
	fresh       bool  // a mirror made anew waits to take the place of the old
	superfluous []string
	suspect     string // commit of which something could not be read
	cleared     string // suspect that was found whole
}

// NewRemote checks what can be checked without asking the other side.
func NewRemote(o RemoteOptions) (*Remote, error) {
	r := &Remote{
		Local:  Follow(filepath.Join(o.State, "mirror"), o.Branch, o.Folder),
		origin: o.URL, every: o.Every, log: o.Log, wake: make(chan struct{}, 1),
		silence: 30 * time.Second, whole: 15 * time.Minute, most: 1 << 30, packs: manyPacks,
	}
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		return nil, err
	}
	username := o.Username
	if username == "" {
		username = "git"
	}
	var err error
	if strings.HasPrefix(o.URL, "https://") {
		r.to, err = newHTTPS(o, username)
	} else {
		r.to, err = newSSH(o.URL, o.SSHKey, filepath.Join(o.State, "known_hosts"), o.KnownHosts)
	}
	if err != nil {
		return nil, err
	}
	// A process that died may have left a change of mirrors half done.
	if _, err := os.Stat(r.Path); errors.Is(err, fs.ErrNotExist) {
		_ = os.Rename(r.Path+".old", r.Path)
	}
	if err := os.Chmod(r.Path, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) { // see closed
		return nil, err
	}
	return r, errors.Join(os.RemoveAll(r.Path+".old"), os.RemoveAll(r.Path+".new"))
}

// Wake has the other side asked soon. Any goroutine may call it, as often as
// it likes.
func (r *Remote) Wake() { hint(r.wake) }

// Latest is the newest commit that is known here. With an error beside it
// nobody can tell whether there is a newer one. It waits for the other side
// only while there is no commit at all.
func (r *Remote) Latest(ctx context.Context) (reconcile.Snapshot, error) {
	r.tidy()
	s, err := r.Local.Latest(ctx)
	r.mu.Lock()
	polled, asked := r.err, r.asked
	r.mu.Unlock()
	if err != nil && !asked {
		polled = r.first(ctx)
		r.tidy()
		s, err = r.Local.Latest(ctx)
	}
	if err != nil {
		r.suspected("the tip")
		return reconcile.Snapshot{}, errors.Join(polled, err)
	}
	s.Tree = noticing{s.Tree, func() { r.suspected(s.Commit) }}
	return s, polled
}

// noticing tells of files that are there and cannot be read.
type noticing struct {
	fs.FS
	failed func()
}

func (n noticing) Open(name string) (fs.File, error) {
	f, err := n.FS.Open(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
		n.failed()
	}
	return f, err
}

// suspected has the mirror checked, once for each commit.
func (r *Remote) suspected(commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if commit != r.cleared {
		r.suspect = commit
		r.Wake()
	}
}

// tidy does what takes files away from who reads: it is called between two
// snapshots only.
func (r *Remote) tidy() {
	if !r.files.TryLock() {
		return // the next time is soon enough
	}
	defer r.files.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fresh {
		if err := r.replace(); err != nil {
			r.log.Error("the mirror made anew cannot take the place of the old one", "err", err)
			return
		}
		r.fresh, r.superfluous, r.cleared = false, nil, ""
	}
	for _, p := range r.superfluous {
		for _, ending := range []string{".idx", ".rev", ".bitmap", ".pack"} {
			os.Remove(p + ending)
		}
	}
	r.superfluous = nil
}

func (r *Remote) replace() error {
	if err := os.Rename(r.Path, r.Path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(r.Path+".new", r.Path); err != nil {
		return err
	}
	return os.RemoveAll(r.Path + ".old")
}

// first waits until the other side was asked once, by whomever.
func (r *Remote) first(ctx context.Context) error {
	r.files.Lock()
	defer r.files.Unlock()
	r.mu.Lock()
	asked, polled := r.asked, r.err
	r.mu.Unlock()
	if asked {
		return polled
	}
	return r.ask(ctx)
}

// sync asks the other side once, and brings the mirror up to date.
func (r *Remote) sync(ctx context.Context) error {
	r.files.Lock()
	defer r.files.Unlock()
	return r.ask(ctx)
}

func (r *Remote) ask(ctx context.Context) error {
	err := r.poll(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("fetch %s: %w", r.origin, err)
	}
	r.mu.Lock()
	r.asked, r.err = true, err
	r.mu.Unlock()
	return err
}

func (r *Remote) poll(ctx context.Context) error {
	r.mu.Lock()
	waiting, suspect := r.fresh, r.suspect
	r.mu.Unlock()
	if waiting {
		return nil // its reader was told
	}
	m := mirror{r.Path, r.Branch}
	local := r.check(ctx, m, suspect)
	if local == nil {
		done, err := r.update(ctx, m)
		if done || err == nil {
			return err
		}
		local = err
	}
	if _, err := os.Stat(m.dir); err == nil {
		r.log.Warn("the mirror is made anew", "dir", m.dir, "err", local)
	}
	anew, err := makeMirror(m.dir+".new", m.branch, r.origin)
	if err == nil {
		_, err = r.update(ctx, anew)
	}
	if err != nil {
		os.RemoveAll(anew.dir)
		return err
	}
	r.mu.Lock()
	r.fresh, r.suspect = true, ""
	r.mu.Unlock()
	return nil
}

// check says why the mirror is of no use any more.
func (r *Remote) check(ctx context.Context, m mirror, suspect string) error {
	if _, err := m.tip(); err != nil {
		return err
	}
	if !m.of(r.origin) {
		return errors.New("it is of another repository")
	}
	if suspect == "" {
		return nil
	}
	if _, err := stock(ctx, m.dir, nil, "fsck", "--full", "--no-dangling", "--no-progress"); err != nil {
		return err
	}
	r.mu.Lock()
	r.suspect, r.cleared = "", suspect
	r.mu.Unlock()
	return nil
}

// update brings one mirror up to date. It is done when a new mirror would not
// fare better: all went well, or the other side is at fault.
func (r *Remote) update(ctx context.Context, m mirror) (done bool, err error) {
	ctx, alive, stop := watchdog(ctx, r.silence, r.whole)
	defer stop()
	fault := func(err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the server ended in the middle of its answer")
		}
		return err
	}
	talk, err := r.to.open(ctx)
	if err != nil {
		return true, fault(err)
	}
	defer talk.Close()
	alive()
	o, err := readOffer(lively{talk.advertised(), alive}, m.branch)
	switch {
	case err != nil:
		return true, fault(err)
	case o.empty:
		return true, fmt.Errorf("it has no commit; push one to branch %q", m.branch)
	case o.tip.IsZero():
		return true, fmt.Errorf("it has no branch %q; push one, or correct source.branch", m.branch)
	}
	old, err := m.tip()
	if err != nil || old == o.tip {
		return err == nil, err
	}
	var other error
	err = m.receive(ctx, o.tip, r.most-m.size(), func(in io.Writer) error {
		var answer io.Reader
		if answer, other = talk.request(ctx, o.want(m.haves())); other != nil {
			return other
		}
		other = o.copyPack(in, lively{answer, alive})
		return other
	})
	switch {
	case errors.Is(err, errTooLarge):
		return false, fmt.Errorf("%w: %d MiB; take large files out of its history", err, r.most>>20)
	case err != nil:
		return other != nil && errors.Is(err, other), fault(err)
	}
	if len(m.packs()) >= r.packs {
		alive()
		superfluous, err := m.repack(context.WithoutCancel(ctx))
		if err != nil {
			r.log.Error("the mirror cannot be repacked", "dir", m.dir, "err", err)
		}
		r.mu.Lock()
		r.superfluous = superfluous
		r.mu.Unlock()
	}
	return true, nil
}

// watchdog ends a context when alive was not called for so long, or all of it
// takes too long.
func watchdog(ctx context.Context, silence, whole time.Duration) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	bark := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the server was silent for %s", silence)) })
	end := time.AfterFunc(whole, func() { cancel(fmt.Errorf("the server took more than %s", whole)) })
	return ctx, func() { bark.Reset(silence) }, func() { bark.Stop(); end.Stop(); cancel(nil) }
}

type lively struct {
	io.Reader
	alive func()
}

func (l lively) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if n > 0 {
		l.alive()
	}
	return n, err
}

// state is what a reader would see another time.
func (r *Remote) state() string {
	tip, _ := mirror{r.Path, r.Branch}.tip()
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(tip, r.fresh, r.err)
}
