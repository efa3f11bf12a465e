package git

import (
	"fmt"
	"io"
	"strconv"
	"sync"
)

// packets passes on what git answers to a push, and can put a line for the
// pusher's terminal between two of its packets (gitprotocol-common(5)).
type packets struct {
	out io.Writer

	mu   sync.Mutex
	head []byte // of the packet that goes on
	left int    // bytes of it that are missing
	line string // that waits for its end
	over bool   // nothing is passed on any more
}

func (p *packets) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := 0
	for done < len(b) {
		if p.over {
			return done, io.ErrClosedPipe
		}
		if err := p.flush(); err != nil {
			return done, err
		}
		n := p.measure(b[done:])
		n, err := p.out.Write(b[done : done+n])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, p.flush()
}

// measure is how much of b belongs to the packet that goes on, or to as many
// whole ones as there are while no line waits.
func (p *packets) measure(b []byte) int {
	n := 0
	for n < len(b) {
		if p.left == 0 {
			take := min(4-len(p.head), len(b)-n)
			p.head = append(p.head, b[n:n+take]...)
			if n += take; len(p.head) < 4 {
				return n
			}
			size, err := strconv.ParseUint(string(p.head), 16, 16)
			if err != nil { // no packets: nothing is put between them
				p.left = 1 << 62
			} else {
				p.left = max(0, int(size)-4)
			}
			p.head = p.head[:0]
		}
		take := min(p.left, len(b)-n)
		n += take
		if p.left -= take; p.left == 0 && p.line != "" {
			return n
		}
	}
	return n
}

// tell has a line shown as soon as a packet ends. Every git that pushes can
// read it: side-band-64k is older than the stateless protocol over HTTP.
func (p *packets) tell(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line("\x02%s\n", fmt.Sprintf("swage: refused: %s", note([]byte(err.Error()))))
	_ = p.flush() // the client may have gone
}

// end returns once nobody writes to out, and nobody does later.
func (p *packets) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

func (p *packets) flush() error {
	if p.over || p.line == "" || p.left != 0 || len(p.head) != 0 {
		return nil
	}
	text := p.line
	p.line = ""
	_, err := io.WriteString(p.out, text)
	return err
}
