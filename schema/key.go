package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var keyTypes = []string{
	"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
}

// fingerprint checks one OpenSSH public key and gives its fingerprint as
// ssh-keygen -l prints it.
func fingerprint(line string) (string, error) {
	blob, err := wire(line)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), nil
}

// wire checks one OpenSSH public key and gives it as SSH sends it (RFC 4253,
// section 6.6).
func wire(line string) ([]byte, error) {
	kind, rest, _ := strings.Cut(line, " ")
	if !slices.Contains(keyTypes, kind) {
		return nil, fmt.Errorf("there is no key type %s%s", cut(kind), didYouMean(kind, slices.Clone(keyTypes)))
	}
	text, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	blob, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(blob) < 4 {
		return nil, errors.New("the key is cut off or was changed; copy the whole line of the .pub file again")
	}
	// The blob is a list of texts, each after its length; the first is the type.
	for i, b := 0, blob; len(b) > 0; i++ {
		if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			return nil, errors.New("the key is cut off or was changed; copy the whole line of the .pub file again")
		}
		n := 4 + binary.BigEndian.Uint32(b)
		if inside := string(b[4:n]); i == 0 && inside != kind {
			return nil, fmt.Errorf("the line says %s, the key itself says %s", kind, cut(inside))
		}
		b = b[n:]
	}
	return blob, nil
}
