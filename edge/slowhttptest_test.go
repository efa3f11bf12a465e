package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestSlowhttptest: while slowhttptest holds 250 connections open with what never
// ends, in each of its three ways, another client is answered as before. With
// SWAGE_SOAK there are 1,000, and that client sends 2,000 requests a second, and 90 % of what it
// gets without an attack must be answered in time.
func TestSlowhttptest(t *testing.T) {
	tool := installed(t, "slowhttptest")
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give slowhttptest the name of the edge: run `make test`")
	}
	connections, rate, window, strict := 250, 100, time.Second, false
	if os.Getenv("SWAGE_SOAK") != "" {
		connections, rate, window, strict = 1000, 2000, 8*time.Second, true
	}
	answer := bytes.Repeat([]byte("x"), 256<<10) // more than the tool reads in an hour
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/much" {
			_, _ = w.Write(answer)
		}
	})
	l := &counting{Listener: listenAt(t, netip.MustParseAddrPort("127.0.0.1:0")), from: "127.0.0.1"}
	s := &server{Proxy: NewProxy(Options{Logger: slog.New(slog.DiscardHandler)}), addr: l.Addr().String()}
	s.drain = 100 * time.Millisecond
	s.Swap(mustCompile(t, at(app.Addr(), nil)))
	serving, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(serving, l, &tls.Config{Certificates: []tls.Certificate{certificate()}}) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	host := strings.TrimPrefix(origin(app.Port()), "https://")
	_, port, _ := strings.Cut(s.addr, ":")
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 "+host+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	client := s.client(t, "127.0.0.2", 1) // slowhttptest is 127.0.0.1, and limited apart
	client.Timeout = time.Minute
	for _, attack := range []struct{ name, path, how string }{
		{"header", "/", "-H -i 1 -x 8"},
		{"body", "/", "-B -i 1 -s 100000 -x 8"},
		{"read", "/much", "-X -n 1 -w 1 -y 64 -z 8"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			calm := openLoop(client, origin(app.Port()), rate, window)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// The name stands in a file that only the tool's own mounts have.
			args := []string{"-m", "--", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, tool, "-l", "300", "-c", strconv.Itoa(connections), "-r", "500", "-u", "https://" + host + ":" + port + attack.path}
			cmd := exec.CommandContext(ctx, "unshare", append(args, strings.Fields(attack.how)...)...)
			var out lockedBuffer
			cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cancel()
			held := func() int { return int(l.n.Load()) }
			// Some may have been ended by then.
			first := l.all.Load()
			for begun := time.Now(); int(l.all.Load()-first) < connections*9/10 || held() < connections/4; time.Sleep(10 * time.Millisecond) {
				if time.Since(begun) > 6*patience {
					t.Fatalf("the attack is not under way: %d connections, %d now\n%s", l.all.Load()-first, held(), out.String())
				}
			}
			before := held()
			under := openLoop(client, origin(app.Port()), rate, window)
			t.Logf("%d to %d connections; in %v of %d requests %d were answered in time and %d in all, for %v of CPU; before the attack %d and %d, for %v",
				before, held(), window, under.sent, under.inTime, under.answered, under.cpu, calm.inTime, calm.answered, calm.cpu)
			if under.answered*10 < under.sent*9 {
				t.Errorf("%d of %d requests were answered", under.answered, under.sent)
			}
			if strict && under.inTime*10 < calm.inTime*9 {
				t.Errorf("%d requests were answered in time, %d before the attack", under.inTime, calm.inTime)
			}
		})
	}
	until(t, "counters are left", func() bool { return s.load.counters() == 0 })
}

// loop is what became of requests that were sent at a fixed rate.
type loop struct {
	sent     int
	inTime   int // were answered 200 before the time was over
	answered int // or later

	// cpu is what this process took meanwhile: edge, client and application.
	cpu time.Duration
}

// openLoop sends requests at a fixed rate, whatever becomes of those before, and
// waits for the answers.
func openLoop(c *http.Client, url string, rate int, window time.Duration) loop {
	out := loop{sent: int(window.Seconds() * float64(rate))}
	var inTime, answered, next atomic.Int64
	begun, spent := time.Now(), processorTime()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(out.sent) {
					return
				}
				time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				res, err := c.Get(url)
				if err != nil {
					continue
				}
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					continue
				}
				answered.Add(1)
				if time.Since(begun) <= window+100*time.Millisecond {
					inTime.Add(1)
				}
			}
		})
	}
	all.Wait()
	out.inTime, out.answered = int(inTime.Load()), int(answered.Load())
	out.cpu = processorTime() - spent
	return out
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}

// counting counts the connections of one client: all, and those that are open.
type counting struct {
	net.Listener
	from   string
	all, n atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || !strings.HasPrefix(conn.RemoteAddr().String(), l.from+":") {
		return conn, err
	}
	l.all.Add(1)
	l.n.Add(1)
	return &countedConn{TCPConn: conn.(*net.TCPConn), closed: sync.OnceFunc(func() { l.n.Add(-1) })}, nil
}

type countedConn struct {
	*net.TCPConn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.TCPConn.Close()
}
