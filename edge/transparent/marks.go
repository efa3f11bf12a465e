package transparent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// mark is one bit of the packet's mark, which others may use the rest of:
// Kubernetes, Calico, Cilium and Tailscale take other ones.
const mark = 0x01000000

// script is the table that marks, as one transaction. What others mark stays.
func script(bridge string) string {
	table := tableName(bridge)
	return fmt.Sprintf(`table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		iifname %[2]q meta l4proto tcp socket transparent 1 meta mark set meta mark | %#[3]x
	}
}
`, table, bridge, mark)
}

func tableName(bridge string) string { return fmt.Sprintf("swage-transparent-%04x", number(bridge)) }

// ensureMarks loads the table unless it is as it was right after it was loaded,
// and reports whether it did.
func (p *Path) ensureMarks(ctx context.Context) (loaded bool, err error) {
	if p.listed != "" {
		if now, err := list(ctx, p.bridge); err == nil && now == p.listed {
			return false, nil
		}
	}
	p.listed = ""
	if _, err := nft(ctx, script(p.bridge), "-f", "-"); err != nil {
		return false, err
	}
	p.listed, err = list(ctx, p.bridge)
	return true, err
}

func removeMarks(ctx context.Context, bridge string) error {
	table := tableName(bridge)
	// The first line makes the second succeed when there is no table.
	_, err := nft(ctx, "table inet "+table+"\ndelete table inet "+table+"\n", "-f", "-")
	return err
}

func list(ctx context.Context, bridge string) (string, error) {
	return nft(ctx, "", "-s", "list", "table", "inet", tableName(bridge))
}

// nft runs the program, which is not waited for longer than this.
func nft(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.String(), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("the program nft is missing: install the package nftables")
	case ctx.Err() != nil:
		return "", fmt.Errorf("nft: %w", ctx.Err())
	}
	const most = 400
	said := strings.TrimSpace(stderr.String())
	if len(said) > most {
		said = strings.ToValidUTF8(said[:most], "") + "…"
	}
	return "", fmt.Errorf("nft: %w: %s", err, said)
}
