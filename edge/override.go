package edge

import (
	"net/http"
	"strings"
)

// readFields takes from the header, and from the query, what decides beside the
// method and the path. It reads each once.
func (r *Request) readFields(in *http.Request) {
	r.Override = overridesInQuery(in.URL.RawQuery)
	for name, values := range in.Header {
		switch {
		case name == "Destination":
			r.Targets = append(r.Targets, values...)
		case name == "If":
			for _, value := range values {
				r.Targets = appendTags(r.Targets, value)
			}
		case name == "Overwrite":
			for _, value := range values {
				r.Overwrite = r.Overwrite || value != "F"
			}
		case overridesMethod(name):
			r.Override = true
		}
	}
}

// overridesMethod says that some frameworks take the method from a field of
// this name, or from a parameter. Every character that is neither letter nor
// digit stands for "-", as in [isForged].
func overridesMethod(name string) bool {
	const longest, shortest = len("x-http-method-override"), len("x-http-method")
	if len(name) < shortest || len(name) > longest || folded[name[0]] != 'x' {
		return false
	}
	return sameName(name, "x-http-method-override") || sameName(name, "x-http-method") || sameName(name, "x-method-override")
}

// overridesInQuery says the same of a query. Its parts end at "&" and, for
// some, at ";". PHP takes "." and " " for "_", and what stands in brackets for
// a part of the value.
func overridesInQuery(query string) bool {
	for query != "" {
		part := query
		if end := strings.IndexAny(query, "&;"); end >= 0 {
			part, query = query[:end], query[end+1:]
		} else {
			query = ""
		}
		name, _, _ := strings.Cut(part, "=")
		if len(name) < len("_method") {
			continue
		}
		var buf [len("x-http-method-override") + 1]byte
		plain := buf[:0]
		for i := 0; i < len(name) && len(plain) < len(buf); i++ {
			c := name[i]
			if c == '%' {
				c, i = decoded(name, i)
			}
			if c == '[' || c == 0 {
				break
			}
			if len(plain) == 0 && (c == ' ' || c == '+') {
				continue
			}
			plain = append(plain, folded[c])
		}
		if string(plain) == "-method" || overridesMethod(string(plain)) {
			return true
		}
	}
	return false
}

// decoded is the byte that the percent-encoding at i stands for, and where it
// ends. What is none stands for itself.
func decoded(s string, i int) (c byte, last int) {
	if i+2 < len(s) {
		hi, ok1 := unhex(s[i+1])
		lo, ok2 := unhex(s[i+2])
		if ok1 && ok2 {
			return hi<<4 | lo, i + 2
		}
	}
	return s[i], i
}
