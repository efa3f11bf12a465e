package edge

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// programHTTP reaches any port of a container, 80 unless the host names one.
const (
	programHTTP = "http"
	portHTTP    = 80
)

// labelAPI is the host of the agent's own API below the zone.
const labelAPI = "api"

// Table is a compiled [Config]: every route and every permission of a server
// at one moment. It is never written after [Compile], so it may be shared
// freely, and holds nothing that needs closing.
type Table struct {
	version string
	zone    string
	suffix  string // "." + zone
	api     bool

	byKey map[string]*container // "{project id}-{container id}"
	byID  map[string]*container
	alias map[string]*alias // by label
}

type container struct {
	id       string
	name     string
	addr     netip.Addr
	ingress  *ingress  // nil: no rules
	document *document // nil: none, which allows
}

type alias struct {
	container *container
	port      uint16
	target    string // "" or a path other than "/"
	below     string // target without its trailing slash
	override  bool
	expires   time.Time
}

// Compile checks a Config and makes a Table of it. The error joins every
// problem, in the order of the Config.
func Compile(c Config) (*Table, error) {
	t := &Table{
		version: c.Version,
		zone:    c.Zone,
		suffix:  "." + c.Zone,
		api:     c.API,
		byKey:   make(map[string]*container, len(c.Containers)),
		byID:    make(map[string]*container, len(c.Containers)),
		alias:   make(map[string]*alias, len(c.Aliases)),
	}
	named := make(map[string]*container, len(c.Containers))
	var problems []error
	if err := checkZone(c.Zone); err != nil {
		problems = append(problems, err)
	}
	// Containers of a project share one document, so it is compiled once.
	documents := make(map[*Permissions]*document)
	for _, in := range c.Containers {
		if err := t.addContainer(in, named, documents); err != nil {
			problems = append(problems, fmt.Errorf("container %q: %w", in.Name, err))
		}
	}
	for _, in := range c.Aliases {
		if err := t.addAlias(in, named); err != nil {
			problems = append(problems, fmt.Errorf("alias %q: %w", in.Name, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

func (t *Table) addContainer(in Container, named map[string]*container, documents map[*Permissions]*document) error {
	var problems []error
	made := in.ID != "" || in.ProjectID != "" || in.Addr.IsValid()
	for _, id := range []string{in.ProjectID, in.ID} {
		if made && !isID(id) {
			problems = append(problems, fmt.Errorf("id %q is not 24 lower-case hexadecimal digits", id))
		}
	}
	if named[in.Name] != nil {
		problems = append(problems, errors.New("the name is used twice"))
	}
	if other, taken := t.byID[in.ID]; taken {
		problems = append(problems, fmt.Errorf("id %s is also that of container %q", in.ID, other.name))
	}
	out := &container{id: in.ID, name: in.Name, addr: in.Addr.Unmap()}
	var err error
	if out.ingress, err = compileIngress(in.Ingress, out.addr); err != nil {
		problems = append(problems, err)
	}
	if in.Permissions != nil {
		compiled, done := documents[in.Permissions]
		if !done {
			if compiled, err = compileDocument(in.Permissions); err != nil {
				problems = append(problems, err)
			}
			documents[in.Permissions] = compiled
		}
		out.document = compiled
	}
	// Kept even when faulty, so that aliases of it are not reported as well;
	// the table is discarded then.
	named[in.Name] = out
	if made {
		t.byID[in.ID] = out
		t.byKey[in.ProjectID+"-"+in.ID] = out
	}
	return errors.Join(problems...)
}

func (t *Table) addAlias(in Alias, named map[string]*container) error {
	var problems []error
	switch {
	case !isLabel(in.Name):
		problems = append(problems, errors.New("the name is not a lower-case DNS label of at most 63 characters"))
	case looksGenerated(in.Name):
		problems = append(problems, errors.New("the name looks like a container's own host"))
	case in.Name == labelAPI:
		problems = append(problems, errors.New("the name is that of the API"))
	case t.alias[in.Name] != nil:
		problems = append(problems, fmt.Errorf("the name is also an alias of container %q", t.alias[in.Name].container.name))
	}
	target, known := named[in.Container]
	if !known {
		problems = append(problems, fmt.Errorf("there is no container %q", in.Container))
	}
	if in.Program != programHTTP {
		problems = append(problems, fmt.Errorf("there is no program %q", in.Program))
	}
	if in.Port == 0 {
		problems = append(problems, errors.New("port 0"))
	}
	if err := checkTargetPath(in.TargetPath); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	a := &alias{container: target, port: in.Port, override: in.AllowPathOverride, expires: in.ExpiresAt}
	if in.TargetPath != "/" {
		a.target = in.TargetPath
		a.below = strings.TrimSuffix(in.TargetPath, "/")
	}
	t.alias[in.Name] = a
	return nil
}

func checkZone(zone string) error {
	// A label of the greatest length must fit in front.
	if len(zone) > maxHost-maxLabel-1 {
		return fmt.Errorf("zone %q is longer than %d characters", zone, maxHost-maxLabel-1)
	}
	for label := range strings.SplitSeq(zone, ".") {
		if !isLabel(label) {
			return fmt.Errorf("zone %q is not a lower-case DNS name", zone)
		}
	}
	return nil
}

// names returns the sorted keys, so that errors and reasons do not depend on
// the order of a map.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
