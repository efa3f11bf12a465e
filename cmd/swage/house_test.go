package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms are the packages of the house with what each may import of ours, and
// why not more. A package that is not listed has no room here.
var rooms = []struct{ room, imports, why string }{
	{"swage/schema", "", "files become types; it knows nothing of what they cause"},
	{"swage/runtime", "", "the vocabulary that both sides share"},
	{"swage/runtime/firewall", "swage/runtime", "guards addresses by rules, whatever runs the containers"},
	{"swage/runtime/incus", "swage/runtime swage/runtime/firewall", "one Runtime"},
	{"swage/runtime/runtimetest", "swage/runtime", "judges any Runtime, so it knows none"},
	{"swage/edge", "swage/edge/limit swage/edge/upstream", "a proxy that is told hosts, addresses and grants"},
	{"swage/edge/certs", "", "usable alone"},
	{"swage/edge/credentials", "", "usable alone"},
	{"swage/edge/limit", "", "usable alone"},
	{"swage/edge/transparent", "", "usable alone"},
	{"swage/edge/upstream", "", "writes what it is given as one request; it knows nothing of who may send it"},
	{"swage/reconcile", "swage/edge swage/runtime swage/schema", "joins the three that do not know each other"},
	{"swage/reconcile/api", "swage/edge/limit swage/reconcile", "shows what the agent knows, to clients that are counted"},
	{"swage/reconcile/git", "swage/edge/limit swage/reconcile", "one Source, and a server whose clients are counted"},
	{"swage/reconcile/hostfile", "", "reads files whose paths others choose; usable alone"},
	{"swage/cmd/lab", "swage/reconcile swage/reconcile/api", "asks the agent how far it is"},
	{"swage/cmd/swage", "swage/edge swage/edge/certs swage/edge/credentials swage/edge/limit swage/edge/transparent swage/reconcile swage/reconcile/api swage/reconcile/git swage/reconcile/hostfile swage/runtime swage/runtime/incus swage/schema", "wires all"},
	{"swage/cmd/tiny", "", "a guest, not a part"},
	{"swage/examples/large", "", "writes an example that is too large to keep"},
}

// keepers are the only rooms that know a library, so that it can be replaced
// by changing one room.
var keepers = map[string]string{
	"cuelang.org/go/":           "swage/schema",
	"github.com/lxc/incus/":     "swage/runtime/incus",
	"github.com/go-git/go-git/": "swage/reconcile/git",
}

func TestImportsGoOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "swage/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string][]string{}
	for _, r := range rooms {
		allowed[r.room] = strings.Fields(r.imports)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		may, ok := allowed[p.ImportPath]
		if !ok {
			t.Errorf("%s has no room in the house", p.ImportPath)
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "swage/") && !slices.Contains(may, i) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
			for library, keeper := range keepers {
				if strings.HasPrefix(i, library) && p.ImportPath != keeper {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, i, keeper)
				}
			}
		}
	}
	if seen != len(rooms) {
		t.Errorf("%d packages and %d rooms", seen, len(rooms))
	}
}

// TestTopLevel: no code outside the folders of the house.
func TestTopLevel(t *testing.T) {
	house := []string{"cmd", "docs", "edge", "examples", "reconcile", "runtime", "schema", "testdata"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(house, e.Name()) {
			t.Errorf("the folder %s has no place at the top", e.Name())
		}
	}
}
