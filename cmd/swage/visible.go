package main

import (
	"io"

	"swage/reconcile"
)

// visible writes text that names what a repository holds: names of files, paths
// of secrets, comments. See reconcile.Visible.
type visible struct{ io.Writer }

func (v visible) Write(p []byte) (int, error) {
	if _, err := io.WriteString(v.Writer, reconcile.Visible(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
