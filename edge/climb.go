package edge

// decodings is how often a path may be decoded on its way to a file.
const decodings = 4

// climbs says that an application might read the path as leading above where
// it starts: it has a segment ".." in some spelling. The path itself is passed
// on unread, so every spelling that is known to work somewhere counts: percent-
// encoded up to four times over, in more bytes of UTF-8 than are allowed (RFC
// 3629, section 3), in characters that Unicode calls compatible with "." and
// "/", with "\" for "/", with parameters, with a NUL behind, with a query or a
// fragment that only decoding brings to light, and with blanks, which readers
// of URLs drop (WHATWG URL, section 4.4).
// Browsers never send one (RFC 3986, section 5.2.4). It allocates for long
// paths only.
func climbs(path string) bool {
	b := append(make([]byte, 0, 512), path...) // on the stack, for most
	for range decodings {
		n := decodeAll(b)
		if n == len(b) {
			break
		}
		b = b[:n]
	}
	dots, other := 0, false
	for i := 0; i < len(b); {
		c := b[i]
		i++
		if c >= 0x80 {
			c, i = plainRune(b, i)
		}
		switch c {
		case '/', '\\', ';', 0, '?', '#': // ";" starts the parameters of a segment
			if dots == 2 && !other {
				return true
			}
			dots, other = 0, c != '/' && c != '\\'
		case ' ', '\t', '\r', '\n':
		case '.':
			dots++
		case twoDots:
			dots += 2
		default:
			other = true
		}
	}
	return dots == 2 && !other
}

// decodeAll undoes percent-encoding in place, and returns the new length.
// "%u002e" is what IIS made of ".".
func decodeAll(b []byte) (n int) {
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '%' {
			at := i + 1
			if i+5 < len(b) && (b[at] == 'u' || b[at] == 'U') && b[at+1] == '0' && b[at+2] == '0' {
				at += len("u00")
			}
			if at+1 < len(b) {
				hi, ok1 := unhex(b[at])
				lo, ok2 := unhex(b[at+1])
				if ok1 && ok2 {
					c, i = hi<<4|lo, at+1
				}
			}
		}
		b[n] = c
		n++
	}
	return n
}

const (
	twoDots = 0x80 // for U+2025, which is two
	noPlain = 0xff // for any other character
)

// plainRune is what a character that is no ASCII stands for: one of ASCII,
// twoDots or noPlain; and where the next one begins. i is behind its first byte.
func plainRune(b []byte, i int) (c byte, next int) {
	first, size, char := b[i-1], 0, 0
	switch {
	case first&0xe0 == 0xc0:
		size, char = 1, int(first&0x1f)
	case first&0xf0 == 0xe0:
		size, char = 2, int(first&0x0f)
	case first&0xf8 == 0xf0:
		size, char = 3, int(first&0x07)
	}
	if size == 0 || i+size > len(b) {
		return noPlain, i
	}
	for _, more := range b[i : i+size] {
		if more&0xc0 != 0x80 {
			return noPlain, i
		}
		char = char<<6 | int(more&0x3f)
	}
	next = i + size
	switch {
	case char < 0x80:
		return byte(char), next
	case char == 0x2024, char == 0xff0e: // one dot leader, fullwidth full stop
		return '.', next
	case char == 0x2025: // two dot leader
		return twoDots, next
	case char == 0x2044, char == 0x2215, char == 0xff0f, char == 0xff3c: // slashes, and the fullwidth "\"
		return '/', next
	}
	return noPlain, next
}
