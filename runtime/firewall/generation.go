package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// generation is the kernel's count of changes to any table of this network. As
// long as it stands still our table is as we left it, which is known a hundred
// times sooner than by listing it.
func generation() (uint32, error) {
	id, err := askGeneration()
	if err != nil {
		return 0, fmt.Errorf("firewall: ask the kernel for the generation of the tables: %w", err)
	}
	return id, nil
}

func askGeneration() (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}
	// A netlink header and nothing but the four bytes of struct nfgenmsg.
	const (
		header  = unix.NLMSG_HDRLEN
		payload = header + 4
		subsys  = unix.NFNL_SUBSYS_NFTABLES << 8
	)
	request := make([]byte, payload)
	binary.NativeEndian.PutUint32(request[0:], payload)
	binary.NativeEndian.PutUint16(request[4:], subsys|unix.NFT_MSG_GETGEN)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	answer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, err
	}
	answer = answer[:n]
	if n < payload || binary.NativeEndian.Uint16(answer[4:]) != subsys|unix.NFT_MSG_NEWGEN {
		return 0, errors.New("the answer is of another kind")
	}
	for rest := answer[payload:]; len(rest) >= unix.NLA_HDRLEN; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < unix.NLA_HDRLEN || size > len(rest) {
			break
		}
		if kind == unix.NFTA_GEN_ID && size >= unix.NLA_HDRLEN+4 {
			return binary.BigEndian.Uint32(rest[unix.NLA_HDRLEN:]), nil
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return 0, errors.New("the answer does not name it")
}
