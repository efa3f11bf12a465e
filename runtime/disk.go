package runtime

import "fmt"

// DiskReserve is how much of a disk's limit must be free when it is set, in
// bytes. Below some 8 MiB btrfs itself has no room left to set it, and leaves the
// lower limit half in force.
const DiskReserve = 16 << 20

// CheckDisk refuses a limit of the root disk that what is on it does not leave
// room in. Lowering is all that can be refused: 0 is no limit, and used below 0
// is not known.
func CheckDisk(have, want, used int64) error {
	if want == 0 || have != 0 && want >= have || used < 0 || want >= used+DiskReserve {
		return nil
	}
	return fmt.Errorf("resources.disk %s is too small: %s are in use, and %s must stay free; write at least %s, or delete something in the container",
		size(want), mebibytes(used), size(DiskReserve), mebibytes(used+DiskReserve))
}

// mebibytes rounds up, for people.
func mebibytes(n int64) string { return fmt.Sprintf("%dMiB", (n+1<<20-1)>>20) }
