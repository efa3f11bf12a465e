//go:build linux

package main

import (
	"context"
	"errors"
)

func (l *Lab) status(ctx context.Context) error {
	c, err := l.cgroups()
	if err != nil {
		return err
	}
	defer c.close()
	holder, found := c.holder()
	if !found {
		return errDown
	}
	l.say("lab        %s\nnetwork    %s, kept by process %d", l.Dir, l.Name, holder)
	pid, running := l.incusd(c)
	if !running || !l.answers() {
		return errors.New("the daemon of Incus does not answer: repair it with `lab up`")
	}
	var server struct {
		Environment struct {
			Version string `json:"server_version"`
			Storage string `json:"storage"`
		} `json:"environment"`
	}
	var instances []struct{ Name, Project, Status string }
	if err := l.query(ctx, "/1.0", &server); err != nil {
		return err
	}
	if err := l.query(ctx, "/1.0/instances?recursion=1&all-projects=true", &instances); err != nil {
		return err
	}
	l.say("incus      %s on %s, process %d, INCUS_DIR=%s", server.Environment.Version, server.Environment.Storage, pid, l.incusDir())
	l.say("inside     %d commands of `lab exec`", len(c.pids("exec")))
	l.say("instances  %d", len(instances))
	for _, i := range instances {
		l.say("  %-8s %s/%s", i.Status, i.Project, i.Name)
	}
	return nil
}
