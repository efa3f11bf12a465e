package limit

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Late is a connection from a balancer, whose RemoteAddr is known once
// something was read.
type Late interface {
	net.Conn
	LateAddr()
}

// Listen has the connections of a listener counted. What there is no room for is
// closed, and not returned.
func (c *Conns) Listen(l net.Listener) net.Listener { return &listener{l, c} }

type listener struct {
	net.Listener
	conns *Conns
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		out := &counted{Conn: conn}
		if _, late := conn.(Late); late {
			out.entry = l.conns.Open(netip.Addr{}, out.kill)
			out.named.f = func() error {
				if out.entry.Named(AddrOf(conn.RemoteAddr())) {
					return nil
				}
				_ = out.Close()
				return errCrowded
			}
		} else {
			out.entry = l.conns.Open(AddrOf(conn.RemoteAddr()), out.kill)
		}
		if out.entry != nil {
			return out, nil
		}
		_ = conn.Close()
	}
}

var errCrowded = errors.New("the client has too many connections")

// counted is a connection that is counted off when it is closed.
type counted struct {
	net.Conn
	entry *Conn
	named struct {
		once sync.Once
		f    func() error // nil: it is named
		err  error
	}
}

// Of is what counts conn, nil if nothing does.
func Of(conn net.Conn) *Conn {
	if c, ok := conn.(*counted); ok {
		return c.entry
	}
	return nil
}

func (c *counted) kill() { _ = c.Conn.Close() }

// Read implements net.Conn.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.named.f != nil && err == nil {
		c.named.once.Do(func() { c.named.err = c.named.f() })
		if c.named.err != nil {
			return 0, c.named.err
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.entry.Close()
	return err
}

// CloseWrite does what it does for TCP.
func (c *counted) CloseWrite() error {
	if in, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return in.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger does what it does for TCP.
func (c *counted) SetLinger(seconds int) error {
	if in, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return in.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}
