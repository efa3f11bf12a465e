package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swage/edge/certs"
)

// theAuthority is the certificate of a server, as a file.
func theAuthority(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.Open(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(file, ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// tool puts a program into a folder of PATH; it notes how it was called, and
// what it read with "-a".
func tool(t *testing.T, dir, name, more string) {
	t.Helper()
	text := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >> %s/calls\n%s", name, dir, more)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestTrust: each kind of system with its own tool, there and back.
func TestTrust(t *testing.T) {
	file := theAuthority(t)
	a, err := readAuthority(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ tool, folder, call string }{
		{"update-ca-certificates", "usr/local/share/ca-certificates", "update-ca-certificates"},
		{"update-ca-trust", "etc/pki/ca-trust/source/anchors", "update-ca-trust extract"},
	} {
		t.Run(row.tool, func(t *testing.T) {
			bin, root, home := t.TempDir(), t.TempDir(), t.TempDir()
			t.Setenv("PATH", bin+":/bin:/usr/bin") // where update-ca-certificates is not
			tool(t, bin, row.tool, "")
			tool(t, bin, "certutil", `dir="${2#sql:}"
case "$*" in
*" -L "*) test -e "$dir/got" ;;
*" -A "*) cat > "$dir/got" ;;
*" -D "*) rm "$dir/got" ;;
esac`)
			firefox := filepath.Join(home, ".mozilla/firefox/abc.default")
			if err := os.MkdirAll(firefox, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(firefox, "cert9.db"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			var said []string
			tr := truster{authority: a, root: root, home: home, say: func(f string, args ...any) { said = append(said, fmt.Sprintf(f, args...)) }}
			do := func(uninstall bool) {
				t.Helper()
				if err := tr.system(t.Context(), uninstall); err != nil {
					t.Fatal(err)
				}
				if err := tr.browsers(t.Context(), uninstall); err != nil {
					t.Fatal(err)
				}
			}
			do(false)
			path := filepath.Join(root, row.folder, a.name+".crt")
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []string{path, filepath.Join(firefox, "got")} {
				if text, err := os.ReadFile(got); err != nil || !bytes.Equal(text, want) {
					t.Errorf("%s: %q, %v", got, text, err)
				}
			}
			do(false)
			left := filepath.Join(root, "etc/ssl/certs", a.name+".pem")
			if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, left); err != nil {
				t.Fatal(err)
			}
			do(true)
			for _, name := range []string{path, left} {
				if _, err := os.Lstat(name); err == nil {
					t.Errorf("%s is there after --uninstall", name)
				}
			}
			do(true)
			calls, err := os.ReadFile(filepath.Join(bin, "calls"))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(calls), row.call+"\n"); n != 3 {
				t.Errorf("%s was called %d times, want three times:\n%s", row.call, n, calls)
			}
			if strings.Count(string(calls), "-A -n "+a.name+" -t C,, -a\n") != 1 || strings.Count(string(calls), "-D -n "+a.name+"\n") != 1 {
				t.Errorf("certutil was called\n%s", calls)
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, "the system trusts it: "+path) || !strings.Contains(all, "no more") || !strings.Contains(all, "does not trust it") {
				t.Errorf("said\n%s", all)
			}
		})
	}
}

// TestTrustRefuses: what is not an authority of swage, and a system that cannot
// be changed.
func TestTrustRefuses(t *testing.T) {
	file := theAuthority(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(filepath.Join(filepath.Dir(file), "ca", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		what string
		text []byte
		want string
	}{
		{"a key", private, "is not one certificate"},
		{"nothing", nil, "is not one certificate"},
		{"two certificates", append(bytes.Clone(whole), whole...), "is not one certificate"},
		{"a damaged one", bytes.Replace(whole, []byte("MII"), []byte("AII"), 1), "x509"},
	} {
		path := filepath.Join(t.TempDir(), "x.crt")
		if err := os.WriteFile(path, row.text, 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"trust", "--print", "--ca", path}, &out, &errs, nil); code != 1 || !strings.Contains(errs.String(), row.want) || out.Len() > 0 {
			t.Errorf("%s: code %d, %s%s", row.what, code, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"trust", "--print", "--ca", file + ".none"}, &out, &errs, nil); code != 1 || !strings.Contains(errs.String(), "copy ca.crt from the state_dir") {
		t.Errorf("no file: %d %s", code, errs.String())
	}
	if code := run(t.Context(), []string{"trust", "--print", "--ca", file}, &out, &errs, nil); code != 0 || out.String() != string(whole) {
		t.Errorf("--print: %d %s", code, out.String())
	}

	a, err := readAuthority(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := truster{authority: a, root: t.TempDir(), say: t.Logf}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if err := tr.system(t.Context(), false); err == nil || !strings.Contains(err.Error(), "install the package ca-certificates") {
		t.Errorf("without a tool: %v", err)
	}
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	tool(t, bin, "update-ca-certificates", "echo cannot >&2; exit 4")
	if err := tr.system(t.Context(), false); err == nil || !strings.Contains(err.Error(), "exit status 4: cannot") {
		t.Errorf("a tool that fails: %v", err)
	}
	if os.Geteuid() != 0 {
		tr.root = "/"
		if err := tr.system(t.Context(), false); err == nil || !strings.Contains(err.Error(), "run this with sudo") {
			t.Errorf("without root: %v", err)
		}
	}
}
