package hostfile

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"
)

// Watch reads files below its folders and notices when one of those that were
// read, or could not be, may hold something else now. It looks at them once a
// second and does not open them: what exchanges a file by a link to another
// folder is seen as well as what writes it. Any goroutine may use it.
type Watch struct {
	Folders Folders

	mu   sync.Mutex
	seen map[string]stamp // by path
}

// stamp is what a change of a file changes; zero: there is none.
type stamp struct {
	device, inode uint64
	size          int64
	mode          os.FileMode
	owner         uint32
	modified      time.Time
	changed       syscall.Timespec
}

// lookEvery is how often files are looked at.
const lookEvery = time.Second

// Read is Folders.Read, and begins to watch the path.
func (w *Watch) Read(path string, limit int64) ([]byte, error) {
	if w.Folders.Covers(path) { // nothing else is even looked at
		now := stampOf(path) // before it is read: a change meanwhile is one
		w.mu.Lock()
		if w.seen == nil {
			w.seen = map[string]stamp{}
		}
		w.seen[path] = now
		w.mu.Unlock()
	}
	return w.Folders.Read(path, limit)
}

// Run calls changed after each change, until ctx ends. It then forgets what it
// watched: whoever reads the files again has them watched again.
func (w *Watch) Run(ctx context.Context, changed func()) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.look() {
			changed()
		}
	}
}

// look reports whether a file changed. What it watched is then forgotten.
func (w *Watch) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, was := range w.seen {
		if stampOf(path) != was {
			w.seen = nil
			return true
		}
	}
	return false
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	s := stamp{size: info.Size(), mode: info.Mode(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.owner, s.changed = uint64(sys.Dev), sys.Ino, sys.Uid, sys.Ctim
	}
	return s
}
