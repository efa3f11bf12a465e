package credentials

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Rules are what a JWT is held to. Exactly one of Secret, PublicKey and
// JWKSURL is set.
type Rules struct {
	Algorithm string // the only one: HS256, HS384, HS512, RS256, ES256 or EdDSA
	Secret    []byte // of HS…
	PublicKey string // PEM
	JWKSURL   string // where the keys are published (RFC 7517)

	// Claims that must be there, each with one of the values: string, bool or
	// float64. A claim that is a list must hold one of them. Issuer and
	// Audience are not asked for when empty.
	Claims           map[string][]any
	Issuer, Audience string
}

const (
	// skew is by how much clocks may differ.
	skew = 60 * time.Second

	maxToken = 16 << 10
	maxDepth = 32 // of the JSON in a token
	maxKid   = 256
)

// end is after every time that a token can mean; its seconds fit any format.
var end = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

var errToken = errors.New("the token does not meet the rules")

// JWT reports whether a token meets rules, and when it ceases to, which is 60
// seconds after its exp; zero is never. An error says that the keys could not
// be fetched.
//
// Nothing is believed that a token says about how to check it: the algorithm
// and the keys are those of the rules, and its kid only chooses among these.
func (c *Checker) JWT(ctx context.Context, rules *Rules, token string) (until time.Time, ok bool, err error) {
	kid, sound := inspect(token, rules.Algorithm)
	if !sound {
		return time.Time{}, false, nil
	}
	keys, err := c.keysFor(ctx, rules, kid)
	if err != nil {
		return time.Time{}, false, err
	}
	for _, key := range keys {
		claims, err := c.parse(rules, token, key)
		if err != nil {
			continue
		}
		exp, err := claims.GetExpirationTime()
		switch {
		case err != nil:
			return time.Time{}, false, nil
		case exp == nil:
			return time.Time{}, true, nil
		}
		return exp.Add(skew), true, nil
	}
	return time.Time{}, false, nil
}

// parse checks the signature with one key, and then what the token says.
func (c *Checker) parse(rules *Rules, token string, key any) (jwt.MapClaims, error) {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{rules.Algorithm}), jwt.WithStrictDecoding(), jwt.WithJSONNumber(),
		jwt.WithLeeway(skew), jwt.WithTimeFunc(c.now),
	}
	if rules.Issuer != "" {
		options = append(options, jwt.WithIssuer(rules.Issuer))
	}
	if rules.Audience != "" {
		options = append(options, jwt.WithAudience(rules.Audience))
	}
	claims := jwt.MapClaims{}
	if _, err := jwt.NewParser(options...).ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil }); err != nil {
		return nil, err
	}
	for _, name := range []string{"exp", "nbf"} {
		if v, there := claims[name]; there && !isTime(v) {
			return nil, errToken
		}
	}
	for name, values := range rules.Claims {
		if !hasOne(claims[name], values) {
			return nil, errToken
		}
	}
	return claims, nil
}

// isTime holds a NumericDate (RFC 7519, section 2) to what can be reckoned
// with. Absent and null differ: null would be taken for absent.
func isTime(v any) bool {
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	f, err := n.Float64()
	return err == nil && f >= 0 && f < float64(end.Unix())
}

// hasOne reports whether a claim is one of some values, or a list that holds
// one.
func hasOne(claim any, values []any) bool {
	if list, ok := claim.([]any); ok {
		return slices.ContainsFunc(list, func(item any) bool {
			_, nested := item.([]any)
			return !nested && hasOne(item, values)
		})
	}
	return slices.ContainsFunc(values, func(want any) bool {
		number, ok := want.(float64)
		if !ok {
			_, isNumber := claim.(json.Number) // a text to Go
			return claim != nil && !isNumber && !isObject(claim) && claim == want
		}
		got, ok := claim.(json.Number)
		if !ok {
			return false
		}
		f, err := got.Float64()
		// Beyond this, different numbers are one float64.
		const exact = 1 << 53
		return err == nil && f == number && f > -exact && f < exact
	})
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

// inspect refuses tokens that two readers could understand differently, or
// that ask for more than a signature, before any key is looked for. It returns
// the kid.
func inspect(token, algorithm string) (kid string, ok bool) {
	if len(token) > maxToken || strings.ContainsFunc(token, notToken) {
		return "", false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	for _, part := range parts[:2] {
		text, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || !unambiguous(text) {
			return "", false
		}
	}
	text, _ := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	var header map[string]json.RawMessage
	if json.Unmarshal(text, &header) != nil {
		return "", false
	}
	var alg string
	if json.Unmarshal(header["alg"], &alg) != nil || alg != algorithm {
		return "", false
	}
	// Where a key is, what it is, and extensions that must be understood (RFC
	// 7515, section 4.1; b64: RFC 7797).
	for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"} {
		if _, there := header[name]; there {
			return "", false
		}
	}
	if raw, there := header["kid"]; there {
		if json.Unmarshal(raw, &kid) != nil || kid == "" || len(kid) > maxKid {
			return "", false
		}
	}
	return kid, true
}

// notToken says that a character has no place in a token. Line breaks are the
// ones that matter: decoders of base64 pass over them.
func notToken(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_' && r != '.'
}

// unambiguous says that a text is one JSON object, in which no object has a
// name twice.
func unambiguous(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	first, err := d.Token()
	if err != nil || first != json.Delim('{') || !object(d, 1) {
		return false
	}
	_, err = d.Token()
	return errors.Is(err, io.EOF)
}

func object(d *json.Decoder, depth int) bool {
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return false
		}
		key, ok := name.(string)
		if !ok || seen[key] || !value(d, depth) {
			return false
		}
		seen[key] = true
	}
	_, err := d.Token()
	return err == nil
}

func value(d *json.Decoder, depth int) bool {
	t, err := d.Token()
	if err != nil || depth > maxDepth {
		return false
	}
	switch t {
	case json.Delim('{'):
		return object(d, depth+1)
	case json.Delim('['):
		for d.More() {
			if !value(d, depth+1) {
				return false
			}
		}
		_, err := d.Token()
		return err == nil
	}
	return true
}

// fits says that a key is one of an algorithm, and long enough for it.
func fits(key any, algorithm string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return algorithm == "RS256" && k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192 && k.E >= 3
	case *ecdsa.PublicKey:
		return algorithm == "ES256" && k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return algorithm == "EdDSA" && len(k) == ed25519.PublicKeySize
	}
	return false
}
