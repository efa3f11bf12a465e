package schema

import (
	"strings"
	"testing"
)

// A client certificate needs its key.
func TestClientCertificateWithItsKey(t *testing.T) {
	const source = `server: "lab", source: {url: "https://git.example.com/fleet.git", client_certificate: "/etc/c.crt"`
	if _, err := LoadNode("agent.cue", []byte(source+"}")); err == nil || !strings.Contains(err.Error(), "client_certificate and client_key together") {
		t.Error(err)
	}
	n, err := LoadNode("agent.cue", []byte(source+`, client_key: "/etc/c.key"}`))
	if err != nil || n.Source.ClientCertificate != "/etc/c.crt" || n.Source.ClientKey != "/etc/c.key" {
		t.Errorf("%+v, %v", n.Source, err)
	}
}

// What commands beside the agent take for granted is what its node file says.
func TestDefaultStateDir(t *testing.T) {
	n, err := LoadNode("agent.cue", []byte(`server: "lab", source: path: "/srv/fleet.git"`))
	if err != nil || n.StateDir != DefaultStateDir {
		t.Errorf("state_dir is %q, %v", n.StateDir, err)
	}
}
