package edge

import (
	"encoding/binary"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzBasic: HTTP Basic is read as net/http reads it, and not where somebody
// else could read it differently.
func FuzzBasic(f *testing.F) {
	for _, s := range []string{basic("ann", "horse"), basic("", ":"), "bASIC  YTpi", "Basic YTpi=", "Basic YTp\ni", "Basic", "Basic " + "YTpi ", "Bearer YTpi"} {
		f.Add(s, "ann", "horse")
	}
	f.Fuzz(func(t *testing.T, header, user, password string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}}}
		u, p, ok := basicAuth(r)
		if theirs, their, k := r.BasicAuth(); k && (!ok || u != theirs || p != their) {
			t.Errorf("%q is %q %q %v, to net/http %q %q", header, u, p, ok, theirs, their)
		}
		if ok && authorization.read(r).n > 0 {
			t.Errorf("%q is Basic and Bearer", header)
		}
		r.Header.Add("Authorization", header)
		if _, _, ok := basicAuth(r); ok {
			t.Errorf("%q is read twice over", header)
		}
		r.SetBasicAuth(user, password)
		if u, p, ok := basicAuth(r); !ok || !strings.Contains(user, ":") && (u != user || p != password) {
			t.Errorf("%q %q is read as %q %q %v", user, password, u, p, ok)
		}
	})
}

// FuzzSpent: of a cookie and a parameter that were taken out nothing is left
// for an application, which reads them as net/http and net/url do.
func FuzzSpent(f *testing.F) {
	for _, s := range []string{"key=k; a=b", "a=b;key=\"k\"", "key", "a=b; key =k; ; key=x", "key=k\tx"} {
		for _, q := range []string{"key=k&a=b", "%6bey=k", "a=b;key=k", "&&key", "k%65y=%zz", "key=%zz&+key=k"} {
			f.Add(s, q)
		}
	}
	cookie, param := Source{Cookie: "key"}, Source{Param: "key"}
	f.Fuzz(func(t *testing.T, line, query string) {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return // no server lets it in
		}
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Cookie": {line}}}
		ours := cookie.read(r)
		for i, their := range r.CookiesNamed("key") {
			v := their.Value
			// Blanks around a value are no part of it here, and empty ones are none.
			if i < maxValues && v != "" && v == strings.TrimSpace(v) && !slices.Contains(ours.all[:], v) {
				t.Errorf("the cookie %q is %+v; to net/http %q", line, ours, their)
			}
		}
		ours = param.read(r)
		values, _ := url.ParseQuery(query)
		their := values["key"]
		for i, v := range their {
			if i < maxValues && v != "" && !slices.Contains(ours.all[:], v) {
				t.Errorf("the parameter of %q is %+v; to net/url %q", query, ours, their)
			}
		}
		others := len(values) - min(1, len(their))
		leave(spent{cookie, param}, r)
		values, _ = url.ParseQuery(r.URL.RawQuery)
		if len(r.CookiesNamed("key")) > 0 || values["key"] != nil || len(values) != others {
			t.Errorf("%q and %q: %q and %q are left", line, query, r.Header, values)
		}
	})
}

// FuzzNames: a header is forged, or names another method, in all its spellings
// or in none.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"X-Forwarded-For", "forwarded", "X_Real.Ip", "Swage-Level", "X-Http-Method-Override", "x.method_override", "X-Forwarde", "Client-Ip", "X"} {
		f.Add(s, uint64(5))
	}
	f.Fuzz(func(t *testing.T, name string, seed uint64) {
		if len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return
		}
		another := []byte(name)
		for i, c := range another {
			n := seed >> (2 * (i % 32)) & 3
			switch {
			case folded[c] == '-':
				another[i] = "-_.!"[n]
			case n%2 == 1:
				another[i] = strings.ToUpper(name)[i]
			default:
				another[i] = strings.ToLower(name)[i]
			}
		}
		plain := foldName(name)
		if forged := isForged(name); forged != isForged(string(another)) || forged != isForged(plain) {
			t.Errorf("%q and %q: %v", name, another, forged)
		}
		heeded := func(name string) bool {
			return NewRequest(&http.Request{URL: &url.URL{}, Header: http.Header{http.CanonicalHeaderKey(name): nil}}, noon).Override
		}
		if heeded(name) != heeded(string(another)) || heeded(name) != heeded(plain) {
			t.Errorf("%q and %q: %v", name, another, heeded(name))
		}
	})
}

// FuzzRanges: a group of networks has who is in one of them, and an all of two
// such groups who is in both, whatever way an address is spelled.
func FuzzRanges(f *testing.F) {
	f.Add("10.0.0.0/8 192.0.2.0/24", "10.1.0.0/16 0.0.0.0/0", "10.1.2.3")
	f.Add("::/0 2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1")
	f.Add("0.0.0.0/0", "::/0", "::ffff:192.0.2.1")
	read := func(text string) (out []netip.Prefix) {
		for s := range strings.FieldsSeq(text) {
			if p, err := netip.ParsePrefix(s); err == nil && len(out) < 20 && !p.Addr().Is4In6() {
				out = append(out, p.Masked())
			}
		}
		return out
	}
	has := func(all []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	f.Fuzz(func(t *testing.T, one, other, address string) {
		client, err := netip.ParseAddr(address)
		a, b := read(one), read(other)
		if err != nil || client.Zone() != "" || len(a) == 0 || len(b) == 0 {
			return
		}
		plain := client.Unmap()
		for what, row := range map[string]struct {
			group Group
			want  bool
		}{
			"one":  {Group{Ranges: a}, has(a, plain)},
			"both": {Group{All: []Group{{Ranges: a}, {Ranges: b}}}, has(a, plain) && has(b, plain)},
		} {
			d, err := compileDocument(&Permissions{Groups: map[string]Group{"g": row.group}, Cells: map[string]map[string]Cell{"g": {"http": {All: true}}}})
			if err != nil {
				t.Fatal(err)
			}
			var got Decision
			if d.decide(plain, &endpoint{program: "http", number: 80}, &Request{}, &got); got.Verdict == Allow != row.want {
				t.Errorf("%v in %s of %v, %v: %v", client, what, a, b, got.Verdict)
			}
		}
	})
}

// FuzzCell: a cell allows what one of its ranges holds, in whatever order they
// come and overlap.
func FuzzCell(f *testing.F) {
	f.Add([]byte{0, 80, 0, 80, 31, 64, 31, 164}, uint16(8000))
	f.Add([]byte{0, 1, 255, 255, 0, 5, 0, 9, 0, 10, 0, 10}, uint16(10))
	f.Fuzz(func(t *testing.T, text []byte, port uint16) {
		var in Cell
		want, sound := false, true
		for ; len(text) >= 4; text = text[4:] {
			r := PortRange{binary.BigEndian.Uint16(text), binary.BigEndian.Uint16(text[2:])}
			in.Ports = append(in.Ports, r)
			sound = sound && r.First > 0 && r.First <= r.Last
			want = want || r.First <= port && port <= r.Last
		}
		c, err := compileCell(in)
		if err == nil != sound || err == nil && c.allows(port) != want {
			t.Errorf("%v: %v, %v; %d: %v", in.Ports, err, c.ports, port, c.allows(port))
		}
	})
}
