package schema

import (
	"crypto/sha256"
	"encoding/hex"
)

// Opaque stands for a secret where only equality counts: the same for the same
// declaration, and nothing of the value in it.
func (s Secret) Opaque() string {
	if s.from != nil {
		return s.from.Opaque()
	}
	sum := sha256.Sum256(append([]byte{byte(s.form)}, s.text...))
	return hex.EncodeToString(sum[:])
}
