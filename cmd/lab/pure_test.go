//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each row is a machine: its release, its apt files, and what lab makes of
// them for installing Incus.
func TestSourcesOfTheMachine(t *testing.T) {
	for _, test := range []struct {
		name, codename string
		files          map[string]string
		want           string
	}{
		{
			name: "Debian 12, deb822 with comments and several suites", codename: "bookworm",
			files: map[string]string{"sources.list.d/debian.sources": `# The machine's own.
Types: deb deb-src
# http://old.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://mirror.example/sources
Suites: bookworm
Components: main
`},
			want: `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

`,
		},
		{
			name: "Debian 12, one line each, with options", codename: "bookworm",
			files: map[string]string{
				"sources.list": `# deb http://commented.example/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/k.gpg ] http://mirror.example/debian bookworm main # the mirror
deb-src http://mirror.example/debian bookworm main
debris http://not.example/ bookworm main
`,
				"sources.list.d/other.list": "deb https://elsewhere.example/apt stable main\n",
			},
			want: `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
Architectures: amd64 arm64
signed-by: /k.gpg

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Architectures: amd64 arm64
signed-by: /k.gpg

`,
		},
		{
			name: "Debian 12 that has backports already", codename: "bookworm",
			files: map[string]string{"sources.list": "deb http://m.example/debian bookworm main\ndeb http://b.example/debian bookworm-backports main\n"},
			want: `Types: deb
URIs: http://m.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://b.example/debian
Suites: bookworm-backports
Components: main

`,
		},
		{
			name: "Debian 13 needs no more than it has; a key in the file stays whole", codename: "trixie",
			files: map[string]string{"sources.list.d/debian.sources": `Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie-updates
Components: main
`},
			want: `Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
Signed-By: 
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

`,
		},
		{
			name: "Ubuntu 24.04", codename: "noble",
			files: map[string]string{"sources.list.d/ubuntu.sources": `Types: deb
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu.gpg
`, "sources.list.d/node.sources": "Types: deb\nURIs: https://node.example\nSuites: nodistro\nComponents: main\n"},
			want: `Types: deb
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu.gpg

`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "etc/os-release"), "NAME=x\nVERSION_CODENAME="+test.codename+"\n")
			for name, text := range test.files {
				write(t, filepath.Join(root, "etc/apt", name), text)
			}
			codename, machine, err := readSources(root)
			if err != nil {
				t.Fatal(err)
			}
			sources, err := wanted(machine, codename, backports[codename]...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, format(sources)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNoSourceIsAnErrorThatNamesIt(t *testing.T) {
	_, err := wanted(parseOneLine("deb http://m.example/debian stable main\n"), "bookworm")
	if err == nil || !strings.Contains(err.Error(), "bookworm main") {
		t.Errorf("got %v", err)
	}
}

func TestName(t *testing.T) {
	// The first eight digits of `printf /a | sha256sum`; others look it up.
	if got := nameOf("/a"); got != "swage-6a50dc85" {
		t.Errorf("nameOf(/a) = %q", got)
	}
	if nameOf("/a") == nameOf("/b") {
		t.Error("two folders, one name")
	}
}

func TestIncusGoesByTheAliasWhereItMust(t *testing.T) {
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir   string
		alias bool
	}{
		{"/srv/x/.lab", false},
		{"/" + strings.Repeat("d", maxIncusDir-len("//incus")), false},
		{"/" + strings.Repeat("d", maxIncusDir-len("//incus")+1), true},
		{closed + "/l", true},
	} {
		l := Lab{Dir: test.dir, Name: nameOf(test.dir)}
		if got := l.incusDir(); strings.HasPrefix(got, l.alias()) != test.alias || len(got) > maxIncusDir {
			t.Errorf("%s: Incus in %s", test.dir, got)
		}
	}
}

// Only what is at or below the folder goes, the latest mount first.
func TestMountsBelow(t *testing.T) {
	mounts := parseMounts(`22 27 0:21 / /proc rw shared:5 - proc proc rw
60 27 254:0 /srv/lab /srv/lab rw shared:7 - ext4 /dev/vda rw
61 60 0:50 / /srv/lab/ram rw shared:8 master:3 - tmpfs none rw
62 27 0:51 / /srv/laboratory rw - tmpfs none rw
63 61 0:52 / /srv/lab/ram/a\040b rw - tmpfs none rw
64 60 0:53 / /srv/lab/ram rw - tmpfs none rw
a broken line
`)
	if want := []string{"/srv/lab/ram", "/srv/lab/ram/a b", "/srv/lab/ram", "/srv/lab"}; !slices.Equal(below(mounts, "/srv/lab"), want) {
		t.Errorf("got %q", below(mounts, "/srv/lab"))
	}
	if !mounts[1].Shared || mounts[3].Shared || mounts[0].Kind != "proc" {
		t.Errorf("got %+v", mounts)
	}
}

func TestLockRefusesAFolderThatIsNoLab(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "thesis.txt"), "years of work")
	l, err := newLab(dir, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.lock(true); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("up: %v", err)
	}
	if _, err := l.lock(false); err == nil {
		t.Error("down takes any folder for a lab")
	}
}

func TestPackagesNeedAYes(t *testing.T) {
	t.Setenv("YES", "")
	l := Lab{out: &strings.Builder{}}
	if err := l.confirm(strings.NewReader("y\n")); err == nil || !strings.Contains(err.Error(), "YES=1") {
		t.Errorf("not a terminal: %v", err)
	}
	t.Setenv("YES", "1")
	if err := l.confirm(strings.NewReader("")); err != nil {
		t.Errorf("YES=1: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
