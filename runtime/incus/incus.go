// Package incus is the Runtime over the API of an Incus daemon.
//
// What swage knows of an object stands on the object, as user.swage.* keys.
// Names in Incus are cosmetic; the keys are the identity.
package incus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sys/unix"

	"swage/runtime"
	"swage/runtime/firewall"
)

// The keys on instances and projects. An absent one is the field's zero value.
const (
	keyFleet   = "user.swage.fleet"
	keyServer  = "user.swage.server"
	keyID      = "user.swage.id"
	keyProject = "user.swage.project"
	keyName    = "user.swage.name"

	keyImage       = "user.swage.image"
	keyKit         = "user.swage.kit"
	keyHost        = "user.swage.host" // for the templates of guests; see nameInside
	keyKeys        = "user.swage.keys" // one a line
	keyNoAutostart = "user.swage.no-autostart"
	keyCPU         = "user.swage.cpu"
	keyFirewall    = "user.swage.firewall"
	keyPublish     = "user.swage.publish"
	keySchedule    = "user.swage.snapshots.schedule"
	keyExpiry      = "user.swage.snapshots.expiry" // days
	keyKeep        = "user.swage.keep"
	keyDependsOn   = "user.swage.depends-on"
	keyColor       = "user.swage.color"
	keyRealms      = "user.swage.realms"
	keyProtected   = "user.swage.protected"
	keyAsked       = "user.swage.asked"
	keyCommit      = "user.swage.commit"
	keyDeclared    = "user.swage.declared"
	keyReplaced    = "user.swage.replaced"
	keyApplied     = "user.swage.applied"
	// keyUntil is when an archive may go (RFC 3339).
	keyUntil = "user.swage.until"
	// keyBoot is the host's start during which swage last made, started or
	// stopped the container.
	keyBoot = "user.swage.boot"
	// keyMaking stands on an instance until Incus says that it is whole, and
	// nothing is started before.
	keyMaking = "user.swage.making"

	envPrefix = "environment."
)

// Runtime is one scope of one daemon. Its fields are only a cache: losing
// them costs a query.
type Runtime struct {
	client *incus.ProtocolIncus
	scope  runtime.Scope
	boot   string // names the time since the host's last start

	guard guard
	peers peers

	mu sync.Mutex

	// where the containers are that Observe or a step saw.
	where map[runtime.ID]place
	// projects in Incus, by their names in the fleet, that Observe or a step
	// saw.
	projects map[string]string
	// taken addresses of the bridge; nil until it is next asked for them.
	taken  map[netip.Addr]bool
	bridge bridge // as it was asked then
	// gateway are the addresses that the bridge of this host should have; none
	// where it is elsewhere.
	gateway []netip.Prefix
	// seen snapshots, by "project/instance" in Incus; see snapshots.
	seen map[string]seenSnapshots
	// plain images, by fingerprint: those without templates.
	plain map[string]bool
	// unsettled: an operation that nobody waited for may still be under way.
	unsettled bool
}

// place is where Incus keeps a container.
type place struct {
	project, name string
	addr, addr6   netip.Addr
	mac           string
	fixed         bool // swage chose the addresses, and there are no others
	loose         bool // fixed, and somebody told Incus not to hold it to them
	status        api.StatusCode
	partial       bool // it was not seen whole
	id            runtime.ID
	ramdisk       bool
	memory        int64 // what bounds the ramdisk
	disk          int64 // the limit of the root disk; 0: none
	comment       string
}

// Open connects to the daemon that the scope names, or else to the one at a
// unix socket. It does not ask it anything yet, so it succeeds while the daemon
// is away.
func Open(socket string, scope runtime.Scope) (*Runtime, error) {
	client, boot, err := dial(socket, scope)
	if err != nil {
		return nil, err
	}
	return &Runtime{
		client: client, scope: scope, boot: boot,
		where: map[runtime.ID]place{}, projects: map[string]string{}, plain: map[string]bool{}, unsettled: true,
		guard: guard{away: away(scope.Daemon), firewall: firewall.Firewall{Table: "swage-" + string(scope.Fleet) + "-" + scope.Server, Bridge: scope.Bridge}},
	}, nil
}

