package incus

import (
	"context"
	"strings"
	"testing"
	"time"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// TestL17DeletionOverQuota: what is over its limit, or at it, goes at once, as an
// archive or wholly.
func TestL17DeletionOverQuota(t *testing.T) {
	if socket(t); poolDriver(t) == "dir" {
		t.Skip("plain folders hold nobody to a size")
	}
	for _, c := range []struct {
		name     string
		over     bool // by a limit that Incus set half: before it was checked, or by hand
		archives bool
		status   runtime.Status
	}{
		{"full, deleted", false, false, runtime.Running},
		{"full, archived", false, true, runtime.Running},
		{"full and paused, archived", false, true, runtime.Paused},
		{"full and stopped, archived", false, true, runtime.Stopped},
		{"over, deleted", true, false, runtime.Running},
		{"over and stopped, deleted", true, false, runtime.Stopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, socket(t), ramdisks())
			web := runtimetest.Plain("tiny/1", runtime.Running)
			web.Ramdisk, web.Keys = true, []string{"ssh-ed25519 AAAA test"}
			web.Resources.Disk = 32 << 20
			if c.over {
				web.Resources.Disk = 2 << 30
			}
			b.do(runtime.CreateContainer{New: web})
			err := b.fill(web.ID, 48<<20)
			switch {
			case c.over:
				at, err := b.rt.find(t.Context(), web.ID)
				if err != nil {
					t.Fatal(err)
				}
				in, _, err := b.rt.in(t.Context(), at.project).GetInstance(at.name)
				if err != nil {
					t.Fatal(err)
				}
				if err := b.rt.patch(t.Context(), at, map[string]any{"devices": map[string]device{root: sized(in, 10<<20)}}); err == nil {
					t.Fatal("Incus takes a limit below what is used")
				}
			case err == nil:
				t.Fatal("it has no limit")
			}
			switch c.status {
			case runtime.Paused:
				at, _ := b.rt.find(t.Context(), web.ID)
				if err := b.rt.pause(t.Context(), &at); err != nil {
					t.Fatal(err)
				}
			case runtime.Stopped:
				at, _ := b.rt.find(t.Context(), web.ID)
				_ = b.rt.kill(t.Context(), &at) // it may complain, and stop all the same
			}
			_, err = b.rt.Do(t.Context(), runtime.DeleteContainer{Target: web, Archives: c.archives, Keep: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			a, err := b.rt.Observe(t.Context())
			if err != nil || len(a.Containers) > 0 || len(a.Archives) > 0 != c.archives {
				t.Fatalf("left: %+v, %+v, %v", a.Containers, a.Archives, err)
			}
			for _, x := range a.Archives {
				small := web
				small.Resources.Disk = 32 << 20
				if _, err := b.rt.Do(t.Context(), runtime.RestoreContainer{New: small}); err == nil || !strings.Contains(err.Error(), "MiB are in use") {
					t.Errorf("restored into too little: %v", err)
				}
				web.Resources.Disk, web.Status, web.Asked = 0, runtime.Stopped, runtime.Stopped
				b.do(runtime.RestoreContainer{New: web})
				b.do(runtime.DeleteContainer{Target: web, Archives: true, Keep: time.Hour})
				if _, err := b.rt.Do(context.Background(), runtime.DeleteArchive{Archive: x}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
