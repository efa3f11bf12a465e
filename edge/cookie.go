package edge

import (
	"net/http"
	"strings"
)

// Browsers take all hosts below the zone, and all below the registrable part of
// a custom domain, for one site. What an application says of that site would
// concern the applications of others. So an answer sets cookies of its own host
// only, and clears only what its own host has.

// keepToHost takes from the header of an answer what concerns more than its host.
func (x *exchange) keepToHost(h http.Header) {
	if lines := h["Set-Cookie"]; len(lines) > 0 {
		if lines = x.table.hostCookies(x.r.Host, lines); len(lines) > 0 {
			h["Set-Cookie"] = lines
		} else {
			delete(h, "Set-Cookie")
		}
	}
	if lines := h["Clear-Site-Data"]; len(lines) > 0 {
		if kept := clearsHost(lines); kept != "" {
			h["Clear-Site-Data"] = []string{kept}
		} else {
			delete(h, "Clear-Site-Data")
		}
	}
	delete(h, "Set-Cookie2") // RFC 2965, which browsers have left
	delete(h, "Alt-Svc")     // no other way leads to the container, and this one is the edge's to tell
}

// hostCookies are the lines of Set-Cookie without attributes Domain, other than
// the name of the host itself where no other host lies below it. Lines stay as
// they are where nothing is taken out.
func (t *Table) hostCookies(host string, lines []string) []string {
	kept := lines[:0:0]
	for _, line := range lines {
		if hasControls(line) {
			continue // browsers drop the whole (RFC 6265bis, section 5.6), or cut it off there
		}
		kept = append(kept, t.hostCookie(host, line))
	}
	return kept
}

func (t *Table) hostCookie(host, line string) string {
	_, attributes, more := strings.Cut(line, ";")
	if !more || !strings.Contains(strings.ToLower(attributes), "domain") {
		return line
	}
	var out strings.Builder
	out.WriteString(line[:len(line)-len(attributes)-1])
	changed := false
	for attribute := range strings.SplitSeq(attributes, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		if isDomainAttribute(name) && !t.isOwn(host, value) {
			changed = true
			continue
		}
		out.WriteByte(';')
		out.WriteString(attribute)
	}
	if !changed {
		return line
	}
	return out.String()
}

// isDomainAttribute says that some reader of cookies may take a name for
// "Domain", whatever it thinks blank.
func isDomainAttribute(name string) bool {
	name = strings.TrimFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	return strings.EqualFold(name, "domain")
}

// isOwn says that a Domain is the host itself, and no other host of the table
// lies below it.
func (t *Table) isOwn(host, domain string) bool {
	var a, b [maxHost]byte
	own, ok := normalise(&a, host)
	if !ok || strings.ContainsAny(domain, ":") {
		return false
	}
	domain = strings.TrimPrefix(strings.Trim(domain, " \t"), ".")
	name, ok := normalise(&b, domain)
	return ok && string(name) == string(own) && !strings.HasSuffix(domain, ".") && !t.parents[string(own)]
}

// parentDomains are the custom domains that lie above another host of the
// table.
func (t *Table) parentDomains() map[string]bool {
	out := map[string]bool{}
	above := func(name string) {
		for {
			_, parent, ok := strings.Cut(name, ".")
			if !ok {
				return
			}
			if t.domain[parent] != nil {
				out[parent] = true
			}
			name = parent
		}
	}
	above(t.zone)
	for name := range t.domain {
		above(name)
	}
	return out
}

func hasControls(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// clearsHost is a Clear-Site-Data with what concerns its origin only. The type
// "cookies" means those of the whole site; "*" means every type.
func clearsHost(lines []string) string {
	var kept []string
	add := func(types ...string) {
		for _, one := range types {
			if !strings.Contains(strings.Join(kept, ","), one) {
				kept = append(kept, one)
			}
		}
	}
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			switch one = strings.Trim(one, " \t"); one {
			case `"*"`:
				add(`"cache"`, `"storage"`, `"executionContexts"`, `"clientHints"`, `"prefetchCache"`, `"prerenderCache"`)
			case `"cache"`, `"storage"`, `"executionContexts"`, `"clientHints"`, `"prefetchCache"`, `"prerenderCache"`:
				add(one)
			}
		}
	}
	return strings.Join(kept, ", ")
}
