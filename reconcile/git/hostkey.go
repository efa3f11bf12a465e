package git

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	gossh "golang.org/x/crypto/ssh"
)

// HostKey reads the key that a server is known by over SSH, or makes it where
// there is no such file. One that cannot be used is an error and stays: a new
// one would look to everybody as if somebody stood between.
func HostKey(file string) (gossh.Signer, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return newHostKey(file)
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the host key %s may be read by others (mode %04o): make it 0600, or take it away, to get a new one", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := gossh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("the host key %s: %w; put it back, or take it away, to get a new one", file, err)
	}
	return key, nil
}

func newHostKey(file string) (gossh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := gossh.MarshalPrivateKey(key, "swage")
	if err != nil {
		return nil, err
	}
	// Under its name it is whole or not there, whenever the machine stops.
	f, err := os.CreateTemp(filepath.Dir(file), ".hostkey-*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(pem.EncodeToMemory(block))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return nil, fmt.Errorf("keep a host key: %w", err)
	}
	return gossh.NewSignerFromKey(key)
}
