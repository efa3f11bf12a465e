package git

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// leaked is a repository whose main once led to a secret and does not any more.
func leaked(t testing.TB) (r *takesPushes, good, bad, blob string) {
	t.Helper()
	r = serveBoth(t)
	good = head(t, r.work)
	write(t, r.work, "secret.txt", "hunter2")
	run(t, r.work, "add", "-A")
	run(t, r.work, "commit", "-qm", "leak")
	bad = head(t, r.work)
	blob = strings.TrimSpace(run(t, r.work, "rev-parse", "HEAD:secret.txt"))
	for _, c := range [][]string{
		{"push", "-q", r.url, "HEAD:main"},
		{"reset", "-q", "--hard", good},
		{"commit", "-q", "--allow-empty", "-m", "instead"},
		{"push", "-q", "--force", r.ssh.url(), "HEAD:main"},
	} {
		if c[0] == "commit" {
			run(t, r.work, c...)
			continue
		}
		if said, ok := r.git(t, r.work, c...); !ok {
			t.Fatalf("git %q: %s", c, said)
		}
	}
	run(t, r.bare, "update-ref", "refs/heads/other", good)
	run(t, r.bare, "update-ref", "refs/tags/leak", bad)
	run(t, r.bare, "update-ref", "refs/notes/leak", bad)
	return r, good, bad, blob
}

// [G2] Only what a branch leads to is served, by whatever name it is asked for.
func TestS19WithdrawnCommitsAreNotServed(t *testing.T) {
	r, good, bad, blob := leaked(t)
	tree := strings.TrimSpace(run(t, r.bare, "rev-parse", bad+"^{tree}"))
	for transport, url := range map[string]string{"https": r.url, "ssh": r.ssh.url()} {
		for _, version := range []string{"0", "1", "2"} {
			clone := filepath.Join(t.TempDir(), "clone")
			in := func(args ...string) (string, bool) {
				return r.git(t, clone, append([]string{"-c", "protocol.version=" + version}, args...)...)
			}
			run(t, t.TempDir(), "init", "-q", clone)
			for _, withdrawn := range []string{bad, blob, tree} {
				if said, ok := in("fetch", "-q", url, withdrawn); ok {
					t.Errorf("%s, version %s: %s is served: %s", transport, version, withdrawn, said)
				}
			}
			for _, c := range [][]string{
				{"fetch", "-q", url, "main"},
				{"fetch", "-q", url, "other"},
				{"fetch", "-q", "--depth=1", url, "other"},
				{"fetch", "-q", url, good}, // the tip of other
			} {
				if said, ok := in(c...); !ok {
					t.Errorf("%s, version %s: git %q: %s", transport, version, c, said)
				}
			}
			if said, ok := in("cat-file", "-e", blob); ok {
				t.Errorf("%s, version %s: the secret was sent: %s", transport, version, said)
			}
			refs, _ := in("ls-remote", url)
			for line := range strings.Lines(refs) {
				if name := strings.Fields(line)[1]; name != "HEAD" && !strings.HasPrefix(name, "refs/heads/") {
					t.Errorf("%s, version %s: %s is listed", transport, version, name)
				}
			}
			if said, ok := in("fetch", "-q", url, "refs/tags/leak"); ok {
				t.Errorf("%s, version %s: a hidden ref is served: %s", transport, version, said)
			}
		}
		if said, ok := r.git(t, r.work, "push", url, "HEAD:refs/swage/replaced/1"); ok {
			t.Errorf("%s: a hidden ref is taken: %s", transport, said)
		}
		if said, ok := r.git(t, r.work, "archive", "--remote="+url, bad); ok {
			t.Errorf("%s: git archive: %.40q", transport, said)
		}
	}
	// What is still kept is the agent's to read: it may roll back to it.
	if _, err := (Local{Path: r.bare}).At(t.Context(), bad); err != nil {
		t.Errorf("the agent: %v", err)
	}
	run(t, r.bare, "gc", "-q", "--prune=now")
	if _, err := (Local{Path: r.bare}).At(t.Context(), bad); err != nil {
		t.Errorf("the agent, when git has collected garbage: %v", err)
	}
}

