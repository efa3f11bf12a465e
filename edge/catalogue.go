package edge

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Programs that are in every catalogue.
const (
	programHTTP  = "http"
	programHTTPS = "https"
	portHTTP     = 80
	portHTTPS    = 443
)

// programSSH stands in hosts as the programs do, and is not spoken over HTTPS.
const programSSH = "ssh"

// catalogue is a compiled [Catalogue].
type catalogue struct {
	byName map[string]*program // by all names
	spans  []span              // sorted, apart from each other
	says   Digest              // stands for all of it
}

type program struct {
	name      string
	port      uint16
	base      uint16 // 0: instances share port
	instances uint16
	levels    []string // from the least to the full one
	honours   bool     // the program keeps to the level that it is told
}

// span is a range of ports that belong to a program of the kit. The first is
// that of an instance, and the following those of the following instances.
type span struct {
	first, last uint16
	instance    uint16
	program     *program
}

// endpoint is one way into a container.
type endpoint struct {
	// What permissions know it as: a port of http or https, an instance of
	// another program.
	program string
	number  uint16

	port     uint16
	instance uint16 // what the program is told, 0 when the port says it
	tls      bool
	of       *program // nil: a port that belongs to none
}

// find resolves a program's name and a number, 0 for none, to an endpoint of a
// container, which it puts in e. It does not allocate.
func find[T string | []byte](c *catalogue, name T, n uint16, e *endpoint) bool {
	if c == nil {
		return false
	}
	switch string(name) {
	case programHTTP:
		if n == 0 {
			n = portHTTP
		}
		c.at(n, programHTTP, e)
		return true
	case programHTTPS:
		if n == 0 {
			n = portHTTPS
		}
		c.at(n, programHTTPS, e)
		e.tls = true
		return true
	}
	p, ok := c.byName[string(name)]
	if !ok || n > p.instances {
		return false
	}
	*e = endpoint{port: p.port, program: p.name, number: max(n, 1), of: p}
	switch {
	case p.base == 0:
		e.instance = e.number
	case n > 0:
		e.port = p.base + n - 1
	}
	return true
}

// at puts in e a port as http and https reach it. One that belongs to a program
// of the kit is judged, and served, as that program.
func (c *catalogue) at(port uint16, as string, e *endpoint) {
	i, j := 0, len(c.spans)
	for i < j {
		if mid := (i + j) / 2; c.spans[mid].last < port {
			i = mid + 1
		} else {
			j = mid
		}
	}
	e.program, e.number, e.port, e.instance, e.tls, e.of = as, port, port, 0, false, nil
	if i == len(c.spans) || port < c.spans[i].first {
		return
	}
	s := &c.spans[i]
	e.program, e.number, e.of = s.program.name, s.instance+port-s.first, s.program
	if s.program.base == 0 {
		e.instance = e.number
	}
}

func compileCatalogue(in *Catalogue) (*catalogue, error) {
	c := &catalogue{byName: map[string]*program{}, says: digestOf(in.Programs)}
	var problems []error
	for _, p := range in.Programs {
		wrong := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("program %q: %w", p.Name, fmt.Errorf(format, args...)))
		}
		if p.Port == 0 {
			wrong("port 0")
		}
		if p.Instances < 1 || p.Instances > math.MaxUint16 || int(p.InstanceBase)+p.Instances-1 > math.MaxUint16 {
			wrong("%d instances from port %d", p.Instances, p.InstanceBase)
			continue
		}
		out := &program{name: p.Name, port: p.Port, base: p.InstanceBase, instances: uint16(p.Instances), levels: p.Levels, honours: p.HonoursLevel}
		for _, name := range append([]string{p.Name}, p.Names...) {
			other, taken := c.byName[name]
			switch {
			case !isProgram(name):
				wrong("the name %q is not of lower-case letters and digits", name)
			case name == programHTTP, name == programHTTPS, name == programSSH:
				wrong("the name %q is not for programs of the kit", name)
			case taken && other != out:
				wrong("the name %q is that of program %q", name, other.name)
			}
			c.byName[name] = out
		}
		c.spans = append(c.spans, span{out.port, out.port, 1, out})
		if out.base > 0 {
			c.spans = append(c.spans, span{out.base, out.base + out.instances - 1, 1, out})
		}
	}
	slices.SortFunc(c.spans, func(a, b span) int { return int(a.first) - int(b.first) })
	for i := 1; i < len(c.spans); i++ {
		if a, b := c.spans[i-1], c.spans[i]; b.first <= a.last {
			problems = append(problems, fmt.Errorf("programs %q and %q overlap at port %d", a.program.name, b.program.name, b.first))
		}
	}
	return c, errors.Join(problems...)
}

// isProgram says that a host label can hold the name between its dashes.
func isProgram(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
