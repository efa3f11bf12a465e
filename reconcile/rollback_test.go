package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"swage/runtime"
	"swage/schema"
)

const (
	keyOld = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wMd0Cz9u6C0Zr0mWb3GkH6Q4v7hU0fVt3qQd1n1aA old"
	keyNew = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Xy5UpyZ2pHLzV0JZnfmd3Ekk+zSzDzSGjoHGH6q2N new"
)

func fleetOf(t *testing.T, project string) *schema.Fleet {
	t.Helper()
	f, err := schema.Load(t.Context(), fstest.MapFS{
		"swage.cue":            {Data: []byte("id: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n")},
		"servers/lab.cue":      {},
		"projects/web/app.cue": {Data: []byte(project)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// [R9] What stands in for a commit that failed: what runs as it was, what opens
// as it is.
func TestRolledBack(t *testing.T) {
	good := fleetOf(t, `containers: {
	app: {id: "111111111111111111111111", environment_vars: V: "good", comment: "good", ssh_authorized_keys: ["`+keyOld+`"], publish: [{listen: ":25", protocol: "tcp", port: 25}]}
	renamed: {id: "222222222222222222222222"}
	there: {id: "333333333333333333333333"}
	vanished: {id: "444444444444444444444444"}
	open: {}
}
aliases: {site: {container: "app", port: 8080}, late: {container: "app", port: 8080}, away: {container: "app", port: 8080}}`)
	failed := fleetOf(t, `containers: {
	app: {id: "111111111111111111111111", environment_vars: V: "failed", protected: true, ssh_authorized_keys: ["`+keyNew+`"], permissions: default: "deny",
		firewall: [{direction: "ingress", action: "drop", source: "192.0.2.0/24"}]}
	newname: {id: "222222222222222222222222", enable_proxy: false}
	open: {}
	fresh: {id: "555555555555555555555555"}
}
aliases: {site: {container: "open", port: 9090}, late: {container: "app", port: 8080, expires_at: "2020-01-01T00:00:00Z"}, more: {container: "fresh", port: 80}}`)
	there := runtime.State{Containers: []runtime.Container{{ID: "333333333333333333333333", Project: "web", Name: "there"}}}

	f := rolledBack(good, failed, "lab", there)
	var got []string
	for _, c := range f.Projects[0].Containers {
		env, _ := c.Env["V"].Reveal(schema.Keys{})
		deny := c.Permissions != nil && !c.Permissions.DefaultAllow
		got = append(got, fmt.Sprintf("%s env=%s open=%t deny=%t protected=%t new-key=%t published=%d rules=%d comment=%s",
			c.Name, env, c.ProxyOpen, deny, c.Protected, slices.Contains(c.AuthorizedKeys, keyNew), len(c.Publish), len(c.Firewall), c.Comment))
	}
	want := []string{
		"app env=good open=true deny=true protected=true new-key=true published=0 rules=1 comment=good",
		"open env= open=true deny=false protected=false new-key=false published=0 rules=0 comment=",
		"renamed env= open=false deny=false protected=false new-key=false published=0 rules=0 comment=",
		"there env= open=false deny=false protected=false new-key=false published=0 rules=0 comment=",
	}
	if !slices.Equal(got, want) {
		t.Errorf("containers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	got = nil
	for _, x := range f.Projects[0].Aliases {
		got = append(got, fmt.Sprintf("%s → %s:%d expires=%t", x.Name, x.Containers[0], x.Port, !x.ExpiresAt.IsZero()))
	}
	want = []string{"late → app:8080 expires=true", "more → fresh:80 expires=false", "site → app:8080 expires=false"}
	if !slices.Equal(got, want) {
		t.Errorf("aliases %q, want %q", got, want)
	}
	if f.Commit != failed.Commit || len(failed.Projects[0].Containers) != 4 || failed.Projects[0].Aliases[2].Containers[0] != "open" {
		t.Error("the failed commit itself was changed")
	}
}
