package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"swage/reconcile"
)

// D2, [F5] An alias that is moved while something else is held leads where it led
// last, alias by alias, until what it is to lead to is healthy.
func TestD2AnAliasStaysWhereItLedLast(t *testing.T) {
	const containers = `containers: {
	old: {id: "111111111111111111111111", container_image: IMAGE}
	a: id: "aaaaaaaaaaaaaaaaaaaaaaaa"
	b: id: "bbbbbbbbbbbbbbbbbbbbbbbb"
	c: {id: "cccccccccccccccccccccccc", health: {port: 18080, interval: "50ms", deadline: "1h"}}
}
`
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode()
			run := func() (stop func()) {
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- n.Run(ctx) }()
				synctest.Wait()
				return func() { cancel(); <-ended }
			}
			leads := func(want map[string]string) {
				t.Helper()
				time.Sleep(10 * time.Second) // of the fake clock
				synctest.Wait()
				got := map[string]string{}
				for _, x := range n.Report().Aliases {
					got[x.Name] = x.Container
				}
				for name, ref := range want {
					if got[name] != ref {
						t.Errorf("restart %t: %s leads to %q, want %q", restart, name, got[name], ref)
					}
				}
			}
			n.source.push(`let IMAGE = "tiny/1"
` + containers + `aliases: {moved: {container: "a", program: "http"}, gone: {container: "a", program: "http"}}`)
			stop := run()
			leads(map[string]string{"moved": "web/a"})
			n.source.push(`let IMAGE = "tiny/2"
` + containers + `aliases: {moved: {container: "b", program: "http"}, made: {container: "b", program: "http"}}`)
			leads(map[string]string{"moved": "web/b", "made": "web/b"})
			if r := n.Report(); r.State == reconcile.Applied {
				t.Fatal("nothing is held")
			}
			if restart {
				stop()
				n.restart()
				stop = run()
				leads(map[string]string{"moved": "web/b", "made": "web/b"})
			}
			n.source.push(`let IMAGE = "tiny/2"
` + containers + `aliases: {moved: {container: "c", program: "http"}, made: {container: "c", program: "http"}, gone: {container: "c", program: "http"}}`)
			// What led nowhere a moment ago has nothing to stay at.
			leads(map[string]string{"moved": "web/b", "made": "web/b", "gone": "web/c"})
			stop()
		})
	}
}
