package certs

import (
	"bytes"
	"crypto/tls"
	"time"
)

// ticketMark tells what this package adds to a session ticket from what others
// add.
const ticketMark = "swage-subject:"

// A resumed session needs no certificate, so nobody would be asked whether the
// name may be served still. Therefore a ticket holds what its session was for,
// and counts for that alone, as long as it is served. The keys are made anew
// daily and never stored.

func (s *Source) wrapSession(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
	ss.Extra = append(ss.Extra, s.ticket(cs.ServerName))
	return s.tickets.EncryptTicket(cs, ss)
}

// unwrapSession returns nil for what leads to a whole handshake.
func (s *Source) unwrapSession(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	ss, err := s.tickets.DecryptTicket(identity, cs)
	if err != nil || ss == nil {
		return nil, err
	}
	want := s.ticket(cs.ServerName)
	for _, extra := range ss.Extra {
		if want != nil && bytes.Equal(extra, want) {
			return ss, nil
		}
	}
	return nil, nil
}

// ticket is what a session with a name is for, and nil for one that is not
// served. A session that began with a stand-in does not outlast it.
func (s *Source) ticket(serverName string) []byte {
	now := s.state.Load()
	n, ok := now.names.find(serverName, time.Now())
	if !ok {
		return nil
	}
	mark := append([]byte(ticketMark), n.subject...)
	if now.issuer.pending(n) {
		mark = append(mark, " pending"...)
	}
	return mark
}
