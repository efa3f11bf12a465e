package schema

import (
	"strings"

	"cuelang.org/go/cue/scanner"
	"cuelang.org/go/cue/token"
)

// maxChain bounds what hangs together without a bracket around it, as in
// a.b.c or 1+1+1: parsers build such chains as deep trees too.
const maxChain = 1000

// tooDeep finds the place where a file nests deeper than maxDepth, by its
// tokens alone, so that no parser has to recurse into it first.
func tooDeep(name string, src []byte) (Pos, bool) {
	type level struct {
		colons, chain int
		text          bool // inside \( … ) of a text
	}
	file := token.NewFile(name, -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, func(token.Pos, string, []any) {}, 0) // the parser will say what is wrong
	levels := []level{{}}
	depth := 0
	interpolated := false // the next parenthesis opens a \( … ) of a text
	for {
		pos, tok, _ := s.Scan()
		top := &levels[len(levels)-1]
		switch tok {
		case token.EOF:
			return Pos{}, false
		case token.INTERPOLATION:
			interpolated = true
		case token.LPAREN, token.LBRACK, token.LBRACE:
			top.chain++
			levels = append(levels, level{text: interpolated})
			depth++
			interpolated = false
		case token.RPAREN, token.RBRACK, token.RBRACE:
			if len(levels) == 1 {
				continue // one too many
			}
			depth -= 1 + top.colons
			text := top.text
			levels = levels[:len(levels)-1]
			if tok == token.RPAREN && text {
				// The text goes on, perhaps up to its next \( … ).
				interpolated = strings.HasSuffix(s.ResumeInterpolation(), "(")
			}
		case token.COMMA:
			depth -= top.colons
			top.colons, top.chain = 0, 0
		case token.COLON:
			top.colons++
			depth++
		case token.IDENT, token.STRING, token.INT, token.FLOAT, token.TRUE, token.FALSE, token.NULL:
		default:
			top.chain++
		}
		if depth > maxDepth || top.chain > maxChain {
			return position(pos, name), true
		}
	}
}
