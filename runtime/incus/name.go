package incus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"swage/runtime"
)

// maxNames bounds the names that a container may try in Incus.
const maxNames = 8

// instanceName is the n-th name that a container may have in Incus, from 0. It
// is cosmetic: the label keyID is the identity. Incus wants it unique in its
// project and, as a DNS name, on the whole bridge, so it ends in a digest of the
// whole id. It has at most 59 characters; Incus takes 63.
func instanceName(c runtime.Container, n int) string {
	text := string(c.ID)
	if n > 0 {
		text = fmt.Sprintf("%s/%d", c.ID, n)
	}
	sum := sha256.Sum256([]byte(text))
	return legal(c.Name, 50) + "-" + hex.EncodeToString(sum[:4])
}

// isNameOf reports whether an instance of this name may keep it.
func isNameOf(c runtime.Container, name string) bool {
	for n := range maxNames {
		if instanceName(c, n) == name {
			return true
		}
	}
	return false
}

// errNameTaken is a name that another instance of the project has.
var errNameTaken = errors.New("another instance has the name")

// nameTaken tells from what Incus has under a name why an instance could not get
// it: errNameTaken if it is somebody else's. One that carries the container's id
// without the mark of this fleet and server was given up by hand; making the
// container a second time is not for swage to decide.
func (r *Runtime) nameTaken(ctx context.Context, project, name string, id runtime.ID, refused error) error {
	other, _, err := r.in(ctx, project).GetInstance(name)
	switch {
	case err != nil:
		return refused
	case other.Config[keyID] != string(id):
		return errNameTaken
	case !r.marked(other.Config):
		return unmarked("instance", name)
	}
	return refused
}

// renameInstance gives an instance that is stopped the first of its container's names
// that is free, other than the one it has.
func (r *Runtime) renameInstance(ctx context.Context, at *place, c runtime.Container) error {
	last := errNameTaken
	for n := range maxNames {
		name := instanceName(c, n)
		if name == at.name {
			continue
		}
		client := r.in(ctx, at.project)
		op, err := client.RenameInstance(at.name, api.InstancePost{Name: name})
		if err = finish(client, op, err); err != nil {
			if last = r.nameTaken(ctx, at.project, name, c.ID, err); errors.Is(last, errNameTaken) {
				continue
			}
			return last
		}
		at.name = name
		r.remember(c.ID, *at)
		return nil
	}
	return fmt.Errorf("rename the Incus instance %s: %w", at.name, last)
}

// renameForDNS gives a container that could not start another name, when the
// reason was that an instance of another project has it on the same bridge. It
// reports whether a new start is worth trying.
func (r *Runtime) renameForDNS(ctx context.Context, at *place, started error) (bool, error) {
	if text := started.Error(); !strings.Contains(text, "DNS name") || !strings.Contains(text, "already used") {
		return false, nil
	}
	in, _, err := r.in(ctx, at.project).GetInstance(at.name)
	if err != nil {
		return false, err
	}
	return true, r.renameInstance(ctx, at, container(in))
}
