package edge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"swage/edge/credentials"

	"swage/edge/limit"
)

// asked counts the passwords that it is asked about.
type asked struct {
	real
	times *atomic.Int64
}

func (v asked) Password(ctx context.Context, hash, password string) (bool, error) {
	v.times.Add(1)
	return v.real.Password(ctx, hash, password)
}

// TestVouched: what a connection has proven counts for the same credentials
// under the same document, and for nothing else.
func TestVouched(t *testing.T) {
	app := backend(t, "127.0.1.1", mirror)
	other := strings.Repeat("e", 24)
	config := func(p *Permissions) Config {
		c := houseAt(app, p)
		q := house()
		q.Groups["ann"] = Group{Password: &Password{"ann", hashed("mule")}}
		c.Containers = append(c.Containers, Container{ProjectID: shop, ID: other, Name: "shop/other", Addr: app.Addr(), Catalogue: &Catalogue{}, Permissions: q})
		return c
	}
	url := origin(app.Port())
	here := strings.TrimPrefix(url, "https://")
	there := strings.Replace(here, web, other, 1)
	right, wrong := basic("ann", "horse"), basic("ann", "donkey")
	each(t, func(t *testing.T, version int) {
		if version == 3 {
			return // its requests are looked at each by itself
		}
		var times atomic.Int64
		s := serveHouse(t, app, house())
		s.verifier = asked{real{credentials.New(credentials.Options{})}, &times}
		s.Swap(mustCompile(t, config(house())))
		c := s.client(t, "127.0.0.2", version)
		// One connection serves all hosts of a client that speaks of them so.
		status := func(c *http.Client, host, path string, header ...string) int {
			r, err := http.NewRequest(http.MethodGet, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			for i := 0; i < len(header); i += 2 {
				r.Header.Add(header[i], header[i+1])
			}
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return res.StatusCode
		}
		for _, row := range []struct {
			what, host, path string
			header           []string
			status           int
			asks             bool
		}{
			{"at first", here, "", []string{"Authorization", right}, 200, true},
			{"again", here, "", []string{"Authorization", right}, 200, false},
			{"to another path", here, "/a", []string{"Authorization", right}, 200, false},
			{"a wrong one", here, "", []string{"Authorization", wrong}, 401, true},
			{"none", here, "", nil, 401, false},
			{"the right one after them", here, "", []string{"Authorization", right}, 200, false},
			{"twice", here, "", []string{"Authorization", right, "Authorization", right}, 401, false},
			{"beside a wrong cookie", here, "", []string{"Authorization", right, "Cookie", "key=x"}, 200, true},
			{"beside a query that counts", here, "?key=x", []string{"Authorization", right}, 200, true},
			{"to another container", there, "", []string{"Authorization", right}, 401, true},
		} {
			before := times.Load()
			if got := status(c, row.host, row.path, row.header...); got != row.status || times.Load() > before != row.asks {
				t.Errorf("%s: %d, and %d were asked about; want %d, %v", row.what, got, times.Load()-before, row.status, row.asks)
			}
		}
		s.Swap(mustCompile(t, config(house())))
		before := times.Load()
		if got := status(c, here, "", "Authorization", right); got != 200 || times.Load() == before {
			t.Errorf("after a swap: %d, and %d were asked about", got, times.Load()-before)
		}
		guesser := s.client(t, "127.0.0.2", version)
		for i := 0; status(guesser, here, "", "Authorization", basic("ann", fmt.Sprint(i))) != http.StatusTooManyRequests; i++ {
			if i > 2*limit.ClientBurst {
				t.Fatal("nobody is slowed down")
			}
		}
		if got := status(c, here, "", "Authorization", right); got != 200 {
			t.Errorf("while another of the address waits: %d", got)
		}
	})
}

// TestVouchedForAWhile: not longer, and not by what is doubtful.
func TestVouchedForAWhile(t *testing.T) {
	d, err := compileDocument(house())
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("ann", "horse")
	now := time.Now()
	proven := evidence{identity: NewIdentity(Proof{Credential: Digest{1}})}
	for what, e := range map[string]evidence{
		"nothing":        {},
		"a failure":      {identity: proven.identity, failed: true},
		"an uncertainty": {identity: proven.identity, err: credentials.ErrBusy},
	} {
		l := new(link)
		l.vouch(d, r, e, now)
		if _, ok := l.recall(d, r, now); ok {
			t.Errorf("%s vouches", what)
		}
	}
	l := new(link)
	l.vouch(d, r, proven, now)
	if _, ok := l.recall(d, r, now.Add(vouchedFor-1)); !ok {
		t.Error("it does not vouch")
	}
	if _, ok := l.recall(d, r, now.Add(vouchedFor)); ok {
		t.Error("it vouches for ever")
	}
}

// TestPresented: what is presented in another place, or in other pieces, is
// something else.
func TestPresented(t *testing.T) {
	d := &document{reading: reading{headers: []string{"A", "B"}}}
	seen := map[headerDigest]string{}
	for what, h := range map[string]http.Header{
		"nothing": {}, "an empty one": {"A": {""}}, "an empty other": {"B": {""}}, "two empty ones": {"A": {"", ""}},
		"one": {"A": {"ab"}}, "the other": {"B": {"ab"}}, "two": {"A": {"a", "b"}}, "both": {"A": {"a"}, "B": {"b"}}, "long": {"A": {strings.Repeat("ab", 500)}},
	} {
		digest, ok := d.presented(&http.Request{Header: h})
		if other := seen[digest]; !ok || other != "" {
			t.Errorf("%s is taken for %s", what, other)
		}
		seen[digest] = what
	}
}
