package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// patience ends a program that hangs.
const patience = 30 * time.Second

// nft loads one transaction: all of it or nothing.
func nft(ctx context.Context, script string) error {
	_, err := command(ctx, script, "nft", "-f", "-")
	return err
}

// list prints both tables without what changes by itself.
func (f *Firewall) list(ctx context.Context) (string, error) {
	listed, err := command(ctx, "", "nft", "-s", "list", "table", "inet", f.Table)
	if err != nil {
		return "", err
	}
	arp, err := command(ctx, "", "nft", "-s", "list", "table", "arp", f.Table)
	return listed + arp, err
}

// packages that have the programs, by the names that Debian, Ubuntu, Fedora
// and Alpine share unless said.
var packages = map[string]string{"nft": "nftables", "ip": "iproute2 (Fedora: iproute)"}

func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	// A grandchild that keeps a pipe open must not hold us.
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.String(), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("firewall: the program %s is missing: install the package %s", name, packages[name])
	case ctx.Err() != nil:
		return "", fmt.Errorf("firewall: %s %s: %w", name, strings.Join(args, " "), ctx.Err())
	}
	const most = 400
	said := strings.TrimSpace(stderr.String())
	if len(said) > most {
		said = strings.ToValidUTF8(said[:most], "") + "…"
	}
	return "", fmt.Errorf("firewall: %s %s: %w: %s", name, strings.Join(args, " "), err, said)
}
