package incus

import (
	"errors"
	"strings"
	"testing"
)

func TestAnErrorIsBrief(t *testing.T) {
	pages := strings.Repeat("tar: rootfs/usr/lib/x: Cannot open: No such file or directory\n", 100)
	for said, want := range map[string]string{
		"Instance is busy": "Instance is busy",
		"Failed creating instance from image: Unpack failed: Failed to run: tar --exclude=dev/* -C /pool/images/x -xf -: exit status 2 (" + pages + "tar: rootfs/usr: Cannot write: No space left on device\n" + pages + ")": "Failed creating instance from image: Unpack failed: failed to run tar: no space left on device",
		"Failed to run: mkfs.btrfs /x: exit status 1 (ERROR: too small)": "failed to run mkfs.btrfs: ERROR: too small",
		strings.Repeat("x", 500): strings.Repeat("x", 400) + "… (100 bytes more)",
	} {
		if got := brief(errors.New(said)).Error(); got != want {
			t.Errorf("%.80s: got %q, want %q", said, got, want)
		}
	}
}
