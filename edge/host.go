package edge

import (
	"math"
	"strings"
)

// maxHost is the greatest length of a host name in text (RFC 1035, section
// 2.3.4, less the root's dot and length byte).
const maxHost = 253

// maxLabel is the greatest length of a DNS label (RFC 1035, section 2.3.4).
const maxLabel = 63

// normalise writes into buf the name that a Host header holds: without the
// port and one trailing dot, in lower case. It reports false for anything that
// cannot be a DNS name, such as an address in brackets. This is the only place
// where the spellings of a host become one.
func normalise(buf *[maxHost]byte, host string) ([]byte, bool) {
	name, ok := cutHost(host)
	if !ok {
		return nil, false
	}
	folded := buf[:copy(buf[:], name)]
	return folded, fold(folded)
}

// cutHost is normalise but for what fold does. What it refuses is empty.
func cutHost(host string) (string, bool) {
	end := len(host)
	for end > 0 && '0' <= host[end-1] && host[end-1] <= '9' {
		end--
	}
	if end > 0 && host[end-1] == ':' { // RFC 3986, section 3.2.3, allows an empty port
		if len(host)-end > len("65535") {
			return "", false
		}
		host = host[:end-1]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxHost {
		return "", false
	}
	return host, host != ""
}

// fold puts a name into lower case. It reports false if there is a byte that
// no host name holds.
func fold(name []byte) bool {
	for i, c := range name {
		if name[i] = hostBytes[c]; name[i] == 0 {
			return false
		}
	}
	return true
}

// hostBytes leads from each byte that a host name may hold to its lower case,
// from others to 0.
var hostBytes = func() (table [256]byte) {
	for c := byte('a'); c <= 'z'; c++ {
		table[c], table[c-'a'+'A'] = c, c
	}
	for _, c := range []byte("0123456789-.") {
		table[c] = c
	}
	return table
}()

const (
	idLen  = 24
	keyLen = idLen + 1 + idLen
)

// key is "{project}-{container}". It is no string, so that a map holds it in
// place: what a lookup reads next is the container.
type key [keyLen]byte

// looksGenerated says that no alias may have this label: it starts as
// generated hosts do.
func looksGenerated[T string | []byte](label T) bool {
	return len(label) > idLen && isID(label[:idLen]) && label[idLen] == '-'
}

// cutGenerated cuts a label of the form "{project}-{container}-{program}-{n}",
// whose first keyLen bytes are the key, into the rest of its parts. The last may
// be missing, n is 0 then. There is one spelling for each number: no zero in
// front, no zero at all. Whether the key is a known one is left to the table.
func cutGenerated[T string | []byte](label T) (program T, n uint16, ok bool) {
	if len(label) <= keyLen || label[keyLen] != '-' {
		return program, 0, false
	}
	rest := label[keyLen+1:]
	end := 0
	for end < len(rest) && rest[end] != '-' {
		end++
	}
	if end == len(rest) {
		return rest, 0, true
	}
	digits := rest[end+1:]
	if len(digits) == 0 || len(digits) > len("65535") || digits[0] == '0' {
		return program, 0, false
	}
	number := 0
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return program, 0, false
		}
		number = number*10 + int(digits[i]-'0')
	}
	return rest[:end], uint16(number), number <= math.MaxUint16
}

func isID[T string | []byte](s T) bool {
	if len(s) != idLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isDigits[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isLabel says that s is a host name's label in lower case (RFC 1123, section
// 2.1).
func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
