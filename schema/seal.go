package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
)

// Seal encrypts a value to age or SSH public keys and gives it as CUE, to be
// written where a secret stands: {age: "…"}.
func Seal(value []byte, recipients []string) (string, error) {
	if len(recipients) == 0 {
		return "", errors.New("there is nobody to encrypt to: name the servers' public keys under age_recipients in their files, or give some with --recipient")
	}
	if len(value) > MaxSecret {
		return "", fmt.Errorf("a secret has at most %d bytes", MaxSecret)
	}
	var to []age.Recipient
	for _, text := range recipients {
		r, err := recipient(text)
		if err != nil {
			return "", fmt.Errorf("recipient %q: %w", text, err)
		}
		to = append(to, r)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	_, err = io.Copy(w, bytes.NewReader(value))
	if err = errors.Join(err, w.Close(), a.Close()); err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return "{age: \"\"\"\n\t" + strings.Join(lines, "\n\t") + "\n\t\"\"\"}", nil
}

func recipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(text, "ssh-") {
		return agessh.ParseRecipient(text)
	}
	rs, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return rs[0], nil
}
