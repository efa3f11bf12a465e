package incus

import (
	"testing"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// TestL8ARemoteDaemonKeepsTheContract: over the network, with a client
// certificate, all holds that holds over the socket, but for what needs this host.
func TestL8ARemoteDaemonKeepsTheContract(t *testing.T) {
	daemon, identity := overNetwork(t)
	open := func(t *testing.T, s runtime.Scope) runtime.Runtime {
		s.Daemon, s.Identity = daemon, identity
		rt, err := Open("/nowhere/unix.socket", s)
		if err != nil {
			t.Fatal(err)
		}
		return rt
	}
	runtimetest.Run(t, "tiny/1", open, "Ramdisk")
	runtimetest.RunMaking(t, "tiny/1", open, runtimetest.Hands{
		Foreign: foreign, Snapshot: snapshot, Copy: copyByHand, NoQuota: poolDriver(t) == "dir", Start: start, Daemon: daemon,
	}, "Ramdisk")
}
