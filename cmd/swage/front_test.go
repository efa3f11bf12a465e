package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSocketsSurviveTheSecondStart: a process that was given sockets and starts
// itself again for RFC 8441 has them still, each for its protocol.
func TestSocketsSurviveTheSecondStart(t *testing.T) {
	if os.Getenv("SWAGE_TEST_INHERITS") != "" {
		withExtendedConnect()
		streams, datagrams, err := inheritedSockets()
		for _, l := range streams {
			fmt.Println("stream", l.Addr())
		}
		for _, c := range datagrams {
			fmt.Println("datagram", c.LocalAddr())
		}
		fmt.Println(os.Getenv("GODEBUG"), os.Getenv("LISTEN_FDS"), err)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stream, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	datagram, err := c.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()

	child := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestSocketsSurviveTheSecondStart$'`, os.Args[0])
	child.Env = append(os.Environ(), "SWAGE_TEST_INHERITS=1", "LISTEN_FDS=2", "GODEBUG=madvdontneed=1")
	child.ExtraFiles = []*os.File{stream, datagram}
	out, err := child.CombinedOutput()
	want := fmt.Sprintf("stream %v\ndatagram %v\nmadvdontneed=1,http2xconnect=1  <nil>\n", l.Addr(), c.LocalAddr())
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
}
