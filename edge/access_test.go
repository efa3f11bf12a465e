package edge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// openVerifier is one whose passwords and tokens are in the clear: a hash is
// the password itself, a token is "<secret>" or "<secret> until <seconds from
// noon>". Real ones are the matter of edge/credentials.
type openVerifier struct{}

func (openVerifier) Password(_ context.Context, hash, password string) (bool, error) {
	return hash == password, nil
}

func (openVerifier) JWT(_ context.Context, rules *JWTRules, token string) (time.Time, bool, error) {
	secret, until, limited := strings.Cut(token, " until ")
	if secret != string(rules.Secret) {
		return time.Time{}, false, nil
	}
	if !limited {
		return time.Time{}, true, nil
	}
	var seconds int
	if _, err := fmt.Sscan(until, &seconds); err != nil {
		return time.Time{}, false, err
	}
	return noon.Add(time.Duration(seconds) * time.Second), true, nil
}

// manor is the Config that testdata/access.txt describes.
func manor() (Config, map[string]string) {
	all, none := Cell{All: true}, Cell{}
	level := func(l string) Cell { return Cell{All: true, Level: l} }
	office := ranges("192.0.2.0/24", "2001:db8:1::/48")
	password := func(user, hash string) Group { return Group{Password: &Password{user, hash}} }
	token := func(s Source) Group { return Group{Token: &Token{s, sum("sesame")}} }
	staff := Group{JWT: &JWT{Sources: []Source{authorization, {Cookie: "jwt"}}, Rules: JWTRules{Algorithm: "HS256", Secret: []byte("staff")}}}
	ann, robot := password("ann", "horse"), token(Source{Header: "X-Key"})
	type cells = map[string]map[string]Cell
	doc := func(fallback Verdict, groups map[string]Group, c cells) *Permissions {
		return &Permissions{Default: fallback, Groups: groups, Cells: c}
	}
	groups := map[string]Group{
		"office": office, "ann": ann, "robot": robot, "staff": staff,
		"cookie": token(Source{Cookie: "key"}), "param": token(Source{Param: "key"}),
		"both": {All: []Group{office, ann}}, "three": {All: []Group{office, ann, robot}}, "lost": {},
	}
	only := func(program string, names ...string) cells {
		c := cells{}
		for _, name := range names {
			c[name] = map[string]Cell{program: all}
		}
		return c
	}
	c := Config{Zone: zone}
	hosts := map[string]string{}
	for i, in := range []Container{
		{Name: "open"},
		{Name: "nobody", Permissions: doc(Deny, nil, nil)},
		{Name: "office", Permissions: doc(Deny, groups, only("http", "office"))},
		{Name: "ann", Permissions: doc(Deny, groups, only("http", "ann"))},
		{Name: "either", Permissions: doc(Deny, groups, only("http", "office", "ann"))},
		{Name: "both", Permissions: doc(Deny, groups, only("http", "both"))},
		{Name: "three", Permissions: doc(Deny, groups, only("http", "three"))},
		{Name: "tokens", Permissions: doc(Deny, groups, only("http", "robot", "cookie", "param"))},
		{Name: "staff", Permissions: doc(Deny, groups, only("http", "staff"))},
		{Name: "lost", Permissions: doc(Deny, groups, only("http", "lost"))},
		{Name: "ports", Permissions: doc(Deny, groups, cells{
			"office": {"http": ports(3000, 3999)}, "ann": {"http": ports(80, 80), "terminal": ports(1, 2)}, "robot": {"https": ports(8443, 8443)},
		})},
		{Name: "levels", Permissions: doc(Deny, groups, cells{
			"office": {"files": level("read"), "terminal": level("read-only"), "display": level("view"), "sqlite": level("query")},
			"ann":    {"files": level("write"), "terminal": all},
			"robot":  {"files": level("delete"), "sqlite": level("modify"), "display": level("sight")},
		})},
		{Name: "allow", Permissions: doc(Allow, groups, cells{"robot": {"terminal": none}, "office": {"terminal": ports(2, 2)}, "ann": {"terminal": all}})},
		{Name: "dark", Permissions: doc(Deny, groups, only("http", "ann"))},
		{Name: "closed", Closed: true, Permissions: doc(Deny, groups, only("http", "ann"))},
	} {
		in.ProjectID, in.ID, in.Catalogue = shop, fmt.Sprintf("%024x", i+1), levelled
		if in.Name != "dark" {
			in.Addr = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		}
		c.Containers = append(c.Containers, in)
		hosts["{"+in.Name+"}"] = in.ProjectID + "-" + in.ID
	}
	return c, hosts
}

