package platform

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watch calls changed when it has begun to watch, and after links, addresses, default
// routes or rules of routing have changed: once for each burst of changes, and at least
// once a second in a long one. A repeated announcement, such as that of an address whose
// lifetime a router renews, is no change. It returns nil when ctx has ended, or an error
// when it cannot watch.
func Watch(ctx context.Context, changed func()) error {
	fd, err := subscribe()
	if err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	known := make(announced)
	return watch(ctx, os.NewFile(uintptr(fd), "netlink"), source{
		news: known.news,
		passes: func(err error) bool {
			if !errors.Is(err, unix.ENOBUFS) {
				return false
			}
			clear(known) // messages were lost
			return true
		},
		patience: patient,
	}, changed)
}

// subscribe opens a socket on which the kernel announces what Watch reports.
func subscribe() (fd int, err error) {
	return subscribeTo(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
}

// subscribeTo opens a socket that does not block, to which the kernel sends announcements
// of the groups.
func subscribeTo(groups ...uint) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	mask := uint32(0)
	for _, g := range groups {
		mask |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: mask}); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// maxAnnounced bounds how many links and addresses are remembered. Past it, all are
// forgotten, and the next message about each is news.
const maxAnnounced = 4096

// announced holds the part that matters of the kernel's last message about each link and
// each address.
type announced map[string]string

// news reports whether a read holds a message with something new.
func (a announced) news(b []byte) bool {
	msgs, err := syscall.ParseNetlinkMessage(b)
	news := err != nil
	for i := range msgs {
		news = a.message(&msgs[i]) || news // look at each
	}
	return news
}

func (a announced) message(m *syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_NEWADDR:
		about, said, ok := sayings(m)
		if !ok {
			return true
		}
		if last, known := a[about]; known && last == said {
			return false
		}
		if len(a) >= maxAnnounced {
			clear(a)
		}
		a[about] = said
	case unix.RTM_DELLINK, unix.RTM_DELADDR:
		about, _, _ := sayings(m)
		delete(a, about)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return isDefault(m.Data)
	}
	return true
}

// sayings returns what a message is about, and the part of its content that matters here,
// without lifetimes and statistics.
func sayings(m *syscall.NetlinkMessage) (about, said string, ok bool) {
	read, header := addressSayings, unix.SizeofIfAddrmsg
	if m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK {
		read, header = linkSayings, unix.SizeofIfInfomsg
	}
	if len(m.Data) < header {
		return "", "", false
	}
	// The parser wants the last attribute padded, as the kernel does it, and panics otherwise.
	padded := *m
	for len(padded.Data)%unix.RTA_ALIGNTO != 0 {
		padded.Data = append(slices.Clip(padded.Data), 0)
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(&padded)
	if err != nil {
		return "", "", false
	}
	about, said = read(m.Data, attrs)
	return about, said, true
}

// linkSayings reads a message about a link (rtnetlink(7)):
//
//	family[1] pad[1] hardware[2] index[4] flags[4] change[4] | attributes
//
// A bridge's message about its member has a family of its own, and says other things.
func linkSayings(b []byte, attrs []syscall.NetlinkRouteAttr) (about, said string) {
	flags := binary.NativeEndian.Uint32(b[8:]) &^ (unix.IFF_PROMISC | unix.IFF_ALLMULTI)
	s := binary.NativeEndian.AppendUint32(nil, flags)
	for _, a := range attrs {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.IFLA_IFNAME, unix.IFLA_MTU, unix.IFLA_MASTER:
			s = appendSaying(s, a)
		}
	}
	return "link" + string(b[0:1]) + string(b[4:8]), string(s)
}

// addressSayings reads a message about an address (rtnetlink(7)):
//
//	family[1] bits[1] flags[1] scope[1] index[4] | attributes
func addressSayings(b []byte, attrs []syscall.NetlinkRouteAttr) (about, said string) {
	k := append([]byte("address"), b[0], b[1])
	k = append(k, b[4:8]...)
	s := []byte{b[2], b[3]}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFA_ADDRESS, unix.IFA_LOCAL:
			k = appendSaying(k, a)
		case unix.IFA_FLAGS, unix.IFA_BROADCAST:
			s = appendSaying(s, a)
		}
	}
	return string(k), string(s)
}

func appendSaying(b []byte, a syscall.NetlinkRouteAttr) []byte {
	b = binary.NativeEndian.AppendUint16(b, a.Attr.Type)
	b = binary.NativeEndian.AppendUint16(b, uint16(len(a.Value)))
	return append(b, a.Value...)
}

// isDefault reports whether a message is about a route that can lead to the internet: the
// default route, or one of the two halves or the eighth (2000::/3) that other programs
// put before it, in whichever table. A router with the internet's full routing table is
// not disturbed.
//
//	family[1] destination bits[1] ...
func isDefault(b []byte) bool { return len(b) < unix.SizeofRtMsg || b[1] <= 3 }
