package incus

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// hostName is a container's name as a host name: letters, digits and inner
// hyphens, at most 63.
func hostName(name string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
	out = strings.Trim(out[:min(len(out), 63)], "-")
	if out == "" {
		return "container"
	}
	return out
}

// nameFrom has the host name follow the container's name. Guests read it
// from files that Incus makes of the image's templates, which know only the
// instance's name: here they learn of ours, which Incus reads anew each time.
// A guest that has no such file keeps the name that it is started with; that an
// image has none is remembered.
func (r *Runtime) nameFrom(ctx context.Context, at place, fingerprint string) error {
	r.mu.Lock()
	plain := r.plain[fingerprint]
	r.mu.Unlock()
	if plain {
		return nil
	}
	none, err := r.nameInside(ctx, at)
	if err == nil && none && fingerprint != "" {
		r.mu.Lock()
		r.plain[fingerprint] = true
		r.mu.Unlock()
	}
	return err
}

// nameInside does it for one instance, and reports whether it has no templates
// at all.
func (r *Runtime) nameInside(ctx context.Context, at place) (none bool, err error) {
	c := r.in(ctx, at.project)
	meta, etag, err := c.GetInstanceMetadata(at.name)
	if err != nil {
		return false, fmt.Errorf("templates: %w", err)
	}
	var seen []string
	for _, t := range meta.Templates {
		if slices.Contains(seen, t.Template) {
			continue
		}
		seen = append(seen, t.Template)
		if err := r.renameTemplate(ctx, at, t.Template); err != nil {
			return false, fmt.Errorf("template %s: %w", t.Template, err)
		}
	}
	t := meta.Templates["/etc/hostname"]
	if t == nil || slices.Contains(t.When, "start") {
		return len(meta.Templates) == 0, nil
	}
	t.When = append(t.When, "start")
	if err := c.UpdateInstanceMetadata(at.name, *meta, etag); err != nil {
		return false, fmt.Errorf("templates: %w", err)
	}
	return false, nil
}

func (r *Runtime) renameTemplate(ctx context.Context, at place, name string) error {
	text, err := r.readTemplate(ctx, at, name)
	if err != nil {
		return err
	}
	ours := `config_get("` + keyHost + `", "")`
	out := strings.NewReplacer("container.name", ours, "instance.name", ours).Replace(text)
	if out == text {
		return nil
	}
	return r.writeTemplate(ctx, at, name, out)
}
