package incus

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"swage/runtime"
	"swage/runtime/runtimetest"
)

// poolDriver is that of the lab's pool.
func poolDriver(t *testing.T) string {
	t.Helper()
	pool, _, err := opened(t, runtime.Scope{Fleet: runtime.NewID(), Server: "lab"}).in(t.Context(), "").GetStoragePool("default")
	if err != nil {
		t.Fatal(err)
	}
	return pool.Driver
}

// fill writes so much to the disk of a container, or as much as there is room for.
func (b *bench) fill(id runtime.ID, size int) error {
	b.Helper()
	at, err := b.rt.find(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, size)
	rand.Read(content) // never fails (crypto/rand, Go 1.24); not to be compressed
	resp, err := b.rt.file(b.Context(), http.MethodPost, at, fmt.Sprintf("/fill-%d", time.Now().UnixNano()), strings.NewReader(string(content)), "0644")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// inUse is between 39 and 45 MiB, as each try adds a little.
var inUse = regexp.MustCompile(`is too small: (39|4[0-5])MiB are in use`)

// TestD4DiskBelowWhatIsUsed: the limit is refused with the number in use, the old
// one stays in force, and the next change of it counts.
func TestD4DiskBelowWhatIsUsed(t *testing.T) {
	b := newBench(t, socket(t), ramdisks())
	if poolDriver(t) == "dir" {
		t.Skip("plain folders hold nobody to a size")
	}
	c := runtimetest.Plain("tiny/1", runtime.Running)
	c.Resources.Disk = 2 << 30
	b.do(runtime.CreateContainer{New: c})
	if err := b.fill(c.ID, 40<<20); err != nil {
		t.Fatal(err)
	}
	for _, small := range []int64{10 << 20, 39 << 20, 41 << 20} {
		to := c
		to.Resources.Disk = small
		_, err := b.rt.Do(t.Context(), runtime.UpdateContainer{From: c, To: to})
		if err == nil || !inUse.MatchString(err.Error()) {
			t.Fatalf("%d: error %v", small, err)
		}
		b.observed(c)
		if err := b.fill(c.ID, 1<<20); err != nil {
			t.Fatalf("after %d was refused, nothing can be written: %v", small, err)
		}
	}
	b.update(&c, func(c *runtime.Container) { c.Resources.Disk = 3 << 30 })
	b.update(&c, func(c *runtime.Container) { c.Resources.Disk = 100 << 20 })
	if err := b.fill(c.ID, 100<<20); err == nil {
		t.Error("the lower limit is not in force")
	}
	// It is full, and Incus can write nothing of its own there: the limit goes up
	// in one step with what needs a restart.
	b.update(&c, func(c *runtime.Container) {
		c.Resources.Disk, c.Env = 2<<30, map[string]string{"NEW": "value"}
	})
	if err := b.fill(c.ID, 10<<20); err != nil {
		t.Errorf("the higher limit is not in force: %v", err)
	}
}
