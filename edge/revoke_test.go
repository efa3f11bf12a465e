package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// drip sends a byte at once, and one more when told.
func drip(more <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(w, r)
			return
		}
		for range 2 {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// dialAs opens a WebSocket with a header.
func dialAs(t *testing.T, c *http.Client, url string, header ...string) *websocket.Conn {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: c, HTTPHeader: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// stream opens a download and reads its first byte.
func stream(t *testing.T, c *http.Client, url string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return res
}

// TestRevocationCutsOneOfMany: a swap that takes a credential away cuts its
// WebSocket and its download; 250 other connections, with SWAGE_SOAK 1,000,
// notice nothing.
func TestRevocationCutsOneOfMany(t *testing.T) {
	more := make(chan struct{})
	app := backend(t, "127.0.1.1", drip(more))
	p := house()
	for name := range p.Cells {
		p.Cells[name] = map[string]Cell{"files": {All: true}}
	}
	s := serveHouse(t, app, p)
	url := origin(app.Port())
	ann := []string{"Authorization", basic("ann", "horse")}
	ws, bystander := dialAs(t, s.client(t, "127.0.0.2", 1), url, ann...), dialAs(t, s.client(t, "127.0.0.2", 1), url, "X-Key", "header-key")
	download := stream(t, s.client(t, "127.0.0.2", 2), url, ann...)

	n := 250
	if os.Getenv("SWAGE_SOAK") != "" {
		n = 1000
	}
	bodies := make([]io.Reader, n)
	request := "GET / HTTP/1.1\r\nHost: " + strings.TrimPrefix(url, "https://") + "\r\nCookie: key=cookie-key\r\n\r\n"
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "x." + zone, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	var opening sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range n {
		slots <- struct{}{}
		opening.Go(func() {
			defer func() { <-slots }()
			conn, err := tls.Dial("tcp", s.addr, config)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { conn.Close() })
			_, _ = io.WriteString(conn, request)
			_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Error(i, err)
				return
			}
			if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
				t.Error(i, err)
			}
			bodies[i] = res.Body
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}

	less := house()
	for name := range less.Cells {
		less.Cells[name] = map[string]Cell{"files": {All: true}}
	}
	delete(less.Cells, "ann")
	begun := time.Now()
	s.Swap(mustCompile(t, houseAt(app, less)))
	if got, err := say(ws, "still there?"); err == nil {
		t.Errorf("the revoked WebSocket answers %q", got)
	}
	if _, err := io.Copy(io.Discard, download.Body); err == nil {
		t.Error("the revoked download ends as if it were whole")
	}
	t.Logf("cut within %v of the swap", time.Since(begun))
	close(more)
	for i, body := range bodies {
		if rest, err := io.ReadAll(body); err != nil || string(rest) != "x" {
			t.Errorf("connection %d: %q, %v", i, rest, err)
		}
	}
	if got, err := say(bystander, "still there?"); got != "still there?" {
		t.Errorf("another's WebSocket: %q, %v", got, err)
	}
	if !strings.Contains(s.log.String(), `"revoked":["shop/web: group ann (user ann) loses files *, also at files.node.example.com"]`) {
		t.Errorf("the audit does not tell:\n%s", s.log.String())
	}
}

// TestAChangedDefinitionCuts: what was proven under another definition, or at
// another level, is worth nothing; what changed elsewhere is no matter.
func TestAChangedDefinitionCuts(t *testing.T) {
	full := func() *Permissions {
		p := house()
		for name := range p.Cells {
			p.Cells[name] = map[string]Cell{"files": {All: true, Level: "write"}}
		}
		return p
	}
	for _, row := range []struct {
		what   string
		change func(*Permissions)
		cut    bool
	}{
		{"nothing", func(*Permissions) {}, false},
		{"another group's hash", func(p *Permissions) { p.Groups["header"] = Group{Token: &Token{Source{Header: "X-Key"}, sum("new")}} }, false},
		{"the group's name", func(p *Permissions) {
			p.Groups["anne"], p.Cells["anne"] = p.Groups["ann"], p.Cells["ann"]
			delete(p.Groups, "ann")
			delete(p.Cells, "ann")
		}, false},
		{"more ports", func(p *Permissions) { p.Cells["ann"]["http"] = Cell{All: true} }, false},
		{"the same password, hashed anew", func(p *Permissions) {
			p.Groups["ann"] = Group{Password: &Password{"ann", "$sha256$other$" + fmt.Sprintf("%x", sum("otherhorse"))}}
		}, true},
		{"a network that must match, too", func(p *Permissions) {
			p.Groups["ann"] = Group{All: []Group{p.Groups["ann"], ranges("192.0.2.0/24")}}
		}, true},
		{"a network that does", func(p *Permissions) {
			p.Groups["ann"] = Group{All: []Group{p.Groups["ann"], ranges("127.0.0.0/8")}}
		}, false},
		{"a lower level", func(p *Permissions) { p.Cells["ann"]["files"] = Cell{All: true, Level: "read"} }, true},
		{"a higher level", func(p *Permissions) { p.Cells["ann"]["files"] = Cell{All: true} }, true},
		{"the group goes, the default opens", func(p *Permissions) {
			delete(p.Groups, "ann")
			delete(p.Cells, "ann")
			p.Default = Allow
		}, true}, // to another level
	} {
		more := make(chan struct{})
		app := backend(t, "127.0.1.1", drip(more))
		s := serveHouse(t, app, full())
		res := stream(t, s.client(t, "127.0.0.2", 2), origin(app.Port()), "Authorization", basic("ann", "horse"))
		p := full()
		row.change(p)
		s.Swap(mustCompile(t, houseAt(app, p)))
		if !row.cut {
			more <- struct{}{}
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); (err != nil) != row.cut {
			t.Errorf("%s: %v", row.what, err)
		}
		res.Body.Close()
	}
}

// TestExpiryCuts: a stream ends with the token that opened it.
func TestExpiryCuts(t *testing.T) {
	app := backend(t, "127.0.1.1", drip(nil))
	p := house()
	for name := range p.Cells {
		p.Cells[name] = map[string]Cell{"files": {All: true}}
	}
	for _, version := range []int{1, 3} { // 2 has what 3 has
		s := serveHouse(t, app, p)
		// A minute of skew counts on top.
		res := stream(t, s.client(t, "127.0.0.2", version), origin(app.Port()), "Authorization", "Bearer "+endsIn(-57*time.Second))
		if _, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Error("it ends as if it were whole")
		}
		if res, _ := get(t, s.client(t, "127.0.0.2", version), origin(app.Port()), "Authorization", "Bearer "+endsIn(-61*time.Second)); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("afterwards: %d", res.StatusCode)
		}
	}
}
