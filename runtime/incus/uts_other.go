//go:build !linux

package incus

import "errors"

func setHostname(int64, string) error { return errors.New("containers run on Linux") }
