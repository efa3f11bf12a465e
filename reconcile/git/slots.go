package git

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// Bounds on the gits that are served at the same time: so many that read and so
// many that push, whoever asks for them, and how many of each one token or key
// may have.
const (
	atOnce      = 8
	atOnceAlike = 4
)

// slots counts the gits that are served. Its zero value is ready.
type slots struct {
	mu  sync.Mutex
	all map[string]int    // by service
	of  map[slotOwner]int // those of one token or key
}

type slotOwner struct {
	service string
	who     Visitor
}

var (
	errBusy  = errors.New("too many are served; come again")
	errAlike = errors.New("too many are served with this token or key; come again")
)

// take counts one that is to be served, until leave is called. Reading takes
// nothing from pushing.
func (s *slots) take(service string, who Visitor) (leave func(), err error) {
	owner := slotOwner{service, who}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of[owner] >= atOnceAlike:
		return nil, errAlike
	case s.all[service] >= atOnce:
		return nil, errBusy
	case s.all == nil:
		s.all, s.of = map[string]int{}, map[slotOwner]int{}
	}
	s.all[service]++
	s.of[owner]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all[service]--
		if s.of[owner]--; s.of[owner] == 0 {
			delete(s.of, owner)
		}
	}, nil
}

// ahead is how much of a body is read before git is started: all that is asked
// for, but not a pack.
const ahead = 64 << 10

// readAhead returns a body of which the beginning has come.
func readAhead(body io.ReadCloser) (io.ReadCloser, error) {
	var begun bytes.Buffer
	_, err := io.CopyN(&begun, body, ahead)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&begun, body), body}, nil
}