// presents are what callers of testdata/access.txt bring along.
var presents = map[string]func(*http.Request){
	"ann":     func(r *http.Request) { r.SetBasicAuth("ann", "horse") },
	"ann?":    func(r *http.Request) { r.SetBasicAuth("ann", "mule") },
	"bob":     func(r *http.Request) { r.SetBasicAuth("bob", "horse") },
	"key":     func(r *http.Request) { r.Header.Set("X-Key", "sesame") },
	"key?":    func(r *http.Request) { r.Header.Set("X-Key", "Sesame") },
	"keys":    func(r *http.Request) { r.Header["X-Key"] = []string{"sesame", "sesame"} },
	"cookie":  func(r *http.Request) { r.Header.Set("Cookie", "a=b; key=sesame; c=d") },
	"cookies": func(r *http.Request) { r.Header.Set("Cookie", "key=sesame; key=sesame") },
	"param":   func(r *http.Request) { r.URL.RawQuery = "a=b&key=sesame" },
	"params":  func(r *http.Request) { r.URL.RawQuery = "key=no&key=sesame" },
	"staff":   func(r *http.Request) { r.Header.Set("Authorization", "Bearer staff") },
	"staffc":  func(r *http.Request) { r.Header.Set("Cookie", "jwt=staff") },
	"soon":    func(r *http.Request) { r.Header.Set("Authorization", "Bearer staff until 60") },
	"over":    func(r *http.Request) { r.Header.Set("Authorization", "Bearer staff until -60") },
	"ws":      func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
	"method":  func(r *http.Request) { r.Header.Set("X-HTTP-Method-Override", "DELETE") },
	"_method": func(r *http.Request) { r.URL.RawQuery = "%5Fmethod=DELETE" },
}

// TestWhoMayDoWhat: every line of testdata/access.txt.
func TestWhoMayDoWhat(t *testing.T) {
	c, hosts := manor()
	table := mustCompile(t, c)
	text, err := os.ReadFile("testdata/access.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.SplitAfter(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		rows++
		who, method, target := f[0], f[1], f[2]
		got := access(t, table, hosts, who, method, target)
		if want := strings.Join(f[3:], " "); got != want {
			t.Errorf("line %d: %s %s %s\n got %s\nwant %s", i+1, who, method, target, got, want)
		}
	}
	if rows < 300 {
		t.Errorf("only %d rows", rows)
	}
}

func access(t *testing.T, table *Table, hosts map[string]string, who, method, target string) string {
	t.Helper()
	name, program, _ := strings.Cut(target, "}")
	r, err := http.NewRequest(method, "https://"+hosts[name+"}"]+program+"."+zone+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = "/"
	from, brings, _ := strings.Cut(who, "+")
	addr, known := map[string]string{"office": "192.0.2.9", "office6": "2001:db8:1::9", "mapped": "::ffff:192.0.2.9", "away": "198.51.100.7", "away6": "2001:db8:2::9"}[from]
	if !known {
		t.Fatalf("nobody is called %q", who)
	}
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 1234).String()
	for what := range strings.SplitSeq(brings, "+") {
		if what != "" {
			presents[what](r)
		}
	}
	request := NewRequest(r, noon)
	if request.Identity, err = table.Identify(t.Context(), openVerifier{}, r, noon); err != nil {
		t.Fatal(err)
	}
	d := table.Decide(request)
	got := fmt.Sprint(d.Status())
	if d.Ask&AskBasic != 0 {
		got += " basic"
	}
	if d.Ask&AskBearer != 0 {
		got += " bearer"
	}
	if d.Route.Level != "" {
		got += " " + d.Route.Level
	}
	if !d.Until.IsZero() {
		got += fmt.Sprintf(" %v", d.Until.Sub(noon))
	}
	return got + " " + d.Why
}

func sum(s string) (d [32]byte) { return sha256.Sum256([]byte(s)) }
