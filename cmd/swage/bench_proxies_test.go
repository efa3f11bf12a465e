package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
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
)

// caddyVersion is the one that is compared with.
const caddyVersion = "v2.11.9"

// peer is a proxy of a comparison, in a process of its own.
type peer struct {
	name    string
	version string
	addr    string
	cmd     *exec.Cmd
}

// startPeers starts all proxies that can be had in front of one application.
// Those that cannot are named in the log.
func startPeers(b *testing.B, dir string, target netip.AddrPort) []*peer {
	b.Helper()
	writePair(b, dir)
	var peers []*peer
	for _, start := range []func(*testing.B, string, netip.AddrPort) *peer{startNginx, startHAProxy, startCaddy, startEdge} {
		if p := start(b, dir, target); p != nil {
			peers = append(peers, p)
		}
	}
	return peers
}

// run starts a proxy and waits until it accepts connections.
func (p *peer) run(b *testing.B, env []string, program string, args ...string) *peer {
	b.Helper()
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(exited) }()
	b.Cleanup(func() {
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
			b.Fatalf("%s ended at once: %v", p.name, p.cmd)
		default:
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not listen: %v", p.name, err)
		}
	}
}

func startNginx(b *testing.B, dir string, target netip.AddrPort) *peer {
	program := installed(b, "nginx", "/usr/sbin/nginx")
	if program == "" {
		return nil
	}
	p := &peer{name: "nginx", version: versionOf(program, "-v"), addr: freeAddr(b)}
	config := write(b, dir, "nginx.conf", fmt.Sprintf(`
daemon off; user root; worker_processes auto; worker_rlimit_nofile 16384; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 16000; }
http {
	access_log off;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	map $http_upgrade $forwarded_connection { default upgrade; '' ''; }
	upstream application { server %[3]v; keepalive 64; }
	server {
		listen %[2]s ssl http2 reuseport;
		ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem;
		keepalive_requests 1000000000;
		location / {
			proxy_pass http://application; proxy_http_version 1.1; proxy_read_timeout 1h;
			proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $forwarded_connection;
		}
	}
}
`, dir, p.addr, target))
	return p.run(b, nil, program, "-c", config, "-e", filepath.Join(dir, "nginx.log"))
}

func startHAProxy(b *testing.B, dir string, target netip.AddrPort) *peer {
	program := installed(b, "haproxy", "/usr/sbin/haproxy")
	if program == "" {
		return nil
	}
	p := &peer{name: "HAProxy", version: versionOf(program, "-v"), addr: freeAddr(b)}
	config := write(b, dir, "haproxy.cfg", fmt.Sprintf(`
global
	maxconn 8000
defaults
	mode http
	option forwardfor
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	timeout tunnel 1h
frontend tls
	bind %s ssl crt %s/both.pem alpn h2,http/1.1
	default_backend application
backend application
	server one %v
`, p.addr, dir, target))
	return p.run(b, nil, program, "-db", "-q", "-f", config)
}

func startCaddy(b *testing.B, dir string, target netip.AddrPort) *peer {
	program, err := exec.LookPath("caddy")
	if info, _ := buildinfo.ReadFile(program); err != nil || info == nil || info.Main.Version != caddyVersion {
		install := exec.Command("go", "install", "github.com/caddyserver/caddy/v2/cmd/caddy@"+caddyVersion)
		install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
		install.Dir = dir // not in our module
		if out, err := install.CombinedOutput(); err != nil {
			b.Logf("skipped: Caddy %s cannot be built here: %v: %.300s", caddyVersion, err, out)
			return nil
		}
		program = filepath.Join(dir, "caddy")
	}
	p := &peer{name: "Caddy", version: caddyVersion, addr: freeAddr(b)}
	config := write(b, dir, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
	default_bind 127.0.0.1
	servers {
		protocols h1 h2
	}
}
https://:%s {
	tls %[2]s/cert.pem %[2]s/key.pem
	reverse_proxy %[3]v
}
`, p.addr[strings.LastIndexByte(p.addr, ':')+1:], dir, target))
	return p.run(b, []string{"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, program, "run", "--config", config, "--adapter", "caddyfile")
}

func startEdge(b *testing.B, dir string, target netip.AddrPort) *peer {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p := &peer{name: "swage", version: "this tree", addr: freeAddr(b)}
	return p.run(b, []string{benchListen + "=" + p.addr, benchBackend + "=" + target.String(), benchDir + "=" + dir}, self)
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

func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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
