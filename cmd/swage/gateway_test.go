package main

import (
	"strings"
	"testing"
)

// TestL14TheBridgeLosesItsAddress: what is taken away is given back within
// seconds and told as an event; the containers answer again.
func TestL14TheBridgeLosesItsAddress(t *testing.T) {
	s := newSite(t)
	s.write("projects/web/app.cue", `containers: app: environment_vars: N: "1"`+"\n"+`aliases: "of-app": container: "app"`+"\n")
	s.start()
	s.settled(s.push())
	answers := s.answers("of-app", `"N":"1"`)
	s.eventually("it answers", answers)
	for _, address := range []string{"198.18.0.1/20", "fd00:5a:6e::1/64"} {
		s.inLab("ip", "address", "delete", address, "dev", "incusbr0")
		s.eventually("it is told", func() bool { return s.repaired("the address "+address+" of the bridge incusbr0") == 1 })
		s.eventually("it answers again", answers)
	}
	s.eventually("status tells of no fault", func() bool {
		return !strings.Contains(strings.Join(s.status().Warnings, "\n"), "bridge")
	})
}
