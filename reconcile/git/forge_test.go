package git

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestForges holds what is sent to what each forge documents.
func TestForges(t *testing.T) {
	commit := strings.Repeat("a", 40)
	for _, c := range []struct {
		kind, state, path, header, value string
		body                             map[string]string
	}{
		{
			"github", "success", "/api/v3/repos/example/fleet/statuses/" + commit, "Authorization", "Bearer secret",
			map[string]string{"state": "success", "description": "all is well", "context": "swage/lab"},
		},
		{
			"gitlab", "failure", "/api/v4/projects/example%2Ffleet/statuses/" + commit, "PRIVATE-TOKEN", "secret",
			map[string]string{"state": "failed", "description": "all is well", "name": "swage/lab"},
		},
		{
			"gitlab", "pending", "/api/v4/projects/example%2Ffleet/statuses/" + commit, "PRIVATE-TOKEN", "secret",
			map[string]string{"state": "pending", "description": "all is well", "name": "swage/lab"},
		},
		{
			"gitea", "failure", "/api/v1/repos/example/fleet/statuses/" + commit, "Authorization", "token secret",
			map[string]string{"state": "failure", "description": "all is well", "context": "swage/lab"},
		},
		{
			"forgejo", "pending", "/api/v1/repos/example/fleet/statuses/" + commit, "Authorization", "token secret",
			map[string]string{"state": "pending", "description": "all is well", "context": "swage/lab"},
		},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body map[string]string
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(c.body, body); d != "" {
				t.Errorf("%s: (-want +got)\n%s", c.kind, d)
			}
			if r.Method != "POST" || r.URL.EscapedPath() != c.path || r.Header.Get(c.header) != c.value || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s %s %v", c.kind, r.Method, r.URL.EscapedPath(), r.Header)
			}
			w.WriteHeader(http.StatusCreated)
		}))
		f := Forge{c.kind, s.URL + "/", "example/fleet", "secret"}
		if err := f.Tell(t.Context(), Status{commit, c.state, "all is well", "swage/lab"}); err != nil {
			t.Errorf("%s: %v", c.kind, err)
		}
		s.Close()
		err := f.Tell(t.Context(), Status{Commit: commit})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s, away: %v", c.kind, err)
		}
	}
}

func TestForgesThatRefuse(t *testing.T) {
	status, text := http.StatusForbidden, "no"
	moved := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/elsewhere") {
			moved++
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	defer s.Close()
	f := Forge{"gitlab", s.URL, "example/fleet", "secret"}
	for _, status = range []int{403, 500, 307} {
		if err := f.Tell(t.Context(), Status{Commit: "c"}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if moved > 0 {
		t.Error("a redirect is followed, with the token")
	}
	status, text = 400, `{"message":"Cannot transition status via :run from :running"}`
	if err := f.Tell(t.Context(), Status{Commit: "c"}); err != nil {
		t.Errorf("what GitLab knows already: %v", err)
	}
}
