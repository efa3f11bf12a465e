package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// Bounds on what a server may say, whatever it is.
const (
	maxPacket        = 65520    // gitprotocol-common(5)
	maxAdvertisement = 16 << 20 // about 200,000 refs
	maxNote          = 4 << 10  // of a server's own words
)

// conversation is one exchange with git-upload-pack, version 0 of
// gitprotocol-pack(5): what the server has is read first, then at most one
// request is sent. Ending the context of its transport ends every step.
type conversation interface {
	// advertised is the server's list of refs.
	advertised() io.Reader
	// request sends what is wanted and gives the answer.
	request(ctx context.Context, body []byte) (io.Reader, error)
	// Close ends it. Errors that it gives tell what the server said last.
	Close() error
}

// transport opens conversations with one server.
type transport interface {
	open(ctx context.Context) (conversation, error)
}

// packet reads one pkt-line. A flush gives nil.
func packet(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || n > maxPacket || n > 0 && n < 4 {
		return nil, errors.New("the server does not speak Git: check the url of the source")
	}
	if n == 0 {
		return nil, nil
	}
	line := make([]byte, n-4)
	_, err = io.ReadFull(r, line)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if rest, ok := bytes.CutPrefix(line, []byte("ERR ")); ok && err == nil {
		return nil, fmt.Errorf("the server says: %s", note(rest))
	}
	return line, err
}

func line(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	return fmt.Sprintf("%04x%s", len(text)+4, text)
}

// note makes a server's words fit to be shown: one short printable line.
func note(text []byte) string {
	text = text[:min(len(text), maxNote)]
	return strings.Join(strings.FieldsFunc(string(bytes.ToValidUTF8(text, []byte("?"))), func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\u2028' || r >= 0x80 && r < 0xa0
	}), " ")
}

// offer is what a server has of one branch.
type offer struct {
	tip          plumbing.Hash // zero: no such branch
	empty        bool          // no branch at all
	capabilities map[string]bool
}

// readOffer looks for a branch in an advertisement.
func readOffer(r io.Reader, branch string) (offer, error) {
	o := offer{empty: true, capabilities: map[string]bool{}}
	limited := &io.LimitedReader{R: r, N: maxAdvertisement}
	in := bufio.NewReader(limited)
	for first, greeted := true, false; ; {
		text, err := packet(in)
		switch {
		case err != nil && limited.N <= 0:
			return o, fmt.Errorf("the server lists more refs than fit into %d bytes", maxAdvertisement)
		case err != nil:
			return o, err
		case text == nil && greeted:
			greeted = false
			continue
		case text == nil && !o.empty && !o.capabilities[band]:
			return o, errors.New("the server is too old: it lacks " + band)
		case text == nil:
			return o, nil
		case bytes.HasPrefix(text, []byte("# service=")): // over HTTP, and a flush after it
			greeted = true
			continue
		case bytes.HasPrefix(text, []byte("version ")), bytes.HasPrefix(text, []byte("shallow ")):
			continue
		}
		ref, capabilities, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), "\x00")
		hash, name, ok := strings.Cut(ref, " ")
		if !ok || !plumbing.IsHash(hash) {
			return o, errors.New("the server does not speak Git: check the url of the source")
		}
		if first {
			for c := range strings.FieldsSeq(capabilities) {
				o.capabilities[c] = true
			}
			first = false
		}
		if name != "capabilities^{}" {
			o.empty = false
		}
		if name == string(plumbing.NewBranchReferenceName(branch)) {
			o.tip = plumbing.NewHash(hash)
		}
	}
}

// band is the capability of servers that tell a pack from an error in it.
const band = "side-band-64k"

// want asks for a commit and all that leads to it but what is there already.
func (o offer) want(haves []plumbing.Hash) []byte {
	var use []string
	for _, c := range []string{band, "ofs-delta", "thin-pack", "no-progress"} {
		if o.capabilities[c] {
			use = append(use, c)
		}
	}
	var b bytes.Buffer
	b.WriteString(line("want %s %s agent=swage\n", o.tip, strings.Join(use, " ")))
	b.WriteString("0000")
	for _, h := range haves {
		b.WriteString(line("have %s\n", h))
	}
	b.WriteString(line("done\n"))
	return b.Bytes()
}

// copyPack writes the pack of an answer to out.
func (o offer) copyPack(out io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	// Before the pack the server says ACK of commits that both have, or NAK.
	for {
		text, err := packet(in)
		if err != nil || text == nil {
			return err
		}
		if len(text) == 0 {
			continue
		}
		switch text[0] {
		case 'A', 'N':
		case 1:
			if _, err := out.Write(text[1:]); err != nil {
				return err
			}
		case 2: // progress
		case 3:
			return fmt.Errorf("the server says: %s", note(text[1:]))
		default:
			return errors.New("the server does not answer as Git does")
		}
	}
}
