package main

import (
	"fmt"
	"os"
	"slices"

	"filippo.io/age"

	"swage/reconcile/api"
	"swage/reconcile/git"
	"swage/reconcile/hostfile"
	"swage/schema"
)

// nodeKeys is what secrets of the node file itself are read with: the operator
// may name any file and any variable.
func nodeKeys() schema.Keys {
	return schema.Keys{
		ReadFile:  func(name string) ([]byte, error) { return hostfile.Read(name, schema.MaxSecret) },
		LookupEnv: os.LookupEnv,
	}
}

// fleetKeys is what secrets of the repository are read with: of this node's
// files and variables only those that the node file lists. The files are
// watched by whoever runs the Watch.
func fleetKeys(n schema.Node) (schema.Keys, *hostfile.Watch, error) {
	files := &hostfile.Watch{Folders: n.SecretFolders}
	keys := schema.Keys{
		ReadFile: func(name string) ([]byte, error) { return files.Read(name, schema.MaxSecret) },
		LookupEnv: func(name string) (string, bool) {
			if !slices.Contains(n.SecretVariables, name) {
				return "", false
			}
			return os.LookupEnv(name)
		},
	}
	if n.AgeIdentities == "" {
		return keys, files, nil
	}
	f, err := os.Open(n.AgeIdentities)
	if err != nil {
		return keys, files, fmt.Errorf("age_identities: %w", err)
	}
	defer f.Close()
	if keys.Identities, err = age.ParseIdentities(f); err != nil {
		return keys, files, fmt.Errorf("age_identities: %s: %w", n.AgeIdentities, err)
	}
	return keys, files, nil
}

// certificateFolders are where the certificates of the server's file may lie.
func certificateFolders(n schema.Node) hostfile.Folders {
	return slices.Concat(n.CertificateFolders, n.SecretFolders)
}

// visitor is whose token it is, as git knows it.
func visitor(t api.Token, ok bool) (git.Visitor, bool) {
	return git.Visitor{Name: t.Name, Realm: t.Realm}, ok
}
