package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"swage/edge/credentials"
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

// guards are the documents whose cost is measured: none, a thousand groups by
// address, and one that asks for a password, which is remembered.
func guards() (names []string, documents []*Permissions) {
	addresses := only("192.0.2.1") // that of httptest's requests
	for i := range 1000 {
		name := fmt.Sprint("group-", i)
		addresses.Groups[name] = Group{Ranges: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}}
		addresses.Cells[name] = map[string]Cell{"http": {All: true}}
	}
	return []string{"nothing", "addresses", "password"}, []*Permissions{nil, addresses, house()}
}

// requester returns what makes one request of an application under a document,
// always over the same connection. The client, its TLS and the application's
// work are left out: what remains is the edge's own share and one connection.
func requester(b *testing.B, app netip.AddrPort, document *Permissions) func() {
	p := NewProxy(Options{Logger: slog.New(slog.DiscardHandler), Verifier: real{credentials.New(credentials.Options{})}})
	p.Swap(mustCompile(b, at(app.Addr(), document)))
	b.Cleanup(func() { p.Swap(nil) })
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = strings.TrimPrefix(origin(app.Port()), "https://")
	r.SetBasicAuth("ann", "horse")
	r = r.WithContext(context.WithValue(b.Context(), linkKey{}, &link{gate: &gate{base: b.Context()}}))
	return func() {
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	app := backend(b, "127.0.1.1", func(http.ResponseWriter, *http.Request) {})
	names, documents := guards()
	for i, name := range names {
		b.Run(name, func(b *testing.B) {
			ask := requester(b, app, documents[i])
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// BenchmarkPermissionsCPU is the CPU time of a request under permissions as a
// multiple of one without, the median of ten runs that take turns:
//
//	go test ./edge -run '^$' -bench PermissionsCPU -benchtime 1x
func BenchmarkPermissionsCPU(b *testing.B) {
	app := backend(b, "127.0.1.1", func(http.ResponseWriter, *http.Request) {})
	names, documents := guards()
	asks := make([]func(), len(names))
	for i := range names {
		asks[i] = requester(b, app, documents[i])
		asks[i]() // the password is remembered from here on
	}
	for b.Loop() {
		ratios := make([][]float64, len(names))
		for range 10 {
			spent := make([]time.Duration, len(names))
			// Short turns, so that what else the machine does meets all alike.
			for turn := range 20 * len(names) {
				i := turn % len(names)
				before := cpuTime(b)
				for range 200 {
					asks[i]()
				}
				spent[i] += cpuTime(b) - before
			}
			for i := range names {
				ratios[i] = append(ratios[i], float64(spent[i])/float64(spent[0]))
			}
		}
		for i, name := range names[1:] {
			slices.Sort(ratios[i+1])
			b.ReportMetric((ratios[i+1][4]+ratios[i+1][5])/2, name+"/nothing")
		}
	}
}

// cpuTime is what this process has taken so far.
func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
