//go:build !linux

package incus

import "errors"

// Containers run on Linux; elsewhere swage only checks and plans.
var errNoMounts = errors.New("ramdisks need a Linux host")

func mountTmpfs(string, bool, int64) error { return errNoMounts }

func unmount(string) error { return nil }
