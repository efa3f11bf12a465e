//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// suites are the Debian images and their code names.
var suites = map[string]string{"debian/12": "bookworm", "debian/13": "trixie"}

// recipe is all that decides what is in a Debian image; its digest is part of
// the cached file's name. The script runs with the new root as its folder.
var recipe = struct{ include, script, templates string }{
	// networkd waits for udev; hostnamed and logind are reached through dbus.
	// cron, and the manager of a user that PAM starts, take their environment
	// from elsewhere than services do.
	include: "systemd-sysv,udev,dbus,iproute2,ca-certificates,systemd-resolved,libnss-resolve,libpam-systemd,cron",
	script: `set -eu
# What must differ between containers is made at their first start.
: > etc/machine-id
rm -f var/lib/dbus/machine-id etc/ssh/ssh_host_*
# No account but root's, reached from the outside only.
mkdir -p etc/systemd/network etc/systemd/system/multi-user.target.wants
cat > etc/systemd/network/eth0.network <<'END'
[Match]
Name=eth0
[Network]
DHCP=yes
END
for unit in systemd-networkd systemd-resolved; do
	ln -sf /lib/systemd/system/$unit.service etc/systemd/system/multi-user.target.wants/
done
ln -sf /run/systemd/resolve/stub-resolv.conf etc/resolv.conf
rm -rf var/cache/apt/*.bin var/cache/apt/archives/*.deb var/lib/apt/lists/* tmp/* var/log/*.log
`,
	templates: `templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
`,
}

// buildDebian makes the image with debootstrap from the machine's own source,
// once for all labs of this user.
func (l *Lab) buildDebian(ctx context.Context, name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	key := sha256.Sum256(fmt.Append(nil, name, recipe))
	file := filepath.Join(cache, "swage", fmt.Sprintf("%s-%x.tar.gz", strings.ReplaceAll(name, "/", "-"), key[:6]))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	suite := suites[name]
	mirror, err := debianMirror(suite)
	if err != nil {
		return "", err
	}
	l.say("building image %s from %s, a minute or two", name, mirror)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	if err := os.MkdirAll(l.Dir+"/images", 0o755); err != nil {
		return "", fmt.Errorf("make a folder for images: %w", err)
	}
	work, err := os.MkdirTemp(l.Dir+"/images", "build-")
	if err != nil {
		return "", fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(work+"/templates", 0o755); err != nil {
		return "", fmt.Errorf("make a folder to build in: %w", err)
	}
	root := work + "/rootfs"
	write := func(name string, text []byte) func() error {
		return func() error { return os.WriteFile(filepath.Join(work, name), text, 0o644) }
	}
	run := func(name string, args ...string) func() error {
		return func() error { _, err := l.command(ctx, name, args...); return err }
	}
	bootstrap := []string{"--variant=minbase", "--include=" + recipe.include, suite, root, mirror}
	// Every Debian since 2017 is bootstrapped by the script of sid; an older
	// debootstrap only lacks the link of that name.
	const scripts = "/usr/share/debootstrap/scripts/"
	if _, err := os.Stat(scripts + suite); err != nil {
		bootstrap = append(bootstrap, scripts+"sid")
	}
	err = inOrder(
		run("debootstrap", bootstrap...),
		run("sh", "-c", "cd \"$1\"\n"+recipe.script, "sh", root),
		write("metadata.yaml", metadata("debian", strings.TrimPrefix(name, "debian/"), "Debian "+suite, recipe.templates)),
		write("templates/hostname.tpl", []byte("{{ container.name }}\n")),
		// Under another name until it is whole: the cache is never half a file.
		run("tar", "-C", work, "--numeric-owner", "--xattrs", "--use-compress-program=gzip -1", "-cf", file+".new", "metadata.yaml", "templates", "rootfs"),
		func() error { return os.Rename(file+".new", file) },
	)
	return file, err
}

// debianMirror is where this machine gets its own packages, if it is a Debian.
func debianMirror(suite string) (string, error) {
	codename, machine, err := readSources("/")
	if err != nil {
		return "", err
	}
	for _, known := range suites {
		if known != codename {
			continue
		}
		sources, err := wanted(machine, codename)
		if err != nil {
			return "", err
		}
		for _, s := range sources {
			if len(s.URIs) == 0 || s.Suites[0] != codename {
				continue
			}
			// mirror+file: names a file with one mirror on each line.
			if path, list := strings.CutPrefix(s.URIs[0], "mirror+file:"); list {
				text, err := os.ReadFile(path)
				if err != nil {
					return "", fmt.Errorf("read apt's list of mirrors: %w", err)
				}
				if mirrors := strings.Fields(string(text)); len(mirrors) > 0 {
					return mirrors[0], nil
				}
			}
			return s.URIs[0], nil
		}
	}
	if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
		return mirror, nil
	}
	return "", errors.New("this machine is no Debian 12 or 13, so it has no source for " + suite + ": name one with DEBIAN_MIRROR=http://…")
}
