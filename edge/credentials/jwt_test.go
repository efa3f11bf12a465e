//go:debug rsa1024min=0
package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Keys of the tests.
var (
	secret        = []byte("a secret of thirty-two characters")
	rsaKey, _     = rsa.GenerateKey(rand.Reader, 2048)
	otherRSA, _   = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _      = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _   = ed25519.GenerateKey(rand.Reader)
	publicRSA     = toPEM(&rsaKey.PublicKey)
	publicEC      = toPEM(&ecKey.PublicKey)
	publicEd      = toPEM(edKey.Public())
	p384Key, _    = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	publicP384    = toPEM(&p384Key.PublicKey)
	weakRSA       = weak()
	publicRSAWeak = toPEM(&weakRSA.PublicKey)
)

func weak() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return k
}

func toPEM(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// forge signs a header and claims, whatever they say, as an algorithm does.
func forge(algorithm string, key any, header, claims string) string {
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	var signature []byte
	sum := sha256.Sum256([]byte(text))
	var err error
	switch algorithm {
	case "HS256":
		m := hmac.New(sha256.New, key.([]byte))
		m.Write([]byte(text))
		signature = m.Sum(nil)
	case "HS384":
		m := hmac.New(sha512.New384, key.([]byte))
		m.Write([]byte(text))
		signature = m.Sum(nil)
	case "HS512":
		m := hmac.New(sha512.New, key.([]byte))
		m.Write([]byte(text))
		signature = m.Sum(nil)
	case "RS256":
		signature, err = rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	case "ES256":
		r, s, e := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
		signature, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), e
	case "EdDSA":
		signature = ed25519.Sign(key.(ed25519.PrivateKey), []byte(text))
	}
	if err != nil {
		panic(err)
	}
	return text + "." + b64(signature)
}

func head(algorithm string) string { return `{"alg":"` + algorithm + `","typ":"JWT"}` }

