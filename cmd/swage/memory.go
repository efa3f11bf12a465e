package main

import (
	"crypto/rand"
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

// keptSecret reads 32 random bytes from a file, and makes it where there is none
// that holds them.
func keptSecret(file string) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if err == nil && len(secret) == 32 {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	secret = make([]byte, 32)
	_, _ = rand.Read(secret) // it cannot fail
	return secret, replace(file, secret, 0o600)
}
