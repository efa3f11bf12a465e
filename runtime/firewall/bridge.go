package firewall

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settings of the bridge. Its ports are isolated from each other, so that what
// containers send each other crosses this host and its rules. They still ask
// for each other on the link; the host answers in their place, at once instead
// of after a random delay, and without telling them a shorter way.
//
// Redirects would use up what the host may send of ICMP to one neighbour, and
// a rule's reject be silent. Those of a bridge end only when those of "all" do;
// other interfaces go on by their own setting. Questions of IPv6 to one host,
// as neighbours ask them again later, are answered only when "all" says so; no
// interface answers for more than it is told to.
//
// For redirects of IPv6 there is no switch. Each packet between containers may
// take a second's worth of what the host may send to its sender, so that a reject
// of anything but TCP, which needs no ICMP, may be silent: whoever asks once a
// second is never told, others mostly are.
var settings = []struct{ path, value string }{
	{"ipv4/conf/%s/proxy_arp_pvlan", "1"},
	{"ipv4/conf/%s/send_redirects", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/neigh/%s/proxy_delay", "0"},
	{"ipv6/conf/%s/proxy_ndp", "1"},
	{"ipv6/conf/all/proxy_ndp", "1"},
	{"ipv6/neigh/%s/proxy_delay", "0"},
}

// prepareBridge makes the host stand between the containers of the bridge, and
// says what of that was not so.
func (f *Firewall) prepareBridge(ctx context.Context, containers []Container) (restored []string, err error) {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", strings.Replace(s.path, "%s", f.Bridge, 1))
		have, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.path, "ipv6/") {
			continue // a host without IPv6
		}
		if err == nil && strings.TrimSpace(string(have)) != s.value {
			err = os.WriteFile(path, []byte(s.value), 0)
			restored = append(restored, "the setting "+strings.Replace(s.path, "%s", f.Bridge, 1))
		}
		if err != nil {
			return restored, fmt.Errorf("firewall: set %s of bridge %s: %w", filepath.Base(path), f.Bridge, err)
		}
	}
	var want []string
	for _, c := range containers {
		for _, addr := range v6.all(c) {
			want = append(want, addr.String())
		}
	}
	missing, err := f.proxyNeighbours(ctx, want)
	if missing > 0 {
		restored = append(restored, fmt.Sprintf("neighbour proxies of %d addresses", missing))
	}
	return restored, err
}

// answersFor reports whether the host answers for exactly these addresses on the
// bridge, or for others of another scope beside them. It costs one query, where
// the program ip has to be started to learn whose they are.
func (f *Firewall) answersFor(want []string) bool {
	link, err := net.InterfaceByName(f.Bridge)
	if err != nil {
		return false
	}
	have, err := netlink.NeighProxyList(link.Index, unix.AF_INET6)
	if err != nil {
		return false
	}
	there := map[string]bool{}
	for _, n := range have {
		there[n.IP.String()] = true
	}
	return !slices.ContainsFunc(want, func(addr string) bool { return !there[addr] })
}

// proxyNeighbours makes the host answer for exactly these IPv6 addresses on
// the bridge. IPv6 knows no switch that does it for all, as IPv4 does.
//
// Entries carry a number made of the table's name, so that scopes that share a
// bridge leave each other's alone.
//
// It returns how many were missing.
func (f *Firewall) proxyNeighbours(ctx context.Context, want []string) (missing int, err error) {
	if f.proxied != nil && slices.Equal(f.proxied, want) && f.answersFor(want) {
		return 0, nil
	}
	f.proxied = nil
	hash := fnv.New32a()
	hash.Write([]byte(f.Table))
	mark := fmt.Sprint(128 + hash.Sum32()%127)
	listed, err := command(ctx, "", "ip", "-6", "neigh", "show", "proxy", "dev", f.Bridge)
	if err != nil {
		if len(want) == 0 {
			return 0, nil // the bridge may be gone, or the host be without IPv6
		}
		return 0, err
	}
	var have []string
	for line := range strings.Lines(listed) {
		fields := strings.Fields(line)
		if i := slices.Index(fields, "proto"); i > 0 && i+1 < len(fields) && fields[i+1] == mark {
			have = append(have, fields[0])
		}
	}
	var batch strings.Builder
	for _, addr := range have {
		if !slices.Contains(want, addr) {
			fmt.Fprintf(&batch, "neigh del proxy %s dev %s\n", addr, f.Bridge)
		}
	}
	for _, addr := range want {
		if !slices.Contains(have, addr) {
			fmt.Fprintf(&batch, "neigh replace proxy %s dev %s protocol %s\n", addr, f.Bridge, mark)
			missing++
		}
	}
	if batch.Len() > 0 {
		if _, err = command(ctx, batch.String(), "ip", "-6", "-batch", "-"); err != nil {
			return 0, err
		}
	}
	f.proxied = slices.Clone(want)
	return missing, nil
}
