package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"time"
	"weak"
)

// vouchedFor is how long a credential vouches for what follows on its
// connection.
const vouchedFor = time.Minute

// vouched is what the credentials proved that came last over a connection. A
// request that brings the same ones to the same document proves the same, and
// need not wait for its turn behind those who guess from its address.
type vouched struct {
	document weak.Pointer[document] // of one table, which no silent client keeps; the next asks again
	header   headerDigest
	evidence evidence
	ends     time.Time
}

type headerDigest [sha256.Size]byte

// headerKey keeps a password that is quick to guess from who reads memory.
var headerKey = func() (key [16]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}()

// reading is where a document looks for credentials.
type reading struct {
	headers []string // canonical
	query   bool
	params  []string // of the query
}

func (d *document) reads(c *credential) {
	from := c.sources
	if c.password != nil {
		from = []Source{authorization}
	}
	for _, s := range from {
		name := s.Header
		switch {
		case s.Cookie != "":
			name = "Cookie"
		case s.Param != "":
			d.reading.query = true
			if !slices.Contains(d.reading.params, s.Param) {
				d.reading.params = append(d.reading.params, s.Param)
			}
			continue
		}
		if !slices.Contains(d.reading.headers, name) {
			d.reading.headers = append(d.reading.headers, name)
		}
	}
}

// presented stands for all that a request presents to a document. It reports false
// where queries count, which are others with each request.
func (d *document) presented(r *http.Request) (headerDigest, bool) {
	if d == nil || d.reading.query && r.URL.RawQuery != "" {
		return headerDigest{}, false
	}
	text := append(make([]byte, 0, 512), headerKey[:]...) // on the stack, for most
	for _, name := range d.reading.headers {
		text = binary.AppendUvarint(text, uint64(len(r.Header[name])))
		for _, value := range r.Header[name] {
			text = append(binary.AppendUvarint(text, uint64(len(value))), value...)
		}
	}
	return sha256.Sum256(text), true
}

// recall returns what a request has proven already, if it has.
func (l *link) recall(d *document, r *http.Request, now time.Time) (evidence, bool) {
	if l == nil {
		return evidence{}, false
	}
	v := l.vouched.Load()
	if v == nil || v.document.Value() != d || !now.Before(v.ends) {
		return evidence{}, false
	}
	header, ok := d.presented(r)
	return v.evidence, ok && header == v.header
}

// vouch keeps what a request has proven.
func (l *link) vouch(d *document, r *http.Request, e evidence, now time.Time) {
	if l == nil || e.failed || e.err != nil || len(e.identity.proofs) == 0 {
		return
	}
	if header, ok := d.presented(r); ok {
		l.vouched.Store(&vouched{weak.Make(d), header, e, now.Add(vouchedFor)})
	}
}
