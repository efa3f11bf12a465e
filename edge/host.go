package edge

import "strings"

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
	name, ok := cutHost(buf, host)
	return name, ok && fold(name)
}

// cutHost is normalise but for what fold does.
func cutHost(buf *[maxHost]byte, host string) ([]byte, bool) {
	end := len(host)
	for end > 0 && '0' <= host[end-1] && host[end-1] <= '9' {
		end--
	}
	if end > 0 && host[end-1] == ':' { // RFC 3986, section 3.2.3, allows an empty port
		if len(host)-end > len("65535") {
			return nil, false
		}
		host = host[:end-1]
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > maxHost {
		return nil, false
	}
	return buf[:copy(buf[:], host)], true
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

// generated is a host label of the form "{project}-{container}-{program}-{n}",
// cut into its parts.
type generated struct {
	key     key
	program []byte
	n       uint16 // 0: the label has none
}

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

// parseGenerated cuts a label that looksGenerated. There is one spelling for
// each number: no zero in front, no zero at all. Whether the key is a known one
// is left to the table.
func parseGenerated(label []byte) (generated, bool) {
	if len(label) <= keyLen || label[keyLen] != '-' {
		return generated{}, false
	}
	g := generated{key: key(label)}
	rest := label[keyLen+1:]
	end := 0
	for end < len(rest) && rest[end] != '-' {
		end++
	}
	g.program = rest[:end]
	if end == len(rest) {
		return g, true
	}
	digits := rest[end+1:]
	if len(digits) == 0 || len(digits) > 5 || digits[0] == '0' || !isDigits(digits) {
		return generated{}, false
	}
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	if n > 65535 {
		return generated{}, false
	}
	g.n = uint16(n)
	return g, true
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
