package schema

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// meant says which field an author had in mind who wrote one that is not there.
func (s *shape) meant(f field) string {
	if hint := foreignFields[s.name][f.Name]; hint != "" {
		return "; " + hint
	}
	if _, near := nearest(f.Name, s.names()); near || len(s.fields) <= maxListed {
		return didYouMean(f.Name, s.names())
	}
	return "; \"swage schema\" shows all fields"
}

// foreignFields are what authors write who know another tool, by definition.
var foreignFields = map[string]map[string]string{
	"#Container": {
		"image":       `the field is container_image, as in container_image: "debian/13"`,
		"env":         `the field is environment_vars, as in environment_vars: NODE_ENV: "production"`,
		"environment": `the field is environment_vars, as in environment_vars: NODE_ENV: "production"`,
		"port":        `what listens in the container is reached by an alias, as in aliases: "my-api": {container: "web", port: 3000}`,
		"ports":       `to open a port of the host, as "8080:80" does elsewhere, write publish: [{listen: ":8080", port: 80}]; HTTP needs no port of its own: an alias has one, as in aliases: "my-api": {container: "web", port: 80}`,
		"cmd":         `a container runs a whole system, whose init starts programs; it has no command of its own`,
		"command":     `a container runs a whole system, whose init starts programs; it has no command of its own`,
		"entrypoint":  `a container runs a whole system, whose init starts programs; it has no command of its own`,
		"volumes":     `there are none in this version; data stands on the container's own disk`,
		"restart":     `a container is kept in its state, which is "running" unless the field state says otherwise`,
		"healthcheck": `the field is health, as in health: {program: "http", port: 3000, path: "/healthz"}`,
		"mem_limit":   `the field is resources, as in resources: memory: "2GiB"`,
		"memory":      `the field is resources.memory, as in resources: memory: "2GiB"`,
		"cpu":         `the field is resources.cpu, as in resources: cpu: 2`,
		"cpus":        `the field is resources.cpu, as in resources: cpu: 2`,
		"name":        `the name stands before the braces, as in containers: web: {…}`,
		"domains":     `the field belongs to an alias, as in aliases: "my-api": {container: "web", domains: ["api.example.com"]}`,
		"alias":       `aliases stand beside containers, as in aliases: "my-api": {container: "web"}`,
		"aliases":     `aliases stand beside containers, as in aliases: "my-api": {container: "web"}`,
	},
	"#Prune": {
		"snapshot": "it is called archive now, and keeps deleted containers for a number of days, as in archive: 7, which is the default",
	},
	"#Alias": {
		"domain": `the field is domains, as in domains: ["api.example.com"]`,
		"path":   `the field is target_path, or paths for parts that lead elsewhere`,
		"target": `the field is container, as in container: "web"`,
		"host":   `the alias's host is its name, as in aliases: "my-api": {…}; hosts of your own stand in domains`,
	},
}

// maxListed is how many fields a message lists.
const maxListed = 12

// domainHint says what is written for a name that is not a domain as it stands.
func domainHint(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return "; an address is no domain name"
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil || ascii == name {
		return ""
	}
	return fmt.Sprintf("; write %q", ascii)
}

// didYouMean offers the nearest known name, or lists them when none is near.
func didYouMean(name string, known []string) string {
	known = slices.Sorted(slices.Values(known)) // the same answer every time
	if near, ok := nearest(name, known); ok {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	if len(known) > 40 {
		return fmt.Sprintf("; there are %d, from %s to %s", len(known), known[0], known[len(known)-1])
	}
	return "; there " + areOrIs(known) + strings.Join(known, ", ")
}

func areOrIs(names []string) string {
	if len(names) == 1 {
		return "is only "
	}
	return "are "
}

// nearest finds a name that a slip of the fingers would turn into this one.
func nearest(name string, known []string) (string, bool) {
	best, dist := "", 3
	if len(name) > 100 {
		return "", false
	}
	for _, k := range known {
		if len(k)-len(name) > 2 || len(name)-len(k) > 2 {
			continue
		}
		d := editDistance(strings.ToLower(name), strings.ToLower(k))
		if d < dist && d < max(len(k), len(name)) {
			best, dist = k, d
		}
	}
	return best, best != ""
}

// editDistance counts the insertions, deletions and substitutions between two
// names (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// either joins alternatives as a sentence does: a, b or c.
func either(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
