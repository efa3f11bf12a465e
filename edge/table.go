package edge

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// labelAPI is the host of the agent's own API below the zone.
const labelAPI = "api"

// labelGit is the host of the agent's repository.
const labelGit = "git"

// reserved are labels below the zone that are no alias's: hosts of the agent's
// own.
func reserved[T string | []byte](label T) bool {
	switch string(label) {
	case labelAPI, labelGit, "status", programSSH, "containers", "localhost":
		return true
	}
	return false
}

// Table is a compiled [Config]: every route and every permission of a server
// at one moment. It is never written after [Compile], so it may be shared
// freely, and holds nothing that needs closing.
type Table struct {
	version string
	zone    string
	suffix  string // "." + zone
	api     bool
	git     bool

	byKey    index
	byID     map[string]*container
	alias    map[string]*alias // by label
	domain   map[string]*alias // by custom domain
	sections sections          // all containers, for comparing
	params   bool              // some document takes credentials from queries
	parents  map[string]bool   // custom domains that lie above another host of the table
	leads    Digest            // stands for all aliases, for comparing
	where    func(Cause) (field, at string)
}

type container struct {
	key       key // zero for one that was never made
	id        string
	name      string
	addr      netip.Addr
	addr6     netip.Addr
	closed    bool
	catalogue *catalogue // nil: no program at all
	ingress   *ingress   // nil: no rules
	document  *document  // nil: none, which allows
}

// target is a resolved [Target]. It leads nowhere without a container.
type target struct {
	container *container
	endpoint  endpoint
}

type alias struct {
	name string
	target
	path     string // "" or a target path other than "/"
	below    string // path without its trailing slash
	override bool
	paths    []aliasPath // the longest first
	expires  time.Time
}

type aliasPath struct {
	path string
	target
}

