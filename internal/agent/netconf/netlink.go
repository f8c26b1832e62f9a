package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// rtnetlink is a socket for the kernel's network configuration: one request at a
// time, each acknowledged.
type rtnetlink struct {
	fd  int
	seq uint32
}

func openRTNetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &rtnetlink{fd: fd}, nil
}

func (r *rtnetlink) close() { unix.Close(r.fd) }

// do sends a request and waits for the kernel's answer to it, which comes at once.
func (r *rtnetlink) do(kind, flags uint16, body []byte) error {
	r.seq++
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = binary.NativeEndian.AppendUint32(m, r.seq)
	m = binary.NativeEndian.AppendUint32(m, 0)
	m = append(m, body...)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := sys.Retry(func() error { return unix.Sendto(r.fd, m, 0, kernel) }); err != nil {
		return err
	}
	buf := make([]byte, 8192)
	for {
		var n int
		err := sys.Retry(func() (err error) {
			n, _, err = unix.Recvfrom(r.fd, buf, 0)
			return err
		})
		if err != nil {
			return err
		}
		// An answer: header, then a negative errno.
		if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR ||
			binary.NativeEndian.Uint32(buf[8:]) != r.seq {
			continue
		}
		if errno := int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])); errno != 0 {
			return unix.Errno(-errno)
		}
		return nil
	}
}

// attribute adds a netlink attribute.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func nativeUint32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// ifinfo is struct ifinfomsg.
func ifinfo(index int, flags, change uint32) []byte {
	b := []byte{unix.AF_UNSPEC, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

func (r *rtnetlink) setUp(index int, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	return r.do(unix.RTM_NEWLINK, 0, ifinfo(index, flags, unix.IFF_UP))
}

func (r *rtnetlink) setName(index int, name string) error {
	return r.do(unix.RTM_NEWLINK, 0, attribute(ifinfo(index, 0, 0), unix.IFLA_IFNAME, append([]byte(name), 0)))
}

func (r *rtnetlink) setMAC(index int, mac []byte) error {
	return r.do(unix.RTM_NEWLINK, 0, attribute(ifinfo(index, 0, 0), unix.IFLA_ADDRESS, mac))
}

// addressBody is struct ifaddrmsg with its attributes.
func addressBody(index int, p netip.Prefix) []byte {
	family := byte(unix.AF_INET6)
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	b := []byte{family, byte(p.Bits()), 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	ip := p.Addr().AsSlice()
	b = attribute(b, unix.IFA_LOCAL, ip)
	b = attribute(b, unix.IFA_ADDRESS, ip)
	if family == unix.AF_INET {
		last := binary.BigEndian.Uint32(ip) | uint32(1<<(32-p.Bits())-1)
		return attribute(b, unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, last))
	}
	// The addresses are known to be unique. Usable at once, without a word.
	return attribute(b, unix.IFA_FLAGS, nativeUint32(unix.IFA_F_NODAD|unix.IFA_F_PERMANENT))
}

func (r *rtnetlink) addAddress(index int, p netip.Prefix) error {
	return r.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, addressBody(index, p))
}

// removeAddress removes an address. It succeeds if the address is gone already.
func (r *rtnetlink) removeAddress(index int, p netip.Prefix) error {
	err := r.do(unix.RTM_DELADDR, 0, addressBody(index, p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// linkNews returns a socket on which the kernel announces interfaces. A read
// returns when there is something to look at.
func linkNews() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
