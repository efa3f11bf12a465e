package schema

import (
	"bytes"
	"unicode/utf8"
)

// byteOrderMark is what some editors put before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// withoutMark is the text behind a byte order mark.
func withoutMark(src []byte) []byte { return bytes.TrimPrefix(src, byteOrderMark) }

// decode is the one rule for the bytes of a file, whatever its format: UTF-8,
// with or without a byte order mark.
func decode(name string, src []byte) ([]byte, Problems) {
	switch {
	case bytes.HasPrefix(src, []byte("\xff\xfe")), bytes.HasPrefix(src, []byte("\xfe\xff")):
		return nil, Problems{{Pos{File: name}, "", "is encoded in UTF-16; save it as UTF-8"}}
	case utf8.Valid(src):
		return withoutMark(src), nil
	}
	good := 0
	for good < len(src) {
		r, n := utf8.DecodeRune(src[good:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		good += n
	}
	before := src[:good]
	pos := Pos{name, 1 + bytes.Count(before, []byte("\n")), good - bytes.LastIndexByte(before, '\n')}
	return nil, Problems{{pos, "", "is not UTF-8 from here on; save the file as UTF-8"}}
}
