package incus

import "testing"

// TestS9BridgeIsABridge [G8]: the name of a bridge is the repository's; rules
// and settings are made for no other interface of the host.
func TestS9BridgeIsABridge(t *testing.T) {
	for _, name := range []string{"lo", "all", "default", "no-such-bridge", ""} {
		g := &guard{}
		g.firewall.Bridge = name
		if g.start(); g.on || !g.elsewhere {
			t.Errorf("%q is guarded", name)
		}
	}
}
