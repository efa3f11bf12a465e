package edge

// needs is the rank of the least level of a program that lets a request pass;
// 0 for a program without levels.
//
// What could be more than it looks like needs the full level: a method that is
// not known, a header that asks for another method, and an upgrade, whose
// messages nobody reads here, unless the program holds itself to the level
// that it is told. So does a COPY that asks to delete what is at its
// destination; one that does not say gets the header "Overwrite: F" below the
// full level.
func (p *program) needs(r *Request) int {
	if p == nil || len(p.levels) < 2 {
		return 0
	}
	full := len(p.levels) - 1
	switch {
	case r.Override, r.Overwrite && r.Method == "COPY":
		return full
	case r.Upgrade && p.honours:
		return 0
	case r.Upgrade:
		return full
	}
	for rank, level := range p.levels[:full] {
		if levelHas(level, rank, r.Method) {
			return rank
		}
	}
	return full
}

// levelHas says that a level below the full one has a method that no level
// before it has. Methods are case-sensitive (RFC 9110, section 9.1).
func levelHas(level string, rank int, method string) bool {
	switch level {
	case "write":
		switch method {
		case "PUT", "POST", "PATCH", "MKCOL", "COPY", "PROPPATCH", "LOCK", "UNLOCK":
			return true
		}
		return false
	case "query":
		return method == "GET" || method == "HEAD" || method == ""
	}
	switch method {
	case "", "GET", "HEAD", "OPTIONS":
		return rank == 0
	case "PROPFIND": // RFC 4918, section 9.1
		return rank == 0 && level == "read"
	}
	return false
}

// rank is the place of a level among those of a program; -1 for one that it
// does not have. An empty level is the full one.
func (p *program) rank(level string) int {
	switch {
	case p == nil || len(p.levels) == 0:
		if level == "" {
			return 0
		}
		return -1
	case level == "":
		return len(p.levels) - 1
	}
	for i, name := range p.levels {
		if name == level {
			return i
		}
	}
	return -1
}

// level is the name of a rank, empty for a program without levels.
func (p *program) level(rank int) string {
	if p == nil || len(p.levels) == 0 {
		return ""
	}
	return p.levels[rank]
}
