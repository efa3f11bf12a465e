package edge

import (
	"net/netip"
	"testing"
)

func ranges(cidrs ...string) Group {
	var g Group
	for _, c := range cidrs {
		g.Ranges = append(g.Ranges, netip.MustParsePrefix(c))
	}
	return g
}

func ports(pairs ...uint16) Cell {
	var c Cell
	for i := 0; i < len(pairs); i += 2 {
		c.Ports = append(c.Ports, PortRange{pairs[i], pairs[i+1]})
	}
	return c
}

// TestPermissions: who gets to which port of http under which document, and
// why.
func TestPermissions(t *testing.T) {
	all, none := Cell{All: true}, Cell{}
	groups := map[string]Group{
		"office":  ranges("192.0.2.0/24", "2001:db8:1::/48"),
		"boss":    ranges("192.0.2.7/32"),
		"guests":  ranges("192.0.2.128/25"),
		"partner": ranges("203.0.113.0/24", "192.0.2.200/32"),
		"world":   ranges("0.0.0.0/0"),
		"empty":   ranges(),
	}
	type cells = map[string]map[string]Cell
	documents := map[string]*Permissions{
		"none":         nil,
		"zero":         {},
		"open":         {Default: Allow},
		"office only":  {Groups: groups, Cells: cells{"office": {"http": all}}},
		"not partner":  {Default: Allow, Groups: groups, Cells: cells{"partner": {"http": none}}},
		"ports":        {Groups: groups, Cells: cells{"office": {"http": ports(8000, 8100, 80, 80, 8101, 8200, 3000, 3000)}}},
		"boss and all": {Groups: groups, Cells: cells{"office": {"http": ports(80, 80)}, "boss": {"http": all}}},
		"guests less":  {Groups: groups, Cells: cells{"office": {"http": all}, "guests": {"http": none}}},
		"guests none":  {Default: Allow, Groups: groups, Cells: cells{"guests": {"http": none}, "partner": {"http": ports(80, 80)}}},
		"terminal":     {Groups: groups, Cells: cells{"office": {"terminal": all}}},
		"terminal no":  {Default: Allow, Groups: groups, Cells: cells{"office": {"terminal": none}}},
		"ipv4":         {Groups: groups, Cells: cells{"world": {"http": all}}},
		"nobody":       {Groups: groups, Cells: cells{"empty": {"http": all}}},
	}
	rows := []struct {
		document, client string
		port             uint16
		want             Verdict
		why              string
	}{
		{"none", "198.51.100.7", 80, Allow, "no permissions document"},
		{"none", "2001:db8::1", 9, Allow, "no permissions document"},
		{"none", "", 80, Allow, "no permissions document"},
		{"zero", "192.0.2.7", 80, Deny, "denied by default"},
		{"zero", "", 80, Deny, "denied by default"},
		{"open", "198.51.100.7", 80, Allow, "allowed by default"},
		{"open", "", 80, Allow, "allowed by default"},

		{"office only", "192.0.2.0", 80, Allow, "allowed by group office"},
		{"office only", "192.0.2.255", 80, Allow, "allowed by group office"},
		{"office only", "192.0.3.0", 80, Deny, "denied by default"},
		{"office only", "192.0.1.255", 80, Deny, "denied by default"},
		{"office only", "192.0.2.7", 65535, Allow, "allowed by group office"},
		{"office only", "::ffff:192.0.2.7", 80, Allow, "allowed by group office"},
		{"office only", "::192.0.2.7", 80, Deny, "denied by default"},
		{"office only", "2001:db8:1::5", 80, Allow, "allowed by group office"},
		{"office only", "2001:db8:1:ffff::5%eth0", 80, Allow, "allowed by group office"},
		{"office only", "2001:db8:2::5", 80, Deny, "denied by default"},
		{"office only", "203.0.113.9", 80, Deny, "denied by default"},
		{"office only", "", 80, Deny, "denied by default"},

		{"not partner", "203.0.113.9", 80, Deny, "denied by group partner"},
		{"not partner", "192.0.2.200", 80, Deny, "denied by group partner"},
		{"not partner", "192.0.2.7", 80, Allow, "allowed by default"},
		{"not partner", "198.51.100.7", 80, Allow, "allowed by default"},

		{"ports", "192.0.2.7", 80, Allow, "allowed by group office"},
		{"ports", "192.0.2.7", 79, Deny, "denied by group office"},
		{"ports", "192.0.2.7", 81, Deny, "denied by group office"},
		{"ports", "192.0.2.7", 3000, Allow, "allowed by group office"},
		{"ports", "192.0.2.7", 3001, Deny, "denied by group office"},
		{"ports", "192.0.2.7", 7999, Deny, "denied by group office"},
		{"ports", "192.0.2.7", 8000, Allow, "allowed by group office"},
		{"ports", "192.0.2.7", 8100, Allow, "allowed by group office"},
		{"ports", "192.0.2.7", 8101, Allow, "allowed by group office"},
		{"ports", "192.0.2.7", 8201, Deny, "denied by group office"},
		{"ports", "198.51.100.7", 80, Deny, "denied by default"},

		// One cell that allows is enough, whatever other cells say.
		{"boss and all", "192.0.2.7", 22, Allow, "allowed by group boss"},
		{"boss and all", "192.0.2.7", 80, Allow, "allowed by group boss"},
		{"boss and all", "192.0.2.8", 80, Allow, "allowed by group office"},
		{"boss and all", "192.0.2.8", 22, Deny, "denied by group office"},
		{"guests less", "192.0.2.129", 80, Allow, "allowed by group office"},
		{"guests less", "192.0.2.1", 80, Allow, "allowed by group office"},
		{"guests none", "192.0.2.129", 80, Deny, "denied by group guests"},
		{"guests none", "192.0.2.200", 80, Allow, "allowed by group partner"},
		{"guests none", "192.0.2.200", 81, Deny, "denied by group guests"},
		{"guests none", "203.0.113.9", 81, Deny, "denied by group partner"},
		{"guests none", "192.0.2.1", 81, Allow, "allowed by default"},

		// A cell for another program says nothing about this one.
		{"terminal", "192.0.2.7", 80, Deny, "denied by default"},
		{"terminal no", "192.0.2.7", 80, Allow, "allowed by default"},

		// 0.0.0.0/0 is all of IPv4 and nothing else.
		{"ipv4", "198.51.100.7", 80, Allow, "allowed by group world"},
		{"ipv4", "::ffff:198.51.100.7", 80, Allow, "allowed by group world"},
		{"ipv4", "2001:db8::1", 80, Deny, "denied by default"},
		{"ipv4", "", 80, Deny, "denied by default"},
		{"nobody", "192.0.2.7", 80, Deny, "denied by default"},
	}
	tables := make(map[string]*Table)
	for name, document := range documents {
		c := fixture()
		c.Containers[0].Permissions = document
		tables[name] = mustCompile(t, c)
	}
	for _, row := range rows {
		var client netip.Addr
		if row.client != "" {
			client = netip.MustParseAddr(row.client)
		}
		var got Decision
		tables[row.document].byID[web].document.decide(client.Unmap(), &endpoint{program: programHTTP, number: row.port}, &Request{}, &got)
		if got.Verdict != row.want || got.Why != row.why {
			t.Errorf("%s: %q to port %d: %v, %s; want %v, %s", row.document, row.client, row.port, got.Verdict, got.Why, row.want, row.why)
		}
	}
}

// TestNotRunning: who is refused learns nothing of the container's state.
func TestNotRunning(t *testing.T) {
	table := mustCompile(t, fixture())
	for _, row := range []struct {
		client string
		want   Verdict
	}{{"192.0.2.9", Unavailable}, {"198.51.100.7", Deny}} {
		d := table.Decide(Request{Host: blog + "-" + dark + "-http." + zone, Client: netip.MustParseAddr(row.client)})
		if d.Verdict != row.want || d.Route != (Route{}) {
			t.Errorf("%s: %v to %v, want %v", row.client, d.Verdict, d.Route, row.want)
		}
	}
}
