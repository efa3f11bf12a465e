package git

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// signer makes an SSH key and gives the line that allows it.
func sshKey(t testing.TB, kind string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	src, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(src))
}

// signedBy commits with an SSH key and gives the raw commit.
func signedBy(t testing.TB, work, key string) []byte {
	t.Helper()
	run(t, work, "-c", "gpg.format=ssh", "-c", "user.signingKey="+key, "commit", "-q", "-S", "--allow-empty", "-m", "signed\n\nbody")
	return rawCommit(t, work)
}

func rawCommit(t testing.TB, work string) []byte {
	t.Helper()
	return []byte(run(t, work, "cat-file", "commit", "HEAD"))
}

func TestSSHSigner(t *testing.T) {
	_, work := fixture(t)
	ed, edPublic := sshKey(t, "ed25519")
	_, otherPublic := sshKey(t, "ed25519")
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	signed := signedBy(t, work, ed)
	unsigned := func() []byte {
		run(t, work, "commit", "-q", "--allow-empty", "-m", "x\n\ngpgsig -----BEGIN SSH SIGNATURE-----")
		return rawCommit(t, work)
	}()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", ed, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	elsewhere, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	payload, signature, err := detach(signed)
	if err != nil {
		t.Fatal(err)
	}
	indent := func(sig []byte) string {
		return "gpgsig " + strings.ReplaceAll(strings.TrimSpace(string(sig)), "\n", "\n ") + "\n"
	}
	with := func(headers string) []byte {
		return bytes.Replace(payload, []byte("\n\n"), []byte("\n"+headers+"\n"), 1)
	}
	if !bytes.Equal(with(indent(signature)), signed) {
		t.Fatal("the commit is not what it is made of")
	}
	for _, c := range []struct {
		what    string
		commit  []byte
		allowed []string
		want    string // the signer, or with "!" a part of the error
	}{
		{"its signer", signed, []string{"ann@example.com " + edPublic}, "ann@example.com"},
		{"one of several", signed, []string{"bob " + otherPublic, "ann " + edPublic}, "ann"},
		{"another", signed, []string{"bob " + otherPublic}, "!is no signer's"},
		{"nobody", signed, nil, "!is no signer's"},
		{"a line of garbage", signed, []string{"ann", "ann ssh-ed25519 AAAA", ""}, "!is no signer's"},
		{"for git", signed, []string{`ann namespaces="file,git" ` + edPublic}, "ann"},
		{"for a pattern", signed, []string{`ann namespaces="g*" ` + edPublic}, "ann"},
		{"for files only", signed, []string{`ann namespaces="file" ` + edPublic}, "!is no signer's"},
		{"valid now", signed, []string{`ann valid-after="20260101Z",valid-before="202612010000Z" ` + edPublic}, "ann"},
		{"valid later", signed, []string{`ann valid-after="20261201Z" ` + edPublic}, "!is no signer's"},
		{"valid before", signed, []string{`ann valid-before="20261101000000Z" ` + edPublic}, "!is no signer's"},
		{"valid when?", signed, []string{`ann valid-before="soon" ` + edPublic}, "!is no signer's"},
		{"an authority", signed, []string{`ann cert-authority ` + edPublic}, "!is no signer's"},
		{"an unknown option", signed, []string{`ann no-touch ` + edPublic}, "!is no signer's"},
		{"not signed", unsigned, []string{"ann " + edPublic}, "!is not signed"},
		{"another message", bytes.Replace(signed, []byte("body"), []byte("Body"), 1), []string{"ann " + edPublic}, "!is wrong"},
		{"another tree", bytes.Replace(signed, []byte("tree "), []byte("tree 0"), 1), []string{"ann " + edPublic}, "!is wrong"},
		{"another header", with("x-more 1\n" + indent(signature)), []string{"ann " + edPublic}, "!is wrong"},
		{"two signatures", with(indent(signature) + indent(signature)), []string{"ann " + edPublic}, "!more than one"},
		{"a signature for SHA-256", with(indent(signature) + "gpgsig-sha256 x\n"), []string{"ann " + edPublic}, "!more than one"},
		{"of a file", with(indent(elsewhere)), []string{"ann " + edPublic}, "!namespace"},
		{"cut", with(indent(signature[:100])), []string{"ann " + edPublic}, "!cannot be read"},
		{"of something", with("gpgsig hello\n"), []string{"ann " + edPublic}, "!neither"},
		{"no commit", []byte("hello"), []string{"ann " + edPublic}, "!no commit"},
	} {
		who, err := Signer(c.commit, c.allowed, nil, now)
		if part, fails := strings.CutPrefix(c.want, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q, %v; want an error with %q", c.what, who, err, part)
			}
		} else if who != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", c.what, who, err, c.want)
		}
	}
	for _, kind := range []string{"rsa", "ecdsa"} {
		key, public := sshKey(t, kind)
		if who, err := Signer(signedBy(t, work, key), []string{"ann " + public}, nil, now); who != "ann" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestOpenPGPSigner(t *testing.T) {
	_, work := fixture(t)
	run(t, work, "commit", "-q", "--allow-empty", "-m", "signed\n\nbody")
	payload := rawCommit(t, work)
	entity := func() (e *openpgp.Entity, public string) {
		e, err := openpgp.NewEntity("Ann", "", "ann@example.com", nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Serialize(w); err != nil {
			t.Fatal(err)
		}
		w.Close()
		return e, b.String()
	}
	ann, annPublic := entity()
	_, bobPublic := entity()
	var signature bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&signature, ann, bytes.NewReader(payload), nil); err != nil {
		t.Fatal(err)
	}
	with := func(sig string) []byte {
		return bytes.Replace(payload, []byte("\n\n"), []byte("\ngpgsig "+strings.ReplaceAll(strings.TrimSpace(sig), "\n", "\n ")+"\n\n"), 1)
	}
	signed := with(signature.String())
	for what, c := range map[string]struct {
		commit []byte
		keys   []string
		good   bool
	}{
		"its signer":      {signed, []string{annPublic}, true},
		"one of several":  {signed, []string{bobPublic, "garbage", annPublic}, true},
		"another":         {signed, []string{bobPublic}, false},
		"nobody":          {signed, nil, false},
		"another message": {bytes.Replace(signed, []byte("body"), []byte("Body"), 1), []string{annPublic}, false},
		"two signatures":  {with(signature.String() + "\n" + signature.String()), []string{annPublic}, false},
		"garbage":         {with("-----BEGIN PGP SIGNATURE-----\nhello"), []string{annPublic}, false},
	} {
		if who, err := Signer(c.commit, nil, c.keys, time.Now()); (err == nil) != c.good || (who != "") != c.good {
			t.Errorf("%s: %q, %v", what, who, err)
		}
	}
	if _, err := Signer(signed, nil, []string{annPublic}, time.Now().Add(-24*time.Hour)); err == nil {
		t.Error("a signature of tomorrow counts today")
	}
}

// TestGPG signs with the program that people use.
func TestGPG(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("needs gpg; TestOpenPGPSigner signs without it")
	}
	_, work := fixture(t)
	home, err := os.MkdirTemp("", "gpg") // short: its sockets have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	t.Setenv("GNUPGHOME", home)
	if out, err := exec.Command(gpg, "--batch", "--passphrase", "", "--quick-gen-key", "ann@example.com", "ed25519", "sign").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	public, err := exec.Command(gpg, "--armor", "--export", "ann@example.com").Output()
	if err != nil {
		t.Fatal(err)
	}
	run(t, work, "-c", "user.signingKey=ann@example.com", "commit", "-q", "-S", "--allow-empty", "-m", "signed")
	if _, err := Signer(rawCommit(t, work), nil, []string{string(public)}, time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
}

func FuzzSigner(f *testing.F) {
	f.Add([]byte("tree x\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n\nm"), "ann ssh-ed25519 AAAA")
	f.Add([]byte("tree x\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n\nm"), `ann namespaces="git" x y`)
	f.Fuzz(func(t *testing.T, commit []byte, allowed string) {
		if who, err := Signer(commit, []string{allowed}, []string{allowed}, time.Now()); err == nil {
			t.Errorf("signed by %q", who)
		}
	})
}
