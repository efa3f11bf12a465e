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
		{"a document goes away", doc(Deny, office, http("office", all)), nil, []string{"OPENS shop/web: everyone (no permissions) gains every program"}, nil},
		{"a document comes", nil, doc(Deny, nil, nil), nil, []string{"shop/web: everyone (no permissions) loses every program"}},
		{"a grant", doc(Deny, office, nil), doc(Deny, office, http("office", ports(80, 80, 8000, 8100))), []string{"shop/web: group office (192.0.2.0/24) gains http 80,8000-8100"}, nil},
		{"a level", doc(Deny, office, cells{"office": {"files": all}}), doc(Deny, office, cells{"office": {"files": {All: true, Level: "read"}}}), nil, []string{"shop/web: group office (192.0.2.0/24) loses files *, keeps read"}},
		{"other members", doc(Deny, office, http("office", all)), doc(Deny, wider, http("office", all)), []string{"shop/web: group office (192.0.3.0/24) gains http *"}, nil},
		{"another hash", doc(Deny, ann("$a"), http("ann", all)), doc(Deny, ann("$b"), http("ann", all)), []string{"shop/web: group ann (user ann, changed) gains http *"}, []string{"shop/web: group ann (user ann, changed) loses http *"}},
		{"the default", doc(Deny, nil, nil), doc(Allow, nil, nil), []string{"OPENS shop/web: everyone (by default) gains every program"}, nil},
		{"less for some", doc(Allow, office, nil), doc(Allow, office, http("office", Cell{})), nil, []string{"shop/web: group office (192.0.2.0/24) loses http *"}},
	} {
		before, now := at(netip.MustParseAddr("10.0.0.1"), row.before), at(netip.MustParseAddr("10.0.0.1"), row.now)
		before.Containers[0].Catalogue, now.Containers[0].Catalogue = levelled, levelled
		c := mustCompile(t, now).Changes(mustCompile(t, before), noon)
		if d := cmp.Diff(Changes{row.granted, row.revoked, len(row.granted), len(row.revoked)}, c); d != "" {
			t.Errorf("%s: %s", row.what, d)
		}
		if text := fmt.Sprint(c); strings.Contains(text, "$a") {
			t.Errorf("%s: the audit shows a hash", row.what)
		}
	}

	closed := at(netip.MustParseAddr("10.0.0.1"), nil)
	closed.Containers[0].Closed = true
	if c := mustCompile(t, closed).Changes(mustCompile(t, at(netip.MustParseAddr("10.0.0.1"), nil)), noon); c.RevokedCount != 1 || c.GrantedCount != 0 {
		t.Errorf("closing: %+v", c)
	}
	var many Config
	many.Zone = zone
	for i := range 1000 {
		many.Containers = append(many.Containers, Container{ProjectID: shop, ID: fmt.Sprintf("%024x", i), Name: fmt.Sprintf("c%03d", i), Catalogue: levelled})
	}
	c := mustCompile(t, many).Changes(nil, noon)
	if c.GrantedCount != 1000 || len(c.Granted) != maxChanges || !slices.IsSorted(c.Granted) {
		t.Errorf("%d granted, %d named", c.GrantedCount, len(c.Granted))
	}
	// Of many only those count that differ, wherever they stand in the Config.
	before := mustCompile(t, many)
	slices.Reverse(many.Containers)
	if c := mustCompile(t, many).Changes(before, noon); c.GrantedCount+c.RevokedCount != 0 {
		t.Errorf("another order: %+v", c)
	}
	want := Changes{Granted: []string{"OPENS shop/new: everyone (no permissions) gains every program"}}
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
		want.Revoked = append(want.Revoked, name+": everyone (no permissions) loses every program")
	}
	many.Containers = append(many.Containers, Container{Name: "shop/new", Catalogue: levelled})
	want.GrantedCount, want.RevokedCount = 1, 3
	if d := cmp.Diff(want, mustCompile(t, many).Changes(before, noon)); d != "" {
		t.Errorf("a few of many: %s", d)
	}
}
