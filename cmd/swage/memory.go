package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// memory is a reconcile.Memory in one file. It is replaced whole or not at
// all.
type memory string

func (m memory) Load() (string, error) {
	b, err := os.ReadFile(string(m))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

func (m memory) Save(s string) error {
	f, err := os.CreateTemp(filepath.Dir(string(m)), filepath.Base(string(m))+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.WriteString(s + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), string(m))
}
