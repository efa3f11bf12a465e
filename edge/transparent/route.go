package transparent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// preference places the rule behind the one of this host's own addresses,
	// which is 0, and before all that others usually add.
	preference = 7

	// firstTable is above the numbers that programs usually take.
	firstTable = 0x73770000
)

func routingTable(bridge string) int { return firstTable + number(bridge) }

// families are those that this host has.
func families() []int {
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return []int{unix.AF_INET}
	}
	return []int{unix.AF_INET, unix.AF_INET6}
}

func rule(bridge string, family int) *netlink.Rule {
	mask := uint32(mark)
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table = family, preference, routingTable(bridge)
	r.IifName, r.Mark, r.Mask = bridge, mark, &mask
	return r
}

func isOurs(have netlink.Rule, want *netlink.Rule) bool {
	return have.Priority == want.Priority && have.Table == want.Table && have.IifName == want.IifName &&
		have.Mark == want.Mark && have.Mask != nil && *have.Mask == *want.Mask && !have.Invert
}

// route says that every address is this host's.
func route(bridge string, family int) (*netlink.Route, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if family == unix.AF_INET6 {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{
		LinkIndex: lo.Attrs().Index, Family: family, Dst: all, Table: routingTable(bridge),
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	}, nil
}

// ensureRoutes reports whether anything was missing.
func ensureRoutes(bridge string) (made bool, err error) {
	for _, family := range families() {
		r, err := route(bridge, family)
		if err != nil {
			return made, err
		}
		added, err := ensureRoute(r)
		if err != nil {
			return made, fmt.Errorf("add a route to table %d: %w", r.Table, err)
		}
		made = made || added
		// The route first: what is marked must find it.
		if added, err = ensureRule(rule(bridge, family)); err != nil {
			return made, fmt.Errorf("add a routing rule for %s: %w", bridge, err)
		}
		made = made || added
	}
	return made, nil
}

func ensureRoute(want *netlink.Route) (added bool, err error) {
	have, err := listRoutes(want.Family, want.Table)
	if err != nil {
		return false, err
	}
	if len(have) == 1 && have[0].Type == unix.RTN_LOCAL && have[0].LinkIndex == want.LinkIndex && isDefault(have[0].Dst) {
		return false, nil
	}
	return true, netlink.RouteReplace(want)
}

func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

func listRoutes(family, table int) ([]netlink.Route, error) {
	return netlink.RouteListFiltered(family, &netlink.Route{Table: table, Type: unix.RTN_LOCAL}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
}

func ensureRule(want *netlink.Rule) (added bool, err error) {
	have, err := netlink.RuleList(want.Family)
	if err != nil {
		return false, err
	}
	for _, r := range have {
		if isOurs(r, want) {
			return false, nil
		}
	}
	if err := netlink.RuleAdd(want); !errors.Is(err, syscall.EEXIST) {
		return true, err
	}
	return false, nil
}

// removeRoutes is content with what is gone already.
func removeRoutes(bridge string) error {
	var failed []error
	for _, family := range families() {
		if err := netlink.RuleDel(rule(bridge, family)); err != nil && !errors.Is(err, syscall.ENOENT) {
			failed = append(failed, fmt.Errorf("remove the routing rule for %s: %w", bridge, err))
		}
		routes, err := listRoutes(family, routingTable(bridge))
		failed = append(failed, err)
		for _, r := range routes {
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, syscall.ESRCH) {
				failed = append(failed, fmt.Errorf("remove a route from table %d: %w", r.Table, err))
			}
		}
	}
	return errors.Join(failed...)
}
