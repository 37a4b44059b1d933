package main_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNetNATBoxes: the boxes of the laboratory are what they are called. Nodes have no part
// in this.
func TestNetNATBoxes(t *testing.T) {
	for _, c := range []struct {
		box    string
		ports  string // outside, for three destinations
		admits string // who gets in by such a port
	}{
		{"router", "kept", "anybody"},
		{"firewall", "kept", "the destination"},
		{"home", "kept", "the destination"},
		{"trusting", "kept", "the destination"},
		{"moved", "one", "the destination"},
		{"known", "one", "the destination's address"},
		{"cone", "one", "anybody"},
		{"hairpin", "one", "anybody"},
		{"random", "any", "the destination"},
		{"fully", "any", "the destination"},
		{"sequential", "each 1 more", "the destination"},
		{"sequential-256", "each 256 more", "the destination"},
		{"carrier", "kept", "the destination"},
	} {
		t.Run(c.box, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			a, one, two, stranger := newMachine(t, "a"), newMachine(t, "one"), newMachine(t, "two"), newMachine(t, "stranger")
			l.put(a, behind(c.box), 1, nil)
			l.put(one, centre, 2, nil)
			l.put(two, centre, 3, nil)
			l.put(stranger, centre, 4, nil)
			l.rules()
			from := a.bind(8737)
			servers := []*net.UDPConn{one.bind(1000), one.bind(1001), two.bind(1000)}
			var seen []netip.AddrPort
			for i, s := range servers {
				to := netip.MustParseAddrPort([]string{"9.0.2.2:1000", "9.0.2.2:1001", "9.0.3.2:1000"}[i])
				from.WriteToUDPAddrPort([]byte("out"), to)
				at, ok := heard(s)
				if !ok {
					t.Fatalf("nothing gets out to %v", to)
				}
				seen = append(seen, at)
			}
			if got := ports(seen); got != c.ports {
				t.Errorf("it is seen as %v: %s, want %s", seen, got, c.ports)
			}
			if servers[0].WriteToUDPAddrPort([]byte("in"), seen[0]); !asWanted(from, true) {
				t.Error("the destination's answer does not get in")
			}
			for other, wanted := range map[*net.UDPConn]bool{
				one.bind(2000):      c.admits != "the destination",
				stranger.bind(2000): c.admits == "anybody",
			} {
				other.WriteToUDPAddrPort([]byte("in"), seen[0])
				if !asWanted(from, wanted) {
					t.Errorf("%v gets in: %v, want %v", other.LocalAddr(), !wanted, wanted)
				}
			}
		})
	}
}

// ports says how a port looks from outside.
func ports(seen []netip.AddrPort) string {
	var all []int
	for _, s := range seen {
		all = append(all, int(s.Port()))
	}
	switch first, step := all[0], all[1]-all[0]; {
	case slices.Equal(all, []int{8737, 8737, 8737}):
		return "kept"
	case slices.Equal(all, []int{first, first, first}):
		return "one"
	case step > 0 && all[2]-all[1] == step:
		return fmt.Sprintf("each %d more", step)
	}
	return "any"
}

// TestNetNATTaken: in a box that drops nothing, a packet that nobody asked for takes the
// place in the NAT that the answer to it needs.
func TestNetNATTaken(t *testing.T) {
	t.Parallel()
	for box, want := range map[string]bool{"home": true, "trusting": false} {
		l := newLaboratory(t)
		a, one, two := newMachine(t, "a"), newMachine(t, "one"), newMachine(t, "two")
		l.put(a, behind(box), 1, nil)
		l.put(one, centre, 2, nil)
		l.put(two, centre, 3, nil)
		l.rules()
		from, known, early := a.bind(8737), one.bind(1000), two.bind(1000)
		from.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("9.0.2.2:1000"))
		at, _ := heard(known)
		early.WriteToUDPAddrPort([]byte("early"), at)
		if !asWanted(from, false) {
			t.Errorf("%s: a stranger gets in", box)
		}
		from.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("9.0.3.2:1000"))
		again, _ := heard(early)
		if (again == at) != want {
			t.Errorf("%s: it is %v for one, and %v for the one that sent too early", box, at, again)
		}
	}
}

