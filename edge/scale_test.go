package edge

import (
	"fmt"
	"net/netip"
	"testing"
)

// city is a Config of 10,000 containers under one document of 1,000 groups,
// every other of which asks for a credential.
func city() (Config, []Request) {
	doc := &Permissions{Groups: map[string]Group{}, Cells: map[string]map[string]Cell{}}
	for i := range 1000 {
		name := fmt.Sprintf("group-%d", i)
		doc.Groups[name] = Group{Ranges: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}
		if i%2 == 1 {
			doc.Groups[name] = Group{Token: &Token{Source{Header: "X-Key"}, sum(name)}}
		}
		doc.Cells[name] = map[string]Cell{"http": {Ports: []PortRange{{80, 80}, {3000, 3999}}}, "files": {All: true, Level: "read"}}
	}
	c := Config{Zone: zone}
	var requests []Request
	for i := range 10_000 {
		id := fmt.Sprintf("%024x", i)
		c.Containers = append(c.Containers, Container{
			ProjectID: shop, ID: id, Name: "shop/" + id, Permissions: doc, Catalogue: levelled,
			Addr: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}),
		})
		requests = append(requests, Request{Host: shop + "-" + id + "-http-3000." + zone, Client: netip.AddrFrom4([4]byte{10, byte(i % 1000 >> 8), byte(i%1000) &^ 1, 9}), Path: "/", Time: noon})
	}
	return c, requests
}

// TestDecideAllocatesNothing: whoever asks for whatever, of a large server.
func TestDecideAllocatesNothing(t *testing.T) {
	c, _ := city()
	table := mustCompile(t, c)
	host := func(program string) string {
		return shop + "-" + fmt.Sprintf("%024x", 4711) + "-" + program + "." + zone
	}
	key := Group{Token: &Token{Source{Header: "X-Key"}, sum("group-1")}}
	proven := NewIdentity(Proof{Credential: key.credential().id, Until: noon.Add(1)}, Proof{Credential: Digest{1}})
	for _, row := range []struct {
		what string
		r    Request
		want int
	}{
		{"an address", Request{Host: host("http"), Client: netip.MustParseAddr("10.0.0.9")}, 200},
		{"an address in a port's range", Request{Host: host("http-3999"), Client: netip.MustParseAddr("10.3.230.9")}, 200},
		{"a port that no group has", Request{Host: host("http-81"), Client: netip.MustParseAddr("10.0.0.9")}, 403},
		{"a stranger", Request{Host: host("http"), Client: netip.MustParseAddr("192.0.2.9")}, 401},
		{"a token", Request{Host: host("http"), Identity: proven}, 200},
		{"a level", Request{Host: host("files"), Identity: proven}, 200},
		{"above the level", Request{Host: host("files"), Identity: proven, Method: "PUT"}, 403},
		{"an upgrade", Request{Host: host("files"), Identity: proven, Upgrade: true}, 403},
	} {
		row.r.Path, row.r.Time = "/", noon
		if d := table.Decide(row.r); d.Status() != row.want {
			t.Errorf("%s: %d (%s)", row.what, d.Status(), d.Why)
		}
		if n := testing.AllocsPerRun(100, func() { table.Decide(row.r) }); n != 0 {
			t.Errorf("%s: %v allocations", row.what, n)
		}
	}
}

// BenchmarkDecideAddress spreads its requests over all containers, or asks for
// one again and again, which the processor then has at hand.
func BenchmarkDecideAddress(b *testing.B) {
	c, requests := city()
	table := mustCompile(b, c)
	for _, spread := range []struct {
		name string
		n    int
	}{{"one", 1}, {"all", len(requests)}} {
		b.Run(spread.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if d := table.Decide(requests[i%spread.n]); d.Verdict != Allow {
					b.Fatal(d)
				}
			}
		})
	}
}
