package credentials

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Limits of what a hash may ask of the host. One that asks more is taken for
// none, and matches nobody.
const (
	maxPassword = 1024
	maxMemory   = 256 << 10 // KiB, of argon2id
	maxTime     = 16
	maxThreads  = 16
	maxCost     = 14 // of bcrypt, about a second
)

// errHash says that a text is no hash of a known form. It never holds the
// text.
var errHash = errors.New("not a hash of a known form, or one that takes too much to check")

// matches reports whether a password is the one of a hash. It is slow: that is
// what such hashes are for.
func matches(hash, password string) (bool, error) {
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		h, err := parseArgon2(hash)
		if err != nil {
			return false, err
		}
		sum := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
		return subtle.ConstantTimeCompare(sum, h.sum) == 1, nil
	case strings.HasPrefix(hash, "$sha256$"):
		salt, sum, err := parseSHA256(hash)
		if err != nil {
			return false, err
		}
		got := sha256.Sum256([]byte(salt + password))
		return subtle.ConstantTimeCompare(got[:], sum) == 1, nil
	}
	if err := checkBcrypt(hash); err != nil {
		return false, err
	}
	if len(password) > 72 { // bcrypt heeds no more: others would match, too
		return false, nil
	}
	switch err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); {
	case err == nil:
		return true, nil
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return false, nil
	}
	return false, errHash
}

type argon2Hash struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

// parseArgon2 reads a PHC string:
// $argon2id$v=19$m=<KiB>,t=<passes>,p=<threads>$<salt>$<hash>.
func parseArgon2(hash string) (argon2Hash, error) {
	var h argon2Hash
	f := strings.Split(hash, "$")
	if len(f) != 6 || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return h, errHash
	}
	var n [3]uint64
	parameters := strings.Split(f[3], ",")
	if len(parameters) != len(n) {
		return h, errHash
	}
	for i, name := range []string{"m=", "t=", "p="} {
		text, ok := strings.CutPrefix(parameters[i], name)
		value, err := strconv.ParseUint(text, 10, 32)
		if !ok || err != nil || value == 0 {
			return h, errHash
		}
		n[i] = value
	}
	if n[0] > maxMemory || n[0] < 8*n[2] || n[1] > maxTime || n[2] > maxThreads {
		return h, errHash
	}
	h.memory, h.time, h.threads = uint32(n[0]), uint32(n[1]), uint8(n[2])
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	h.sum, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return h, errHash
	}
	return h, nil
}

// parseSHA256 reads $sha256$<salt>$<64 hexadecimal digits>.
func parseSHA256(hash string) (salt string, sum []byte, err error) {
	f := strings.Split(hash, "$")
	if len(f) != 4 || f[2] == "" || len(f[3]) != 2*sha256.Size {
		return "", nil, errHash
	}
	if sum, err = hex.DecodeString(f[3]); err != nil {
		return "", nil, errHash
	}
	return f[2], sum, nil
}

// checkBcrypt holds a bcrypt string to $2b$<cost>$ (or 2a, 2y) and 53
// characters: the library takes more for one.
func checkBcrypt(hash string) error {
	const form = "$2b$00$"
	if len(hash) != len(form)+53 || hash[:2] != "$2" || strings.IndexByte("aby", hash[2]) < 0 || hash[3] != '$' || hash[6] != '$' ||
		strings.ContainsFunc(hash[len(form):], func(r rune) bool { return r != '/' && (notToken(r) || r == '-' || r == '_') }) {
		return errHash
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost > maxCost {
		return errHash
	}
	return nil
}

// CheckHash reports what keeps a text from being a hash that passwords can be
// checked against. The error does not hold the text.
func CheckHash(hash string) error {
	var err error
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		_, err = parseArgon2(hash)
	case strings.HasPrefix(hash, "$sha256$"):
		_, _, err = parseSHA256(hash)
	default:
		err = checkBcrypt(hash)
	}
	return err
}

// HashPassword returns a PHC string of argon2id with a new salt, at the
// parameters that RFC 9106 recommends where memory is scarce: 64 MiB, three
// passes.
func HashPassword(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password has more than %d bytes", maxPassword)
	}
	const memory, time, threads = 64 << 10, 3, 4
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	sum := argon2.IDKey([]byte(password), salt, time, memory, threads, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, time, threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}
