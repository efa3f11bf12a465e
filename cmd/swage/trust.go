package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"swage/schema"
)

func trustCommand() *cobra.Command {
	var file, config string
	var uninstall, printOnly bool
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Have this machine trust a server's own certificates",
		Long: `Put the certificate of swage's own authority into the trust store of this
system (Debian, Ubuntu, Alpine, Fedora and what is made like them), and into
those of Chromium and Firefox where certutil is installed. On another machine
than the server copy ca.crt there from the server's state_dir, by a way that
you trust, and name it with --ca. Nothing is fetched.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = filepath.Join(stateDir(config), "ca.crt")
			}
			a, err := readAuthority(file)
			if err != nil {
				return err
			}
			if printOnly {
				_, err := cmd.OutOrStdout().Write(a.pem)
				return err
			}
			t := truster{authority: a, root: "/", home: visitorsHome(), say: func(format string, args ...any) {
				fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
			}}
			t.say("%s, SHA-256 %X", a.cert.Subject.CommonName, sha256.Sum256(a.cert.Raw))
			return errors.Join(t.system(cmd.Context(), uninstall), t.browsers(cmd.Context(), uninstall))
		},
	}
	cmd.Flags().StringVar(&file, "ca", "", "the certificate (default ca.crt in the node's state_dir)")
	cmd.Flags().StringVar(&config, "config", "/etc/swage/agent.cue", "the node file")
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "trust it no more")
	cmd.Flags().BoolVar(&printOnly, "print", false, "only print the certificate")
	cmd.MarkFlagsMutuallyExclusive("uninstall", "print")
	return cmd
}

// stateDir is that of the node file, or the usual one where there is none.
func stateDir(config string) string {
	if node, err := readNode(config); err == nil {
		return node.StateDir
	}
	return schema.DefaultStateDir
}

type authority struct {
	cert *x509.Certificate
	pem  []byte // of the certificate alone
	name string // of files and entries
}

// readAuthority takes nothing but one authority's certificate: what is trusted
// here can vouch for every site.
func readAuthority(file string) (authority, error) {
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return authority{}, fmt.Errorf("there is no %s; copy ca.crt from the state_dir of the server, and name it with --ca", file)
	}
	if err != nil {
		return authority{}, err
	}
	block, rest := pem.Decode(src)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return authority{}, fmt.Errorf("%s is not one certificate in PEM", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return authority{}, fmt.Errorf("%s: %w", file, err)
	}
	if !cert.IsCA || !strings.HasPrefix(cert.Subject.CommonName, "swage CA ") {
		return authority{}, fmt.Errorf("%s is the certificate of %q, not of an authority of swage", file, cert.Subject.CommonName)
	}
	return authority{cert, pem.EncodeToMemory(block), fmt.Sprintf("swage-ca-%x", sha256.Sum256(cert.Raw))[:25]}, nil
}

// visitorsHome is the home of the person who calls, also through sudo.
func visitorsHome() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		if u, err := user.Lookup(name); err == nil {
			return u.HomeDir
		}
	}
	home, _ := os.UserHomeDir()
	return home
}

// truster changes the trust stores below root and home.
type truster struct {
	authority
	root, home string
	say        func(format string, args ...any)
}

// systems are where distributions take further authorities from, and what makes
// them part of the store.
var systems = []struct {
	folder  string
	command []string
}{
	{"usr/local/share/ca-certificates", []string{"update-ca-certificates"}}, // Debian, Ubuntu, Alpine
	{"etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}},
}

func (t *truster) system(ctx context.Context, uninstall bool) error {
	for _, s := range systems {
		tool, err := exec.LookPath(s.command[0])
		if err != nil { // not in everybody's PATH
			if tool, err = exec.LookPath(filepath.Join(t.root, "usr/sbin", s.command[0])); err != nil {
				continue
			}
		}
		path := filepath.Join(t.root, s.folder, t.name+".crt")
		if uninstall {
			err = os.Remove(path)
			// Debian's tool leaves its link behind, which leads nowhere then.
			_ = os.Remove(filepath.Join(t.root, "etc/ssl/certs", t.name+".pem"))
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, t.pem, 0o644)
		}
		if uninstall && errors.Is(err, fs.ErrNotExist) {
			t.say("the system does not trust it")
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("the system's trust store is root's: run this with sudo (%w)", err)
		}
		if err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, tool, s.command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(s.command, " "), err, bytes.TrimSpace(out))
		}
		if uninstall {
			t.say("the system trusts it no more")
		} else {
			t.say("the system trusts it: %s", path)
		}
		return nil
	}
	return errors.New("neither update-ca-certificates nor update-ca-trust is installed: install the package ca-certificates, or import what --print shows by hand")
}

// browsers changes the databases of Chromium and Firefox, which do not heed
// the system's store.
func (t *truster) browsers(ctx context.Context, uninstall bool) error {
	var databases []string
	for _, pattern := range []string{".pki/nssdb", ".mozilla/firefox/*", "snap/firefox/common/.mozilla/firefox/*"} {
		found, _ := filepath.Glob(filepath.Join(t.home, pattern, "cert9.db"))
		databases = append(databases, found...)
	}
	if t.home == "" || len(databases) == 0 {
		return nil
	}
	tool, err := exec.LookPath("certutil")
	if err != nil {
		t.say("browsers are left alone: certutil is not installed (package libnss3-tools or nss-tools)")
		return nil
	}
	var failed []error
	for _, database := range databases {
		dir := filepath.Dir(database)
		args := []string{"-d", "sql:" + dir}
		_, err := exec.CommandContext(ctx, tool, append(slices.Clone(args), "-L", "-n", t.name)...).Output()
		known := err == nil
		switch {
		case known != uninstall:
			continue
		case uninstall:
			args = append(args, "-D", "-n", t.name)
		default:
			args = append(args, "-A", "-n", t.name, "-t", "C,,", "-a")
		}
		cmd := exec.CommandContext(ctx, tool, args...)
		cmd.Stdin = bytes.NewReader(t.pem)
		if out, err := cmd.CombinedOutput(); err != nil {
			failed = append(failed, fmt.Errorf("certutil on %s: %w: %s", dir, err, bytes.TrimSpace(out)))
			continue
		}
		if uninstall {
			t.say("a browser trusts it no more: %s", dir)
		} else {
			t.say("a browser trusts it: %s", dir)
		}
	}
	return errors.Join(failed...)
}
