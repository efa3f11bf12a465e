package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// history is a source of signed commits that form any graph.
type history struct {
	tip     string
	commits map[string]signedCommit
}

type signedCommit struct {
	parents []string
	by      string // empty: nobody
	signers []string
	project string
}

func (h *history) read(name string) (reconcile.Snapshot, error) {
	c, ok := h.commits[name]
	if !ok {
		return reconcile.Snapshot{}, fmt.Errorf("no commit %s", name)
	}
	settings := ""
	if len(c.signers) > 0 {
		settings = fmt.Sprintf("signers: ssh: [%q]\n", c.signers[0])
	}
	return reconcile.Snapshot{Commit: name, Tree: fstest.MapFS{
		"swage.cue":            {Data: []byte(settings + "settle: \"0s\"\nid: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")},
		"servers/lab.cue":      {},
		"projects/web/app.cue": {Data: []byte(c.project)},
	}}, nil
}

func (h *history) Latest(context.Context) (reconcile.Snapshot, error) { return h.read(h.tip) }

func (h *history) At(_ context.Context, commit string) (reconcile.Snapshot, error) {
	return h.read(commit)
}

func (h *history) Allowances(context.Context, string, string) ([]reconcile.Allowance, error) {
	return nil, nil
}

func (h *history) Watch(ctx context.Context, _ chan<- struct{}) error {
	<-ctx.Done()
	return ctx.Err()
}

func (h *history) Signer(_ context.Context, commit string, ssh, _ []string) (string, error) {
	if by := h.commits[commit].by; by != "" && slices.Contains(ssh, by) {
		return by, nil
	}
	return "", errors.New("it is not signed by a signer")
}

func (h *history) Follows(_ context.Context, commit, last string) error {
	if commit == last {
		return nil
	}
	for _, p := range h.commits[commit].parents {
		if h.Follows(context.Background(), p, last) == nil {
			return nil
		}
	}
	return fmt.Errorf("commit %s was not made on top of %s", commit, last)
}

const (
	ann  = "ann ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"
	bob  = "bob ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA"
	open = `containers: app: {}`
	shut = `containers: app: enable_proxy: false`
)

// c is a whole hash that can be told from others.
func c(n string) string { return whole(n) }

// graph: bob was a signer until 3; 4 closes what 3 opened.
func graph() *history {
	return &history{commits: map[string]signedCommit{
		c("1"):  {nil, ann, []string{ann}, open},
		c("2"):  {[]string{c("1")}, ann, []string{bob}, open},
		c("3"):  {[]string{c("2")}, bob, []string{ann}, open},
		c("4"):  {[]string{c("3")}, ann, []string{ann}, shut},
		c("5"):  {[]string{c("4")}, ann, []string{ann}, shut},
		c("31"): {[]string{c("2")}, bob, []string{bob}, open},          // by who is a signer no more
		c("41"): {[]string{c("3")}, ann, []string{ann}, open},          // beside 4
		c("51"): {[]string{c("41"), c("4")}, ann, []string{ann}, shut}, // a merge
		c("60"): {nil, ann, []string{ann}, shut},                       // another history
		c("61"): {[]string{c("60")}, ann, []string{ann}, shut},
		c("70"): {[]string{c("4")}, "", nil, open}, // unsigned
	}}
}

// signedNode is an agent whose folder can be lost.
type signedNode struct {
	*reconcile.Agent
	source            *history
	engine            *runtime.Fake
	accepted, trusted *memory
	published         []string // commits
	nodeSigners       schema.Signers
}

func (n *signedNode) restart(lost bool) {
	if lost {
		n.accepted, n.trusted = &memory{}, &memory{}
	}
	n.Agent = &reconcile.Agent{
		Server: "lab", Source: n.source, Accepted: n.accepted, Trusted: n.trusted, Signers: n.nodeSigners,
		Log:     slog.New(slog.DiscardHandler),
		Open:    func(s runtime.Scope) (runtime.Runtime, error) { return n.engine.Open(s), nil },
		Publish: func(reconcile.Edge) error { n.published = append(n.published, n.Fleet().Commit); return nil },
	}
}

// [G4] A signature is good for ever, and what was accepted is not: only what
// is on top of the last accepted commit counts.
func TestS12Replay(t *testing.T) {
	for _, row := range []struct {
		name, tip string
		accepted  bool
	}{
		{"itself", "4", true},
		{"the next", "5", true},
		{"a merge whose first parent is elsewhere", "51", true},
		{"the commit before", "3", false},
		{"the first", "1", false},
		{"one that brings a removed signer back", "2", false},
		{"one by a removed signer", "31", false},
		{"one beside it, by a signer", "41", false},
		{"another history", "61", false},
		{"one that is not signed", "70", false},
	} {
		for _, when := range []string{"at once", "after a restart", "when the agent's folder was lost", "when it is an old copy", "when nobody stands in the node file"} {
			t.Run(row.name+", "+when, func(t *testing.T) {
				n := &signedNode{source: graph(), engine: &runtime.Fake{}, nodeSigners: schema.Signers{SSH: []string{ann}}}
				if when == "when nobody stands in the node file" {
					n.nodeSigners = schema.Signers{}
				}
				n.restart(true)
				for _, tip := range []string{"1", "2", "3", "4"} {
					n.source.tip = c(tip)
					if r, err := n.Pass(t.Context()); err != nil || r.Commit != c(tip) {
						t.Fatalf("commit %s: %v", tip, err)
					}
					if tip == "3" && when == "when it is an old copy" {
						n.accepted, n.trusted = &memory{n.accepted.commit}, &memory{n.trusted.commit}
						n.Accepted, n.Trusted = &memory{}, &memory{}
					}
				}
				switch when {
				case "at once":
				case "when the agent's folder was lost", "when nobody stands in the node file":
					n.restart(true)
				default:
					n.restart(false)
				}
				n.published = nil
				n.source.tip = c(row.tip)
				r, err := n.Pass(t.Context())
				if row.accepted {
					if err != nil || r.Commit != c(row.tip) {
						t.Fatalf("it is at %s: %v", r.Commit, err)
					}
					return
				}
				inForce := c("4")
				if strings.Contains(when, "was lost") && n.source.commits[c(row.tip)].by != ann {
					inForce = "" // the node file's signers refuse it before Incus is asked
				}
				if err == nil || r.Commit != inForce || r.Rejected == nil || r.Rejected.Commit != c(row.tip) {
					t.Fatalf("it is at %s, and rejected %v: %v", r.Commit, r.Rejected, err)
				}
				for _, p := range n.published {
					if p != c("4") {
						t.Errorf("%s was published", p)
					}
				}
				if n.source.commits[c(row.tip)].by == ann && row.tip != "41" {
					for _, says := range []string{"was not made on top of ", "swage rollback " + c(row.tip), "swage approve " + c(row.tip)} {
						if !strings.Contains(err.Error(), says) {
							t.Errorf("%v does not say %q", err, says)
						}
					}
				}
				// It is held to that from then on, and the next good one counts.
				if signers, err := n.CommitSigners(); err != nil || !slices.Equal(signers.SSH, []string{ann}) {
					t.Errorf("signers: %v, %v", signers, err)
				}
				if _, err := n.Pass(t.Context()); err == nil {
					t.Error("the second time it is taken")
				}
				n.source.tip = c("5")
				if r, err := n.Pass(t.Context()); err != nil || r.Commit != c("5") {
					t.Errorf("then it is at %s: %v", r.Commit, err)
				}
			})
		}
	}
}
