package git

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"swage/edge/limit"
)

// SSH takes connections for a Server (RFC 4251 to 4254), from holders of a key
// who want git and nothing else.
type SSH struct {
	Server *Server
	Host   gossh.Signer // what this server is known by
	// Allow says whose a public key is, in the wire format of RFC 4253, section
	// 6.6, if it allows "read" or "push".
	Allow func(key []byte, right string) (Visitor, bool)
	Log   *slog.Logger

	begin    sync.Once
	conns    *limit.Conns
	greeting time.Duration // 0: that of everybody

	look, ahead time.Duration // how often clients are looked at, and how long after that; for tests
}

// sshCaps bound the connections of an SSH. Until its key is known a connection
// is idle to the limiter: honest ones pass within a second, so that whoever only
// connects makes room for the next.
var sshCaps = limit.Caps{All: 64, Network: 32, Client: 12, Few: 4}

func (s *SSH) count() *limit.Conns {
	s.begin.Do(func() { s.conns = limit.NewConns(sshCaps, s.Log) })
	return s.conns
}

// Fingerprint is that of the host key, as ssh shows it.
func (s *SSH) Fingerprint() string { return gossh.FingerprintSHA256(s.Host.PublicKey()) }

// Deadlines of a connection: until a key is shown, and until something is asked
// for then; without a sign of life; and to go by itself after its command.
const (
	greeting = 20 * time.Second
	silence  = 2 * time.Minute
	farewell = 5 * time.Second
)

// Serve takes the connections of a listener until ctx ends, and then ends them.
func (s *SSH) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Of descriptors there may be enough again soon.
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.Log.Warn("ssh takes no connection", "err", err, "retry_in", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		wait = 0
		all.Go(func() { s.Handle(ctx, conn) })
	}
}

// Handle serves one connection, and closes it.
func (s *SSH) Handle(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, servedFor)
	defer cancel()
	defer conn.Close()
	// What follows knows no context.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	client := limit.AddrOf(conn.RemoteAddr())
	counts := s.count().Open(client, func() { conn.Close() })
	if counts == nil {
		return
	}
	defer counts.Close()
	begin := cmp.Or(s.greeting, greeting)
	_ = conn.SetDeadline(time.Now().Add(begin)) // it fails as what follows does
	alive := &watched{Conn: conn}
	shown := keys{of: s, client: client}
	sc, channels, requests, err := gossh.NewServerConn(alive, s.config(&shown))
	if err != nil {
		if shown.last != "" {
			s.Log.Info("ssh: not let in", "remote", conn.RemoteAddr().String(), "key", shown.last)
		}
		shown.failed()
		return
	}
	defer sc.Close()
	if !counts.Busy() {
		return // for another
	}
	alive.begin()
	go gossh.DiscardRequests(requests) // no forwarding
	idle := time.AfterFunc(begin, func() { sc.Close() })
	defer idle.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { keepAlive(ctx, sc) })
	begun := false
	for c := range channels {
		switch {
		case c.ChannelType() != "session":
			_ = c.Reject(gossh.Prohibited, onlyGit)
		case begun:
			_ = c.Reject(gossh.ResourceShortage, "one command a connection")
		default:
			begun = true
			ch, asked, err := c.Accept()
			if err != nil {
				continue // the connection is gone
			}
			v := &visit{of: s, ch: ch, key: []byte(sc.Permissions.Extensions[shownKey]), cut: func() { conn.Close() }}
			all.Go(func() { v.serve(ctx, asked, idle) })
		}
	}
}

// shownKey is where a connection's own Permissions have the key that opened it.
const shownKey = "swage-key"

// config lets in who holds a key that is good for anything; what for is asked
// when a command is known.
func (s *SSH) config(shown *keys) *gossh.ServerConfig {
	c := &gossh.ServerConfig{
		ServerVersion: "SSH-2.0-swage",
		MaxAuthTries:  6,
		// No SHA-1, no DSA.
		PublicKeyAuthAlgorithms: []string{
			gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256,
			gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
			gossh.KeyAlgoRSASHA256, gossh.KeyAlgoRSASHA512,
		},
		PublicKeyCallback: func(c gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
			wire := key.Marshal()
			if err := shown.show(wire, gossh.FingerprintSHA256(key)); err != nil {
				return nil, err
			}
			if _, ok := permit(s.Allow, wire, "read"); !ok || c.User() != sshUser {
				return nil, errors.New("the key is not known")
			}
			return &gossh.Permissions{Extensions: map[string]string{shownKey: string(wire)}}, nil
		},
		BannerCallback: func(c gossh.ConnMetadata) string {
			if c.User() != sshUser {
				return "swage: the user here is " + sshUser + ": ssh://git@<host>:<port>/fleet\n"
			}
			return ""
		},
	}
	c.AddHostKey(s.Host)
	return c
}

// keys are those that a connection has shown.
type keys struct {
	of     *SSH
	client netip.Addr
	all    []string
	last   string // fingerprint
	wait   time.Duration
}

// show refuses to look at a key while its client has to wait. Several keys of one
// connection are one guess: an agent of keys tries them all.
func (k *keys) show(wire []byte, fingerprint string) error {
	first := k.all == nil
	k.all, k.last = append(k.all, string(wire)), fingerprint
	if first {
		g, now := k.of.Server.Guesses, time.Now()
		attempt := g.Attempt(k.client, "", k.all...)
		if k.wait = g.Begin(attempt, now); k.wait == 0 {
			g.End(attempt, false, now) // what comes of it is known when all were shown
		}
	}
	if k.wait == 0 {
		return nil
	}
	refused := &gossh.BannerError{Err: errors.New("the client has to wait")}
	if first {
		refused.Message = "swage: " + guessed + " (" + limit.RetryAfter(k.wait) + " s)\n"
	}
	return refused
}

// failed counts the guess of a connection that was not let in.
func (k *keys) failed() {
	if len(k.all) == 0 || k.wait > 0 {
		return
	}
	g, now := k.of.Server.Guesses, time.Now()
	if attempt := g.Attempt(k.client, "", k.all...); g.Begin(attempt, now) == 0 {
		g.End(attempt, true, now)
	}
}

// sshUser is the user name for git, so that others may mean something else one
// day.
const sshUser = "git"

// keepAlive has an honest client answer while a deploy is silent.
func keepAlive(ctx context.Context, sc *gossh.ServerConn) {
	tick := time.NewTicker(silence / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, _, err := sc.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			return
		}
	}
}

// watched closes a connection that is silent. Until begin it leaves its
// deadlines alone.
type watched struct {
	net.Conn
	on atomic.Bool
}

func (w *watched) begin() {
	w.on.Store(true)
	_ = w.SetDeadline(time.Now().Add(silence))
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.on.Load() {
		_ = w.SetReadDeadline(time.Now().Add(silence))
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	if w.on.Load() {
		_ = w.SetWriteDeadline(time.Now().Add(silence))
	}
	return w.Conn.Write(p)
}
