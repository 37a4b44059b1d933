package platform

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAnnounced: of what the kernel announces, what says nothing new is told from what
// changes links, addresses or the way to the internet.
func TestAnnounced(t *testing.T) {
	inSpace(t, func() {
		fd, err := subscribe()
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		known := make(announced)
		buf := make([]byte, watchRead)
		step := func(want bool, lines ...string) {
			for _, line := range lines {
				ip(t, strings.Fields(line)...)
				news := false
				for {
					n, err := unix.Read(fd, buf)
					if err == nil {
						news = known.news(buf[:n]) || news
						continue
					}
					if news || !want || !readable(fd) {
						break // the kernel announces before it answers, IPv6 addresses after
					}
				}
				if news != want {
					t.Errorf("ip %s: news %v, want %v", line, news, want)
				}
			}
		}
		// On the loopback interface nothing is announced late.
		step(true, "link set lo up", "addr add 10.0.0.1/24 dev lo", "addr add fd77::1/64 dev lo nodad valid_lft 900 preferred_lft 900")
		step(false,
			"addr change fd77::1/64 dev lo nodad valid_lft 1000 preferred_lft 500",
			"addr change fd77::1/64 dev lo nodad valid_lft 1000 preferred_lft 600",
			"link set lo txqueuelen 77", "link set lo promisc on", "link set lo promisc off",
			"route add 10.5.0.0/16 dev lo", "route del 10.5.0.0/16",
			"-6 route add 2001:db8::/32 dev lo", "-6 route del 2001:db8::/32")
		step(true, "route add default dev lo", "-6 route add default dev lo metric 7",
			"route change default dev lo src 10.0.0.1", "route del default", "-6 route del default dev lo",
			"route add 0.0.0.0/1 dev lo", "-6 route add 2000::/3 dev lo table 77",
			"rule add from all lookup 77", "-6 rule add from all lookup 77",
			"addr change fd77::1/64 dev lo nodad valid_lft 1000 preferred_lft 0", // deprecated
			"addr del fd77::1/64 dev lo", "addr add fd77::1/64 dev lo nodad", "addr del 10.0.0.1/24 dev lo",
			"link set lo mtu 1400", "link set lo down", "link set lo up",
			"link add lan type veth peer name other", "link set lan name wan", "link del wan")
	})
}

// readable waits until there is something to read, for at most ten seconds.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if err != unix.EINTR {
			return n == 1
		}
	}
}

// TestAnnouncedBound: what is remembered has a bound, and past it nothing is taken for known.
func TestAnnouncedBound(t *testing.T) {
	known := make(announced)
	for i := range 3 * maxAnnounced {
		if m := linkMessage(uint32(i), 1); !known.news(m) || known.news(m) {
			t.Fatalf("link %d", i)
		}
		if len(known) > maxAnnounced {
			t.Fatalf("%d are remembered", len(known))
		}
	}
	if !known.news(linkMessage(1, 1)) {
		t.Error("the first are still known")
	}
	if m := linkMessage(1, 1); !known.news(append(linkMessage(2, 7), m...)) || known.news(m) {
		t.Error("a second message in one read was not looked at")
	}
}

// linkMessage makes an announcement of a link.
func linkMessage(index, flags uint32) []byte {
	order := binary.NativeEndian
	b := order.AppendUint32(nil, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	b = order.AppendUint16(b, unix.RTM_NEWLINK)
	b = append(b, make([]byte, 14)...)
	b = order.AppendUint32(b, index)
	b = order.AppendUint32(b, flags)
	return append(b, 0, 0, 0, 0)
}

// FuzzAnnounced: any message may be announced, and what was announced twice is no news
// the second time, unless it is about something that went or about a route.
func FuzzAnnounced(f *testing.F) {
	f.Add(linkMessage(1, 1))
	f.Add(append(linkMessage(1, 1), linkMessage(2, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		known := make(announced)
		known.news(b)
		size := len(known)
		known.news(b)
		if len(known) != size || size > len(b)/unix.SizeofNlMsghdr {
			t.Errorf("%d are remembered, then %d", size, len(known))
		}
	})
}

// TestWatchEnds: Watch reports once that it has begun, and ends with its context.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := Watch(ctx, func() { calls++; cancel() })
	if err != nil || calls == 0 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
