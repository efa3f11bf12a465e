package incus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	incustls "github.com/lxc/incus/v6/shared/tls"

	"swage/runtime"
)

// peers are the daemons of other servers that were asked for something.
type peers struct {
	mu    sync.Mutex
	known map[runtime.Daemon]*incus.ProtocolIncus
}

// away says that a daemon runs on another machine.
func away(d runtime.Daemon) bool { return d.Socket == "" && d.Remote != "" }

// connect makes a client of a daemon on another machine. It does not ask it
// anything yet.
func connect(d runtime.Daemon, identity string) (*incus.ProtocolIncus, error) {
	crt, key, err := clientCertificate(identity)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	c, err := incus.ConnectIncus(d.Remote, &incus.ConnectionArgs{
		TLSClientCert: crt, TLSClientKey: key, TLSServerCert: d.Certificate,
		SkipGetServer: true, SkipGetEvents: true, UserAgent: "swage",
	})
	if err != nil {
		return nil, err
	}
	return c.(*incus.ProtocolIncus), nil
}

const (
	clientCrt = "incus-client.crt"
	clientKey = "incus-client.key"
)

// clientCertificate is that of this server, made when it is first needed.
func clientCertificate(dir string) (crt, key string, err error) {
	if dir == "" {
		return "", "", errors.New("there is no folder to keep one in")
	}
	at := filepath.Join(dir, clientCrt)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	if err := incustls.FindOrGenCert(at, filepath.Join(dir, clientKey), true, false); err != nil {
		return "", "", err
	}
	c, err := os.ReadFile(at)
	if err != nil {
		return "", "", err
	}
	k, err := os.ReadFile(filepath.Join(dir, clientKey))
	return string(c), string(k), err
}

// peer is a client of another server's daemon, with that daemon's own
// certificate, once it trusts this server.
func (r *Runtime) peer(ctx context.Context, p runtime.Peer) (*incus.ProtocolIncus, string, error) {
	if p.Daemon.Remote == "" {
		return nil, "", fmt.Errorf("nothing says where the Incus of %s is reached; name it in servers/%s.cue, as in incus: remote: \"https://…:8443\"", p.Server, p.Server)
	}
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	known := r.peers.known[p.Daemon]
	if known == nil {
		var err error
		if known, err = connect(p.Daemon, r.scope.Identity); err != nil {
			return nil, "", fmt.Errorf("incus of %s: %w", p.Server, err)
		}
		if r.peers.known == nil {
			r.peers.known = map[runtime.Daemon]*incus.ProtocolIncus{}
		}
		r.peers.known[p.Daemon] = known
	}
	c := known.WithContext(ctx).(*incus.ProtocolIncus)
	info, _, err := c.GetServer()
	if err != nil {
		return nil, "", fmt.Errorf("incus of %s at %s: %w", p.Server, p.Daemon.Remote, err)
	}
	if info.Auth != "trusted" {
		return nil, "", fmt.Errorf("the Incus of %s does not trust this server yet; there, run incus config trust add-certificate with %s of this one", p.Server, filepath.Join(r.scope.Identity, clientCrt))
	}
	return c, info.Environment.Certificate, nil
}

// Seek asks the daemon of another server. See runtime.Runtime.
func (r *Runtime) Seek(ctx context.Context, o runtime.Origin) (runtime.Container, error) {
	c, _, err := r.peer(ctx, o.Peer)
	if err != nil {
		return runtime.Container{}, brief(err)
	}
	in, _, err := r.original(c, o)
	if err != nil {
		return runtime.Container{}, brief(err)
	}
	return container(in), nil
}

// original is the instance of a peer that is to be copied, with the snapshot of
// it; empty is the instance as it is.
func (r *Runtime) original(c *incus.ProtocolIncus, o runtime.Origin) (*api.Instance, string, error) {
	filter := []string{"config." + keyFleet + "=" + string(r.scope.Fleet), "config." + keyServer + "=" + o.Peer.Server}
	role := ""
	if o.Archive != "" {
		filter, role = append(filter, "config."+keyID+"="+string(o.Archive)), roleArchive
	} else {
		project, name, _ := strings.Cut(o.Container, "/")
		filter = append(filter, "config."+keyProject+"="+project, "config."+keyName+"="+name)
	}
	found, err := c.GetInstancesAllProjectsWithFilter(api.InstanceTypeContainer, filter)
	if err != nil {
		return nil, "", fmt.Errorf("find %s: %w", o.Name(), err)
	}
	found = slices.DeleteFunc(found, func(in api.Instance) bool { return in.Config[keyRole] != role || halfMade(in.Config) })
	if len(found) == 0 {
		return nil, "", fmt.Errorf("there is no %s", o.Name())
	}
	slices.SortFunc(found, byAge) // behind the first are copies by hand
	in := &found[0]
	if o.Snapshot == "" {
		return in, "", nil
	}
	taken, err := c.UseProject(in.Project).GetInstanceSnapshotNames(in.Name)
	if err != nil {
		return nil, "", fmt.Errorf("snapshots of %s: %w", o.Name(), err)
	}
	if !slices.Contains(taken, o.Snapshot) {
		return nil, "", fmt.Errorf("%s has no snapshot %s", o.Name(), o.Snapshot)
	}
	return in, o.Snapshot, nil
}

// pulling is keyMaking of a copy from another server. It cannot be made again
// from what is known here; see remake.
const pulling = "pull"

// pull offers an instance of another server's daemon to ours, which fetches
// it. Image and Kit are those of the source.
func (r *Runtime) pull(ctx context.Context, o runtime.Origin, w *runtime.Container) (recipe, error) {
	c, certificate, err := r.peer(ctx, o.Peer)
	if err != nil {
		return recipe{}, err
	}
	in, snapshot, err := r.original(c, o)
	if err != nil {
		return recipe{}, fmt.Errorf("copy: %w", err)
	}
	at := c.UseProject(in.Project).(*incus.ProtocolIncus).WithContext(ctx).(*incus.ProtocolIncus)
	var op incus.Operation
	if snapshot != "" {
		op, err = at.MigrateInstanceSnapshot(in.Name, snapshot, api.InstanceSnapshotPost{Migration: true})
	} else {
		op, err = at.MigrateInstance(in.Name, api.InstancePost{Migration: true, InstanceOnly: true})
	}
	if err != nil {
		return recipe{}, fmt.Errorf("copy %s: %w", o.Name(), err)
	}
	secrets := map[string]string{}
	for name, v := range op.Get().Metadata {
		if text, ok := v.(string); ok {
			secrets[name] = text
		}
	}
	w.Image, w.Kit = in.Config[keyImage], in.Config[keyKit] == "true"
	source := api.InstanceSource{
		Type: "migration", Mode: "pull", InstanceOnly: true,
		Operation:   strings.TrimSuffix(o.Peer.Daemon.Remote, "/") + "/1.0/operations/" + op.Get().ID,
		Certificate: certificate, Websockets: secrets, BaseImage: in.Config["volatile.base_image"],
	}
	return recipe{source: source, making: pulling, arch: in.Architecture}, nil
}
