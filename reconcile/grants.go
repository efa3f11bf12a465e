package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"swage/edge"
	"swage/schema"
)

// permissions are a document as the edge takes it. Secrets were revealed
// before; a group with one that was not has nobody.
func permissions(p *schema.Permissions) *edge.Permissions {
	if p == nil {
		return nil
	}
	doc := &edge.Permissions{
		Default: edge.Deny,
		Groups:  map[string]edge.Group{},
		Cells:   map[string]map[string]edge.Cell{},
	}
	if p.DefaultAllow {
		doc.Default = edge.Allow
	}
	for name, g := range p.Groups {
		doc.Groups[name] = group(g)
	}
	for group, programs := range p.Cells {
		doc.Cells[group] = map[string]edge.Cell{}
		for program, cell := range programs {
			var ports []edge.PortRange
			for _, r := range cell.Ports {
				ports = append(ports, edge.PortRange{First: r.From, Last: r.To})
			}
			doc.Cells[group][program] = edge.Cell{Ports: ports, Level: cell.Level}
		}
	}
	return doc
}

// plain is a secret that was revealed. An empty one protects nothing, so it is
// taken for one that is missing.
func plain(s schema.Secret) (string, bool) {
	value, err := s.Reveal(schema.Keys{})
	return value, err == nil && value != ""
}

func group(g schema.Group) edge.Group {
	switch {
	case len(g.All) > 0:
		var out edge.Group
		for _, member := range g.All {
			out.All = append(out.All, group(member))
		}
		return out
	case g.Password != nil:
		if hash, ok := plain(g.Password.Hash); ok {
			return edge.Group{Password: &edge.Password{Username: g.Password.Username, Hash: hash}}
		}
	case g.Token != nil:
		out := edge.Token{Source: edge.Source{Header: g.Token.Header, Cookie: g.Token.Cookie, Param: g.Token.Param}}
		if n, err := hex.Decode(out.SHA256[:], []byte(g.Token.SHA256)); n == len(out.SHA256) && err == nil {
			return edge.Group{Token: &out}
		}
		if value, ok := plain(g.Token.Value); ok {
			out.SHA256 = sha256.Sum256([]byte(value))
			return edge.Group{Token: &out}
		}
	case g.JWT != nil:
		j := g.JWT
		out := edge.JWT{Rules: edge.JWTRules{
			Algorithm: j.Algorithm, PublicKey: j.PublicKey, JWKSURL: j.JWKSURL,
			Claims: j.Claims, Issuer: j.Issuer, Audience: j.Audience,
		}}
		for _, s := range j.Sources {
			out.Sources = append(out.Sources, edge.Source(s))
		}
		if !j.Secret.IsZero() {
			secret, ok := plain(j.Secret)
			if !ok {
				return edge.Group{}
			}
			out.Rules.Secret = []byte(secret)
		}
		return edge.Group{JWT: &out}
	default:
		return edge.Group{Ranges: slices.Clone(g.Ranges)}
	}
	return edge.Group{}
}
