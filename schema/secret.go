package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Secret is a value that may not be shown, or the way to it. The zero Secret
// holds nothing. No printing, logging or encoding of it shows the value; only
// Reveal gives it.
type Secret struct {
	form secretForm
	text string // the value, or what leads to it
	why  string // it could not be revealed; empty: nobody has tried
	of   string // Opaque of the declaration, where Resolved put the value in its place
}

type secretForm byte

const (
	noSecret secretForm = iota
	plainSecret
	ageSecret
	fileSecret
	envSecret
	lostSecret
)

// Plain makes a Secret of a value.
func Plain(value string) Secret { return Secret{form: plainSecret, text: value} }

// Resolved is a Secret with the value that s leads to. It is still the same
// declaration: Opaque stays what it is.
func (s Secret) Resolved(value string) Secret {
	return Secret{form: plainSecret, text: value, of: s.Opaque()}
}

// Lost is a Secret that cannot be revealed, in place of one that could not. It is
// still the same declaration: Opaque stays what it is.
func (s Secret) Lost() Secret { return Secret{form: lostSecret, of: s.Opaque()} }

// Unreadable is the secret for which Reveal gave err, and gives it from now on,
// whatever the keys.
func (s Secret) Unreadable(err error) Secret {
	s.why = err.Error()
	return s
}

// IsZero reports whether there is no value at all.
func (s Secret) IsZero() bool { return s.form == noSecret }

const hidden = "(secret)"

// Format never shows the value, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String never shows the value.
func (s Secret) String() string { return hidden }

// GoString never shows the value.
func (s Secret) GoString() string { return hidden }

// MarshalJSON never shows the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// LogValue never shows the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// UnmarshalJSON reads what the schema let pass.
func (s *Secret) UnmarshalJSON(src []byte) error {
	var form struct{ Age, File, Env string }
	if err := json.Unmarshal(src, &form); err != nil {
		s.form = plainSecret
		if json.Unmarshal(src, &s.text) != nil {
			return errors.New("a secret is a text or a struct") // without the text
		}
		return nil
	}
	switch {
	case form.Age != "":
		*s = Secret{form: ageSecret, text: form.Age}
	case form.File != "":
		*s = Secret{form: fileSecret, text: form.File}
	case form.Env != "":
		*s = Secret{form: envSecret, text: form.Env}
	}
	return nil
}

// Keys is what a node has to resolve secrets with. Its zero value resolves
// only plain ones. ReadFile and LookupEnv decide which files and variables may
// be named at all; ReadFile neither blocks nor reads much more than MaxSecret.
type Keys struct {
	Identities []age.Identity
	ReadFile   func(name string) ([]byte, error)
	LookupEnv  func(name string) (string, bool)
}

// MaxSecret bounds what is decrypted or read for one value, in bytes.
const MaxSecret = 64 << 10

// Reveal gives the value. Its errors say what is missing and never hold any
// part of the value; they concern this value only, and what does not need it
// goes on.
func (s Secret) Reveal(keys Keys) (string, error) {
	if s.why != "" {
		return "", errors.New(s.why)
	}
	switch s.form {
	case plainSecret:
		return s.text, nil
	case ageSecret:
		return decrypt(s.text, keys.Identities)
	case fileSecret:
		if keys.ReadFile == nil {
			return "", fmt.Errorf("the secret is in the file %s of the node, which is not at hand", s.text)
		}
		src, err := keys.ReadFile(s.text)
		if err != nil {
			return "", fmt.Errorf("read a secret: %w", err)
		}
		if len(src) > MaxSecret {
			return "", fmt.Errorf("the secret in %s has more than %d bytes", s.text, MaxSecret)
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(src), "\n"), "\r"), nil
	case envSecret:
		if keys.LookupEnv != nil {
			if value, ok := keys.LookupEnv(s.text); ok {
				return value, nil
			}
		}
		return "", fmt.Errorf("the secret is in the variable %s of the node's agent, which is not set there, or not listed under secret_variables of its node file", s.text)
	}
	return "", errors.New("there is no secret")
}

func decrypt(armored string, identities []age.Identity) (string, error) {
	if len(identities) == 0 {
		return "", errors.New("the secret is encrypted, and this node has no age key")
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(armored)), identities...)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return "", errors.New("the secret is not encrypted to any age key of this node")
		}
		return "", fmt.Errorf("decrypt a secret: %w", err)
	}
	src, err := io.ReadAll(io.LimitReader(r, MaxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("decrypt a secret: %w", err)
	case len(src) > MaxSecret:
		return "", fmt.Errorf("the secret has more than %d bytes", MaxSecret)
	}
	return string(src), nil
}

// OnNode reports whether the value is not at hand: a node decrypts it, or has
// it.
func (s Secret) OnNode() bool {
	return s.form == ageSecret || s.form == fileSecret || s.form == envSecret
}
