package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"swage/edge/limit"
)

// visit is a session of SSH (RFC 4254, section 6) that runs one command.
type visit struct {
	of  *SSH
	ch  gossh.Channel
	key []byte // that opened the connection
	cut func() // ends the connection at once

	receiving, sending limit.Rate
}

// mostAsked bounds what is asked before a command: variables and the like.
const mostAsked = 64

// serve answers until there is a command, and does that. Idle ends the
// connection where nothing is done.
func (v *visit) serve(ctx context.Context, asked <-chan *gossh.Request, idle *time.Timer) {
	defer v.ch.Close()
	for n := 0; n < mostAsked; n++ {
		r, ok := <-asked
		if !ok {
			return
		}
		switch r.Type {
		case "exec":
			var e struct{ Command string }
			if gossh.Unmarshal(r.Payload, &e) != nil {
				_ = r.Reply(false, nil)
				return
			}
			idle.Stop()
			_ = r.Reply(true, nil)
			v.exit(v.exec(ctx, asked, e.Command))
			idle.Reset(farewell)
			gossh.DiscardRequests(asked)
			return
		case "shell":
			_ = r.Reply(true, nil)
			v.exit(v.refuse(onlyGit))
			gossh.DiscardRequests(asked)
			return
		default: // no variable, no terminal, no agent, no X11, no subsystem
			_ = r.Reply(false, nil)
		}
	}
}

// exit ends the session with the status of its command.
func (v *visit) exit(status uint32) {
	_, _ = v.ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{status}))
	v.ch.Close()
}

func (v *visit) refuse(why string) uint32 {
	fmt.Fprintf(v.ch.Stderr(), "swage: %s\n", why)
	return 1
}

// exec runs git for a command, between the channel and the repository.
func (v *visit) exec(ctx context.Context, asked <-chan *gossh.Request, command string) uint32 {
	service, err := order(command)
	if err != nil {
		return v.refuse(err.Error())
	}
	right := map[string]string{"upload-pack": "read", "receive-pack": "push"}[service]
	who, ok := permit(v.of.Allow, v.key, right)
	if !ok {
		return v.refuse("a key that allows " + right + " is needed")
	}
	s := v.of.Server
	leave, err := s.slots.take(service, who)
	if err != nil {
		return v.refuse(err.Error())
	}
	defer leave()
	// The requests of a channel end when it does, or its connection.
	ctx, cancel := context.WithCancel(ctx)
	var gone sync.WaitGroup
	defer gone.Wait()
	defer cancel()
	gone.Go(func() {
		for {
			select {
			case r, ok := <-asked:
				if !ok {
					cancel()
					return
				}
				_ = r.Reply(false, nil)
			case <-ctx.Done():
				return
			}
		}
	})
	gone.Go(func() { v.watch(ctx) })
	args := []string{service}
	if service == "upload-pack" {
		args = append(args, fmt.Sprintf("--timeout=%d", int(silence.Seconds())))
	}
	cmd := s.command(ctx, who, args...)
	cmd.Stdout = toClient{v}
	feed := func(to io.Writer) error {
		// Without HTTP git itself sees to what a client may want.
		_, err := io.Copy(to, bounded(fromClient{v}, maxRequest))
		return err
	}
	if service == "receive-pack" {
		feed = func(to io.Writer) error {
			err := checkPush(io.TeeReader(bounded(fromClient{v}, maxPush+1<<20), to))
			if err != nil && !errors.Is(err, syscall.EPIPE) {
				s.Log.Info("a push is refused", "by", who.Name, "err", err)
				v.refuse("refused: " + err.Error())
			}
			return err
		}
	}
	if !s.wait(cmd, who, func() error { return start(cmd, feed) }) {
		return v.refuse(failed)
	}
	return 0
}

// fromClient reads what the client sends, at the rate that it must keep.
type fromClient struct{ *visit }

func (c fromClient) Read(p []byte) (int, error) {
	c.receiving.Begin()
	n, err := c.ch.Read(p)
	c.receiving.End(n)
	return n, err
}

// toClient writes to the client, at the rate that it must keep. While git speaks
// it waits for nothing: once it has a push it says so every few seconds until
// the push is done (receive.keepAlive in git-config(1)).
type toClient struct{ *visit }

func (c toClient) Write(p []byte) (int, error) {
	c.sending.Begin()
	n, err := c.ch.Write(p)
	c.sending.End(n)
	c.receiving.Forgive()
	return n, err
}

// watch ends a connection whose client does not keep the rate, until ctx ends.
// The keep-alives of a client that neither sends nor reads do not count.
func (v *visit) watch(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(v.of.look, look))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now = now.Add(v.of.ahead); v.sending.TooSlow(now, 32<<10) || v.receiving.TooSlow(now, 0) {
				v.of.Log.Info("ssh: the client is too slow")
				v.cut()
				return
			}
		}
	}
}

// look is how often clients are looked at.
const look = 5 * time.Second
