package schema

import "testing"

// What commands beside the agent take for granted is what its node file says.
func TestDefaultStateDir(t *testing.T) {
	n, err := LoadNode("agent.cue", []byte(`server: "lab", source: path: "/srv/fleet.git"`))
	if err != nil || n.StateDir != DefaultStateDir {
		t.Errorf("state_dir is %q, %v", n.StateDir, err)
	}
}
