package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"swage/schema"
)

// TestL12NodeToken: the token of the node file counts until a token of the fleet
// lets somebody push who is held to no realm.
func TestL12NodeToken(t *testing.T) {
	r := newRemote(t, `token: "from-the-node"`)
	r.start()
	r.commit("first")
	r.sh("git push $BARE main")
	node, ci := r.url("from-the-node"), r.url("ci")
	reads := func(url string) bool {
		_, err := r.try("git ls-remote " + url)
		return err == nil
	}
	for _, row := range []struct {
		name, tokens string
		node         bool // it counts
	}{
		{"none that is named", "", true},
		{"one that plans", `tokens: ci: {value: "ci", allow: ["plan"]}`, true},
		{"one that reads", `tokens: ci: {value: "ci", allow: ["read"]}`, true},
		{"one of a realm", `tokens: ci: {value: "ci", allow: ["push"], realm: "aaaaaaaaaaaaaaaaaaaaaaaa"}`, true},
		{"one that has expired", `tokens: ci: {value: "ci", allow: ["push"], expires_at: "2020-01-01T00:00:00Z"}`, true},
		{"one that cannot be read", `tokens: ci: {value: {file: "/etc/swage/secrets/nothing-there"}, allow: ["push"]}`, true},
		{"a key where nobody listens", `tokens: ci: {ssh_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N", allow: ["push"]}`, true},
		{"one that pushes", `tokens: ci: {value: "ci", allow: ["push"]}`, false},
	} {
		r.server(row.tokens)
		r.commit(row.name)
		r.sh("git push " + node + " main")
		r.applied()
		if got := reads(node); got != row.node {
			t.Fatalf("%s: the token of the node file lets in: %v, want %v", row.name, got, row.node)
		}
	}
	// Once it ends, the node's token is there again, and the plan said nothing
	// wrong: nobody is shut out.
	r.server(`tokens: ci: {value: "ci", allow: ["plan"]}`)
	r.commit("back")
	r.sh("git push " + ci + " main")
	r.applied()
	if !reads(node) {
		t.Error("the token of the node file does not count again")
	}
}

// TestL12Expires: a token that ends while the fleet stays leaves the node's.
func TestL12Expires(t *testing.T) {
	value, err := schema.LoadNode("agent.cue", []byte("server: \"lab\"\nsource: push: true\ntoken: \"node\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := &schema.Fleet{Servers: map[string]schema.Server{"lab": {Tokens: map[string]schema.Token{
		"ci": {SHA256: strings.Repeat("a", 64), Allow: []string{"push"}, ExpiresAt: time.Now().Add(50 * time.Millisecond)},
	}}}}
	all := &tokens{node: value, fleet: func() *schema.Fleet { return f }}
	if n := len(all.list()); n != 1 {
		t.Fatalf("%d tokens count, want one", n)
	}
	for deadline := time.Now().Add(10 * time.Second); len(all.list()) != 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the token of the node file does not count once the other has expired")
		}
	}
}

// TestL12Lockout: a commit that leaves nobody who can push is refused where it
// says so.
func TestL12Lockout(t *testing.T) {
	r := newRemote(t, "")
	push := `tokens: ci: {value: "ci", allow: ["push"]}`
	r.server(push)
	r.start()
	r.commit("first")
	r.sh("git push $BARE main")
	r.applied()
	for _, row := range []struct{ name, tokens, says string }{
		{"none", "", "servers/lab.cue: tokens: nobody could push"},
		{"plan only", `tokens: ci: {value: "ci", allow: ["plan"]}`, "servers/lab.cue:2:1: tokens: nobody could push"},
		{"of a realm", `tokens: ci: {value: "ci", allow: ["push"], realm: "aaaaaaaaaaaaaaaaaaaaaaaa"}`, "servers/lab.cue:2:1: tokens: nobody"},
		{"expired", `tokens: ci: {value: "ci", allow: ["push"], expires_at: "2020-01-01T00:00:00Z"}`, "(ci has expired)"},
		{"unreadable", `tokens: ci: {value: {file: "/etc/swage/secrets/nothing-there"}, allow: ["push"]}`, "(ci cannot be read"},
		{"a key", `tokens: ci: {ssh_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N", allow: ["push"]}`, "(ci is a key, and the node file has no source.ssh)"},
	} {
		r.server(row.tokens)
		r.commit(row.name)
		r.refused("git push "+r.url("ci")+" main", row.says, `keep one, or give the next in the same commit`, "refused: mend this")
		// Somebody on the machine may: that is where no token is needed.
		out := r.sh("git push $BARE main")
		r.says(row.name, out, "warning: servers/lab.cue")
		r.server(push)
		r.commit("again")
		r.sh("git push $BARE main")
		r.applied()
	}
	// The next one in the same commit.
	r.server(`tokens: deploy: {value: "deploy", allow: ["push"]}`)
	r.commit("exchanged")
	r.sh("git push " + r.url("ci") + " main")
	r.applied()
	r.sh("git ls-remote " + r.url("deploy"))
	if fmt.Sprint(r.sh("git rev-parse HEAD")) != r.sh("git --git-dir $BARE rev-parse main") {
		t.Error("the branch has not moved")
	}
}
