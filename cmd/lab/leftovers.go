//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Mount is one line of a mount table, as far as it matters here.
type Mount struct {
	Point, Kind string
	Shared      bool
}

func readMounts() ([]Mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return parseMounts(string(text)), nil
}

// parseMounts reads proc(5) mountinfo: six fields, optional ones, a dash, and
// then the kind.
func parseMounts(text string) []Mount {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []Mount
	for line := range strings.Lines(text) {
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 6 {
			continue
		}
		kind, _, _ := strings.Cut(after, " ")
		m := Mount{Point: unescape.Replace(fields[4]), Kind: kind}
		for _, optional := range fields[6:] {
			m.Shared = m.Shared || strings.HasPrefix(optional, "shared:")
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// below keeps the mounts on the dirs and below them, the latest first: the
// order in which they can be unmounted.
func below(mounts []Mount, dirs ...string) []string {
	var points []string
	for i := len(mounts) - 1; i >= 0; i-- {
		if under(mounts[i].Point, dirs) {
			points = append(points, mounts[i].Point)
		}
	}
	return points
}

func under(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// inNetwork are the processes whose network namespace is the one that file
// names, ours excepted.
func inNetwork(file string) []int {
	want, err := os.Stat(file)
	if err != nil {
		return nil
	}
	// A file that is no longer mounted on names nothing.
	if own, err := os.Stat("/proc/self/ns/net"); err != nil || own.Sys().(*syscall.Stat_t).Dev != want.Sys().(*syscall.Stat_t).Dev || os.SameFile(own, want) {
		return nil
	}
	var pids []int
	entries, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, entry := range entries {
		if have, err := os.Stat(entry); err == nil && os.SameFile(have, want) {
			pid, _ := strconv.Atoi(strings.Split(entry, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// loops are the loop devices whose file is in one of the dirs.
func loops(dirs ...string) []string {
	var devices []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		if backing, err := os.ReadFile(file); err == nil && under(strings.TrimSpace(string(backing)), dirs) {
			devices = append(devices, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return devices
}

// leftovers names everything of the lab that is still there.
func (l *Lab) leftovers(c *cgroups) []string {
	var left []string
	add := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	for _, pid := range inNetwork(l.netns()) {
		add("process %d", pid)
	}
	for _, path := range []string{l.netns(), l.alias(), l.Dir} {
		if exists(path) {
			add("%s", path)
		}
	}
	if exists(c.path("")) {
		add("cgroup %s", l.Name)
	}
	if mounts, err := readMounts(); err != nil {
		add("unknown mounts: %v", err)
	} else {
		for _, point := range below(mounts, l.Dir, l.alias(), l.netns()) {
			add("mount %s", point)
		}
	}
	for _, device := range loops(l.Dir, l.alias()) {
		add("loop device %s", device)
	}
	return left
}
