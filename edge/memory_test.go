package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// alone is what an edge in a process of its own is told by its environment.
type alone struct {
	App              netip.AddrPort
	Certificate, Key []byte // DER
}

const aloneEnv = "SWAGE_TEST_EDGE"

// serveAlone is that process: it tells its address, and serves until its input
// ends.
func serveAlone(t *testing.T, told string) {
	var a alone
	if err := json.Unmarshal([]byte(told), &a); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	certificate = func() tls.Certificate {
		return tls.Certificate{Certificate: [][]byte{a.Certificate}, PrivateKey: key, Leaf: leaf}
	}
	s := serve(t, mustCompile(t, at(a.App.Addr(), nil)))
	fmt.Println(s.addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestLargeBodies: the edge's memory does not grow with what it passes on, in
// either direction: 64 MiB, with SWAGE_SOAK 2 GiB. Client and container are in
// another process.
func TestLargeBodies(t *testing.T) {
	if told := os.Getenv(aloneEnv); told != "" {
		serveAlone(t, told)
		return
	}
	size, limit := int64(64<<20), 2*time.Minute
	if os.Getenv("SWAGE_SOAK") != "" {
		size, limit = 2<<30, 20*time.Minute
	}
	const growth = 32 << 20
	app := backend(t, "127.0.1.1", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n == 0 {
			n, _ = strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
			_, _ = io.CopyN(w, zeros{}, n)
			return
		}
		fmt.Fprint(w, n)
	})
	key, err := x509.MarshalPKCS8PrivateKey(certificate().PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(alone{app, certificate().Certificate[0], key})
	if err != nil {
		t.Fatal(err)
	}
	edge := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestLargeBodies$")
	edge.Env = append(os.Environ(), aloneEnv+"="+string(told))
	edge.Stderr = os.Stderr
	in, err := edge.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := edge.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := edge.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	addr, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the edge does not tell its address: %q, %v", addr, err)
	}
	s := &server{addr: strings.TrimSpace(addr)}

	each(t, func(t *testing.T, version int) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		client := s.client(t, "127.0.0.2", version)
		client.Timeout = 0
		upload := func(n int64) {
			t.Helper()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, origin(app.Port()), io.LimitReader(zeros{}, n))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = n
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); string(body) != fmt.Sprint(n) || err != nil {
				t.Fatalf("%q of %d bytes arrive, %v", body, n, err)
			}
		}
		download := func(n int64) {
			t.Helper()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/?size=%d", origin(app.Port()), n), nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, err := io.Copy(io.Discard, res.Body); got != n || err != nil {
				t.Fatalf("%d of %d bytes arrive, %v", got, n, err)
			}
		}
		// What a connection takes once is not counted.
		upload(16 << 20)
		download(16 << 20)
		for _, way := range []struct {
			what string
			pass func(int64)
		}{{"upload", upload}, {"download", download}} {
			before := resident(t, edge.Process.Pid, true)
			way.pass(size)
			grown := resident(t, edge.Process.Pid, false) - before
			t.Logf("%s of %d MiB: the edge grows by %d KiB", way.what, size>>20, grown>>10)
			if grown >= growth {
				t.Errorf("%s of %d MiB: the edge grows by %d KiB", way.what, size>>20, grown>>10)
			}
		}
	})
	_ = in.Close()
	rest, _ := io.ReadAll(lines)
	if err := edge.Wait(); err != nil {
		t.Errorf("the edge: %v\n%s", err, rest)
	}
}

// resident is the memory of a process, or the most that it has had since this
// was last asked with now set (proc_pid_status(5), proc_pid_clear_refs(5)).
func resident(t *testing.T, pid int, now bool) int64 {
	t.Helper()
	field := "VmHWM:"
	if now {
		field = "VmRSS:"
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in %s", field, text)
	return 0
}
