package schema

import (
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// DefaultStateDir is the state_dir of a node file that names none.
const DefaultStateDir = "/var/lib/swage"

// DefaultSecretFolder is the only one of secret_folders of a node file that
// names none.
const DefaultSecretFolder = "/etc/swage/secrets"

// Node is what an agent must know before it has a repository.
type Node struct {
	Server        string
	Source        NodeSource
	StateDir      string
	Socket        string
	Incus         struct{ Socket, Remote string }
	AgeIdentities string // file; empty: none
	Token         Secret
	Signers       Signers
	Limits        Limits

	// SecretFolders, SecretVariables and CertificateFolders are what of the node
	// the repository may name.
	SecretFolders, SecretVariables, CertificateFolders, LocalServices []string

	// Programs that the repository may have run, by the names it has for them.
	Programs map[string]NodeProgram

	AllowPrivateJWKS bool // keys may come from addresses that are not public
}

// NodeProgram is a program of the node. Command is never empty, and its first
// entry is an absolute path.
type NodeProgram struct {
	Command     []string
	Environment map[string]Secret
}

// NodeSource is where commits come from. Either Path or URL is set.
type NodeSource struct {
	Path, URL  string
	Push       bool // to a repository of the agent's own
	Branch     string
	Folder     string
	Username   string
	Token      Secret
	CA         string // file; empty: the system's
	SSHKey     string
	KnownHosts []string
	Poll       time.Duration
	SSH        PushSSH // beside Push

	ClientCertificate, ClientKey string // files; both or none
}

// PushSSH is where pushes are taken over SSH; an empty Listen: nowhere.
type PushSSH struct {
	Listen string
	Keys   map[string]Token // by name, each with an SSHKey
}

type rawNode struct {
	Server        string
	Source        rawSource
	StateDir      string `json:"state_dir"`
	Socket        string
	Incus         struct{ Socket, Remote string }
	AgeIdentities string `json:"age_identities"`
	PrivateJWKS   bool   `json:"allow_private_jwks"`
	Token         Secret
	Signers       rawSigners
	Programs      map[string]NodeProgram

	SecretFolders      []string `json:"secret_folders"`
	SecretVariables    []string `json:"secret_variables"`
	CertificateFolders []string `json:"certificate_folders"`
	LocalServices      []string `json:"local_services"`

	Limits struct {
		FileBytes        int64  `json:"file_bytes"`
		TreeBytes        int64  `json:"tree_bytes"`
		LoadedBytes      int64  `json:"loaded_bytes"`
		Files            int    `json:"files"`
		EvaluationMemory string `json:"evaluation_memory"`
		EvaluationTime   string `json:"evaluation_time"`
	}
}

type rawSource struct {
	Path, URL, Branch, Folder, Username string
	Push                                bool
	Token                               Secret
	CA                                  string
	SSHKey                              string   `json:"ssh_key"`
	KnownHosts                          []string `json:"known_hosts"`
	ClientCertificate                   string   `json:"client_certificate"`
	ClientKey                           string   `json:"client_key"`
	Poll                                string
	SSH                                 struct {
		Listen string
		Keys   map[string]struct {
			Key   string
			Allow []string
			Realm string
		}
	}
}

// one reports whether exactly one place is named.
func (s rawSource) one() bool {
	n := 0
	for _, named := range []bool{s.Path != "", s.URL != "", s.Push} {
		if named {
			n++
		}
	}
	return n == 1
}

// LoadNode reads a node file.
func LoadNode(name string, src []byte) (Node, error) {
	all, err := shapes()
	if err != nil {
		return Node{}, err
	}
	c := &checker{shapes: all}
	v, expression, problems := parse(name, src)
	if expression {
		c.add(spot{pos: Pos{File: name}}, "holds expressions; a node file is plain data")
	}
	c.problems = append(c.problems, problems...)
	var raw rawNode
	at := spot{Pos{name, 1, 1}, "", v}
	if v != nil && c.check(at, "#Node", &raw) && !raw.Source.one() {
		c.add(at.in("source"), "wants exactly one of path, url and push: true")
	}
	if (raw.Source.ClientCertificate == "") != (raw.Source.ClientKey == "") {
		c.add(at.in("source"), "wants client_certificate and client_key together")
	}
	for _, name := range slices.Sorted(maps.Keys(raw.Programs)) {
		if p := raw.Programs[name]; len(p.Command) == 0 || !filepath.IsAbs(p.Command[0]) {
			c.add(at.in("programs", name, "command"), "wants the absolute path of a program, then its arguments, as in [\"/usr/local/bin/dns-hook\"]")
		}
	}
	if raw.SecretFolders == nil {
		raw.SecretFolders = []string{DefaultSecretFolder}
	}
	poll, evaluation := duration(raw.Source.Poll), duration(raw.Limits.EvaluationTime)
	if raw.Source.Poll != "" && poll <= 0 {
		c.add(at.in("source", "poll"), noSpan)
	}
	if raw.Limits.EvaluationTime != "" && evaluation <= 0 {
		c.add(at.in("limits", "evaluation_time"), noSpan)
	}
	s := raw.Source
	ssh := PushSSH{s.SSH.Listen, map[string]Token{}}
	if ssh.Listen != "" && !s.Push {
		c.add(at.in("source", "ssh"), "is for push: true, where the agent is the remote; to follow a remote over ssh, name its url")
	}
	for name, k := range s.SSH.Keys {
		key, err := wire(k.Key)
		if err != nil {
			c.add(at.in("source", "ssh", "keys", name, "key"), "%v", err)
		}
		ssh.Keys[name] = Token{SSHKey: key, Allow: k.Allow, Realm: k.Realm}
	}
	if len(c.problems) > 0 {
		return Node{}, c.problems.sorted()
	}
	return Node{
		Server: raw.Server,
		Source: NodeSource{
			Path: s.Path, URL: s.URL, Push: s.Push, Branch: s.Branch, Folder: s.Folder, Username: s.Username,
			Token: s.Token, CA: s.CA, SSHKey: s.SSHKey, KnownHosts: s.KnownHosts, Poll: poll,
			ClientCertificate: s.ClientCertificate, ClientKey: s.ClientKey, SSH: ssh,
		},
		StateDir: raw.StateDir, Socket: raw.Socket, Incus: raw.Incus,
		AgeIdentities: raw.AgeIdentities, AllowPrivateJWKS: raw.PrivateJWKS, Token: raw.Token, Signers: Signers(raw.Signers),
		Programs: raw.Programs, SecretFolders: raw.SecretFolders, SecretVariables: raw.SecretVariables, CertificateFolders: raw.CertificateFolders, LocalServices: raw.LocalServices,
		Limits: Limits{
			FileBytes: raw.Limits.FileBytes, TreeBytes: raw.Limits.TreeBytes, LoadedBytes: raw.Limits.LoadedBytes, Files: raw.Limits.Files,
			EvaluationMemory: size(raw.Limits.EvaluationMemory), EvaluationTime: evaluation,
		},
	}, nil
}
