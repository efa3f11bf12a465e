//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// up makes the lab what it should be, from whatever is there. Each step looks
// first and does only what is missing, so the second run is quick and a run
// after a crash repairs.
func (l *Lab) up(ctx context.Context, pool string, needs []need, stdin io.Reader) error {
	began := time.Now()
	unlock, err := l.lock(true)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := l.cgroups()
	if err != nil {
		return err
	}
	defer c.close()
	err = inOrder(
		func() error { return l.packages(ctx, stdin, needs) },
		func() error { _, err := l.namespaces(ctx, c); return err },
		func() error { return l.daemon(ctx, c) },
		func() error { return l.furnish(ctx, pool) },
		func() error {
			// Containers on one bridge talk through this machine, not past it.
			return l.inside(c, func() error {
				return os.WriteFile("/proc/sys/net/ipv4/conf/"+bridge+"/proxy_arp_pvlan", []byte("1"), 0)
			})
		},
		func() error { return l.image(ctx, "tiny") },
		l.writeEnv,
	)
	if err != nil {
		return err
	}
	l.say("ready in %v: INCUS_DIR=%s", time.Since(began).Round(time.Millisecond), l.incusDir())
	return nil
}

// writeEnv leaves the lab's addresses for other programs, as a shell reads
// them. Lab itself never reads it.
func (l *Lab) writeEnv() error {
	text := fmt.Sprintf("INCUS_DIR=%s\nINCUS_SOCKET=%s/unix.socket\nNETNS=%s\nBRIDGE=%s\nIPV4=%s\nIPV6=%s\n",
		l.incusDir(), l.incusDir(), l.Name, bridge, subnet4, subnet6)
	temp := filepath.Join(l.Dir, "lab.env.new")
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write lab.env: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(l.Dir, "lab.env")); err != nil {
		return fmt.Errorf("write lab.env: %w", err)
	}
	return nil
}
