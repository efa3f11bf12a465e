package edge

import "strings"

// A WebDAV request names further resources beside its own: in Destination, and
// in the tagged lists of If (RFC 4918, sections 10.3 and 10.4). An alias that
// serves a part of its container judges each as the path of a request, and
// the container is told of each as it is told of that path.

// confines says that an alias serves less than all of what it leads to, or
// leads to several.
func (a *alias) confines() bool { return a.path != "" || !a.override || len(a.paths) > 0 }

// reference is a URI that a request names, in parts: scheme and authority are
// empty for an absolute path.
type reference struct{ scheme, authority, path, query string }

// parseReference reads a Simple-ref (RFC 4918, section 8.3) of http or https:
// an absolute URI or an absolute path. It reports false for what readers might
// understand differently.
func parseReference(uri string) (r reference, ok bool) {
	for i := range len(uri) {
		switch c := uri[i]; {
		case c <= ' ', c == 0x7f, c == '\\', c == '#', c == '<', c == '>':
			return r, false
		}
	}
	rest := uri
	if !strings.HasPrefix(uri, "/") {
		if r.scheme, rest, ok = strings.Cut(uri, "://"); !ok || !strings.EqualFold(r.scheme, "http") && !strings.EqualFold(r.scheme, "https") {
			return r, false
		}
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		r.authority, rest = rest[:end], rest[end:]
		if r.authority == "" || strings.Contains(r.authority, "@") {
			return r, false
		}
	} else if strings.HasPrefix(uri, "//") {
		return r, false // the rest of a URI to some, a path to others
	}
	end := strings.IndexByte(rest, '?')
	if end < 0 {
		end = len(rest)
	}
	r.path, r.query = rest[:end], rest[end:]
	if r.path == "" {
		r.path = "/"
	}
	return r, true
}

// aliasOf is the alias that has a host, in any spelling of it.
func (t *Table) aliasOf(authority string) *alias {
	if strings.Contains(authority, "%") { // RFC 3986, section 3.2.2
		var b strings.Builder
		for i := 0; i < len(authority); i++ {
			c := authority[i]
			if c == '%' {
				c, i = decoded(authority, i)
			}
			b.WriteByte(c)
		}
		authority = b.String()
	}
	var buf [maxHost]byte
	name, ok := normalise(&buf, authority)
	if !ok {
		return nil
	}
	if label, ok := t.label(name); ok {
		return t.alias[string(label)]
	}
	return t.domain[string(name)]
}

// judgeTargets refuses a request that names a second target which its alias
// does not serve, or serves from elsewhere.
func (d *Decision) judgeTargets(t *Table, at *spot, r *Request) {
	if len(r.Targets) == 0 || !at.alias.confines() {
		return
	}
	for _, uri := range r.Targets {
		if _, _, v := at.alias.led(t, at, uri); v != Allow {
			*d = Decision{Verdict: v, Container: d.Container, Program: d.Program, Number: d.Number}
			d.Why = "the alias does not serve the path of the destination"
			if v == Elsewhere {
				d.Why = "the destination is not what the alias leads to"
			}
			return
		}
	}
}

// led judges a second target of a request that an alias leads to at. The
// path is as the container is to be told it, in two parts.
func (a *alias) led(t *Table, at *spot, uri string) (ref reference, path [2]string, v Verdict) {
	ref, ok := parseReference(uri)
	if !ok || ref.authority != "" && t.aliasOf(ref.authority) != a {
		return ref, path, Elsewhere
	}
	to, part := a.lead(ref.path)
	if to.container != at.container || to.endpoint != at.endpoint {
		return ref, path, Elsewhere
	}
	path = [2]string{"", ref.path}
	switch part {
	case "":
		replace, prefix, ok := a.route(ref.path)
		if !ok {
			return ref, path, NotFound
		}
		if path[0] = prefix; replace != "" {
			path = [2]string{"", replace}
		}
	case "/":
	default:
		if climbs(ref.path) {
			return ref, path, NotFound
		}
	}
	return ref, path, Allow
}

// urls are the values of a field that tells URLs as the container gets them.
func (x *exchange) urls(name string, values []string) []string {
	if name == "Destination" || name == "If" {
		values = x.secondTargets(name, values)
	}
	return x.withoutParams(name, values)
}

// secondTargets are the values of Destination or If as the container gets
// them: what names this host in another spelling names it as Host does.
func (x *exchange) secondTargets(name string, values []string) []string {
	var at spot
	var d Decision
	if !x.table.locate(&x.request, &at, &d) || at.alias == nil || !at.alias.confines() {
		return values
	}
	rewritten := func(uri string) string {
		ref, path, v := at.alias.led(x.table, &at, uri)
		if v != Allow {
			return uri // not passed on: Decide has judged the same
		}
		to := path[0] + path[1] + ref.query
		if ref.authority != "" {
			to = ref.scheme + "://" + x.r.Host + to
		}
		return to
	}
	out := make([]string, 0, len(values))
	for _, value := range values {
		if name == "Destination" {
			out = append(out, rewritten(value))
			continue
		}
		var b strings.Builder
		from := 0
		eachTag(value, func(start, end int) {
			b.WriteString(value[from:start])
			b.WriteString(rewritten(value[start:end]))
			from = end
		})
		b.WriteString(value[from:])
		out = append(out, b.String())
	}
	return out
}

// keepsDestination says that a COPY must be told not to delete what is at its
// destination: its caller may write, and not delete. The edge says so itself,
// whatever the caller said: that could be taken out again by Connection.
func (x *exchange) keepsDestination() bool {
	if x.request.Method != "COPY" || x.decision.Route.Level == "" {
		return false
	}
	var at spot
	var d Decision
	if !x.table.locate(&x.request, &at, &d) {
		return true
	}
	p := at.endpoint.of
	return p.rank(x.decision.Route.Level) < p.rank("")
}

// appendTags appends the resource tags of a header If; an empty one stands for
// what cannot be read.
func appendTags(tags []string, value string) []string {
	if !eachTag(value, func(start, end int) { tags = append(tags, value[start:end]) }) {
		tags = append(tags, "")
	}
	return tags
}

// eachTag calls f with where each resource tag of a header If lies. It reports
// false for a value that is not what RFC 4918, section 10.4.2, describes.
func eachTag(value string, f func(start, end int)) bool {
	inList := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '<':
			n := strings.IndexByte(value[i:], '>')
			if n < 0 {
				return false
			}
			if !inList {
				f(i+1, i+n)
			}
			i += n
		case c == '[' && inList:
			end := endOfETag(value, i+1)
			if end < 0 {
				return false
			}
			i = end
		case c == '(' && !inList:
			inList = true
		case c == ')' && inList:
			inList = false
		case c == ' ', c == '\t':
		case inList && strings.IndexByte("Not", c) >= 0:
		default:
			return false
		}
	}
	return !inList
}

// endOfETag is where the "]" after an entity tag is, -1 if there is none.
func endOfETag(value string, i int) int {
	quoted := false
	for ; i < len(value); i++ {
		switch value[i] {
		case '"':
			quoted = !quoted
		case ']':
			if !quoted {
				return i
			}
		}
	}
	return -1
}
