package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Self is this process as the holder of a lease.
func Self(role string) Holder {
	host, _ := os.Hostname()
	return Holder{
		Name:    fmt.Sprintf("%s, process %d on %s", role, os.Getpid(), host),
		Process: process(os.Getpid()),
	}
}

// process names a process for all time: "boot id/pid namespace/pid/start".
// It is empty for one that does not exist.
func process(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the command in brackets, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const started = 22 - 3 // proc_pid_stat(5): field 22; fields[0] is the third
	if len(fields) <= started || fields[0] == "Z" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%s", here(), pid, fields[started])
}

// here names the host since its start and the namespace that pids count in.
func here() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, _ := os.Readlink("/proc/self/ns/pid")
	return strings.TrimSpace(string(boot)) + "/" + ns
}

// Dead reports whether the holder is known not to live any more: only who is
// on its host can tell.
func (h Holder) Dead() bool {
	rest, ok := strings.CutPrefix(h.Process, here()+"/")
	if !ok {
		return false
	}
	pid, _, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(pid)
	return err == nil && process(n) != h.Process
}

// LeaseRecord is a lease as a Runtime keeps it.
type LeaseRecord struct {
	Holder Holder
	Until  time.Time
}

// Grant is what to keep when h asks for a lease and record is what is kept,
// or a *Taken. Empty and unreadable records hold nothing.
func Grant(record string, h Holder, now time.Time) (string, error) {
	var have LeaseRecord
	if json.Unmarshal([]byte(record), &have) == nil &&
		have.Holder != h && now.Before(have.Until) && !have.Holder.Dead() {
		return "", &Taken{have.Holder, have.Until}
	}
	b, err := json.Marshal(LeaseRecord{h, now.Add(LeaseTime).UTC().Round(time.Second)})
	return string(b), err
}

// Held reports whether a record is the lease of h.
func Held(record string, h Holder) bool {
	var have LeaseRecord
	return json.Unmarshal([]byte(record), &have) == nil && have.Holder == h
}