// TestJWT: which token meets which rules. It is noon on 2030-01-01.
func TestJWT(t *testing.T) {
	clock := newClock()
	noon := clock.now().Unix()
	hs := Rules{Algorithm: "HS256", Secret: secret}
	rs := Rules{Algorithm: "RS256", PublicKey: publicRSA}
	es := Rules{Algorithm: "ES256", PublicKey: publicEC}
	ed := Rules{Algorithm: "EdDSA", PublicKey: publicEd}
	claims := func(claims map[string][]any) Rules { r := hs; r.Claims = claims; return r }
	issued := func(issuer, audience string) Rules { r := hs; r.Issuer, r.Audience = issuer, audience; return r }
	at := func(format string) string { return fmt.Sprintf(format, noon) }
	with := func(claims string) string { return forge("HS256", secret, head("HS256"), claims) }
	headed := func(header string) string { return forge("HS256", secret, header, `{}`) }
	past := func(seconds int64) string { return fmt.Sprintf(`{"exp":%d}`, noon-seconds) }
	soon := func(seconds int64) string { return fmt.Sprintf(`{"nbf":%d}`, noon+seconds) }

	rows := []struct {
		what  string
		rules Rules
		token string
		want  bool
	}{
		{"HS256", hs, with(`{}`), true},
		{"HS384", Rules{Algorithm: "HS384", Secret: secret}, forge("HS384", secret, head("HS384"), `{}`), true},
		{"HS512", Rules{Algorithm: "HS512", Secret: secret}, forge("HS512", secret, head("HS512"), `{}`), true},
		{"RS256", rs, forge("RS256", rsaKey, head("RS256"), `{}`), true},
		{"ES256", es, forge("ES256", ecKey, head("ES256"), `{}`), true},
		{"EdDSA", ed, forge("EdDSA", edKey, head("EdDSA"), `{}`), true},
		{"another secret", hs, forge("HS256", []byte("another"), head("HS256"), `{}`), false},
		{"another key", rs, forge("RS256", otherRSA, head("RS256"), `{}`), false},
		{"no secret at all", Rules{Algorithm: "HS256"}, forge("HS256", []byte{}, head("HS256"), `{}`), false},
		{"no key at all", Rules{Algorithm: "RS256"}, forge("RS256", rsaKey, head("RS256"), `{}`), false},

		// Nothing that the token says about its algorithm is believed.
		{"none", hs, b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".", false},
		{"None", hs, b64([]byte(`{"alg":"None"}`)) + "." + b64([]byte(`{}`)) + ".", false},
		{"none with a signature", rs, forge("RS256", rsaKey, head("none"), `{}`), false},
		{"rules that say none", Rules{Algorithm: "none", Secret: secret}, b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".", false},
		{"the public key as a secret", rs, forge("HS256", []byte(publicRSA), head("HS256"), `{}`), false},
		{"the public key as a secret, called RS256", rs, forge("HS256", []byte(publicRSA), head("RS256"), `{}`), false},
		{"the public key as a secret, by rules that are mixed up", Rules{Algorithm: "HS256", PublicKey: publicRSA}, forge("HS256", []byte(publicRSA), head("HS256"), `{}`), false},
		{"HS512 for HS256", hs, forge("HS512", secret, head("HS512"), `{}`), false},
		{"hs256 in small letters", hs, headed(`{"alg":"hs256"}`), false},
		{"no alg", hs, headed(`{"typ":"JWT"}`), false},
		{"alg of another type", hs, headed(`{"alg":["HS256"]}`), false},
		{"ES256 with the curve of ES384", Rules{Algorithm: "ES256", PublicKey: publicP384}, forge("ES256", ecKey, head("ES256"), `{}`), false},
		{"a short RSA key", Rules{Algorithm: "RS256", PublicKey: publicRSAWeak}, forge("RS256", weakRSA, head("RS256"), `{}`), false},
		{"an EC key for RS256", Rules{Algorithm: "RS256", PublicKey: publicEC}, forge("ES256", ecKey, head("RS256"), `{}`), false},

		// Nor about keys and extensions.
		{"kid is no matter with one key", hs, headed(`{"alg":"HS256","kid":"x"}`), true},
		{"kid as a path", hs, headed(`{"alg":"HS256","kid":"../../../dev/null"}`), true}, // it opens nothing
		{"kid of another type", hs, headed(`{"alg":"HS256","kid":1}`), false},
		{"kid that is null", hs, headed(`{"alg":"HS256","kid":null}`), false},
		{"an endless kid", hs, headed(`{"alg":"HS256","kid":"` + strings.Repeat("k", 300) + `"}`), false},
		{"jku", hs, headed(`{"alg":"HS256","jku":"https://evil.example/keys"}`), false},
		{"x5u", hs, headed(`{"alg":"HS256","x5u":"https://evil.example/cert"}`), false},
		{"jwk", hs, headed(`{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}`), false},
		{"x5c", hs, headed(`{"alg":"HS256","x5c":["AA"]}`), false},
		{"crit", hs, headed(`{"alg":"HS256","crit":["exp"]}`), false},
		{"b64", hs, headed(`{"alg":"HS256","b64":false}`), false},
		{"zip", hs, headed(`{"alg":"HS256","zip":"DEF"}`), false},
		{"x5t, which many issuers send", hs, headed(`{"alg":"HS256","x5t":"abc"}`), true},

		// Time, with a minute of skew.
		{"exp to come", hs, with(past(-1)), true},
		{"exp just past", hs, with(past(59)), true},
		{"expired", hs, with(past(60)), false},
		{"long expired", hs, with(past(86400)), false},
		{"exp in fractions", hs, with(at(`{"exp":%d.5}`)), true},
		{"exp as a text", hs, with(at(`{"exp":"%d"}`)), false},
		{"exp null", hs, with(`{"exp":null}`), false},
		{"exp without end", hs, with(`{"exp":1e300}`), false},
		{"exp negative", hs, with(`{"exp":-1}`), false},
		{"exp zero", hs, with(`{"exp":0}`), false},
		{"nbf past", hs, with(soon(-1)), true},
		{"nbf within the skew", hs, with(soon(60)), true},
		{"not yet valid", hs, with(soon(61)), false},
		{"nbf as a text", hs, with(`{"nbf":"tomorrow"}`), false},
		{"nbf null", hs, with(`{"nbf":null}`), false},

		// Claims.
		{"a claim", claims(map[string][]any{"role": {"admin"}}), with(`{"role":"admin"}`), true},
		{"one of several values", claims(map[string][]any{"role": {"staff", "admin"}}), with(`{"role":"admin"}`), true},
		{"another value", claims(map[string][]any{"role": {"admin"}}), with(`{"role":"Admin"}`), false},
		{"no such claim", claims(map[string][]any{"role": {"admin"}}), with(`{}`), false},
		{"a claim that is null", claims(map[string][]any{"role": {"admin"}}), with(`{"role":null}`), false},
		{"a list that has it", claims(map[string][]any{"role": {"admin"}}), with(`{"role":["user","admin"]}`), true},
		{"a list that has not", claims(map[string][]any{"role": {"admin"}}), with(`{"role":["user"]}`), false},
		{"a list in a list", claims(map[string][]any{"role": {"admin"}}), with(`{"role":[["admin"]]}`), false},
		{"an object", claims(map[string][]any{"role": {"admin"}}), with(`{"role":{"admin":true}}`), false},
		{"two claims, one wrong", claims(map[string][]any{"role": {"admin"}, "team": {"a"}}), with(`{"role":"admin","team":"b"}`), false},
		{"two claims", claims(map[string][]any{"role": {"admin"}, "team": {"a"}}), with(`{"role":"admin","team":"a"}`), true},
		{"a number", claims(map[string][]any{"level": {3.0}}), with(`{"level":3}`), true},
		{"a number as a text", claims(map[string][]any{"level": {3.0}}), with(`{"level":"3"}`), false},
		{"a text as a number", claims(map[string][]any{"level": {"3"}}), with(`{"level":3}`), false},
		{"a number too large to be told from the next", claims(map[string][]any{"level": {9007199254740992.0}}), with(`{"level":9007199254740993}`), false},
		{"true", claims(map[string][]any{"staff": {true}}), with(`{"staff":true}`), true},
		{"true as a text", claims(map[string][]any{"staff": {true}}), with(`{"staff":"true"}`), false},
		{"no value at all", claims(map[string][]any{"role": {}}), with(`{"role":"admin"}`), false},

		{"issuer", issued("https://login.example", ""), with(`{"iss":"https://login.example"}`), true},
		{"another issuer", issued("https://login.example", ""), with(`{"iss":"https://login.example.evil"}`), false},
		{"no issuer", issued("https://login.example", ""), with(`{}`), false},
		{"audience", issued("", "swage"), with(`{"aud":"swage"}`), true},
		{"audience among others", issued("", "swage"), with(`{"aud":["x","swage"]}`), true},
		{"another audience", issued("", "swage"), with(`{"aud":["x"]}`), false},
		{"no audience", issued("", "swage"), with(`{}`), false},
		{"an empty audience", issued("", "swage"), with(`{"aud":""}`), false},

		// Forms that two readers could read differently.
		{"a claim twice", claims(map[string][]any{"role": {"admin"}}), with(`{"role":"user","role":"admin"}`), false},
		{"a claim twice, escaped", claims(map[string][]any{"role": {"admin"}}), with(`{"r\u006fle":"user","role":"admin"}`), false},
		{"a name twice further in", hs, with(`{"x":[{"a":1,"a":2}]}`), false},
		{"alg twice", hs, headed(`{"alg":"none","alg":"HS256"}`), false},
		{"something behind the claims", hs, with(`{}{}`), false},
		{"claims that are a list", hs, with(`[]`), false},
		{"claims that are null", hs, with(`null`), false},
		{"depth without end", hs, with(`{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`), false},
		{"oversized", hs, with(`{"a":"` + strings.Repeat("x", maxToken) + `"}`), false},
		{"empty", hs, "", false},
		{"two parts", hs, "e30.e30", false},
		{"four parts", hs, with(`{}`) + ".e30", false},
		{"five parts, as encrypted", hs, "e30.e30.e30.e30.e30", false},
		{"a changed payload", hs, strings.Replace(with(`{"role":"user"}`), b64([]byte(`{"role":"user"}`)), b64([]byte(`{"role":"boss"}`)), 1), false},
		{"no signature", hs, with(`{}`)[:strings.LastIndex(with(`{}`), ".")+1], false},
		{"padding", hs, with(`{}`) + "=", false},
		{"space around", hs, " " + with(`{}`), false},
		{"a line break within", hs, with(`{}`) + "\n", false},
	}
	c := New(Options{Now: clock.now})
	for _, row := range rows {
		if _, ok, err := c.JWT(t.Context(), &row.rules, row.token); ok != row.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", row.what, ok, err, row.want)
		}
	}

	until, ok, _ := c.JWT(t.Context(), &hs, with(past(-100)))
	if want := clock.now().Add(160 * time.Second); !ok || !until.Equal(want) {
		t.Errorf("it counts until %v, want %v", until, want)
	}
	if until, ok, _ := c.JWT(t.Context(), &hs, with(`{}`)); !ok || !until.IsZero() {
		t.Errorf("without exp it counts until %v", until)
	}
}

