package edge

import (
	"fmt"
	"strings"
)

// lead finds the target of a path, and the part of the alias that it is of:
// "" for the alias itself.
func (a *alias) lead(path string) (to *target, part string) {
	for i := range a.paths {
		p := &a.paths[i]
		if p.path == "/" || strings.HasPrefix(path, p.path) && (len(path) == len(p.path) || path[len(p.path)] == '/') {
			return &p.target, p.path
		}
	}
	return &a.target, ""
}

// route applies the alias's target path to a request's path. It reports false
// for a path that the alias does not serve.
func (a *alias) route(path string) (replace, prefix string, ok bool) {
	switch {
	case path == "/" || path == "":
		return a.path, "", true
	case a.path == "":
		return "", "", a.override
	case path == a.path:
		return "", "", true
	case !a.override, climbs(path), path[0] != '/': // "*" is of the whole server
		return "", "", false
	case path == a.below, strings.HasPrefix(path, a.below) && path[len(a.below)] == '/':
		return "", "", true
	default:
		return "", a.below, true
	}
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}

// checkAliasPath holds the path of an [AliasPath] to its form.
func checkAliasPath(path string) error {
	if path == "" || len(path) > 1 && path[len(path)-1] == '/' {
		return fmt.Errorf("path %q is empty or ends in a slash", path)
	}
	return checkTargetPath(path)
}

func checkTargetPath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' || strings.HasPrefix(path, "//") {
		return fmt.Errorf("path %q does not start with one slash", path)
	}
	for i := range len(path) {
		c := path[i]
		if c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '\\' {
			return fmt.Errorf("path %q has a character that must be percent-encoded", path)
		}
		if c == '%' {
			if i+2 >= len(path) {
				return fmt.Errorf("path %q has an incomplete percent-encoding", path)
			}
			_, ok1 := unhex(path[i+1])
			_, ok2 := unhex(path[i+2])
			if !ok1 || !ok2 {
				return fmt.Errorf("path %q has an invalid percent-encoding", path)
			}
		}
	}
	if climbs(path) {
		return fmt.Errorf("path %q has a segment \"..\"", path)
	}
	return nil
}
