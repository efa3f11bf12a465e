package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"swage/schema"
)

// RightChange is one thing that somebody may do to a server or to the fleet, or
// whose word counts there, under one fleet and not under another. Who may push
// decides what every container runs and whom it lets in, so that no change of
// access says more. It holds no secret.
type RightChange struct {
	// Gains says that a right is gained, otherwise it is lost.
	Gains bool `json:"gains"`

	// Opens says that who gains may change containers or permissions, or say who
	// a caller is.
	Opens bool `json:"opens,omitempty"`

	// Who has the right: "token ci", "networks 203.0.113.0/24", "signer ann@example.com".
	Who string `json:"who"`

	// Right in words: "push", "push in realm 5a…", "say where callers come from".
	Right string `json:"right"`

	// Field asks for it, At a file: in the new fleet, or in the old one where
	// something was taken away.
	Field string `json:"field"`
	At    string `json:"at"`

	ref string // container that a port is published of
}

// RightsBetween is what two fleets let whom do to a server beside what their
// permissions say, sorted. A nil fleet lets nobody do anything. Secrets are
// compared by how they are declared.
func RightsBetween(before, after *schema.Fleet, server string) []RightChange {
	was, is := rightsOf(before, server), rightsOf(after, server)
	if len(was) == 0 { // there was no server, so that this opens nothing
		delete(is, unsigned)
	}
	out := []RightChange{}
	take := func(from, in map[string]RightChange, gains bool) {
		for _, key := range slices.Sorted(maps.Keys(from)) {
			if _, there := in[key]; !there {
				c := from[key]
				c.Gains, c.Opens = gains, c.Opens && gains
				out = append(out, c)
			}
		}
	}
	take(is, was, true)
	take(was, is, false)
	slices.SortStableFunc(out, func(a, b RightChange) int { return strings.Compare(a.Who, b.Who) })
	return out
}

// unsigned is the key of a fleet without signers.
const unsigned = "unsigned"

// rightsOf are the rights of a fleet, by what makes two of them the same.
func rightsOf(f *schema.Fleet, server string) map[string]RightChange {
	out := map[string]RightChange{}
	if f == nil {
		return out
	}
	s, ok := f.Servers[server]
	if !ok {
		return out
	}
	at := s.Pos.File
	for name, t := range s.Tokens {
		for _, right := range t.Allow {
			c := RightChange{Who: "token " + name, Right: right, Field: "tokens." + name, At: at, Opens: right == "push" && t.Realm == ""}
			if t.Realm != "" {
				c.Right += " in realm " + t.Realm
			}
			if !t.ExpiresAt.IsZero() {
				c.Right += " until " + t.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z")
			}
			credential := t.SHA256 + " " + string(t.SSHKey)
			if !t.Value.IsZero() {
				credential = "value " + t.Value.Opaque()
			}
			out[fmt.Sprintf("%q %q %q", name, c.Right, credential)] = c
		}
	}
	for _, network := range s.Balancers {
		out["balancer "+network.String()] = RightChange{
			Who: "network " + network.String(), Right: "say where callers come from (proxy_protocol)", Field: "proxy_protocol", At: at, Opens: true,
		}
	}
	for _, p := range f.Projects {
		for _, c := range p.Containers {
			if c.Server != server {
				continue
			}
			ref := p.Name + "/" + c.Name
			for _, port := range c.Publish {
				right := RightChange{
					Who: fmt.Sprintf("who reaches %s %s", port.Protocol, port.Listen), Right: fmt.Sprintf("port %d of %s, past the edge", port.Port, ref),
					Field: "publish", At: c.At("publish").String(), Opens: true, ref: ref,
				}
				out[fmt.Sprintf("publish %q %q %s %d", cmp.Or(c.ID, ref), port.Listen, port.Protocol, port.Port)] = right
			}
		}
	}
	signer := RightChange{Right: "sign commits", Field: "signers", At: f.At("signers").String(), Opens: true}
	for _, line := range f.Signers.SSH {
		c := signer
		c.Who, _, _ = strings.Cut(line, " ")
		c.Who = fmt.Sprintf("signer %q", c.Who)
		out["ssh "+line] = c
	}
	for _, key := range f.Signers.OpenPGP {
		c := signer
		c.Who = "signer with an OpenPGP key"
		out["openpgp "+key] = c
	}
	if len(f.Signers.SSH)+len(f.Signers.OpenPGP) == 0 {
		c := signer
		c.Who, c.Right = "everyone who may push", "push what nobody signed, unless the node file has signers"
		out[unsigned] = c
	}
	return out
}

// AddRights puts what two fleets let whom do to a server into its plan, which
// is the last of the proposal.
func (p *Proposal) AddRights(before, after *schema.Fleet) {
	s := &p.Servers[len(p.Servers)-1]
	s.Rights = slices.DeleteFunc(RightsBetween(before, after, s.Server), func(c RightChange) bool {
		held := func(h Held) bool { return h.Ref == c.ref && !h.part }
		return c.ref != "" && !c.Gains && slices.ContainsFunc(s.Held, held) // it stays as it is
	})
}

// sign is the mark of its line.
func (c RightChange) sign() string {
	switch {
	case c.Opens:
		return "!"
	case c.Gains:
		return "+"
	}
	return "-"
}

// words are the change without its place.
func (c RightChange) words() string {
	if c.Gains {
		return c.Who + " gains: " + c.Right
	}
	return c.Who + " loses: " + c.Right
}

func (c RightChange) text() string {
	what := "rights"
	if c.Opens {
		what = "RIGHTS"
	}
	return fmt.Sprintf("%s %s %s %s", c.sign(), what, c.words(), c.At)
}

// markdown is a row of the table of steps.
func (c RightChange) markdown() string {
	sign := c.sign()
	if c.Opens {
		sign = "! RIGHTS"
	}
	return fmt.Sprintf("| `%s` | %s | rights | %s |\n", sign, escape(c.words()), code(c.At))
}
