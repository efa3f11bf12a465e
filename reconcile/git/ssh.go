package git

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// ssh is a server that is reached over SSH, by a key, and known by its own.
type ssh struct {
	user, addr, path string
	keyFile          string
	known            gossh.HostKeyCallback
}

// newSSH takes "ssh://[user@]host[:port]/path" or "user@host:path".
// knownHosts is where the pinned lines are written, for the reader of that
// format.
func newSSH(address, keyFile, knownHosts string, pinned []string) (*ssh, error) {
	s := &ssh{user: "git", keyFile: keyFile}
	if strings.HasPrefix(address, "ssh://") {
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" {
			return nil, errors.New("source.url is no URL")
		}
		if name := u.User.Username(); name != "" {
			s.user = name
		}
		port := u.Port()
		if port == "" {
			port = "22"
		}
		s.addr, s.path = net.JoinHostPort(u.Hostname(), port), u.Path
		if strings.HasPrefix(s.path, "/~") { // a home folder, as git takes it
			s.path = s.path[1:]
		}
	} else {
		user, rest, _ := strings.Cut(address, "@")
		host, path, _ := strings.Cut(rest, ":")
		s.user, s.addr, s.path = user, net.JoinHostPort(host, "22"), path
	}
	if strings.ContainsAny(s.path, "\x00\n") || s.path == "" {
		return nil, errors.New("source.url has no path that a repository could have")
	}
	if keyFile == "" {
		return nil, errors.New("source.ssh_key is missing: a remote over ssh wants a file with a private key")
	}
	err := os.WriteFile(knownHosts, []byte(strings.Join(pinned, "\n")+"\n"), 0o600)
	if err != nil {
		return nil, err
	}
	if s.known, err = knownhosts.New(knownHosts); err != nil {
		return nil, fmt.Errorf("source.known_hosts: %w", err)
	}
	return s, nil
}

// algorithms are those of the keys that are pinned for the server: it must
// show one of these and not another that nobody has checked.
func (s *ssh) algorithms() []string {
	nobody, err := gossh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	e, _ := errors.AsType[*knownhosts.KeyError](s.known(s.addr, &net.TCPAddr{}, nobody))
	if e == nil {
		return nil
	}
	var out []string
	for _, k := range e.Want {
		if t := k.Key.Type(); t == gossh.KeyAlgoRSA {
			out = append(out, gossh.KeyAlgoRSASHA512, gossh.KeyAlgoRSASHA256)
		} else {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// check judges the key that a server shows, and says what to write where it is
// not pinned.
func (s *ssh) check(host string, remote net.Addr, key gossh.PublicKey) error {
	err := s.known(host, remote, key)
	e, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok {
		return err
	}
	line := knownhosts.Line([]string{knownhosts.Normalize(host)}, key)
	if len(e.Want) == 0 {
		return fmt.Errorf("%s is not pinned. It showed the key %s; if whoever runs it confirms that, add to source.known_hosts: %q", host, gossh.FingerprintSHA256(key), line)
	}
	return fmt.Errorf("%s has another key than the pinned one: it showed %s. Somebody may stand between; if whoever runs it confirms the change, replace its line in source.known_hosts by %q", host, gossh.FingerprintSHA256(key), line)
}

func (s *ssh) open(ctx context.Context) (conversation, error) {
	// Read anew each time, so that a key can be changed under a running agent.
	pem, err := os.ReadFile(s.keyFile)
	if err != nil {
		return nil, fmt.Errorf("source.ssh_key: %w", err)
	}
	signer, err := gossh.ParsePrivateKey(pem)
	if err != nil {
		if _, locked := errors.AsType[*gossh.PassphraseMissingError](err); locked {
			err = errors.New("it is locked by a passphrase, which nobody is there to type")
		}
		return nil, fmt.Errorf("source.ssh_key: %s: %w", s.keyFile, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	// The handshake and all that follows know no context.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c := &session{conn: conn, stop: stop, ended: make(chan struct{})}
	if err := s.begin(c, signer); err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

func (s *ssh) begin(c *session, signer gossh.Signer) error {
	conn, channels, requests, err := gossh.NewClientConn(c.conn, s.addr, &gossh.ClientConfig{
		User:              s.user,
		Auth:              []gossh.AuthMethod{gossh.PublicKeys(signer)},
		HostKeyCallback:   s.check,
		HostKeyAlgorithms: s.algorithms(),
	})
	if err != nil {
		if strings.Contains(err.Error(), "no common algorithm for host key") {
			return fmt.Errorf("%s does not show a key of a kind that source.known_hosts pins for it (%s): %w", s.addr, strings.Join(s.algorithms(), ", "), err)
		}
		if strings.Contains(err.Error(), "unable to authenticate") {
			return fmt.Errorf("%s does not let source.ssh_key in as %q; add its public key %s there", s.addr, s.user,
				bytes.TrimSpace(gossh.MarshalAuthorizedKey(signer.PublicKey())))
		}
		return err
	}
	c.client = gossh.NewClient(conn, channels, requests)
	sh, err := c.client.NewSession()
	if err != nil {
		return err
	}
	if c.in, err = sh.StdinPipe(); err != nil {
		return err
	}
	if c.out, err = sh.StdoutPipe(); err != nil {
		return err
	}
	sh.Stderr = &c.said
	if err := sh.Start("git-upload-pack '" + strings.ReplaceAll(s.path, "'", `'\''`) + "'"); err != nil {
		return err
	}
	go func() {
		_ = sh.Wait()
		close(c.ended)
	}()
	return nil
}

// lastWords is how long a server may take to say why it answers nothing more.
const lastWords = 2 * time.Second

// session is one conversation over SSH.
type session struct {
	conn   net.Conn
	stop   func() bool
	client *gossh.Client
	in     io.WriteCloser
	out    io.Reader
	said   words
	ended  chan struct{} // closed when the server has said all
}

func (c *session) advertised() io.Reader { return c }

func (c *session) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if err == io.EOF && n == 0 {
		select {
		case <-c.ended:
		case <-time.After(lastWords):
		}
		if said := c.said.String(); said != "" {
			err = fmt.Errorf("the server says: %s", said)
		}
	}
	return n, err
}

func (c *session) request(_ context.Context, body []byte) (io.Reader, error) {
	_, err := c.in.Write(body)
	return c, err
}

func (c *session) Close() error {
	c.stop()
	if c.client != nil {
		return c.client.Close()
	}
	return c.conn.Close()
}

// words keep the beginning of what a server writes beside the protocol.
type words struct {
	mu   sync.Mutex
	text []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), maxNote-len(w.text))]...)
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return note(w.text)
}
