package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"anodenet/overlay"
)

// virtual are four nodes that nothing but the overlay joins: a, b and c each have a cable to hub, which
// relays. a, b and hub are in one virtual LAN; c was added by all, and is in nobody's.
func virtual(t *testing.T) (a, b, c, hub *host) {
	a, b, c, hub = newHost(t, "a"), newHost(t, "b"), newHost(t, "c"), newHost(t, "hub")
	join(1, a, hub)
	join(2, b, hub)
	join(3, c, hub)
	all, members := []*host{a, b, c, hub}, []*host{a, b, hub}
	for _, h := range all {
		for _, other := range all {
			if h == other {
				continue
			}
			h.add(other)
			if slices.Contains(members, h) && slices.Contains(members, other) {
				h.run(h.bin, "peers", "lan", other.name, "on", "--state", h.state())
			}
		}
		h.ip("route add default via 10.0." + fmt.Sprint(slices.Index(all, h)%3+1) + ".2") // as at home; nobody is there
	}
	return a, b, c, hub
}

// alias is the IPv4 address of a host's adapter.
func (h *host) alias() string {
	h.t.Helper()
	return h.status().LAN.Alias
}

// becomes waits until another host is that far in the virtual LAN of a host.
func (h *host) becomes(other *host, state overlay.LANState) {
	h.t.Helper()
	within(h.t, dialWait, fmt.Sprintf("%s to be %s at %s", other.name, state, h.name), func() bool { return h.peer(other).LAN == state })
}

// everywhere opens an IPv4 UDP socket on all addresses of a host.
func (h *host) everywhere(port int, dev string) *net.UDPConn {
	h.t.Helper()
	c, err := in(h, func() (*net.UDPConn, error) {
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			return c.Control(func(fd uintptr) {
				if dev != "" {
					err = unix.BindToDevice(int(fd), dev)
				}
			})
		}}
		c, err := lc.ListenPacket(h.t.Context(), "udp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return nil, err
		}
		return c.(*net.UDPConn), nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// shout sends a text to an address.
func (h *host) shout(c *net.UDPConn, to, text string) {
	h.t.Helper()
	if _, err := in(h, func() (int, error) { return c.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)) }); err != nil {
		h.t.Errorf("%s to %s: %v", h.name, to, err)
	}
}

