//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// need is a package and the programs any one of which makes it superfluous.
type need struct {
	pkg      string
	programs []string
	optional bool // not every distribution has it, and one test skips without it
}

var needed = []need{
	{pkg: "incus-base", programs: []string{"incusd"}}, // containers without the virtual machines of package incus
	{pkg: "incus-client", programs: []string{"incus"}},
	{pkg: "dnsmasq-base", programs: []string{"dnsmasq"}},
	{pkg: "nftables", programs: []string{"nft"}},
	{pkg: "iproute2", programs: []string{"ip"}},
	{pkg: "btrfs-progs", programs: []string{"mkfs.btrfs"}},
	{pkg: "uidmap", programs: []string{"newuidmap"}},
	{pkg: "tar", programs: []string{"tar"}},
	{pkg: "xz-utils", programs: []string{"xz"}},
	{pkg: "curl", programs: []string{"curl"}}, // the line that make up prints
}

// forTests is for the race detector, servers that are followed, and the clients of other people's that the
// edge is tried with.
var forTests = []need{
	{pkg: "gcc", programs: []string{"gcc"}},
	{pkg: "libc6-dev", programs: []string{"gcc"}},
	{pkg: "chromium", programs: []string{"chromium"}, optional: true},
	{pkg: "ngtcp2-client", programs: []string{"gtlsclient"}, optional: true},
	{pkg: "testssl.sh", programs: []string{"testssl"}, optional: true},
	{pkg: "slowhttptest", programs: []string{"slowhttptest"}, optional: true},
	{pkg: "openssh-server", programs: []string{"sshd", "/usr/sbin/sshd"}},
}

// forBench are the proxies that the edge is compared with, what loads them, and
// what makes the networks that they are in.
var forBench = []need{
	{pkg: "nftables", programs: []string{"nft"}},
	{pkg: "iproute2", programs: []string{"ip"}},
	{pkg: "nginx", programs: []string{"nginx"}, optional: true},
	{pkg: "haproxy", programs: []string{"haproxy"}, optional: true},
	{pkg: "wrk", programs: []string{"wrk"}, optional: true},
	{pkg: "nghttp2-client", programs: []string{"h2load"}, optional: true},
}

var forDebian = []need{{pkg: "debootstrap", programs: []string{"debootstrap"}}, {pkg: "gzip", programs: []string{"gzip"}}}

// backports are the distributions whose Incus is not in the main archive.
var backports = map[string][]string{"bookworm": {"bookworm-backports"}}

// packages installs what is missing, from the machine's own apt source, with
// lists of its own: no file of the machine's apt is changed.
func (l *Lab) packages(ctx context.Context, stdin io.Reader, needs []need) error {
	var missing, optional []string
	for _, n := range needs {
		if !slices.ContainsFunc(n.programs, func(p string) bool { _, err := exec.LookPath(p); return err == nil }) {
			missing = append(missing, n.pkg)
			if n.optional {
				optional = append(optional, n.pkg)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	codename, machine, err := readSources("/")
	if err != nil {
		return err
	}
	sources, err := wanted(machine, codename, backports[codename]...)
	if err != nil {
		return err
	}
	l.say("to install: %s", strings.Join(missing, " "))
	for _, s := range sources {
		l.say("  from %s: %s", strings.Join(s.URIs, " "), strings.Join(s.Suites, " "))
	}
	if err := l.confirm(stdin); err != nil {
		return err
	}
	apt := l.Dir + "/apt"
	if err := os.MkdirAll(apt+"/lists/partial", 0o755); err != nil {
		return fmt.Errorf("make a folder for apt: %w", err)
	}
	list := apt + "/lab.sources"
	if err := os.WriteFile(list, []byte(format(sources)), 0o644); err != nil {
		return fmt.Errorf("write apt's sources: %w", err)
	}
	options := []string{
		"-q", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=-",
		"-o", "Dir::State::Lists=" + apt + "/lists", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
	}
	if _, err := l.command(ctx, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	for _, pkg := range optional {
		if _, err := l.command(ctx, "apt-cache", append(slices.Clone(options), "show", pkg)...); err != nil {
			l.say("this distribution has no package %s", pkg)
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == pkg })
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := writePolicy(); err != nil {
		return err
	}
	_, err = l.command(ctx, "apt-get", append(append(options, "install", "-y", "--no-install-recommends"), missing...)...)
	return errors.Join(err, removePolicy())
}

// peers installs what needs no lab, so apt's lists are kept nowhere.
func (l *Lab) peers(ctx context.Context, stdin io.Reader) error {
	dir, err := os.MkdirTemp("", "swage-apt-")
	if err != nil {
		return fmt.Errorf("make a folder for apt: %w", err)
	}
	defer os.RemoveAll(dir)
	return (&Lab{Dir: dir, out: l.out}).packages(ctx, stdin, forBench)
}

// confirm asks a person; a script must have said YES=1 beforehand.
func (l *Lab) confirm(stdin io.Reader) error {
	if os.Getenv("YES") == "1" {
		return nil
	}
	file, _ := stdin.(*os.File)
	if file == nil || !isTerminal(file) {
		return errors.New("installing packages needs a yes: run this again with YES=1")
	}
	fmt.Fprint(l.out, "install? [y/N] ")
	answer, _ := bufio.NewReader(stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing installed")
	}
	return nil
}

// readSources reads the code name and all apt sources of the machine at root.
func readSources(root string) (codename string, sources []Source, err error) {
	release, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return "", nil, fmt.Errorf("find out the distribution: %w", err)
	}
	for line := range strings.Lines(string(release)) {
		if value, found := strings.CutPrefix(line, "VERSION_CODENAME="); found {
			codename = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	if codename == "" {
		return "", nil, errors.New("packages can be installed on Debian and Ubuntu only: install Incus 6.0 by hand")
	}
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		files, _ := filepath.Glob(filepath.Join(root, "etc/apt", pattern))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", nil, fmt.Errorf("read apt's sources: %w", err)
			}
			if strings.HasSuffix(file, ".sources") {
				sources = append(sources, parseDeb822(string(text))...)
			} else {
				sources = append(sources, parseOneLine(string(text))...)
			}
		}
	}
	return codename, sources, nil
}

// The policy keeps packages from starting services while we install. One that
// the machine has already is left as it is.
const (
	policyPath = "/usr/sbin/policy-rc.d"
	policy     = "#!/bin/sh\n# Written by swage's lab while it installs packages.\nexit 101\n"
)

func writePolicy() error {
	f, err := os.OpenFile(policyPath, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("keep packages from starting services: %w", err)
	}
	_, err = f.WriteString(policy)
	return errors.Join(err, f.Close())
}

// removePolicy takes away ours only, also one that a crash has left.
func removePolicy() error {
	if text, err := os.ReadFile(policyPath); err != nil || string(text) != policy {
		return nil
	}
	if err := os.Remove(policyPath); err != nil {
		return fmt.Errorf("remove %s: %w", policyPath, err)
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
