package main

import (
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// balancerTimeout is how long a balancer may take to name its client.
const balancerTimeout = 10 * time.Second

// behindBalancers takes the clients' addresses from balancers that are listed,
// by the PROXY protocol. One that is listed must name its client, or all its
// clients would be taken for it; what others send is not read.
func (f *front) behindBalancers(l net.Listener) net.Listener {
	return lateListener{&proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: balancerTimeout,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			from, err := netip.ParseAddrPort(o.Upstream.String())
			if list := f.balancers.Load(); err == nil && list != nil {
				for _, p := range *list {
					if p.Contains(from.Addr().Unmap()) {
						return proxyproto.REQUIRE, nil
					}
				}
			}
			return proxyproto.SKIP, nil
		},
	}}
}

// lateListener marks the connections whose clients are known later.
type lateListener struct{ net.Listener }

// Accept implements net.Listener.
func (l lateListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if named, ok := conn.(*proxyproto.Conn); ok {
		return lateConn{named}, err
	}
	return conn, err
}

// lateConn is a [limit.Late].
type lateConn struct{ *proxyproto.Conn }

func (lateConn) LateAddr() {}
