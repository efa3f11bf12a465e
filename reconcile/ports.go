package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"swage/runtime"
)

// portRetry is how soon a port that is in use on the host is looked at again:
// nobody tells when it gets free.
const portRetry = 10 * time.Second

// ports leaves out what a container would publish at ports that programs of the
// host listen on: they would lose their callers. What is published already stays,
// and is told likewise. All else of the container is done.
func (d *differ) ports() {
	for i := range d.want.Containers {
		w := &d.want.Containers[i]
		var have []runtime.Publish
		var id runtime.ID
		if j, ok := d.match[i]; ok {
			have, id = d.have.Containers[j].Publish, d.have.Containers[j].ID
		}
		w.Publish = slices.DeleteFunc(slices.Clone(w.Publish), func(p runtime.Publish) bool {
			at := slices.IndexFunc(d.have.Listeners, func(l runtime.Listener) bool { return l.Hears(p) })
			if at < 0 {
				return false
			}
			stays := slices.Contains(have, p)
			if stays && p.Protocol == "udp" { // who only calls somebody may have this port for a while
				return false
			}
			h := portInUse(*w, p, d.have.Listeners[at], stays)
			h.Ref, h.Container, h.part = w.Ref(), id, true
			d.plan.Held = append(d.plan.Held, h)
			return !stays
		})
	}
}

// inUsePrefix begins what is held for a port of the host.
const inUsePrefix = "publish "

func portInUse(w runtime.Container, p runtime.Publish, by runtime.Listener, stays bool) Held {
	h := held(fmt.Sprintf("%s%s/%s of container %s", inUsePrefix, listenText(p), p.Protocol, w.Ref()),
		"a program of this host listens on %s/%s (ss -lnp shows which); stop it, or publish another port", by.Addr, by.Protocol)
	if stays {
		h.Why += "; until then the container has the callers of this port"
	}
	return h
}

// listenText is the address as an author writes it.
func listenText(p runtime.Publish) string {
	if p.Listen.Addr().IsUnspecified() {
		return fmt.Sprintf(":%d", p.Listen.Port())
	}
	return p.Listen.String()
}

// awaitsPorts reports whether something is held for a port of the host.
func awaitsPorts(list []Held) bool {
	return slices.ContainsFunc(list, func(h Held) bool { return strings.HasPrefix(h.What, inUsePrefix) })
}