// groupSocket joins a group on an interface.
func (h *host) groupSocket(group string, port int, dev string) *net.UDPConn {
	h.t.Helper()
	c, err := in(h, func() (*net.UDPConn, error) {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return nil, err
		}
		at := &net.UDPAddr{IP: net.ParseIP(group)}
		if at.IP.To4() == nil {
			c, err := net.ListenUDP("udp6", &net.UDPAddr{Port: port})
			if err != nil {
				return nil, err
			}
			return c, ipv6.NewPacketConn(c).JoinGroup(i, at)
		}
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		if err != nil {
			return nil, err
		}
		p := ipv4.NewPacketConn(c)
		if err := p.SetMulticastInterface(i); err != nil {
			return nil, err
		}
		return c, p.JoinGroup(i, at)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// wants waits until a host knows that another one has joined a group.
func (h *host) wants(other *host, group string, want bool) {
	h.t.Helper()
	within(h.t, dialWait, fmt.Sprintf("%s to learn of %s at %s", h.name, group, other.name), func() bool {
		return slices.Contains(h.peer(other).LANGroups, netip.MustParseAddr(group)) == want
	})
}

func hears(t *testing.T, who string, c *net.UDPConn, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := next(c); got != w {
			t.Errorf("%s hears %q, and should %q", who, got, w)
		}
	}
}

// routes4 are all IPv4 routes of a host.
func (h *host) routes4() string {
	h.t.Helper()
	return h.run("ip", "-4", "route", "show", "table", "all")
}

// TestNetLAN: IPv4 aliases, broadcasts and groups between machines that nothing but the overlay joins.
func TestNetLAN(t *testing.T) {
	a, b, c, hub := virtual(t)
	bare := a.routes4()
	all := []*host{a, b, c, hub}
	for _, h := range all {
		h.launch()
	}
	for _, h := range all {
		h.ready()
	}
	for _, other := range []*host{b, c, hub} {
		a.meets(other)
	}
	for _, pair := range [][2]*host{{a, b}, {b, a}, {a, hub}, {hub, a}, {b, hub}, {hub, b}} {
		pair[0].becomes(pair[1], overlay.LANMember)
	}
	if s := a.peer(c).LAN; s != overlay.LANOff {
		t.Errorf("c is %s", s)
	}
	broadcast := "100.127.255.255:7777"

	step(t, "aliases", func(t *testing.T) {
		for _, other := range []*host{b, c, hub} {
			if out, code := a.try("ping", "-4", "-n", "-q", "-c1", "-W5", other.alias()); code != 0 {
				t.Errorf("ping %s: %s", other.name, out)
			}
			if out := a.anode("whois", other.alias()); !strings.Contains(out, other.ula.String()) {
				t.Errorf("whois: %s", out)
			}
		}
		here, there := a.alias(), net.JoinHostPort(b.alias(), "80")
		l, err := in(b, func() (net.Listener, error) { return net.Listen("tcp4", there) })
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				fmt.Fprint(c, "over IPv4, "+c.RemoteAddr().(*net.TCPAddr).IP.String())
				c.Close()
			}
		}()
		conn, err := in(a, func() (net.Conn, error) { return net.DialTimeout("tcp4", there, dialWait) })
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(dialWait))
		text := make([]byte, 100)
		n, err := conn.Read(text)
		if got := string(text[:n]); err != nil || got != "over IPv4, "+here {
			t.Errorf("%q, %v", got, err)
		}
		if out := a.anode("id"); !strings.Contains(out, here) {
			t.Error(out)
		}
	}, all...)

	sa, sb, sc, shub := a.everywhere(7777, ""), b.everywhere(7777, ""), c.everywhere(7777, ""), hub.everywhere(7777, "")
	step(t, "broadcast", func(t *testing.T) {
		a.shout(sa, broadcast, "who plays?")
		a.shout(sa, broadcast, "nobody?")
		hears(t, "b", sb, "who plays?", "nobody?") // each once
		hears(t, "hub", shub, "who plays?", "nobody?")
		hears(t, "a", sa, "who plays?", "nobody?") // as on a real LAN
		c.shout(sc, broadcast, "let me in")
		a.shout(sa, c.alias()+":7777", "for c alone")
		hears(t, "c", sc, "let me in", "for c alone") // its own, and nothing of the LAN
		a.shout(sa, b.alias()+":7777", "for b alone")
		hears(t, "b", sb, "for b alone") // and nothing of c's
	}, all...)

	step(t, "groups", func(t *testing.T) {
		b6, b4 := b.groupSocket("ff02::fb", 5354, "anode0"), b.groupSocket("224.0.0.251", 5355, "anode0")
		a.wants(b, "ff02::fb", true)
		a.wants(b, "224.0.0.251", true)
		a6, a4 := a.groupSocket("ff02::fb", 5354, "anode0"), a.groupSocket("224.0.0.251", 5355, "anode0")
		a.shout(a6, "[ff02::fb%anode0]:5354", "printer.local?")
		hears(t, "b", b6, "printer.local?")
		a.shout(a4, "224.0.0.251:5355", "printer.local?")
		hears(t, "b", b4, "printer.local?")

		// What is said on the cable stays there, both ways.
		cable := hub.groupSocket("224.0.0.251", 5355, "eth1")
		onCable, err := in(a, func() (struct{}, error) {
			dev, err := net.InterfaceByName("eth1")
			if err != nil {
				return struct{}{}, err
			}
			return struct{}{}, ipv4.NewPacketConn(a4).JoinGroup(dev, &net.UDPAddr{IP: net.ParseIP("224.0.0.251")})
		})
		if err != nil {
			t.Fatal(err, onCable)
		}
		hub.shout(cable, "224.0.0.251:5355", "tv.local is mine")
		hears(t, "a", a4, "printer.local?", "tv.local is mine") // its own first
		hears(t, "hub", cable, "tv.local is mine")
		a.shout(a4, "224.0.0.251:5355", "lamp.local?")
		hears(t, "b", b4, "lamp.local?") // and not the television
		a.shout(sa, "10.0.1.2:7777", "by cable")
		hears(t, "hub", shub, "by cable")
		hub.shout(cable, "224.0.0.251:5355", "still mine")
		hears(t, "hub", cable, "still mine") // and not the lamp

		b4.Close()
		a.wants(b, "224.0.0.251", false)
	}, all...)

	step(t, "games", func(t *testing.T) {
		before := a.routes4()
		leads := func(dev string) {
			t.Helper()
			for _, to := range []string{"255.255.255.255", "239.255.255.250"} {
				within(t, dialWait, to+" to leave by "+dev, func() bool { return strings.Contains(a.run("ip", "route", "get", to), " dev "+dev+" ") })
			}
		}
		leads("eth1")
		if out := a.anode("games", "on"); !strings.Contains(out, "games are on") || !strings.Contains(out, "anode0") {
			t.Error(out)
		}
		leads("anode0")
		a.shout(sa, "255.255.255.255:7777", "lobby")
		hears(t, "b", sb, "lobby")
		hears(t, "hub", shub, "lobby")
		bound := a.everywhere(7778, "eth1") // a program that names an interface
		a.shout(bound, "255.255.255.255:7777", "on the cable")
		hears(t, "hub", shub, "on the cable")
		a.shout(sa, b.alias()+":7777", "done")
		hears(t, "b", sb, "done")
		a.anode("games", "off")
		within(t, dialWait, "the routes as before", func() bool { return a.routes4() == before })
		a.anode("games", "on")
		leads("anode0")
		a.down(syscall.SIGKILL)
		within(t, dialWait, "the routes as without a daemon", func() bool { return a.routes4() == bare })
	}, all...)

	step(t, "taken out", func(t *testing.T) {
		b.anode("peers", "lan", "hub", "off")
		hub.becomes(b, overlay.LANChosen)
		if out := hub.anode("lan"); !strings.Contains(out, "b has not chosen this node for its virtual LAN") {
			t.Error(out)
		}
		hub.shout(shub, broadcast, "b, are you there?")
		hears(t, "hub", shub, "b, are you there?")
		hub.shout(shub, b.alias()+":7777", "bye")
		hears(t, "b", sb, "bye")
	}, all...)

	// What programs still send to the alias of a peer that was removed is not sent in clear.
	step(t, "removed", func(t *testing.T) {
		gone := c.alias()
		leads := func() string { return b.run("ip", "route", "get", gone) }
		before := leads()
		if !strings.Contains(before, " dev anode0 ") {
			t.Fatal(before)
		}
		b.anode("peers", "remove", "c")
		within(t, dialWait, "the peer to be gone", func() bool { return !strings.Contains(b.anode("peers", "list", "--tsv"), c.ula.String()) })
		if out, code := b.try("ping", "-4", "-n", "-q", "-c1", "-W5", gone); code == 0 || !strings.Contains(out, "+1 errors") {
			t.Errorf("ping: %d, %s", code, out)
		}
		if now := leads(); now != before {
			t.Errorf("it leads elsewhere: %s", now)
		}
		b.add(c)
	}, all...)
}
