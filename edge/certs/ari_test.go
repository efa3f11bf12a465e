package certs

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	acmeproto "github.com/mholt/acmez/v3/acme"
)

func subjects(name string) []certmagic.SubjectIssuer {
	return []certmagic.SubjectIssuer{{Subject: name}}
}

// askAgain makes the time come to ask the authority about renewal again.
func askAgain(t testing.TB, config *certmagic.Config, name string) {
	t.Helper()
	key := certmagic.StorageKeys.SiteMeta(config.Issuers[0].IssuerKey(), name)
	data, err := config.Storage.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var resource certmagic.CertificateResource
	var meta acmeproto.Certificate
	if err := json.Unmarshal(data, &resource); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(resource.IssuerData, &meta); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Minute)
	meta.RenewalInfo.RetryAfter = &past
	if resource.IssuerData, err = json.Marshal(meta); err != nil {
		t.Fatal(err)
	}
	if data, err = json.Marshal(resource); err != nil {
		t.Fatal(err)
	}
	if err := config.Storage.Store(t.Context(), key, data); err != nil {
		t.Fatal(err)
	}
}
