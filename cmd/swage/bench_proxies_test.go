package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// caddyVersion is the one that is compared with.
const caddyVersion = "v2.11.9"

// peer is a proxy of a comparison, in a process of its own.
type peer struct {
	name    string
	version string
	addr    string
	app     *application
	cmd     *exec.Cmd
}

// startPeers starts all proxies that can be had, each in front of the same
// application. Those that cannot are named in the log.
func (w *world) startPeers() []*peer {
	w.Helper()
	writePair(w.B, w.dir)
	var peers []*peer
	for _, start := range []func(*world, netip.AddrPort) *peer{startNginx, startHAProxy, startCaddy, startEdge} {
		app := w.serve()
		if p := start(w, app.addr); p != nil {
			p.app = app
			peers = append(peers, p)
		}
	}
	return peers
}

// run starts a proxy on the host and waits until it accepts connections.
func (p *peer) run(w *world, env []string, program string, args ...string) *peer {
	w.Helper()
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	start := func() error { return errors.Join(unix.SchedSetaffinity(0, &w.proxies), p.cmd.Start()) }
	if err := w.in(w.host, start); err != nil {
		w.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(exited) }()
	w.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(15 * time.Second):
			for pid := range family(p.cmd.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			<-exited
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
			return p
		}
		select {
		case <-exited:
			w.Fatalf("%s ended at once: %v", p.name, p.cmd)
		default:
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s does not listen: %v", p.name, err)
		}
	}
}

func startNginx(w *world, target netip.AddrPort) *peer {
	program := installed(w.B, "nginx", "/usr/sbin/nginx")
	if program == "" {
		return nil
	}
	p := &peer{name: "nginx", version: versionOf(program, "-v"), addr: worldHost + ":8441"}
	config := write(w.B, w.dir, "nginx.conf", fmt.Sprintf(`
daemon off; user root; worker_processes auto; worker_rlimit_nofile 16384; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 16000; }
http {
	access_log /dev/null combined buffer=32k flush=100ms;
	server_names_hash_max_size 32768;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	map $http_upgrade $forwarded_connection { default upgrade; '' ''; }
	upstream application { server %[3]v; keepalive 64; }
	server {
		listen %[2]s ssl http2 reuseport default_server;
		ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem;
		return 421;
	}
	server {
		listen %[2]s ssl http2;
		server_name %[4]s;
		ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem;
		keepalive_requests 1000000000;
		location / {
			proxy_pass http://application; proxy_http_version 1.1; proxy_read_timeout 1h;
			proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $forwarded_connection;
		}
	}
}
`, w.dir, p.addr, target, strings.Join(benchHosts(), " ")))
	return p.run(w, nil, program, "-c", config, "-e", filepath.Join(w.dir, "nginx.log"))
}

func startHAProxy(w *world, target netip.AddrPort) *peer {
	program := installed(w.B, "haproxy", "/usr/sbin/haproxy")
	if program == "" {
		return nil
	}
	p := &peer{name: "HAProxy", version: versionOf(program, "-v"), addr: worldHost + ":8442"}
	config := write(w.B, w.dir, "haproxy.cfg", fmt.Sprintf(`
global
	maxconn 8000
	log stdout format raw local0
defaults
	mode http
	log global
	option httplog
	option forwardfor
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	timeout tunnel 1h
frontend tls
	bind %s ssl crt %s/both.pem alpn h2,http/1.1
	use_backend application if { req.hdr(host),field(1,:),lower -m str -f %s }
backend application
	server one %v
`, p.addr, w.dir, write(w.B, w.dir, "hosts.lst", strings.Join(benchHosts(), "\n")+"\n"), target))
	return p.run(w, nil, program, "-db", "-q", "-f", config)
}