// issuer publishes keys.
type issuer struct {
	*httptest.Server
	set    atomic.Pointer[string]
	status atomic.Int32
	asked  atomic.Int32
}

func publish(t *testing.T, keys ...string) *issuer {
	t.Helper()
	i := &issuer{}
	i.status.Store(http.StatusOK)
	i.rotate(keys...)
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		w.WriteHeader(int(i.status.Load()))
		_, _ = w.Write([]byte(*i.set.Load()))
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(keys ...string) {
	set := `{"keys":[` + strings.Join(keys, ",") + `]}`
	i.set.Store(&set)
}

func (i *issuer) checker(clock *clock, private bool) *Checker {
	pool := x509.NewCertPool()
	pool.AddCert(i.Certificate())
	return New(Options{AllowPrivate: private, TLS: &tls.Config{RootCAs: pool}, Now: clock.now})
}

// published is a key as an issuer publishes it, with some more fields.
func published(key any, kid, more string) string {
	m := map[string]string{"kid": kid}
	switch k := key.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64([]byte{1, 0, 1})
	case *ecdsa.PublicKey:
		b, _ := k.Bytes()
		m["kty"], m["crv"], m["x"], m["y"] = "EC", "P-256", b64(b[1:33]), b64(b[33:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	text, _ := json.Marshal(m)
	if more != "" {
		return strings.TrimSuffix(string(text), "}") + "," + more + "}"
	}
	return string(text)
}

func byKid(algorithm string, key any, kid string) string {
	return forge(algorithm, key, `{"alg":"`+algorithm+`","kid":"`+kid+`"}`, `{}`)
}

// TestPublishedKeys: which tokens the keys of an issuer let in.
func TestPublishedKeys(t *testing.T) {
	i := publish(t,
		published(&rsaKey.PublicKey, "r", `"use":"sig","alg":"RS256"`),
		published(&ecKey.PublicKey, "e", `"key_ops":["verify"]`),
		published(edKey.Public(), "d", ""),
		published(&otherRSA.PublicKey, "enc", `"use":"enc"`),
		published(&otherRSA.PublicKey, "ops", `"key_ops":["encrypt"]`),
		published(&otherRSA.PublicKey, "alg", `"alg":"PS256"`),
		published(&weakRSA.PublicKey, "weak", ""),
		`{"kty":"oct","kid":"oct","k":"`+b64(secret)+`"}`,
		`{"kty":"EC","crv":"P-256","kid":"off","x":"`+b64(make([]byte, 32))+`","y":"`+b64(make([]byte, 32))+`"}`,
		`null`, `7`, `{}`,
	)
	c := i.checker(newClock(), true)
	for _, row := range []struct {
		what, algorithm, token string
		want                   bool
	}{
		{"RSA", "RS256", byKid("RS256", rsaKey, "r"), true},
		{"RSA without a kid", "RS256", forge("RS256", rsaKey, head("RS256"), `{}`), true},
		{"EC", "ES256", byKid("ES256", ecKey, "e"), true},
		{"Ed25519", "EdDSA", byKid("EdDSA", edKey, "d"), true},
		{"the kid of another key", "RS256", byKid("RS256", rsaKey, "e"), false},
		{"a kid that is not there", "RS256", byKid("RS256", rsaKey, "x"), false},
		{"a key for encryption", "RS256", byKid("RS256", otherRSA, "enc"), false},
		{"a key for other operations", "RS256", byKid("RS256", otherRSA, "ops"), false},
		{"a key for another algorithm", "RS256", byKid("RS256", otherRSA, "alg"), false},
		{"a short key", "RS256", byKid("RS256", weakRSA, "weak"), false},
		{"a published secret", "HS256", byKid("HS256", secret, "oct"), false},
		{"a public key as a secret", "HS256", byKid("HS256", rsaKey.N.Bytes(), "r"), false},
		{"a point that is not on the curve", "ES256", byKid("ES256", ecKey, "off"), false},
	} {
		if _, ok, err := c.JWT(t.Context(), &Rules{Algorithm: row.algorithm, JWKSURL: i.URL}, row.token); ok != row.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", row.what, ok, err, row.want)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestRotation: a new key is found, an old one goes, strangers cannot have an
// issuer asked at will, and one that is away is done without for an hour.
func TestRotation(t *testing.T) {
	clock := newClock()
	i := publish(t, published(&rsaKey.PublicKey, "one", ""))
	c := i.checker(clock, true)
	check := func(what, token string, want, fails bool, asked int32) {
		t.Helper()
		_, ok, err := c.JWT(t.Context(), &Rules{Algorithm: "RS256", JWKSURL: i.URL}, token)
		if ok != want || (err != nil) != fails {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
		if n := i.asked.Load(); n != asked {
			t.Errorf("%s: the issuer was asked %d times, want %d", what, n, asked)
		}
	}
	one, two := byKid("RS256", rsaKey, "one"), byKid("RS256", otherRSA, "two")
	check("at first", one, true, false, 1)
	check("again", one, true, false, 1)
	i.rotate(published(&otherRSA.PublicKey, "two", ""))
	check("a kid that is not known, too soon", two, false, false, 1)
	for n := range 100 {
		check("guessed kids", byKid("RS256", otherRSA, fmt.Sprint(n)), false, false, 1)
	}
	clock.pass(retryAfter)
	check("a kid that is not known", two, true, false, 2)
	check("the old key", one, false, false, 2)
	i.status.Store(http.StatusInternalServerError)
	clock.pass(freshFor)
	check("the issuer is away", two, true, false, 3)
	check("and not asked at once again", two, true, false, 3)
	clock.pass(staleFor)
	check("it is away for too long", two, false, true, 4)
	check("which is known", two, false, true, 4)
	i.status.Store(http.StatusOK)
	clock.pass(retryAfter)
	check("it is back", two, true, false, 5)
}

// TestIssuersThatMisbehave: none of them lets anybody in.
func TestIssuersThatMisbehave(t *testing.T) {
	good := publish(t, published(&rsaKey.PublicKey, "r", ""))
	plain := httptest.NewServer(good.Config.Handler)
	t.Cleanup(plain.Close)
	for what, answer := range map[string]http.HandlerFunc{
		"too much":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxSet+1)) },
		"not JSON":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"away from https": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) },
		"in circles":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"too many": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`))
		},
	} {
		i := publish(t)
		i.Config.Handler = answer
		_, ok, err := i.checker(newClock(), true).JWT(t.Context(), &Rules{Algorithm: "RS256", JWKSURL: i.URL}, byKid("RS256", rsaKey, "r"))
		if ok || err == nil {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
	}
}

// TestNoPrivateIssuer: without leave nothing private is asked, not by a
// redirect either.
func TestNoPrivateIssuer(t *testing.T) {
	i := publish(t, published(&rsaKey.PublicKey, "r", ""))
	for _, url := range []string{i.URL, strings.Replace(i.URL, "127.0.0.1", "localhost", 1), strings.Replace(i.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1), strings.Replace(i.URL, "127.0.0.1", "0.0.0.0", 1)} {
		_, ok, err := i.checker(newClock(), false).JWT(t.Context(), &Rules{Algorithm: "RS256", JWKSURL: url}, byKid("RS256", rsaKey, "r"))
		if ok || err == nil || !strings.Contains(err.Error(), "not a public address") && !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v, %v", url, ok, err)
		}
	}
	if n := i.asked.Load(); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestPublic(t *testing.T) {
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "1.1.1.1": true,
		"127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "198.18.0.1": false, "203.0.113.1": false,
		"::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "64:ff9b::a00:1": false, "2002:a00:1::1": false, "::7f00:1": false,
	} {
		if got := public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// FuzzJWT: whatever the token, nothing panics, and none is let in that was not
// signed.
func FuzzJWT(f *testing.F) {
	good := forge("HS256", secret, head("HS256"), `{"exp":4000000000,"role":["a"]}`)
	f.Add(good)
	f.Add(forge("HS256", secret, `{"alg":"HS256","kid":"x"}`, `{"a":{"b":[1,2]}}`))
	f.Add("e30.e30.")
	c := New(Options{})
	rules := &Rules{Algorithm: "HS256", Secret: secret, Claims: map[string][]any{"role": {"a", 1.0, true}}}
	f.Fuzz(func(t *testing.T, token string) {
		if _, ok, _ := c.JWT(t.Context(), rules, token); ok && token != good {
			t.Errorf("%q is let in", token)
		}
	})
}

// FuzzKeySet: whatever is published, every key that is read can be used.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + published(&rsaKey.PublicKey, "r", "") + `,` + published(&ecKey.PublicKey, "e", "") + `,` + published(edKey.Public(), "d", "") + `]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AAAAAAAAAAAA"}]}`))
	token := forge("RS256", rsaKey, head("RS256"), `{}`)
	c := New(Options{})
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseSet(text)
		if err != nil {
			return
		}
		for _, key := range keys {
			for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
				if fits(key.key, algorithm) {
					_, _ = c.parse(&Rules{Algorithm: algorithm}, token, key.key)
				}
			}
		}
	})
}

func FuzzPEM(f *testing.F) {
	f.Add(publicRSA)
	f.Add(publicEd)
	f.Fuzz(func(_ *testing.T, text string) { fits(ParseKey(text), "RS256") })
}
