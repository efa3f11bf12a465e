package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	smallBody = 1 << 10
	largeBody = 100 << 20
)

var (
	smallAnswer = []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", smallBody, bytes.Repeat([]byte{'a'}, smallBody)))
	largeChunk  = bytes.Repeat([]byte{'a'}, 1<<20)
)

// lean is the application behind all proxies of a comparison: it answers 1 KiB,
// 100 MiB at /large, and takes WebSockets that then say nothing. One thread
// answers the small ones, without a goroutine that sleeps and wakes for each:
// what the application takes from the processors, no proxy can win or lose.
type lean struct {
	epoll int
	conns map[int32]*os.File // by descriptor; its own thread's
	fresh chan *os.File
}

func newLean() (*lean, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &lean{epoll: epoll, conns: map[int32]*os.File{}, fresh: make(chan *os.File, 1024)}, err
}

// add takes a connection over.
func (l *lean) add(conn *net.TCPConn) error {
	f, err := conn.File()
	if err != nil {
		return err
	}
	fd := int(f.Fd())
	l.fresh <- f // known before it can be ready
	return errors.Join(conn.Close(), unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
}

// serve answers until the process ends.
func (l *lean) serve() {
	runtime.LockOSThread()
	events, buf := make([]unix.EpollEvent, 256), make([]byte, 16<<10)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(err)
		}
		for _, e := range events[:max(n, 0)] {
			for l.conns[e.Fd] == nil {
				f := <-l.fresh
				l.conns[int32(f.Fd())] = f
			}
			n, err := unix.Read(int(e.Fd), buf)
			switch {
			case err == nil && isSmall(buf[:n]):
				_, err = unix.Write(int(e.Fd), smallAnswer)
			case n > 0:
				l.handOver(e.Fd, bytes.Clone(buf[:n]))
				continue
			}
			if n <= 0 || err != nil {
				l.remove(e.Fd).Close()
			}
		}
	}
}

func (l *lean) remove(fd int32) *os.File {
	f := l.conns[fd]
	delete(l.conns, fd)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(fd), nil)
	return f
}

// handOver leaves a connection to a goroutine.
func (l *lean) handOver(fd int32, begun []byte) {
	f := l.remove(fd)
	conn, err := net.FileConn(f)
	f.Close()
	if err == nil {
		go answer(conn, io.MultiReader(bytes.NewReader(begun), conn))
	}
}

// isSmall says that a read brought one whole request for the small answer.
func isSmall(b []byte) bool {
	return bytes.HasPrefix(b, []byte("GET / ")) && bytes.Index(b, []byte("\r\n\r\n")) == len(b)-4 && !bytes.Contains(bytes.ToLower(b), []byte("websocket"))
}

// answer answers whatever it is.
func answer(conn net.Conn, from io.Reader) {
	defer conn.Close()
	in := bufio.NewReader(from)
	for {
		large, key, ok := readLean(in)
		switch {
		case !ok:
			return
		case key != "":
			sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		case large:
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", largeBody)
			for range largeBody / len(largeChunk) {
				if _, err := conn.Write(largeChunk); err != nil {
					return
				}
			}
		default:
			if _, err := conn.Write(smallAnswer); err != nil {
				return
			}
		}
	}
}

// readLean reads a request without a body.
func readLean(in *bufio.Reader) (large bool, key string, ok bool) {
	const name = "sec-websocket-key:"
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false, "", false
		}
		switch {
		case first:
			large = bytes.HasPrefix(line, []byte("GET /large "))
		case len(line) <= 2:
			return large, key, true
		case len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name):
			key = strings.TrimSpace(string(line[len(name):]))
		}
	}
}
