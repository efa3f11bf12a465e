package transparent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long changes may go on before they are looked at, and
	// between is the least time from one look to the next.
	settle  = 20 * time.Millisecond
	between = time.Second

	// anyway is when to look without having heard of a change: the kernel
	// drops news that nobody takes in time.
	anyway = 30 * time.Second
)

// Watch repairs what others flush, and follows the addresses and ports of the
// bridge, until ctx ends. Each outcome that differs from the one before is told;
// nil says that all is well.
func (p *Path) Watch(ctx context.Context, tell func(error)) error {
	changes, err := listen(ctx)
	if err != nil {
		return fmt.Errorf("transparent: listen for changes: %w", err)
	}
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-time.After(anyway):
		}
		pause(ctx, settle)
		drain(changes)
		err := p.again(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if now := fmt.Sprint(err); tell != nil && now != said && (said != "" || err != nil) {
			said = now
			tell(err)
		}
		pause(ctx, between)
	}
}

// again repairs what is set up.
func (p *Path) again(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bridge == "" {
		return nil
	}
	made, err := p.repair(ctx)
	if p.OnRepair != nil {
		for _, what := range made {
			p.OnRepair(what)
		}
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func drain(changes <-chan struct{}) {
	select {
	case <-changes:
	default:
	}
}

// listen tells of changes of links, addresses, routes, rules and tables, until
// ctx ends. Several changes may be told once.
func listen(ctx context.Context) (<-chan struct{}, error) {
	routing, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, err
	}
	tables, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		routing.Close()
		return nil, err
	}
	changed := make(chan struct{}, 1)
	var readers sync.WaitGroup
	for _, s := range []*nl.NetlinkSocket{routing, tables} {
		// A read that waits does not end when its socket is closed.
		_ = s.SetReceiveTimeout(&unix.Timeval{Sec: 1})
		readers.Go(func() {
			defer s.Close()
			for ctx.Err() == nil {
				_, _, err := s.Receive()
				if err == unix.EAGAIN || err == unix.EINTR {
					continue
				}
				select { // an overrun (ENOBUFS) is a change, too
				case changed <- struct{}{}:
				default:
				}
				if err != nil {
					pause(ctx, between)
				}
			}
		})
	}
	return changed, nil
}