func startCaddy(w *world, target netip.AddrPort) *peer {
	program := os.Getenv(benchCaddy)
	if program == "" {
		return nil
	}
	p := &peer{name: "Caddy", version: caddyVersion, addr: worldHost + ":8443"}
	config := write(w.B, w.dir, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
	default_bind %[1]s
	servers {
		protocols h1 h2
	}
}
https://:8443 {
	tls %[2]s/cert.pem %[2]s/key.pem
	log {
		output stderr
	}
	@known host %[4]s
	handle @known {
		reverse_proxy %[3]v
	}
	respond 421
}
`, worldHost, w.dir, target, strings.Join(benchHosts(), " ")))
	return p.run(w, []string{"XDG_DATA_HOME=" + w.dir, "XDG_CONFIG_HOME=" + w.dir}, program, "run", "--config", config, "--adapter", "caddyfile")
}

func startEdge(w *world, target netip.AddrPort) *peer {
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	p := &peer{name: "swage", version: "this tree", addr: worldHost + ":8444"}
	return p.run(w, []string{benchListen + "=" + p.addr, benchBackend + "=" + target.String(), benchDir + "=" + w.dir}, self)
}

// caddy finds the program, or builds it; empty, it cannot be had.
func caddy(b *testing.B, dir string) string {
	program, err := exec.LookPath("caddy")
	if info, _ := buildinfo.ReadFile(program); err == nil && info != nil && info.Main.Version == caddyVersion {
		return program
	}
	install := exec.Command("go", "install", "github.com/caddyserver/caddy/v2/cmd/caddy@"+caddyVersion)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	install.Dir = dir // not in our module
	if out, err := install.CombinedOutput(); err != nil {
		b.Logf("skipped: Caddy %s cannot be built here: %v: %.300s", caddyVersion, err, out)
		return ""
	}
	return filepath.Join(dir, "caddy")
}

// installed finds a program, or says that it is not there.
func installed(b *testing.B, names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	b.Logf("skipped: there is no %s; `make bench` installs it where apt has it", names[0])
	return ""
}

// versionOf is the first word of a program's own account with a digit and a dot.
func versionOf(program string, args ...string) string {
	out, _ := exec.Command(program, args...).CombinedOutput()
	for _, word := range strings.FieldsFunc(string(out), func(c rune) bool { return c == ' ' || c == '/' || c == '\n' }) {
		if strings.Contains(word, ".") && strings.ContainsAny(word, "0123456789") {
			return word
		}
	}
	return "unknown"
}

func write(b *testing.B, dir, name, text string) string {
	b.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// writePair makes the certificate that all proxies use.
func writePair(b *testing.B, dir string) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{benchZone, "*." + benchZone}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	write(b, dir, "cert.pem", public)
	write(b, dir, "key.pem", private)
	write(b, dir, "both.pem", public+private)
}

// dialTLS opens a connection of HTTP/1.1 to a proxy.
func (p *peer) dialTLS() (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", p.addr, &tls.Config{ServerName: benchZone, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
}

// family is a process and its descendants, each with its fields of
// proc_pid_stat(5) from the third on.
func family(pid int) map[int][]string {
	all := map[int][]string{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		if stat, err := os.ReadFile(path); err == nil {
			id, _ := strconv.Atoi(strings.Split(path, "/")[2])
			all[id] = strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		}
	}
	found := map[int][]string{pid: all[pid]}
	for range 3 { // deeper than any of them goes
		for id, f := range all {
			if parent, _ := strconv.Atoi(f[1]); found[parent] != nil {
				found[id] = f
			}
		}
	}
	return found
}

// usage is the CPU time and the resident memory of a proxy with its children.
func (p *peer) usage() (cpu time.Duration, rss int64) {
	for _, f := range family(p.cmd.Process.Pid) {
		if len(f) < 22 {
			continue // it has just ended
		}
		n := func(field int) int64 { v, _ := strconv.ParseInt(f[field-3], 10, 64); return v }
		cpu += time.Duration(n(14)+n(15)) * 10 * time.Millisecond
		rss += n(24) * int64(os.Getpagesize())
	}
	return cpu, rss
}
