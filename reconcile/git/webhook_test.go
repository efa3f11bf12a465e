package git

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWebhook(t *testing.T) {
	sum := func(secret, body string) string {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(body))
		return hex.EncodeToString(m.Sum(nil))
	}
	// From GitHub's documentation of webhooks.
	if got := sum("It's a Secret to Everybody", "Hello, World!"); got != "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" {
		t.Fatalf("the sum is %s", got)
	}
	body := `{"ref":"refs/heads/main"}`
	all := map[string]string{"github": "hub", "gitlab": "lab", "gitea": "tea", "forgejo": "forge"}
	for what, c := range map[string]struct {
		secrets map[string]string
		header  string
		value   string
		want    int
	}{
		"GitHub":                     {all, "X-Hub-Signature-256", "sha256=" + sum("hub", body), 204},
		"GitHub, wrong secret":       {all, "X-Hub-Signature-256", "sha256=" + sum("lab", body), 401},
		"GitHub, another body":       {all, "X-Hub-Signature-256", "sha256=" + sum("hub", body+" "), 401},
		"GitHub, SHA-1":              {all, "X-Hub-Signature", "sha1=" + sum("hub", body), 401},
		"GitHub, no prefix":          {all, "X-Hub-Signature-256", sum("hub", body), 401},
		"GitHub, empty":              {all, "X-Hub-Signature-256", "sha256=", 401},
		"GitHub, not set up":         {map[string]string{"gitlab": "lab"}, "X-Hub-Signature-256", "sha256=" + sum("", body), 401},
		"GitLab":                     {all, "X-Gitlab-Token", "lab", 204},
		"GitLab, wrong":              {all, "X-Gitlab-Token", "la", 401},
		"GitLab, empty":              {all, "X-Gitlab-Token", "", 401},
		"GitLab, secret unreadable":  {map[string]string{"gitlab": ""}, "X-Gitlab-Token", "", 401},
		"Gitea":                      {all, "X-Gitea-Signature", sum("tea", body), 204},
		"Gitea, wrong":               {all, "X-Gitea-Signature", sum("hub", body), 401},
		"Forgejo":                    {all, "X-Forgejo-Signature", sum("forge", body), 204},
		"Forgejo by Gitea's header":  {all, "X-Gitea-Signature", sum("forge", body), 204},
		"Forgejo, wrong":             {all, "X-Forgejo-Signature", "zz", 401},
		"nothing":                    {all, "X", "y", 401},
		"a server without any":       {nil, "X-Gitlab-Token", "", 404},
		"Gitea's secret as GitHub's": {all, "X-Hub-Signature-256", "sha256=" + sum("tea", body), 401},
		"an empty secret of Gitea's": {map[string]string{"gitea": ""}, "X-Gitea-Signature", sum("", body), 401},
	} {
		woken := 0
		h := Webhook(func() map[string]string { return c.secrets }, func() { woken++ }, nil)
		for range 2 { // played again
			r := httptest.NewRequest(http.MethodPost, "/hooks/git", strings.NewReader(body))
			r.Header.Set(c.header, c.value)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%s: %d, want %d", what, w.Code, c.want)
			}
		}
		if (woken > 0) != (c.want == 204) {
			t.Errorf("%s: woken %d times", what, woken)
		}
	}
	w := httptest.NewRecorder()
	endless := httptest.NewRequest(http.MethodPost, "/hooks/git", io.LimitReader(zeroes{}, maxHook+1))
	endless.Header.Set("X-Gitlab-Token", "x")
	Webhook(func() map[string]string { return all }, func() { t.Error("woken") }, nil).ServeHTTP(w, endless)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without end: %d", w.Code)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }
