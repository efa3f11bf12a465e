package edge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChanges: what the audit says of two tables.
func TestChanges(t *testing.T) {
	all := Cell{All: true}
	type cells = map[string]map[string]Cell
	doc := func(fallback Verdict, groups map[string]Group, c cells) *Permissions {
		return &Permissions{Default: fallback, Groups: groups, Cells: c}
	}
	office := map[string]Group{"office": ranges("192.0.2.0/24")}
	wider := map[string]Group{"office": ranges("192.0.2.0/23")}
	ann := func(hash string) map[string]Group { return map[string]Group{"ann": {Password: &Password{"ann", hash}}} }
	http := func(group string, c Cell) cells { return cells{group: {"http": c}} }
	for _, row := range []struct {
		what             string
		before, now      *Permissions
		granted, revoked []string
	}{
		{"nothing", doc(Deny, office, http("office", all)), doc(Deny, office, http("office", all)), nil, nil},
		{"a document goes away", doc(Deny, office, http("office", all)), nil, []string{"everyone, everything (no permissions document)"}, []string{"group office, http *"}},
		{"a document comes", nil, doc(Deny, nil, nil), nil, []string{"everyone, everything (no permissions document)"}},
		{"a grant", doc(Deny, office, nil), doc(Deny, office, http("office", ports(80, 80, 8000, 8100))), []string{"group office, http 80,8000-8100"}, nil},
		{"a level", doc(Deny, office, cells{"office": {"files": all}}), doc(Deny, office, cells{"office": {"files": {All: true, Level: "read"}}}), []string{"group office, files * up to read"}, []string{"group office, files *"}},
		{"other members", doc(Deny, office, http("office", all)), doc(Deny, wider, http("office", all)), []string{"group office, http *"}, []string{"group office, http *"}},
		{"another hash", doc(Deny, ann("$a"), http("ann", all)), doc(Deny, ann("$b"), http("ann", all)), []string{"group ann, http *"}, []string{"group ann, http *"}},
		{"the default", doc(Deny, nil, nil), doc(Allow, nil, nil), []string{"everyone, by default"}, nil},
		{"less for some", doc(Allow, office, nil), doc(Allow, office, http("office", Cell{})), []string{"everyone, by default, but for what groups have less of"}, []string{"everyone, by default"}},
	} {
		before, now := at(netip.MustParseAddr("10.0.0.1"), row.before), at(netip.MustParseAddr("10.0.0.1"), row.now)
		c := mustCompile(t, now).Changes(mustCompile(t, before))
		named := func(list []string) (out []string) {
			for _, s := range list {
				out = append(out, "shop/web: "+s)
			}
			return out
		}
		if d := cmp.Diff(Changes{named(row.granted), named(row.revoked), len(row.granted), len(row.revoked)}, c); d != "" {
			t.Errorf("%s: %s", row.what, d)
		}
		if text := fmt.Sprint(c); strings.Contains(text, "$a") {
			t.Errorf("%s: the audit shows a hash", row.what)
		}
	}

	closed := at(netip.MustParseAddr("10.0.0.1"), nil)
	closed.Containers[0].Closed = true
	if c := mustCompile(t, closed).Changes(mustCompile(t, at(netip.MustParseAddr("10.0.0.1"), nil))); c.RevokedCount != 1 || c.GrantedCount != 0 {
		t.Errorf("closing: %+v", c)
	}
	var many Config
	many.Zone = zone
	for i := range 1000 {
		many.Containers = append(many.Containers, Container{ProjectID: shop, ID: fmt.Sprintf("%024x", i), Name: fmt.Sprintf("c%03d", i)})
	}
	c := mustCompile(t, many).Changes(nil)
	if c.GrantedCount != 1000 || len(c.Granted) != maxChanges || !slices.IsSorted(c.Granted) {
		t.Errorf("%d granted, %d named", c.GrantedCount, len(c.Granted))
	}
	// Of many only those count that differ, wherever they stand in the Config.
	before := mustCompile(t, many)
	slices.Reverse(many.Containers)
	if c := mustCompile(t, many).Changes(before); c.GrantedCount+c.RevokedCount != 0 {
		t.Errorf("another order: %+v", c)
	}
	want := Changes{Granted: []string{"shop/new: everyone, everything (no permissions document)"}}
	for i, name := range []string{"c007", "c500", "c993"} {
		at := slices.IndexFunc(many.Containers, func(c Container) bool { return c.Name == name })
		switch i {
		case 0:
			many.Containers[at].Closed = true
		case 1:
			many.Containers[at].Permissions = doc(Deny, nil, nil)
		default:
			many.Containers = slices.Delete(many.Containers, at, at+1)
		}
		want.Revoked = append(want.Revoked, name+": everyone, everything (no permissions document)")
	}
	many.Containers = append(many.Containers, Container{Name: "shop/new"})
	want.GrantedCount, want.RevokedCount = 1, 3
	if d := cmp.Diff(want, mustCompile(t, many).Changes(before)); d != "" {
		t.Errorf("a few of many: %s", d)
	}
}
