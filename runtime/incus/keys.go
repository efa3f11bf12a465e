package incus

import (
	"context"
	"fmt"
	"strings"

	incus "github.com/lxc/incus/v6/client"

	"swage/runtime"
)

const keysFile = "/root/.ssh/authorized_keys"

// writeKeys makes root's authorized_keys in a container, stopped or running.
// The whole file is swage's from the first time that keys are asked for; an
// image's own stays until then. It comes before the key that Observe reads,
// so that a crash between the two repeats it.
func (r *Runtime) writeKeys(ctx context.Context, at place, keys []string) error {
	runtime.Phase(ctx, "writing keys")
	c := r.in(ctx, at.project)
	for _, dir := range []string{"/root", "/root/.ssh"} {
		if err := c.CreateInstanceFile(at.name, dir, incus.InstanceFileArgs{Type: "directory", Mode: 0o700}); err != nil {
			return fmt.Errorf("write %s: %w", keysFile, err)
		}
	}
	text := strings.Join(keys, "\n")
	if text != "" {
		text += "\n"
	}
	err := c.CreateInstanceFile(at.name, keysFile, incus.InstanceFileArgs{
		Type: "file", Mode: 0o600, WriteMode: "overwrite", Content: strings.NewReader(text),
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", keysFile, err)
	}
	return nil
}
