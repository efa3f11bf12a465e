package certs

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long files must be left alone before they are read:
	// chain and key are written one after the other.
	settle = 100 * time.Millisecond

	// reread finds what no event tells: folders that are made later, network
	// file systems.
	reread = time.Minute
)

// files are certificates that others put on the node. Those in use are
// replaced only by whole ones.
type files struct {
	pairs   []Pair
	file    ReadFile
	log     *slog.Logger
	loaded  atomic.Pointer[loaded]
	names   atomic.Pointer[Names]
	closing chan struct{}
	once    sync.Once
	done    sync.WaitGroup
}

// loaded is what one reading of the files has led to. It is never written
// again.
type loaded struct {
	good map[Pair]*tls.Certificate // the last whole ones
	// spare are of files that are not named any more, until all that are
	// have been read.
	spare  []*tls.Certificate
	faults map[Pair]error
}

// newFiles reads the files at once and then whenever they change. As long as
// some cannot be read, those of an earlier files stand in.
func newFiles(pairs []Pair, earlier issuer, read ReadFile, log *slog.Logger) *files {
	f := &files{pairs: pairs, file: read, log: log, closing: make(chan struct{})}
	before := &loaded{}
	if old, ok := earlier.(*files); ok {
		was := old.loaded.Load()
		before.good = was.good
		before.spare = append(slices.Collect(maps.Values(was.good)), was.spare...)
	}
	f.names.Store(&Names{})
	watch := newWatch(pairs, log) // before reading, so that no change falls between
	f.read(before)
	f.done.Go(func() { f.follows(watch) })
	return f
}

// read takes what is whole now and keeps the rest as it was.
func (f *files) read(before *loaded) {
	next := &loaded{good: map[Pair]*tls.Certificate{}, faults: map[Pair]error{}}
	for _, p := range f.pairs {
		cert, err := loadPair(p, f.file)
		was := before.good[p]
		if err == nil && was != nil && cert.Leaf.NotAfter.Before(was.Leaf.NotAfter) && !time.Now().Before(cert.Leaf.NotAfter) {
			err = fmt.Errorf("%s: expired at %s", p.Certificate, cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		if err != nil {
			next.faults[p] = err
			if said := before.faults[p]; said == nil || said.Error() != err.Error() {
				f.log.Error("a certificate cannot be used; what was read before stays in use", "err", err)
			}
			if cert = was; cert == nil {
				continue
			}
		} else if was == nil || !was.Leaf.Equal(cert.Leaf) {
			f.log.Info("certificate read", "file", p.Certificate, "names", cert.Leaf.DNSNames, "expires", cert.Leaf.NotAfter)
		}
		next.good[p] = cert
	}
	if len(next.faults) > 0 {
		next.spare = before.spare
	}
	f.loaded.Store(next)
}

func (f *files) follows(watch *fsnotify.Watcher) {
	var events chan fsnotify.Event
	var errs chan error
	if watch != nil {
		defer watch.Close()
		events, errs = watch.Events, watch.Errors
	}
	tick := time.NewTicker(reread)
	defer tick.Stop()
	rest := time.NewTimer(0)
	rest.Stop()
	for {
		select {
		case <-f.closing:
			return
		case <-events:
			rest.Reset(settle)
			continue
		case <-errs: // some event was lost
		case <-rest.C:
		case <-tick.C:
		}
		addFolders(watch, f.pairs) // a link may lead elsewhere now
		f.read(f.loaded.Load())
	}
}

// newWatch watches the folders of the files: a file that is replaced by rename,
// or by another link, is a new one. Without a watch there is the ticker.
func newWatch(pairs []Pair, log *slog.Logger) *fsnotify.Watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("certificates are read again each minute only: their folders cannot be watched", "err", err)
		return nil
	}
	addFolders(w, pairs)
	return w
}

func addFolders(w *fsnotify.Watcher, pairs []Pair) {
	if w == nil {
		return
	}
	for _, p := range pairs {
		for _, path := range []string{p.Certificate, p.Key} {
			_ = w.Add(filepath.Dir(path)) // one that is not there is seen by the ticker
			if target, err := filepath.EvalSymlinks(path); err == nil {
				_ = w.Add(filepath.Dir(target))
			}
		}
	}
}

// certificate takes one that holds for the name from the files named now, and
// from the spare ones only what those do not have.
func (f *files) certificate(hello *tls.ClientHelloInfo, n need) *tls.Certificate {
	now := f.loaded.Load()
	names := []string{n.host}
	if hello.ServerName == "" {
		names = []string{n.subject, "*." + n.subject}
	}
	if best := choose(now.named(f.pairs), hello, names); best != nil {
		return best
	}
	return choose(now.spare, hello, names)
}

// choose prefers algorithms that the client knows, and then what ends last.
func choose(from []*tls.Certificate, hello *tls.ClientHelloInfo, names []string) *tls.Certificate {
	var best *tls.Certificate
	known := false
	for _, cert := range from {
		if !slices.ContainsFunc(names, func(name string) bool { return covers(cert.Leaf, name) }) {
			continue
		}
		understood := hello.SupportsCertificate(cert) == nil
		if best == nil || understood && !known || understood == known && cert.Leaf.NotAfter.After(best.Leaf.NotAfter) {
			best, known = cert, understood
		}
	}
	return best
}

// named are the certificates of some pairs, in their order.
func (l *loaded) named(pairs []Pair) []*tls.Certificate {
	var out []*tls.Certificate
	for _, p := range pairs {
		if cert := l.good[p]; cert != nil {
			out = append(out, cert)
		}
	}
	return out
}

func (*files) pending(need) bool { return false }

func (*files) challenge(http.ResponseWriter, *http.Request) bool { return false }

func (f *files) follow(names Names) { f.names.Store(&names) }

func (f *files) warnings() []string {
	now, names := f.loaded.Load(), f.names.Load()
	var out []string
	for _, p := range f.pairs {
		if err := now.faults[p]; err != nil {
			still := "nothing takes its place"
			if now.good[p] != nil {
				still = "what was read before stays in use"
			}
			out = append(out, "certificate "+err.Error()+"; "+still)
		}
		if cert := now.good[p]; cert != nil {
			out = append(out, soon("the certificate "+p.Certificate, cert.Leaf)...)
		}
		if err := readable(p); err != nil && now.faults[p] == nil {
			out = append(out, err.Error())
		}
	}
	wanted := slices.Sorted(maps.Keys(names.Domains))
	if names.Zone != "" {
		wanted = append([]string{"*." + names.Zone}, wanted...)
	}
	for _, name := range wanted {
		held := slices.ContainsFunc(slices.Concat(now.named(f.pairs), now.spare), func(c *tls.Certificate) bool { return covers(c.Leaf, name) })
		if !held {
			out = append(out, "no certificate of the server's tls.certificates holds for "+name+": visitors of it are refused")
		}
	}
	return out
}

func (f *files) close() {
	f.once.Do(func() { close(f.closing) })
	f.done.Wait()
}