func dial(socket string, scope runtime.Scope) (c *incus.ProtocolIncus, boot string, err error) {
	if scope.Daemon.Socket != "" {
		socket = scope.Daemon.Socket
	} else if away(scope.Daemon) {
		if c, err = connect(scope.Daemon, scope.Identity); err != nil {
			return nil, "", fmt.Errorf("incus at %s: %w", scope.Daemon.Remote, err)
		}
		return c, "", nil // nobody tells when that host starts again
	}
	local, err := incus.ConnectIncusUnixWithContext(context.Background(), socket, &incus.ConnectionArgs{
		SkipGetServer: true,
		SkipGetEvents: true, // operations are waited for by their own call
		UserAgent:     "swage",
	})
	if err != nil {
		return nil, "", fmt.Errorf("incus at %s: %w", socket, err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, "", fmt.Errorf("the host's boot id: %w", err)
	}
	return local.(*incus.ProtocolIncus), strings.TrimSpace(string(id)), nil
}

// in is a client for one project and one call. UseProject makes a copy;
// WithContext alone would change the client that all calls share.
func (r *Runtime) in(ctx context.Context, project string) *incus.ProtocolIncus {
	c := r.client.UseProject(project).(*incus.ProtocolIncus)
	return c.WithContext(ctx).(*incus.ProtocolIncus)
}

// wait asks for the end of an operation. The client's own way writes to the
// transport that all calls share.
func wait(c *incus.ProtocolIncus, id string) error {
	_, err := waited(c, id)
	return err
}

func waited(c *incus.ProtocolIncus, id string) (*api.Operation, error) {
	resp, _, err := c.RawQuery(http.MethodGet, "/1.0/operations/"+id+"/wait?timeout=-1", nil, "")
	if err != nil {
		return nil, err
	}
	op, err := resp.MetadataAsOperation()
	if err != nil {
		return nil, err
	}
	if op.Err != "" {
		return nil, errors.New(op.Err)
	}
	return op, nil
}

// finish waits for an operation that a call has begun.
func finish(c *incus.ProtocolIncus, op incus.Operation, err error) error {
	if err != nil {
		return err
	}
	return wait(c, op.Get().ID)
}

// brief keeps of an error what tells the cause: those of a full pool carry a
// program's whole command line, and pages of what it said.
func brief(err error) error {
	text := ranProgram.ReplaceAllStringFunc(err.Error(), func(run string) string {
		part := ranProgram.FindStringSubmatch(run)
		program, said := part[1], strings.Split(strings.TrimSpace(part[2]), "\n")
		cause := said[0]
		if i := slices.IndexFunc(said, func(line string) bool { return strings.Contains(strings.ToLower(line), unix.ENOSPC.Error()) }); i >= 0 {
			cause = unix.ENOSPC.Error()
		}
		return "failed to run " + program + ": " + cause
	})
	const most = 400
	if len(text) > most {
		text = fmt.Sprintf("%s… (%d bytes more)", strings.ToValidUTF8(text[:most], ""), len(text)-most)
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// ranProgram is how Incus tells of a program that failed.
var ranProgram = regexp.MustCompile(`(?s)Failed to run: (\S+).*?: exit status \d+ \((.*)\)`)

func notFound(err error) bool { return api.StatusErrorCheck(err, http.StatusNotFound) }

// legal makes a name that Incus takes. Two names may become the same one;
// what follows it must tell them apart.
func legal(name string, most int) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '-'
	}, name)
	out = strings.Trim(out[:min(len(out), most)], "-")
	if out == "" || out[0] >= '0' && out[0] <= '9' {
		out = "c" + out
	}
	return out
}

// newProjectName is what a project is called in Incus when it is made. Names that had to be changed get
// a suffix, so that no two projects share one.
func (r *Runtime) newProjectName(name string) string {
	out := r.scope.Prefix + legal(name, 35)
	if out != r.scope.Prefix+name {
		sum := sha256.Sum256([]byte(name))
		out += "-" + hex.EncodeToString(sum[:3])
	}
	return out
}

// marked reports whether config carries the mark of this scope.
func (r *Runtime) marked(config map[string]string) bool {
	return config[keyFleet] == string(r.scope.Fleet) && config[keyServer] == r.scope.Server
}

// unmarked is the error for an object that is in the way and not ours.
func unmarked(kind, name string) error {
	return fmt.Errorf("the Incus %s %q exists and does not carry the mark of this fleet and server; remove or rename it, or choose another name", kind, name)
}
