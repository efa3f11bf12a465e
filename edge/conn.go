package edge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxAnswerHeader  = 256 << 10
	maxInformational = 5 // answers before the answer
)

// conn is a connection to a container, over which requests go by HTTP/1.1, one
// at a time. Nobody reads it while it rests.
type conn struct {
	net.Conn          // TCP, or TLS over it
	raw      net.Conn // TCP
	to       place
	pool     *pool
	used     bool // for a request before
	rested   time.Time

	in    *bufio.Reader // nil while it rests
	limit int64         // of bytes that are read
	asked http.Request  // what an answer must know of its request

	answer answer // in use until the connection rests

	fd    syscall.RawConn
	ready bool // found by probe
	probe func(fd uintptr)
	stop  func() // is kill
}

// readers lends buffers to connections that do not rest.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func newConn(c, raw net.Conn, to place, p *pool) *conn {
	made := &conn{Conn: c, raw: raw, to: to, pool: p}
	if socket, ok := raw.(syscall.Conn); ok {
		made.fd, _ = socket.SyscallConn()
	}
	made.probe = func(fd uintptr) {
		poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll[:], 0)
		made.ready = n != 0 || err != nil
	}
	made.stop = made.kill
	made.wake()
	return made
}

// wake makes a connection ready for a request.
func (c *conn) wake() {
	if c.in == nil {
		c.in = readers.Get().(*bufio.Reader)
		c.in.Reset(c)
	}
	c.limit = maxAnswerHeader
}

// rest makes it cheap. There must be nothing left to read.
func (c *conn) rest(now time.Time) {
	c.letGo()
	c.answer = answer{}
	c.used, c.rested = true, now
}

// letGo returns the buffer.
func (c *conn) letGo() {
	if c.in != nil {
		c.in.Reset(nil)
		readers.Put(c.in)
		c.in = nil
	}
}

// sound says of a connection that rested that the container has neither closed
// it nor said what nobody asked for.
func (c *conn) sound() bool {
	c.ready = true
	if c.fd == nil || c.fd.Control(c.probe) != nil {
		return false
	}
	return !c.ready
}

// kill closes the connection below TLS, which would wait for a container that
// does not read. It may be called by several goroutines.
func (c *conn) kill() { _ = c.raw.Close() }

// Read implements io.Reader for the buffer.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.Conn.Read(p)
	c.limit -= int64(n)
	return n, err
}

var (
	errHeaderTooLarge = errors.New("the header of the answer is too large")
	errTooManyHints   = errors.New("too many informational answers")
	errBadStatus      = errors.New("the answer has no valid status")
)

// readAnswer reads the header of the answer to a request of a method, of which it
// may put all that is to be passed on into h. It calls hint with each
// informational answer before it.
func (c *conn) readAnswer(method string, h http.Header, hint func(int, http.Header)) (*http.Response, error) {
	c.asked.Method = method
	for range maxInformational + 1 {
		if c.answer.read(c.in, method, h) {
			c.limit = math.MaxInt64
			return &c.answer.Response, nil
		}
		res, err := http.ReadResponse(c.in, &c.asked)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode < 100:
			return nil, errBadStatus
		case res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols:
			hint(res.StatusCode, res.Header)
		default:
			c.limit = math.MaxInt64
			return res, nil
		}
	}
	return nil, errTooManyHints
}

// early returns what came after the head of the answer, and lets go of the
// buffer: from here on the connection is read without it.
func (c *conn) early() []byte {
	b, _ := c.in.Peek(c.in.Buffered())
	b = bytes.Clone(b)
	c.letGo()
	return b
}

// heard says whether the container has said anything since the connection
// woke.
func (c *conn) heard() bool { return c.limit < maxAnswerHeader }

// connect lends a connection to a place, or opens one. While it is opened
// another may be given back, which then is lent; the new one rests until it is
// needed. A fresh one was never lent.
func (u *upstreams) connect(ctx context.Context, to *place, now time.Time, fresh bool) (*conn, error) {
	c, p := u.take(to, now, fresh, nil)
	var wait chan *conn
	if c == nil && !fresh {
		wait = make(chan *conn, 1)
		c, p = u.take(to, now, fresh, wait)
	}
	if c != nil {
		c.wake()
		return c, nil
	}
	opened := make(chan error, 1)
	var made *conn
	go func() {
		var err error
		made, err = u.open(context.WithoutCancel(ctx), *to, p)
		opened <- err
	}()
	rest := func() {
		if <-opened == nil {
			u.give(made)
		}
	}
	select {
	case err := <-opened:
		u.forget(to, p, wait)
		return made, err
	case c := <-wait:
		go rest()
		c.wake()
		return c, nil
	case <-ctx.Done():
		u.forget(to, p, wait)
		go rest()
		return nil, ctx.Err()
	}
}

func (u *upstreams) open(ctx context.Context, to place, p *pool) (*conn, error) {
	over, raw, err := u.dialPlace(ctx, &to, "http/1.1")
	if err != nil {
		return nil, err
	}
	return newConn(over, raw, to, p), nil
}
