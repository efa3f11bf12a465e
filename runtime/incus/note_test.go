package incus

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

func TestALeaseThatWasNotRenewedEnds(t *testing.T) {
	socket(t)
	rt := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab"})
	old, next := runtime.Holder{Name: "old"}, runtime.Holder{Name: "next"}
	until := func(end time.Time) {
		t.Helper()
		b, err := json.Marshal(runtime.LeaseRecord{Holder: old, Until: end})
		if err != nil {
			t.Fatal(err)
		}
		err = rt.replace(t.Context(), lease, func(config map[string]string) (map[string]string, error) {
			config[keyLease] = string(b)
			return config, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	until(time.Now().Add(runtime.LeaseTime))
	var taken *runtime.Taken
	if err := rt.Lease(t.Context(), next); !errors.As(err, &taken) {
		t.Errorf("error %v", err)
	}
	until(time.Now().Add(-time.Second))
	if err := rt.Lease(t.Context(), next); err != nil {
		t.Error(err)
	}
	if err := rt.Lease(t.Context(), old); !errors.As(err, &taken) || taken.Holder != next {
		t.Errorf("error %v", err)
	}
}

// TestALateWriterDoesNotGoBack: who was stopped between reading a record and
// writing its successor finds the number free again, since later records are
// there and the earlier ones are gone.
func TestALateWriterDoesNotGoBack(t *testing.T) {
	socket(t)
	rt := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab"})
	note := func(value string) {
		t.Helper()
		if err := rt.Note(t.Context(), "k", value); err != nil {
			t.Fatal(err)
		}
	}
	note("1")
	late, err := rt.recall(t.Context(), notes)
	if err != nil {
		t.Fatal(err)
	}
	note("2")
	note("3")
	late.config[keyNote+"k"] = "late"
	if done, err := rt.succeed(t.Context(), notes, late.number, late.config); done || err != nil {
		t.Errorf("it was written: %t, %v", done, err)
	}
	a, err := rt.Observe(t.Context())
	if err != nil || a.Notes["k"] != "3" {
		t.Errorf("observed %v, %v", a.Notes, err)
	}
	names, err := rt.in(t.Context(), "").GetProjectNames()
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, name := range names {
		if strings.HasPrefix(name, rt.recordPrefix(notes)) {
			left++
		}
	}
	if left != 1 {
		t.Errorf("%d records are left", left)
	}
}

// TestARecordThatACrashLeftIsPassedOver: the newest counts, and the next
// writer removes the rest.
func TestARecordThatACrashLeftIsPassedOver(t *testing.T) {
	socket(t)
	rt := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab"})
	if err := rt.Note(t.Context(), "k", "old"); err != nil {
		t.Fatal(err)
	}
	have, err := rt.recall(t.Context(), notes)
	if err != nil {
		t.Fatal(err)
	}
	have.config[keyNote+"k"] = "new"
	err = rt.in(t.Context(), "").CreateProject(api.ProjectsPost{
		Name: rt.recordPrefix(notes) + strconv.Itoa(have.number+9), ProjectPut: api.ProjectPut{Config: have.config},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"new", "newer"} {
		a, err := rt.Observe(t.Context())
		if err != nil || a.Notes["k"] != want {
			t.Errorf("observed %v, want %s, %v", a.Notes, want, err)
		}
		if err := rt.Note(t.Context(), "k", "newer"); err != nil {
			t.Fatal(err)
		}
	}
}