// Compile checks a Config and makes a Table of it. The error joins every
// problem, in the order of the Config.
func Compile(c Config) (*Table, error) {
	t := &Table{
		version: c.Version,
		zone:    c.Zone,
		suffix:  "." + c.Zone,
		api:     c.API,
		git:     c.Git,
		where:   c.Where,
		byID:    make(map[string]*container, len(c.Containers)),
		alias:   make(map[string]*alias, len(c.Aliases)),
		domain:  make(map[string]*alias),
	}
	named := make(map[string]*container, len(c.Containers))
	var problems []error
	if err := checkZone(c.Zone); err != nil {
		problems = append(problems, err)
	}
	shared := shared{make(map[*Permissions]*document), make(map[*Catalogue]*catalogue)}
	for _, in := range c.Containers {
		if err := t.addContainer(in, named, shared); err != nil {
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
	t.byKey = newIndex(t.byID)
	t.parents = t.parentDomains()
	return t, nil
}

// shared is what many containers have in common, compiled once.
type shared struct {
	documents  map[*Permissions]*document
	catalogues map[*Catalogue]*catalogue
}

func (t *Table) addContainer(in Container, named map[string]*container, shared shared) error {
	var problems []error
	if !in.Addr.IsValid() { // a container of IPv6 only is called there by everybody
		in.Addr = in.Addr6
	}
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
	out := &container{id: in.ID, name: in.Name, addr: in.Addr.Unmap(), addr6: in.Addr6, closed: in.Closed}
	var err error
	if out.ingress, err = compileIngress(in.Ingress, out.addr, out.addr6); err != nil {
		problems = append(problems, err)
	}
	if in.Permissions != nil {
		compiled, done := shared.documents[in.Permissions]
		if !done {
			if compiled, err = compileDocument(in.Permissions); err != nil {
				problems = append(problems, err)
			}
			shared.documents[in.Permissions] = compiled
		}
		out.document = compiled
		t.params = t.params || compiled != nil && compiled.reading.query
	}
	if in.Catalogue != nil {
		compiled, done := shared.catalogues[in.Catalogue]
		if !done {
			if compiled, err = compileCatalogue(in.Catalogue); err != nil {
				problems = append(problems, err)
			}
			shared.catalogues[in.Catalogue] = compiled
		}
		out.catalogue = compiled
	}
	// Kept even when faulty, so that aliases of it are not reported as well;
	// the table is discarded then.
	named[in.Name] = out
	if made {
		t.byID[in.ID] = out
		copy(out.key[:], in.ProjectID+"-"+in.ID)
	}
	t.sections.add(out)
	return errors.Join(problems...)
}

func (t *Table) addAlias(in Alias, named map[string]*container) error {
	var problems []error
	switch {
	case !isLabel(in.Name):
		problems = append(problems, errors.New("the name is not a lower-case DNS label of at most 63 characters"))
	case looksGenerated(in.Name):
		problems = append(problems, errors.New("the name looks like a container's own host"))
	case reserved(in.Name):
		problems = append(problems, errors.New("the name is reserved"))
	case t.alias[in.Name] != nil:
		problems = append(problems, errors.New("the name is used twice"))
	}
	resolve := func(in Target) target {
		to, err := resolve(in, named)
		if err != nil {
			problems = append(problems, err)
		}
		return to
	}
	a := &alias{name: in.Name, target: resolve(in.Target), override: in.AllowPathOverride, expires: in.ExpiresAt}
	if in.TargetPath != "/" {
		a.path = in.TargetPath
		a.below = strings.TrimSuffix(in.TargetPath, "/")
	}
	if err := checkTargetPath(in.TargetPath); err != nil {
		problems = append(problems, err)
	}
	for _, p := range in.Paths {
		if err := checkAliasPath(p.Path); err != nil {
			problems = append(problems, err)
		}
		a.paths = append(a.paths, aliasPath{p.Path, resolve(p.Target)})
	}
	slices.SortFunc(a.paths, func(x, y aliasPath) int {
		return cmp.Or(len(y.path)-len(x.path), strings.Compare(x.path, y.path))
	})
	for i := 1; i < len(a.paths); i++ {
		if a.paths[i].path == a.paths[i-1].path {
			problems = append(problems, fmt.Errorf("path %q is there twice", a.paths[i].path))
		}
	}
	for _, domain := range in.Domains {
		switch {
		case len(domain) > maxHost || !isDomain(domain) || !strings.Contains(domain, "."):
			problems = append(problems, fmt.Errorf("domain %q is not a lower-case DNS name of two labels or more", domain))
		case domain == t.zone || strings.HasSuffix(domain, t.suffix):
			problems = append(problems, fmt.Errorf("domain %q lies in the zone", domain))
		case t.domain[domain] != nil:
			problems = append(problems, fmt.Errorf("domain %q is used twice", domain))
		}
		t.domain[domain] = a
	}
	t.alias[in.Name] = a
	t.leads = a.digest(t.leads, in.Domains)
	return errors.Join(problems...)
}

// resolve finds a target. What its container does not offer is no fault: the
// same catalogue may be right for one container and come too soon for another
// that could not follow a change.
func resolve(in Target, named map[string]*container) (target, error) {
	if in == (Target{}) {
		return target{}, nil
	}
	c, known := named[in.Container]
	switch {
	case !known:
		return target{}, fmt.Errorf("there is no container %q", in.Container)
	case in.Program == "":
		return target{}, errors.New("a target without a program")
	case in.Index < 0 || in.Index > math.MaxUint16:
		return target{}, fmt.Errorf("there is no instance %d", in.Index)
	}
	n := uint16(in.Index)
	if in.Program == programHTTP || in.Program == programHTTPS {
		n = in.Port
	}
	to := target{container: c}
	if !find(c.catalogue, in.Program, n, &to.endpoint) {
		return target{}, nil
	}
	return to, nil
}

// Domains are the custom domains of the table: the names beside those of the
// zone that a certificate may be made for, each with the moment from which on
// it may not, since its alias is unknown then; zero is never.
func (t *Table) Domains() map[string]time.Time {
	out := map[string]time.Time{}
	if t != nil {
		for name, a := range t.domain {
			out[name] = a.expires
		}
	}
	return out
}

func checkZone(zone string) error {
	// A label of the greatest length must fit in front.
	if len(zone) > maxHost-maxLabel-1 {
		return fmt.Errorf("zone %q is longer than %d characters", zone, maxHost-maxLabel-1)
	}
	if !isDomain(zone) {
		return fmt.Errorf("zone %q is not a lower-case DNS name", zone)
	}
	return nil
}

func isDomain(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// names returns the sorted keys, so that errors and reasons do not depend on
// the order of a map.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
