//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// images is the command of that name: one or several.
func (l *Lab) images(ctx context.Context, names []string, stdin io.Reader) error {
	if len(names) == 0 {
		return errors.New("image: which one? tiny, debian/12 or debian/13")
	}
	for _, name := range names {
		if _, debian := suites[name]; debian {
			if err := l.packages(ctx, stdin, forDebian); err != nil {
				return err
			}
		} else if name != "tiny" {
			return fmt.Errorf("no recipe for image %q: there are tiny, debian/12 and debian/13", name)
		}
		if err := l.image(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// image makes sure that the lab has the newest build. An image's fingerprint
// is the digest of its file, so nothing need be remembered.
func (l *Lab) image(ctx context.Context, name string) error {
	alias, build := name, l.buildDebian
	if name == "tiny" {
		alias, build = "tiny/1", l.buildTiny
	}
	file, err := build(ctx, name)
	if err != nil {
		return fmt.Errorf("build image %s: %w", name, err)
	}
	fingerprint, err := digest(file)
	if err != nil {
		return err
	}
	var have struct {
		Target string `json:"target"`
	}
	path := "/1.0/images/aliases/" + url.PathEscape(alias)
	found := l.query(ctx, path, &have) == nil
	if have.Target == fingerprint {
		return nil
	}
	l.say("importing image %s", alias)
	// In this order the alias always leads somewhere, also after a crash
	// between any two steps.
	if l.query(ctx, "/1.0/images/"+fingerprint, &struct{}{}) != nil {
		if _, err := l.command(ctx, "incus", "image", "import", file); err != nil {
			return err
		}
	}
	if !found {
		_, err = l.command(ctx, "incus", "image", "alias", "create", alias, fingerprint)
		return err
	}
	if _, err := l.command(ctx, "incus", "query", "-X", "PUT", "-d", fmt.Sprintf("{%q: %q}", "target", fingerprint), path); err != nil {
		return err
	}
	_, err = l.command(ctx, "incus", "image", "delete", have.Target)
	return err
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the image: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read the image: %w", err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// architectures are Incus' names for Go's.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64", "386": "i686", "arm": "armv7l"}

func metadata(osName, release, description, rest string) []byte {
	return fmt.Appendf(nil, "architecture: %s\ncreation_date: 1\nproperties:\n  os: %s\n  release: %q\n  description: %s\n%s",
		architectures[runtime.GOARCH], osName, release, description, rest)
}

// buildTiny compiles the guest and wraps it. The same source always gives the
// same bytes, hence the same fingerprint.
func (l *Lab) buildTiny(ctx context.Context, _ string) (string, error) {
	dir := l.Dir + "/images"
	program := dir + "/tiny"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for images: %w", err)
	}
	if _, err := l.command(ctx, "env", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH,
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "swage/cmd/tiny"); err != nil {
		return "", fmt.Errorf("%w (run lab inside the repository, with Go in PATH)", err)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("read what was built: %w", err)
	}
	var image bytes.Buffer
	archive := tar.NewWriter(&image)
	add := func(name string, mode int64, content []byte) error {
		header := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(1, 0)}
		if content == nil {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	}
	steps := []func() error{func() error {
		return add("metadata.yaml", 0o644, metadata("tiny", "1", "the smallest guest", ""))
	}}
	for _, folder := range []string{"", "sbin", "proc", "sys", "dev", "etc", "run", "tmp"} {
		steps = append(steps, func() error { return add(filepath.Join("rootfs", folder)+"/", 0o755, nil) })
	}
	steps = append(steps, func() error { return add("rootfs/sbin/init", 0o755, init) }, archive.Close)
	if err := inOrder(steps...); err != nil {
		return "", fmt.Errorf("pack the image: %w", err)
	}
	file := dir + "/tiny.tar"
	if err := os.WriteFile(file, image.Bytes(), 0o644); err != nil {
		return "", fmt.Errorf("write the image: %w", err)
	}
	return file, nil
}
