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

// [G2] Keys for pushes over SSH.
func TestPushSSH(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N"
	source := func(text string) string { return `server: "lab", source: {` + text + `}` }
	n, err := LoadNode("agent.cue", []byte(source(`push: true, ssh: {listen: ":2222", keys: ann: {key: "`+key+` ann", allow: ["push"]}}`)))
	if err != nil || n.Source.SSH.Listen != ":2222" || len(n.Source.SSH.Keys["ann"].SSHKey) != 51 || n.Source.SSH.Keys["ann"].Allow[0] != "push" {
		t.Errorf("%+v, %v", n.Source.SSH, err)
	}
	for text, want := range map[string]string{
		`path: "/srv/fleet.git", ssh: listen: ":2222"`:                                                                 "is for push: true",
		`push: true, ssh: {listen: ":2222", keys: ann: {key: "` + key[:40] + `", allow: ["push"]}}`:                    "source.ssh.keys.ann.key: the key is cut off",
		`push: true, ssh: {listen: ":2222", keys: ann: {key: "` + key + `", allow: ["plan"]}}`:                         `want "read" or "push"`,
		`push: true, ssh: {listen: ":2222", keys: ann: key: "` + key + `"}`:                                            "allow: is missing",
		`push: true, ssh: {listen: ":2222", keys: ann: {key: "command=\"sh\" ` + key + `", allow: ["push"]}}`:          "want one line of an OpenSSH public key file",
		`push: true, ssh: {listen: ":2222", keys: ann: {key: "ssh-ed25519-cert-v01@openssh.com AA", allow: ["push"]}}`: "there is no key type",
		`push: true, ssh: keys: {}`: "listen: is missing",
	} {
		if _, err := LoadNode("agent.cue", []byte(source(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// What commands beside the agent take for granted is what its node file says.
func TestDefaultStateDir(t *testing.T) {
	n, err := LoadNode("agent.cue", []byte(`server: "lab", source: path: "/srv/fleet.git"`))
	if err != nil || n.StateDir != DefaultStateDir {
		t.Errorf("state_dir is %q, %v", n.StateDir, err)
	}
}
