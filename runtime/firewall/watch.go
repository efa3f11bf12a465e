package firewall

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch tells of changes of the tables of these names, whoever makes them, until
// ctx ends. Several changes may be told once. News that the kernel had to drop
// count as a change.
func Watch(ctx context.Context, tables ...string) (<-chan struct{}, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, fmt.Errorf("firewall: listen for changes of tables: %w", err)
	}
	// A read that waits does not end when its socket is closed.
	_ = s.SetReceiveTimeout(&unix.Timeval{Usec: 500_000})
	changed := make(chan struct{}, 1)
	go func() {
		defer s.Close()
		for ctx.Err() == nil {
			messages, _, err := s.Receive()
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			concerns := err != nil
			for _, m := range messages {
				concerns = concerns || slices.Contains(tables, tableOf(m.Data))
			}
			if concerns {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
			if err != nil && err != unix.ENOBUFS { // must not spin
				time.Sleep(500 * time.Millisecond)
			}
		}
	}()
	return changed, nil
}

// tableOf is the table that a message about a table, a chain, a rule, a set or
// its elements names: with all of them it is the first kind of attribute.
func tableOf(message []byte) string { return attribute(message, unix.NFTA_TABLE_NAME) }

// attribute is a text of a netfilter message; empty if it has none of the kind.
func attribute(message []byte, kind uint16) string {
	if len(message) < nl.SizeofNfgenmsg {
		return ""
	}
	for rest := message[nl.SizeofNfgenmsg:]; len(rest) >= unix.NLA_HDRLEN; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < unix.NLA_HDRLEN || size > len(rest) {
			break
		}
		if binary.NativeEndian.Uint16(rest[2:])&^unix.NLA_F_NESTED == kind {
			return strings.TrimRight(string(rest[unix.NLA_HDRLEN:size]), "\x00")
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return ""
}

// BridgeRules counts the rules in each chain of a table of the bridge family.
// Of a table that is not there it counts none.
func BridgeRules(table string) (map[string]int, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_BRIDGE})
	request.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(table)))
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("firewall: list the rules of table bridge %s: %w", table, err)
	}
	count := map[string]int{}
	for _, m := range messages {
		if tableOf(m) == table {
			count[attribute(m, unix.NFTA_RULE_CHAIN)]++
		}
	}
	return count, nil
}
