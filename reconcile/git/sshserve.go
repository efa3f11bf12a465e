package git

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"
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

	door     door
	greeting time.Duration // 0: that of everybody
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
	g := s.door.knock(conn)
	defer s.door.leave(g)
	begin := cmp.Or(s.greeting, greeting)
	_ = conn.SetDeadline(time.Now().Add(begin)) // it fails as what follows does
	alive := &watched{Conn: conn}
	var last string // key that was shown
	sc, channels, requests, err := gossh.NewServerConn(alive, s.config(&last))
	if err != nil {
		if last != "" {
			s.Log.Info("ssh: not let in", "remote", conn.RemoteAddr().String(), "key", last)
		}
		return
	}
	defer sc.Close()
	if !s.door.enter(g) {
		s.Log.Warn("ssh: too many connections", "remote", conn.RemoteAddr().String())
		return
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
			v := &visit{s, ch, []byte(sc.Permissions.Extensions[shownKey])}
			all.Go(func() { v.serve(ctx, asked, idle) })
		}
	}
}

// shownKey is where a connection's own Permissions have the key that opened it.
const shownKey = "swage-key"

// config lets in who holds a key that is good for anything; what for is asked
// when a command is known.
func (s *SSH) config(last *string) *gossh.ServerConfig {
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
			*last = gossh.FingerprintSHA256(key)
			wire := key.Marshal()
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
