package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// memory is a reconcile.Memory in one file.
type memory string

func (m memory) Load() (string, error) {
	b, err := os.ReadFile(string(m))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func (m memory) Save(s string) error { return replace(string(m), []byte(s+"\n"), 0o600) }