// TestNetNATReboot: a box that was rebooted gives another port, is of the same kind, and lets
// nobody in by the old one.
func TestNetNATReboot(t *testing.T) {
	t.Parallel()
	for _, box := range []string{"home", "moved"} {
		l := newLaboratory(t)
		a, one := newMachine(t, "a"), newMachine(t, "one")
		l.put(a, behind(box), 1, nil)
		l.put(one, centre, 2, nil)
		l.rules()
		from, servers := a.bind(8737), []*net.UDPConn{one.bind(1000), one.bind(1001)}
		var seen [2][2]netip.AddrPort
		for i := range seen {
			for k, s := range servers {
				from.WriteToUDPAddrPort([]byte("out"), netip.AddrPortFrom(netip.MustParseAddr("9.0.2.2"), uint16(1000+k)))
				seen[i][k], _ = heard(s)
			}
			if i == 0 {
				l.innermost(a).reboot()
				if servers[0].WriteToUDPAddrPort([]byte("in"), seen[0][0]); !asWanted(from, false) {
					t.Errorf("%s: it still knows the connection", box)
				}
			}
		}
		if seen[0][0] == seen[1][0] || seen[0][0] != seen[0][1] || seen[1][0] != seen[1][1] {
			t.Errorf("%s: a is %v, and then %v", box, seen[0], seen[1])
		}
	}
}

// TestNetNATHairpin: two machines behind one box reach each other by their ports outside
// where it turns packets round, and by their own addresses where it forwards them.
func TestNetNATHairpin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		box              string
		outside, between bool
	}{
		{"hairpin", true, false},
		{"cone", false, false},
		{"home", false, false},
		{"home-between-lans", false, true},
	} {
		l := newLaboratory(t)
		a, b, one := newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "one")
		l.put(a, behind(c.box), 1, nil)
		l.put(b, place{shared: 1}, 1, l.chains[a])
		l.put(one, centre, 2, nil)
		l.rules()
		near, far, server := a.bind(8737), b.bind(8737), one.bind(1000)
		var seen [2]netip.AddrPort
		for i, s := range []*net.UDPConn{near, far} {
			s.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("9.0.2.2:1000"))
			seen[i], _ = heard(server)
		}
		near.WriteToUDPAddrPort([]byte("by the outer address"), seen[1])
		if from, ok := heardWithin(far, time.Second); ok != c.outside || ok && from != seen[0] {
			t.Errorf("%s: b hears %v, %v from a, who is %v outside; want %v", c.box, ok, from, seen[0], c.outside)
		}
		near.WriteToUDPAddrPort([]byte("by its own address"), netip.MustParseAddrPort("192.168.2.2:8737"))
		if !asWanted(far, c.between) {
			t.Errorf("%s: b hears a by its own address: %v, want %v", c.box, !c.between, c.between)
		}
	}
}

// TestNetNATMaps: boxes open ports by NAT-PMP and by UPnP IGD.
func TestNetNATMaps(t *testing.T) {
	for box, open := range map[string]func(a *host, outside int) error{"pcp": mapByPMP, "upnp": mapByUPnP} {
		t.Run(box, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			a, one := newMachine(t, "a"), newMachine(t, "one")
			l.put(a, behind(box), 1, nil)
			l.put(one, centre, 2, nil)
			l.rules()
			from, stranger := a.bind(8737), one.bind(1000)
			within(t, dialWait, "a port", func() bool { return open(a, 23456) == nil })
			stranger.WriteToUDPAddrPort([]byte("in"), netip.MustParseAddrPort("9.0.1.1:23456"))
			if !asWanted(from, true) {
				t.Error("nothing gets in by the port")
			}
		})
	}
}

// mapByPMP asks the gateway for a port outside that leads to 8737, by RFC 6886.
func mapByPMP(a *host, outside int) error {
	c, err := in(a, func() (net.Conn, error) { return net.Dial("udp", "192.168.1.1:5351") })
	if err != nil {
		return err
	}
	defer c.Close()
	request := binary.BigEndian.AppendUint16([]byte{0, 1, 0, 0}, 8737) // version, UDP
	request = binary.BigEndian.AppendUint16(request, uint16(outside))
	request = binary.BigEndian.AppendUint32(request, 600) // seconds
	if _, err := c.Write(request); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	answer := make([]byte, 100)
	n, err := c.Read(answer)
	if err == nil && (n != 16 || binary.BigEndian.Uint16(answer[2:]) != 0 || int(binary.BigEndian.Uint16(answer[10:])) != outside) {
		err = fmt.Errorf("answer %x", answer[:n])
	}
	return err
}

