package reconcile

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swage/runtime"
	"swage/schema"
)

// The same repair is told once a minute, with how often it happened meanwhile;
// another one is told at once; nothing is remembered for ever.
func TestS8RepairsDoNotFillTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r repairs
		told := 0
		for range 600 { // ten a second, for a minute
			if _, due := r.due("table", time.Now()); due {
				told++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if told != 1 {
			t.Errorf("told %d times in a minute", told)
		}
		if _, due := r.due("another", time.Now()); !due {
			t.Error("another one was not told")
		}
		if unsaid, due := r.due("table", time.Now()); !due || unsaid != 599 {
			t.Errorf("after a minute: due %t, %d meanwhile", due, unsaid)
		}
		for i := range 1000 {
			r.due(fmt.Sprint("kind ", i), time.Now())
		}
		time.Sleep(2 * repairAgain)
		r.due("table", time.Now())
		if len(r.told) != 1 {
			t.Errorf("%d kinds are remembered", len(r.told))
		}
	})
}

// Each repair is an event that says what it was, and why where it failed.
func TestS8ARepairIsAnEvent(t *testing.T) {
	a := &Agent{Log: slog.New(slog.DiscardHandler)}
	a.Repaired(runtime.Repair{What: "the table"})
	a.Repaired(runtime.Repair{What: "the table"})
	a.Repaired(runtime.Repair{What: "the ramdisk of web/app", Err: errors.New("it is gone")})
	events, _ := a.Events(0)
	got := ""
	for _, e := range events {
		got += e.Type + ": " + e.Text + " " + e.Error + "\n"
	}
	if want := "host.repaired: put back: the table \nhost.repaired: not put back: the ramdisk of web/app it is gone\n"; got != want {
		t.Errorf("events\n%s, want\n%s", got, want)
	}
}

// [R7] A container without IPv4 is as healthy, and as much there, as any other.
func TestS7ReachedByIPv6Only(t *testing.T) {
	four, six := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd00::1")
	a := runtime.Actual{
		Addr:  map[runtime.ID]netip.Addr{"both": four, "four": four},
		Addr6: map[runtime.ID]netip.Addr{"both": six, "six": six},
	}
	for id, want := range map[runtime.ID]netip.Addr{"both": four, "four": four, "six": six, "none": {}} {
		if got := a.Reached(id); got != want {
			t.Errorf("%s is reached at %v, want %v", id, got, want)
		}
	}
	w := schema.Container{Name: "web1", Health: &schema.Health{Program: "http", Port: 80, Path: "/up"}}
	agent := &Agent{seen: &runtime.Actual{
		State: runtime.State{Containers: []runtime.Container{{ID: "six", Project: "web", Name: "web1", Status: runtime.Running}}},
		Addr6: map[runtime.ID]netip.Addr{"six": six},
	}}
	if got := agent.target("web/web1", w); !strings.HasPrefix(got, "http://[fd00::1]:80/up") {
		t.Errorf("its health is asked at %q", got)
	}
	if w.Health = nil; !agent.healthy("web/web1", w) {
		t.Error("it counts as not running")
	}
}
