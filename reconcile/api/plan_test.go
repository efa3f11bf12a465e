package api

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"swage/reconcile"
)

// TestS3TwoPlansAtOnce: two run, some wait, the others are told to come again
// before their body is read, and who goes makes room.
func TestS3TwoPlansAtOnce(t *testing.T) {
	running, end := make(chan struct{}, 100), make(chan struct{})
	h := newPlans(func(ctx context.Context, _ fs.FS) (reconcile.Proposal, error) {
		running <- struct{}{}
		select {
		case <-end:
			return reconcile.Proposal{Version: 1}, nil
		case <-ctx.Done():
			return reconcile.Proposal{}, ctx.Err()
		}
	})
	var archive bytes.Buffer
	if err := pack(&archive, fstest.MapFS{"swage.cue": {}}); err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, body io.Reader) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v1/plan", body))
		return w
	}
	const n = plansAtOnce + plansWaiting
	answers := make(chan int, n)
	leave := make([]context.CancelFunc, n)
	for i := range n {
		var ctx context.Context
		ctx, leave[i] = context.WithCancel(t.Context())
		defer leave[i]()
		go func() { answers <- ask(ctx, bytes.NewReader(archive.Bytes())).Code }()
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	await("the places are not taken", func() bool { return len(h.places) == n && len(running) == plansAtOnce })
	unread := unreadBody{t}
	if w := ask(t.Context(), unread); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d %v", w.Code, w.Header())
	}
	// All go, those that wait as well as those that run.
	for _, cancel := range leave {
		cancel()
	}
	await("who has gone keeps a place", func() bool { return len(h.places) == 0 && len(h.running) == 0 })
	close(end)
	if w := ask(t.Context(), bytes.NewReader(archive.Bytes())); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
	if len(running) > n+1 {
		t.Errorf("%d ran", len(running))
	}
}

// unreadBody must not be read.
type unreadBody struct{ t *testing.T }

func (r unreadBody) Read([]byte) (int, error) {
	r.t.Error("the body is read")
	return 0, io.EOF
}

// TestS3Archives: what an archive names is checked before it is used, and
// nothing of a body stays behind.
func TestS3Archives(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	named := func(names ...string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range names {
			if _, err := z.CreateHeader(&zip.FileHeader{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var many, deep []string
	for i := range 90000 {
		many = append(many, fmt.Sprint(i))
	}
	for i := range 2000 {
		deep = append(deep, fmt.Sprint(i)+strings.Repeat("/a", 90))
	}
	for _, c := range []struct {
		what string
		body []byte
		want string // empty: it is taken
	}{
		{"files and folders", named("projects/", "projects/web/", "projects/web/app.cue", "swage.cue"), ""},
		{"nothing", nil, "not a zip archive"},
		{"no archive", []byte("PK but no archive"), "not a zip archive"},
		{"above", named("../swage.cue"), "no path inside"},
		{"inside and out", named("a/../../swage.cue"), "no path inside"},
		{"absolute", named("/swage.cue"), "no path inside"},
		{"another system's", named(`a\b.cue`), "no path inside"},
		{"one name twice", named("swage.cue", "swage.cue"), "two files"},
		{"a folder and a file", named("lib/", "lib"), "two files"},
		{"no name", named(""), "no path inside"},
		{"a long name", named(strings.Repeat("x", 2000)), "a name may have 1024"},
		{"many names", named(many...), "too many files"},
		{"many folders", named(deep...), "too many files"},
	} {
		f, err := spool(bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = unpack(f)
		if err == nil && c.want != "" || err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %.200v, want %q", c.what, err, c.want)
		}
		f.Close()
	}
	if _, err := spool(io.MultiReader(strings.NewReader("x"), failing{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that breaks off: %v", err)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestA3StalledPlansOfOneToken: bodies that never come, sent with one token, keep
// nobody with another one from a plan.
func TestA3StalledPlansOfOneToken(t *testing.T) {
	h := newPlans(func(context.Context, fs.FS) (reconcile.Proposal, error) { return reconcile.Proposal{Version: 1}, nil })
	var archive bytes.Buffer
	if err := pack(&archive, fstest.MapFS{"swage.cue": {}}); err != nil {
		t.Fatal(err)
	}
	ask := func(token string, body io.Reader) int {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/plan", body)
		r.Header.Set("Authorization", "Bearer "+token)
		h.ServeHTTP(w, r)
		return w.Code
	}
	stalled, end := io.Pipe()
	answers := make(chan int, plansAtOnce+plansWaiting+2)
	for range cap(answers) {
		go func() { answers <- ask("a", stalled) }()
	}
	for range cap(answers) - plansOfToken {
		if code := <-answers; code != http.StatusTooManyRequests {
			t.Errorf("one too many: %d", code)
		}
	}
	if code := ask("b", bytes.NewReader(archive.Bytes())); code != http.StatusOK {
		t.Errorf("with another token: %d", code)
	}
	end.Close()
	for range plansOfToken {
		<-answers
	}
	if code := ask("a", bytes.NewReader(archive.Bytes())); code != http.StatusOK || len(h.of)+len(h.places) > 0 {
		t.Errorf("afterwards: %d, %v", code, h.of)
	}
}