// mapByUPnP asks a gateway for the same. It finds it by SSDP.
func mapByUPnP(a *host, outside int) error {
	c, err := in(a, func() (net.PacketConn, error) { return net.ListenPacket("udp4", "192.168.1.2:0") })
	if err != nil {
		return err
	}
	defer c.Close()
	const service = "urn:schemas-upnp-org:service:WANIPConnection:1"
	search := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + service + "\r\n\r\n"
	if _, err := c.WriteTo([]byte(search), &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900}); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	answer := make([]byte, 2000)
	n, _, err := c.ReadFrom(answer)
	if err != nil {
		return err
	}
	found, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer[:n])), nil)
	if err != nil {
		return err
	}
	control, err := found.Location()
	if err != nil {
		return err
	}
	control.Path = "/ctl/IPConn" // as miniupnpd's description says
	order := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`+
		`<u:AddPortMapping xmlns:u="%s"><NewRemoteHost></NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>UDP</NewProtocol>`+
		`<NewInternalPort>8737</NewInternalPort><NewInternalClient>192.168.1.2</NewInternalClient><NewEnabled>1</NewEnabled>`+
		`<NewPortMappingDescription>test</NewPortMappingDescription><NewLeaseDuration>600</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>`, service, outside)
	request, err := http.NewRequest(http.MethodPost, control.String(), strings.NewReader(order))
	if err != nil {
		return err
	}
	request.Header.Set("SOAPAction", `"`+service+`#AddPortMapping"`)
	conn, err := in(a, func() (net.Conn, error) { return net.DialTimeout("tcp", control.Host, time.Second) })
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := request.Write(conn); err != nil {
		return err
	}
	reply, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s", reply.Status)
	}
	return nil
}

// TestNetNATIPv6: what comes by IPv6 gets through a firewall if it answers, and no other.
func TestNetNATIPv6(t *testing.T) {
	for box, want := range map[string]bool{"router": true, "firewall": false, "home": false} {
		t.Run(box, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			a, one := newMachine(t, "a"), newMachine(t, "one")
			l.put(a, both(box), 1, nil)
			l.put(one, centre, 2, nil)
			l.rules()
			from, server, stranger := a.bind(8737), one.bind(1000), one.bind(1001)
			if from.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("[2a00:0:2::2]:1000")); !asWanted(server, true) {
				t.Error("nothing gets out")
			}
			at := netip.MustParseAddrPort("[2a00:0:1::2]:8737")
			if server.WriteToUDPAddrPort([]byte("in"), at); !asWanted(from, true) {
				t.Error("an answer does not get in")
			}
			if stranger.WriteToUDPAddrPort([]byte("in"), at); !asWanted(from, want) {
				t.Errorf("a stranger gets in: %v, want %v", !want, want)
			}
		})
	}
}

// TestNetNATForgets: a carrier forgets a port that was silent for longer than its lifetime.
func TestNetNATForgets(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	a, one := newMachine(t, "a"), newMachine(t, "one")
	l.put(a, behind("carrier", "home"), 1, nil)
	l.put(one, centre, 2, nil)
	l.chains[a][0].lifetime = 2 // seconds; a test need not wait for 10
	l.rules()
	from, server := a.bind(8737), one.bind(1000)
	for _, c := range []struct {
		silent time.Duration
		want   bool
	}{{time.Second, true}, {5 * time.Second, false}} {
		from.WriteToUDPAddrPort([]byte("out"), netip.MustParseAddrPort("9.0.2.2:1000"))
		at, _ := heard(server)
		time.Sleep(c.silent)
		server.WriteToUDPAddrPort([]byte("in"), at)
		if !asWanted(from, c.want) {
			t.Errorf("after %v of silence, an answer gets in: %v, want %v", c.silent, !c.want, c.want)
		}
	}
}

// bind opens a UDP socket of the host, outside the adapter.
func (h *host) bind(port int) *net.UDPConn {
	h.t.Helper()
	c, err := in(h, func() (net.PacketConn, error) { return net.ListenPacket("udp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// heard waits for a datagram, and returns where it came from.
func heard(c *net.UDPConn) (from netip.AddrPort, ok bool) { return heardWithin(c, dialWait) }

func heardWithin(c *net.UDPConn, limit time.Duration) (from netip.AddrPort, ok bool) {
	c.SetReadDeadline(time.Now().Add(limit))
	_, from, err := c.ReadFromUDPAddrPort(make([]byte, 1500))
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err == nil
}

// asWanted reports whether a datagram comes if one must, or else none does.
func asWanted(c *net.UDPConn, want bool) bool {
	limit := dialWait
	if !want {
		limit = 300 * time.Millisecond // ten times the way
	}
	_, ok := heardWithin(c, limit)
	return ok == want
}
