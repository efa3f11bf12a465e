package reconcile_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"swage/edge"
	"swage/reconcile"
)

// keeper is a node whose table can be asked who reaches one container.
type keeper struct {
	*node
	table *edge.Table
}

func newKeeper() *keeper {
	k := &keeper{node: newNode()}
	k.follow()
	return k
}

func (k *keeper) follow() {
	k.Agent.Publish = func(e reconcile.Edge) error { k.table = e.Table; return nil }
}

// reaches says what becomes of requests from two offices.
func (k *keeper) reaches(t *testing.T) string {
	t.Helper()
	p := k.observe(t).Projects[0].ID
	ask := func(client string) edge.Verdict {
		return k.table.Decide(edge.Request{
			Client: netip.MustParseAddr(client), Host: string(p) + "-111111111111111111111111-http.lab.example.com", Path: "/", Time: time.Now(),
		}).Verdict
	}
	return fmt.Sprint(ask("203.0.113.9"), " ", ask("198.51.100.1"))
}

func protectedApp(office string) string {
	return `containers: {app: {
		id: "111111111111111111111111"
		protected: true
		permissions: {groups: office: {type: "ip", range: "` + office + `"}, permissions: office: http: true}
	}, other: {}}`
}

// TestL6AFailedReadIsTriedAgain: an earlier commit that could not be read once is
// read at the next pass, and what only it declares has its route again.
func TestL6AFailedReadIsTriedAgain(t *testing.T) {
	k := newKeeper()
	k.pass(t, protectedApp("203.0.113.0/24"))
	k.pass(t, `containers: other: {}`)
	k.restart()
	k.follow()
	k.source.failAt = errors.New("the disk is away")
	if _, err := k.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.reaches(t); got != "not found not found" {
		t.Errorf("while it cannot be read: %s", got)
	}
	k.source.failAt = nil
	if _, err := k.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.reaches(t); got != "allow deny" {
		t.Errorf("when it can be read again: %s", got)
	}
}

// TestL6TheLastDocumentCounts: what is taken away a second time is kept under the
// document of the commit that declared it last, not of the one before.
func TestL6TheLastDocumentCounts(t *testing.T) {
	k := newKeeper()
	k.pass(t, protectedApp("198.51.100.0/24"))
	k.pass(t, `containers: other: {}`)
	k.pass(t, protectedApp("203.0.113.0/24")) // leaves the container as it is
	k.pass(t, `containers: other: {}`)
	if got := k.reaches(t); got != "allow deny" {
		t.Errorf("%s, want what the last document says", got)
	}
	k.restart()
	k.follow()
	if _, err := k.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.reaches(t); got != "allow deny" {
		t.Errorf("after a restart: %s", got)
	}
}
