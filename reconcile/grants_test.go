package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"swage/edge"
	"swage/reconcile"
	"swage/runtime"
	"swage/schema"
)

// plainly takes a password that is its own hash to be right.
type plainly struct{}

func (plainly) Password(_ context.Context, hash, password string) (bool, error) {
	return strings.HasSuffix(hash, strings.Repeat(password, 64)), nil
}

func (plainly) JWT(_ context.Context, rules *edge.JWTRules, token string) (time.Time, bool, error) {
	return time.Time{}, token == string(rules.Secret), nil
}

// TestSecretsOfGroups [F8]: what the node can read counts; a group whose secret
// it cannot has nobody, alone and within an all, and the rest applies.
func TestSecretsOfGroups(t *testing.T) {
	tree := fstest.MapFS{
		"swage.cue":       &fstest.MapFile{Data: []byte(`id: "5a6b7c8d9e0f1a2b3c4d5e6f", domain: "example.com"`)},
		"servers/lab.cue": &fstest.MapFile{},
		"projects/web/app.cue": &fstest.MapFile{Data: []byte(`
			containers: app: {}
			aliases: app: container: "app"
			permissions: {
				groups: {
					ann: {type: "password", username: "ann", hash: {env: "ANN"}}
					bob: {type: "password", username: "bob", hash: {env: "BOB"}}
					key: {type: "token", header: "X-Key", value: {env: "KEY"}}
					none: {type: "token", header: "X-None", value: {env: "EMPTY"}}
					jwt: {type: "jwt", algorithm: "HS256", secret: {env: "JWT"}}
					gone: {type: "jwt", algorithm: "HS256", secret: {env: "GONE"}, sources: [{cookie: "jwt"}]}
					office: {type: "ip", range: "192.0.2.0/24"}
					both: {all: ["office", "bob"]}
				}
				permissions: {ann: http: true, bob: http: true, key: http: true, none: http: true, jwt: http: true, gone: http: true, both: http: true}
			}`)},
	}
	env := map[string]string{"ANN": "$sha256$peppery$" + strings.Repeat("a", 64), "BOB": "b", "KEY": "sesame", "JWT": "token", "EMPTY": ""}
	var log bytes.Buffer
	var table *edge.Table
	engine := &runtime.Fake{}
	a := &reconcile.Agent{
		Server: "lab", Source: reconcile.Local{Tree: tree}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Open:    func(s runtime.Scope) (runtime.Runtime, error) { return engine.Open(s), nil },
		Publish: func(e reconcile.Edge) error { table = e.Table; return nil },
		Keys:    schema.Keys{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }},
	}
	if _, err := a.Explain(t.Context(), plainly{}, reconcile.Question{URL: "app.lab.example.com"}); !errors.Is(err, reconcile.ErrNotObserved) {
		t.Errorf("before the first pass: %v", err)
	}
	_, err := a.Pass(t.Context())
	if err != nil || table == nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		what   string
		q      reconcile.Question
		status int
	}{
		{"a password", reconcile.Question{User: "ann:a"}, http.StatusOK},
		{"a hash that is none", reconcile.Question{User: "bob:b"}, http.StatusUnauthorized},
		{"a token", reconcile.Question{Headers: []string{"X-Key: sesame"}}, http.StatusOK},
		{"an empty token", reconcile.Question{Headers: []string{"X-None:"}}, http.StatusUnauthorized},
		{"a JWT", reconcile.Question{Headers: []string{"Authorization: Bearer token"}}, http.StatusOK},
		{"a JWT without its secret", reconcile.Question{Headers: []string{"Cookie: jwt="}}, http.StatusUnauthorized},
	} {
		row.q.URL = "https://app.lab.example.com/"
		if got, err := a.Explain(t.Context(), plainly{}, row.q); err != nil || got.Status != row.status {
			t.Errorf("%s: %+v, %v; want %d", row.what, got, err, row.status)
		}
	}
	for _, group := range []string{"bob", "none", "gone", "both"} {
		if !strings.Contains(log.String(), "group="+group+" ") {
			t.Errorf("the log does not tell of %s:\n%s", group, log.String())
		}
	}
	for _, secret := range []string{"sesame", "peppery"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}
