package reconcile_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"swage/reconcile"
)

// onServers is a tree with two servers.
func onServers(settings, project string) fs.FS {
	return fstest.MapFS{
		"swage.cue":            {Data: []byte("settle: \"0s\"\nid: \"5a6b7c8d9e0f1a2b3c4d5e6f\"\ndomain: \"example.com\"\ncontainer_image: \"tiny/1\"\n" + settings)},
		"servers/lab.cue":      {},
		"servers/other.cue":    {},
		"projects/web/app.cue": {Data: []byte("project: id: \"67e89abc123def456789abcd\"\n" + project)},
	}
}

func (c *commits) add(tree fs.FS) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, tree)
}

const (
	onOther = `containers: app: {id: "890abcdef12345678901cdef", server: "other"}`
	onLab   = `containers: app: {id: "890abcdef12345678901cdef", server: "lab"}`
	nowhere = `containers: rest: server: "lab"`
)

// L19, [F7] A server never makes what an earlier commit placed elsewhere: not
// when it moved at once, not by way of a commit that declared it nowhere, and not
// after a restart. A plan says the same.
func TestL19WhatIsElsewhereIsNeverMadeHere(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, trees := range [][]string{{onOther, onLab}, {onOther, nowhere, onLab}, {onOther, nowhere, nowhere, onLab}} {
			n := newNode()
			for i, project := range trees {
				tree := onServers("", project)
				if i == len(trees)-1 {
					p, err := n.PlanFor(t.Context(), tree)
					if err != nil || len(p.Servers[0].Held) != 1 || slices.ContainsFunc(p.Servers[0].Steps, func(s reconcile.ProposedStep) bool { return strings.Contains(s.Step, "create container web/app") }) {
						t.Errorf("%v, restart %t: the plan is %s (%v)", trees, restart, p.Text(false), err)
					}
				}
				n.source.add(tree)
				if restart {
					n.restart()
				}
				r, err := n.Pass(t.Context())
				last := i == len(trees)-1
				if err != nil || (r.State == reconcile.Applied) == last {
					t.Fatalf("%v, restart %t, commit %d: %s, %v", trees, restart, i+1, r.State, err)
				}
				if last && (len(r.Held) != 1 || !strings.Contains(r.Held[0].Why, "other") || strings.Contains(n.running(t), "app")) {
					t.Errorf("%v, restart %t: held %+v, %s runs", trees, restart, r.Held, n.running(t))
				}
			}
			// With another id it is another container.
			n.source.add(onServers("", strings.Replace(onLab, "890", "990", 1)))
			if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Applied || !strings.Contains(n.running(t), "app") {
				if len(trees) > 2 || !strings.Contains(r.Held[0].Why, "cannot change") { // the name was another's a moment ago
					t.Errorf("%v, restart %t: with another id: %s, %v, %+v, %s runs", trees, restart, r.State, err, r.Held, n.running(t))
				}
			}
		}
	}
}

// L19, [F7] What a push may not change is refused with its place; putting back
// what was never applied is not.
func TestL19RefusedByAPush(t *testing.T) {
	n := newNode()
	n.source.add(onServers("", onOther+`, containers: web: {id: "111111111111111111111111", server: "lab"}`))
	if _, err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := `, containers: web: {id: "111111111111111111111111", server: "lab"}`
	for project, want := range map[string]string{
		onLab + web: `projects/web/app.cue:2:59: containers.app.server: cannot change from "other" to "lab"; put it back`,
		onOther + `, containers: web: {id: "111111111111111111111111", server: "other"}`:                          `containers.web.server: cannot change from "lab" to "other"`,
		onOther + `, containers: web: {id: "111111111111111111111111", server: "lab", container_image: "tiny/2"}`: `containers.web.container_image: cannot change from "tiny/1" to "tiny/2"`,
		onOther + `, containers: web: {id: "111111111111111111111111", server: "lab", kit: false}`:                `containers.web.kit: cannot change from true to false`,
		onOther + `, containers: web: {id: "222222222222222222222222", server: "lab"}`:                            `containers.web.id: cannot change from 111111111111111111111111 to 222222222222222222222222`,
		onOther + `, containers: renamed: {id: "111111111111111111111111", server: "lab"}`:                        "",
		onOther: "",
	} {
		p, err := n.PlanFor(t.Context(), onServers("", project))
		if err != nil {
			t.Errorf("%s: %v", project, err)
			continue
		}
		got := ""
		if len(p.Refused) > 0 {
			got = p.Refused.Error()
		}
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: refused: %s, want %s", project, got, want)
		}
	}
	// A followed remote may bring it. Then the way back is open.
	n.source.add(onServers("", onLab+web))
	if r, err := n.Pass(t.Context()); err != nil || r.State != reconcile.Incomplete {
		t.Fatalf("%s, %v", r.State, err)
	}
	p, err := n.PlanFor(t.Context(), onServers("", onOther+web))
	if err != nil || len(p.Refused) > 0 {
		t.Errorf("putting it back: %v, %v", p.Refused, err)
	}
}