// A client that does not ask as git does gets nothing either.
func TestS19RawRequests(t *testing.T) {
	r, good, bad, blob := leaked(t)
	tree := strings.TrimSpace(run(t, r.bare, "rev-parse", bad+"^{tree}"))
	main := strings.TrimSpace(run(t, r.bare, "rev-parse", "main"))
	for _, c := range []struct {
		name, body string
		served     bool
		version    string
	}{
		{"the branch", line("want %s\n", main) + "0000" + line("done\n"), true, ""},
		{"an ancestor, of a branch that moved on meanwhile", line("want %s\n", good) + "0000" + line("done\n"), true, ""},
		{"a withdrawn commit", line("want %s\n", bad) + "0000" + line("done\n"), false, ""},
		{"beside one that is served", line("want %s\n", main) + line("want %s\n", bad) + "0000" + line("done\n"), false, ""},
		{"a file", line("want %s\n", blob) + "0000" + line("done\n"), false, ""},
		{"a folder", line("want %s\n", tree) + "0000" + line("done\n"), false, ""},
		{"a file, to one that has the branch", line("want %s\n", blob) + "0000" + line("have %s\n", main) + line("done\n"), false, ""},
		{"upper case", line("want %s\n", strings.ToUpper(bad)) + "0000" + line("done\n"), false, ""},
		{"a filter", line("want %s filter\n", main) + line("filter blob:none\n") + "0000" + line("done\n"), false, ""},
		{"version 2", line("command=fetch") + "0001" + line("want %s\n", bad) + line("done\n") + "0000", false, "version=2"},
		{"version 2, sub-commands", line("command=object-info") + "0001" + line("size") + line("oid %s", blob) + "0000", false, "version=2"},
	} {
		header := []string{}
		if c.version != "" {
			header = append(header, "Git-Protocol", c.version)
		}
		status, said := r.post(t, "upload-pack", strings.NewReader(c.body), header...)
		if served := strings.Contains(said, "PACK"); served != c.served {
			t.Errorf("%s: status %d, served %t: %.200q", c.name, status, served, said)
		}
	}
	// Nor are there files of the repository, as for HTTP without git behind it.
	for _, name := range []string{"HEAD", "config", "packed-refs", "objects/info/packs", "info/refs", "objects/" + blob[:2] + "/" + blob[2:], "refs/swage/", "info/refs?service=git-upload-archive"} {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	// What is replaced is kept within bounds.
	for i := range mostReplaced + 5 {
		run(t, r.work, "reset", "-q", "--hard", good)
		run(t, r.work, "commit", "-q", "--allow-empty", "-m", fmt.Sprint("again ", i))
		if said, ok := r.git(t, r.work, "push", "-q", "--force", r.url, "HEAD:main"); !ok {
			t.Fatal(said)
		}
	}
	if n := len(strings.Fields(run(t, r.bare, "for-each-ref", "--format=%(refname)", replacedRefs))); n != mostReplaced {
		t.Errorf("%d replaced tips are kept", n)
	}
}

// Nor is it had back by a push that refers to it: by somebody who knows its
// hash, and has nothing of it.
func TestS19WithdrawnObjectsAreNotTakenUp(t *testing.T) {
	r, _, bad, blob := leaked(t)
	main := strings.TrimSpace(run(t, r.bare, "rev-parse", "main"))
	for name, make := range map[string]func(p *hostilePack) plumbing.Hash{
		"its very tip": func(*hostilePack) plumbing.Hash { return plumbing.NewHash(bad) },
		"as a parent": func(p *hostilePack) plumbing.Hash {
			text := commitOf(p.small(plumbing.TreeObject, ""), plumbing.NewHash(main), "merge")
			return p.small(plumbing.CommitObject, strings.Replace(text, "\nauthor", "\nparent "+bad+"\nauthor", 1))
		},
		"as a file": func(p *hostilePack) plumbing.Hash {
			return p.withCommit(plumbing.NewHash(main), treeEntry{plainFile, "a", plumbing.NewHash(blob)})
		},
		"as what a delta is made of": func(p *hostilePack) plumbing.Hash {
			p.refDelta(plumbing.NewHash(blob), copies(7, 6, 1)) // hunter2 without its last letter
			h := hasher(plumbing.BlobObject, 6)
			h.Write([]byte("hunter"))
			return p.withCommit(plumbing.NewHash(main), treeEntry{plainFile, "a", plumbing.Hash(h.Sum(nil))})
		},
		// Git puts it into the quarantine for the delta's sake.
		"as a file, and as what a delta is made of": func(p *hostilePack) plumbing.Hash {
			p.refDelta(plumbing.NewHash(blob), copies(7, 6, 1))
			h := hasher(plumbing.BlobObject, 6)
			h.Write([]byte("hunter"))
			return p.withCommit(plumbing.NewHash(main), treeEntry{plainFile, "a", plumbing.Hash(h.Sum(nil))}, treeEntry{plainFile, "b", plumbing.NewHash(blob)})
		},
	} {
		p := newPack(t)
		tip := make(p)
		pack := p.done(0)
		_, said := r.post(t, "receive-pack", io.MultiReader(strings.NewReader(commands(fmt.Sprintf("%s %s refs/heads/main", main, tip))), io.NewSectionReader(pack, 0, p.at)))
		if !strings.Contains(said, "to which no branch leads") || !strings.Contains(said, "ng refs/heads/main") {
			t.Errorf("%s: %.300q", name, said)
		}
	}
	// Who has it may send it, and an earlier commit of the branch is no secret.
	for _, c := range []string{bad, main + "~1", main} {
		if said, ok := r.git(t, r.work, "push", "--force", r.url, c+":main"); !ok {
			t.Errorf("%s: %s", c, said)
		}
	}
}
