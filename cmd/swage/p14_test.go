package main

import (
	"strings"
	"testing"
)

// TestP14FollowTags: of a push with tags the branch is taken, and each tag is
// refused by its name in git's own report.
func TestP14FollowTags(t *testing.T) {
	r := newRemote(t, `token: "node"`)
	r.start()
	r.commit("first")
	r.sh("git push $BARE main")
	r.applied()
	for _, url := range []string{r.url("node"), "$BARE"} {
		tip := func() string { return r.sh("git --git-dir $BARE rev-parse main") }
		for _, row := range []struct {
			name, prepare, push string
			taken               bool // the branch
			says                []string
		}{
			{"an annotated tag", "git tag -a -m one one", "--follow-tags URL main", true, []string{"! [remote rejected] one -> one", "swage: tag one is not taken", " main -> main\n"}},
			{"the same once more", ":", "--follow-tags URL main", true, []string{"! [remote rejected] one -> one"}},
			{"a tag of a tag", "git tag -a -m two two one", "--follow-tags URL main", true, []string{"[remote rejected] two -> two", "[remote rejected] one -> one"}},
			{"a plain tag", "git tag plain", "URL main plain", true, []string{"[remote rejected] plain -> plain"}},
			{"an older commit's", "git tag -a -m old old HEAD~1", "--follow-tags URL main", true, []string{"[remote rejected] old -> old"}},
			{"a note", "git notes add -m note", "URL main refs/notes/commits", false, []string{"push the branch alone"}},
			{"a tag of a file", "git tag -a -m file file $(echo text | git hash-object -w --stdin)", "URL main file", false, []string{"push the branch alone"}},
			{"what another branch has", "git checkout -q -b other; git commit -q --allow-empty -m other; git tag -a -m far far; git checkout -q main", "URL main far", false, []string{"push the branch alone"}},
			{"another branch", ":", "URL main other", false, []string{"push one branch at a time"}},
			{"no branch", ":", "URL one", false, []string{"takes branch main only, not refs/tags/one"}},
			{"many", "for i in $(seq 40); do git tag -a -m $i v$i; done", "--follow-tags URL main", true, []string{"[remote rejected] v40 -> v40", "more are not taken"}},
			{"one that goes", ":", "URL main :refs/tags/one", true, nil},
		} {
			before := tip()
			r.sh("git commit -q --allow-empty -m more; " + row.prepare)
			out := r.refused("git push "+strings.ReplaceAll(row.push, "URL", url), row.says...)
			if (tip() == r.sh("git rev-parse HEAD")) != row.taken || !row.taken && tip() != before {
				t.Errorf("%s: the branch is taken: %v, want %v:\n%s", row.name, !row.taken, row.taken, out)
			}
			if strings.Contains(out, "!%w") {
				t.Error(out)
			}
		}
		r.sh("git push " + url + " main; git tag -d $(git tag) >/dev/null; git branch -q -D other; git update-ref -d refs/notes/commits")
		r.applied()
	}
	// All or nothing is nothing.
	r.sh("git commit -q --allow-empty -m more; git tag -a -m one one")
	before := r.sh("git --git-dir $BARE rev-parse main")
	r.refused("git push --atomic --follow-tags "+r.url("node")+" main", "the push is atomic")
	if r.sh("git --git-dir $BARE rev-parse main") != before {
		t.Error("an atomic push took the branch and not the tag")
	}
	if tags := r.sh("git --git-dir $BARE for-each-ref refs/tags refs/notes"); tags != "" {
		t.Errorf("refs were taken: %s", tags)
	}
}
