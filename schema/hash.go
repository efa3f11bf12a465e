package schema

import (
	"errors"
	"regexp"
	"strconv"
)

var (
	argon2Form = regexp.MustCompile(`^\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$`)
	bcryptForm = regexp.MustCompile(`^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$`)
	sha256Form = regexp.MustCompile(`^\$sha256\$[^$]+\$[0-9a-f]{64}$`)
)

// Limits of what checking one password may take of the server.
const (
	maxHashMemory  = 262144 // KiB
	maxHashTime    = 16
	maxHashThreads = 16
	maxHashCost    = 14
)

// CheckHash reports what keeps a text from being a password hash. The error
// never holds the text.
func CheckHash(hash string) error {
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // of digits
		return n
	}
	if m := argon2Form.FindStringSubmatch(hash); m != nil {
		memory, time, threads := number(m[1]), number(m[2]), number(m[3])
		if memory > maxHashMemory || memory < 8*threads || time < 1 || time > maxHashTime || threads < 1 || threads > maxHashThreads {
			return errors.New("found an argon2id hash that takes too much to check; want m up to 262144, t up to 16, p up to 16")
		}
		return nil
	}
	if m := bcryptForm.FindStringSubmatch(hash); m != nil {
		if cost := number(m[1]); cost < 4 || cost > maxHashCost {
			return errors.New("found a bcrypt hash that takes too much to check; want a cost from 4 to 14")
		}
		return nil
	}
	if sha256Form.MatchString(hash) {
		return nil
	}
	return errors.New("found a text that is no hash; want argon2id as \"$argon2id$v=19$m=…,t=…,p=…$salt$hash\", bcrypt as \"$2b$…\", or \"$sha256$salt$\" and 64 hexadecimal digits; `swage secret hash-password` makes one")
}

// hash holds a password hash to the known forms, without ever showing it.
func (r *resolver) hash(at spot, hash Secret) {
	if hash.form != plainSecret {
		return
	}
	if err := CheckHash(hash.text); err != nil {
		r.add(at, "%v", err)
	}
}
