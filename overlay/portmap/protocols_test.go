package portmap

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFormats: each message as it is on the wire.
func TestFormats(t *testing.T) {
	nonce := pcpNonce(unhex(t, "0102030405060708090a0b0c"))
	q := pcpRequest{netip.MustParseAddr("192.168.1.2"), nonce, 8737, netip.MustParseAddrPort("0.0.0.0:9000"), 1800}
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"ANNOUNCE", "02 00 0000 00000000 20010db8000000000000000000000001", appendPCPHeader(nil, pcpAnnounce, 0, netip.MustParseAddr("2001:db8::1"))},
		{"MAP", "02 01 0000 00000708 00000000000000000000ffffc0a80102" +
			"0102030405060708090a0b0c 11 000000 2221 2328 00000000000000000000ffff00000000", q.appendTo(nil)},
		{"NAT-PMP map", "00 01 0000 2221 2328 00000708", appendPMPMap(nil, 8737, 9000, 1800)},
		{"search", hex.EncodeToString([]byte("M-SEARCH * HTTP/1.1\r\nHOST: [ff02::c]:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: x\r\n\r\n")),
			appendSearch(nil, netip.MustParseAddrPort("[ff02::c%eth0]:1900"), "x")},
	} {
		if want := unhex(t, c.want); !slices.Equal(c.got, want) {
			t.Errorf("%s:\n%x, want\n%x", c.name, c.got, want)
		}
	}
	r, err := parsePCP(unhex(t, "02 81 00 00 00000384 0000002a 000000000000000000000000"+
		"0102030405060708090a0b0c 11 000000 2221 2328 00000000000000000000ffffc6336407"), pcpMap)
	if want := (pcpReply{0, 900, 42, nonce, 8737, netip.MustParseAddrPort("198.51.100.7:9000")}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
	a, err := parsePMP(unhex(t, "00 80 0000 0000002a c6336407"), pmpAddress)
	if want := (pmpReply{epoch: 42, address: outside}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	m, err := parsePMP(unhex(t, "00 81 0000 0000002a 2221 2328 00000384"), pmpMapUDP)
	if want := (pmpReply{epoch: 42, internal: 8737, external: 9000, seconds: 900}); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestParseOthers: what is no answer to the request.
func TestParseOthers(t *testing.T) {
	answer := unhex(t, "02 81 00 00 00000384 0000002a 000000000000000000000000"+
		"0102030405060708090a0b0c 11 000000 2221 2328 00000000000000000000ffffc6336407")
	change := func(i int, v byte) []byte {
		b := slices.Clone(answer)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"a request": change(1, 1), "another opcode": change(1, 0x82), "TCP": change(36, 6), "cut off": answer[:59],
		"not in words": append(slices.Clone(answer), 0), "too long": append(slices.Clone(answer), make([]byte, pcpMost)...), "empty": nil,
	} {
		if _, err := parsePCP(b, pcpMap); !errors.Is(err, errOther) {
			t.Errorf("PCP, %s: %v", name, err)
		}
	}
	for name, s := range map[string]string{
		"a request": "00 01 0000 0000002a 2221 2328 00000384", "another version": "01 81 0000 0000002a 2221 2328 00000384",
		"cut off": "00 81 0000 0000002a 2221 2328 0000", "an address": "00 80 0000 0000002a c6336407", "empty": "",
	} {
		if _, err := parsePMP(unhex(t, s), pmpMapUDP); !errors.Is(err, errOther) {
			t.Errorf("NAT-PMP, %s: %v", name, err)
		}
	}
}

// life makes, renews and removes a mapping, and checks what the gateway has.
func life(t *testing.T, g *gateway, p protocol, external netip.Addr) {
	t.Helper()
	ctx := within(t)
	if err := p.probe(ctx); err != nil {
		t.Fatalf("probe: %v", err)
	}
	if n := g.count(); n != 0 {
		t.Errorf("%d mappings after the probe", n)
	}
	for range 2 {
		got, err := p.add(ctx, ourPort)
		if want := netip.AddrPortFrom(external, ourPort); err != nil || got.external != want || got.lease != Lease || got.restarted {
			t.Fatalf("add: %+v, %v", got, err)
		}
		if n := g.count(); n != 1 {
			t.Errorf("%d mappings", n)
		}
	}
	if err := p.remove(ctx); err != nil || g.count() != 0 {
		t.Errorf("remove: %v, %d mappings are left", err, g.count())
	}
}

func TestPCP(t *testing.T) {
	g := newGateway(t, router).withPCP(true, false)
	life(t, g, newPCP(g.route(), ourPort, nil, g.ports.pcp), outside)
}

func TestPCPOverIPv6(t *testing.T) {
	six := netip.IPv6Loopback()
	g := newGateway(t, six).withPCP(true, false)
	life(t, g, newPCP(g.route(), ourPort, nil, g.ports.pcp), six)
}

func TestNATPMP(t *testing.T) {
	g := newGateway(t, router).withPCP(false, true)
	life(t, g, newNATPMP(g.route(), ourPort, g.ports.pcp), outside)
}

func TestUPnP(t *testing.T) {
	g := newGateway(t, router).withUPnP(nil, "")
	life(t, g, newUPnP(g.route(), ourPort, g.ports.ssdp), outside)
}

func TestPinhole(t *testing.T) {
	six := netip.IPv6Loopback()
	g := newGateway(t, six).withUPnP(nil, "")
	life(t, g, newUPnP(g.route(), ourPort, g.ports.ssdp), six)
}

// TestLostPackets: requests are repeated.
func TestLostPackets(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router).withPCP(true, true)
	g.set(func() { g.lose = 2 })
	life(t, g, newPCP(g.route(), ourPort, nil, g.ports.pcp), outside)
	g.set(func() { g.lose = 1 })
	life(t, g, newNATPMP(g.route(), ourPort, g.ports.pcp), outside)
}

// TestNobody: nothing listens, or what listens is silent.
func TestNobody(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router)
	silent := g.packets(func([]byte, netip.AddrPort) []byte { return nil })
	var closed uint16
	if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(router, 0))); err == nil {
		closed = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		c.Close()
	}
	for _, at := range []uint16{silent, closed} {
		for _, p := range protocols(g.route(), ourPort, nil, ports{at, at}) {
			t.Run(fmt.Sprint(at == silent, p.kind()), func(t *testing.T) {
				t.Parallel()
				if a := attempt(p.kind(), p.probe(soon(t))); a.Code != NoAnswer {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}

// TestWrongVersion: a server for the other of the two protocols on the same port says so,
// and nobody waits.
func TestWrongVersion(t *testing.T) {
	g := newGateway(t, router).withPCP(false, true)
	if a := attempt(PCP, newPCP(g.route(), ourPort, nil, g.ports.pcp).probe(within(t))); a.Code != Unfit {
		t.Errorf("PCP of a NAT-PMP server: %+v", a)
	}
	g = newGateway(t, router).withPCP(true, false)
	if a := attempt(NATPMP, newNATPMP(g.route(), ourPort, g.ports.pcp).probe(within(t))); a.Code != Unfit {
		t.Errorf("NAT-PMP of a PCP server: %+v", a)
	}
}

// TestRefusals: what a gateway refuses is told with its reason.
func TestRefusals(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router).withPCP(true, true).withUPnP(nil, "")
	pcp, pmp, upnp := newPCP(g.route(), ourPort, nil, g.ports.pcp), newNATPMP(g.route(), ourPort, g.ports.pcp), newUPnP(g.route(), ourPort, g.ports.ssdp)
	if err := upnp.probe(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    protocol
		code int
		want Attempt
	}{
		{pcp, 2, Attempt{PCP, Refused, "NOT_AUTHORIZED"}},
		{pcp, 7, Attempt{PCP, NotReady, "NETWORK_FAILURE"}},
		{pcp, 8, Attempt{PCP, NoPort, "NO_RESOURCES"}},
		{pcp, 200, Attempt{PCP, Unfit, "result code 200"}},
		{pmp, 2, Attempt{NATPMP, Refused, "not authorized"}},
		{pmp, 3, Attempt{NATPMP, NotReady, "network failure"}},
		{pmp, 99, Attempt{NATPMP, Unfit, "result code 99"}},
		{upnp, 606, Attempt{UPnP, Refused, "UPnP error 606"}},
		{upnp, 501, Attempt{UPnP, Unfit, "UPnP error 501"}},
	} {
		g.set(func() { g.code, g.actions = c.code, map[string]int{"AddPortMapping": c.code} })
		_, err := c.p.add(within(t), ourPort)
		if got := attempt(c.p.kind(), err); got != c.want {
			t.Errorf("%s %d: %+v", c.p.kind(), c.code, got)
		}
		if f := (*failure)(nil); c.p == pcp && (!errors.As(err, &f) || f.wait != 90*time.Minute) {
			t.Errorf("%d: the time that the error lasts was not read: %v", c.code, err)
		}
	}
	if g.count() != 0 {
		t.Error("there is a mapping")
	}
}

// TestForged: answers that are not quite to our request change nothing.
func TestForged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at    int
		value byte
	}{"nonce": {30, 0xff}, "internal port": {41, 0xff}, "protocol": {36, 6}, "opcode": {1, 0x82}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, router).withPCP(true, false)
			forged := 0
			g.set(func() {
				g.spoil = func(b []byte) []byte {
					if forged++; forged == 1 {
						b[c.at] = c.value
					}
					return b
				}
			})
			got, err := newPCP(g.route(), ourPort, nil, g.ports.pcp).add(within(t), ourPort)
			answers := 0
			g.set(func() { answers = forged })
			if err != nil || got.external != netip.AddrPortFrom(outside, ourPort) || answers != 2 {
				t.Errorf("%+v, %v, after %d answers", got, err, answers)
			}
		})
	}
}

// TestImplausible: what a gateway cannot mean.
func TestImplausible(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router).withPCP(true, true).withUPnP(nil, "")
	g.set(func() { g.external = netip.IPv4Unspecified() })
	for _, p := range protocols(g.route(), ourPort, nil, g.ports) {
		if err := p.probe(within(t)); err != nil {
			t.Fatal(err)
		}
		if got, err := p.add(within(t), ourPort); err == nil {
			t.Errorf("%s: %+v", p.kind(), got)
		}
	}
}

// TestRestart: a gateway whose clock went back has lost its mappings.
func TestRestart(t *testing.T) {
	g := newGateway(t, router).withPCP(true, true)
	for _, p := range []protocol{newPCP(g.route(), ourPort, nil, g.ports.pcp), newNATPMP(g.route(), ourPort, g.ports.pcp)} {
		for _, c := range []struct {
			epoch uint32
			want  bool
		}{{1000, false}, {1000, false}, {3, true}, {3, false}} {
			g.set(func() { g.epoch = c.epoch })
			if got, err := p.add(within(t), ourPort); err != nil || got.restarted != c.want {
				t.Errorf("%s, epoch %d: %+v, %v", p.kind(), c.epoch, got, err)
			}
		}
		g.set(func() { clear(g.mappings) })
	}
}

// TestNonce: a new process with the same key may change the mapping of a killed one; other
// keys, addresses and ports have other nonces.
func TestNonce(t *testing.T) {
	g := newGateway(t, router).withPCP(true, false)
	key := []byte("a secret")
	if _, err := newPCP(g.route(), ourPort, key, g.ports.pcp).add(within(t), ourPort); err != nil {
		t.Fatal(err)
	}
	if _, err := newPCP(g.route(), ourPort, key, g.ports.pcp).add(within(t), ourPort); err != nil {
		t.Errorf("the same key: %v", err)
	}
	if _, err := newPCP(g.route(), ourPort, []byte("another"), g.ports.pcp).add(within(t), ourPort); err == nil {
		t.Error("another key is let in")
	}
	r := g.route()
	other := r
	other.Source = netip.MustParseAddr("127.0.0.9")
	if n := newNonce(key, r, 1); n == newNonce(key, r, 2) || n == newNonce(key, other, 1) {
		t.Error("nonces repeat")
	}
}

// TestConflict: an external port that leads elsewhere is left alone, even where the router
// would give it away; another one is taken, the same one each time.
func TestConflict(t *testing.T) {
	t.Parallel()
	neighbour := entry{internal: netip.MustParseAddrPort("127.0.0.5:8737"), seconds: 100}
	for _, overwrites := range []int{0, 1} {
		g := newGateway(t, router).withUPnP(nil, "")
		g.set(func() { g.mappings[ourPort] = neighbour })
		g.set(func() { g.actions["overwrite"] = overwrites })
		var ports []uint16
		for range 2 { // two processes, one after the other was killed
			p := newUPnP(g.route(), ourPort, g.ports.ssdp)
			if err := p.probe(within(t)); err != nil {
				t.Fatal(err)
			}
			got, err := p.add(within(t), ourPort)
			if err != nil || got.external.Port() < 49152 {
				t.Fatalf("%+v, %v", got, err)
			}
			ports = append(ports, got.external.Port())
		}
		if g.has(ourPort) != neighbour || ports[0] != ports[1] || g.count() != 2 {
			t.Errorf("overwrites %d: ports %v, %d mappings", overwrites, ports, g.count())
		}
	}
}

// TestAllTaken: the number of ports that are tried is bounded.
func TestAllTaken(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router).withUPnP(nil, "")
	g.set(func() { g.actions["AddPortMapping"] = conflict })
	p := newUPnP(g.route(), ourPort, g.ports.ssdp)
	if err := p.probe(within(t)); err != nil {
		t.Fatal(err)
	}
	_, err := p.add(within(t), ourPort)
	if a := attempt(UPnP, err); a.Code != NoPort {
		t.Errorf("%+v", a)
	}
	adds := 0
	for _, q := range g.asked() {
		if strings.HasPrefix(q, "AddPortMapping") {
			adds++
		}
	}
	if adds != maxPorts {
		t.Errorf("%d ports were tried", adds)
	}
}

// TestPermanent: a router that knows no leases gets a mapping for ever, which is removed at
// the end.
func TestPermanent(t *testing.T) {
	g := newGateway(t, router).withUPnP(nil, "")
	g.set(func() { g.actions["permanent"] = 1 })
	p := newUPnP(g.route(), ourPort, g.ports.ssdp)
	if err := p.probe(within(t)); err != nil {
		t.Fatal(err)
	}
	got, err := p.add(within(t), ourPort)
	if err != nil || got.lease != 0 || g.has(ourPort).seconds != 0 || g.count() != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := p.remove(within(t)); err != nil || g.count() != 0 {
		t.Errorf("%v, %d mappings are left", err, g.count())
	}
}

// TestStubborn: a router that takes the renewal of a mapping for a conflict.
func TestStubborn(t *testing.T) {
	g := newGateway(t, router).withUPnP(nil, "")
	p := newUPnP(g.route(), ourPort, g.ports.ssdp).(*upnp)
	if err := p.probe(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.add(within(t), ourPort); err != nil {
		t.Fatal(err)
	}
	g.asked()
	g.set(func() { g.actions["AddPortMapping"] = conflict })
	p.add(within(t), ourPort)
	if list := g.asked(); !slices.Contains(list, "DeletePortMapping 8737") {
		t.Errorf("%v", list)
	}
}

// TestElsewhere: whatever an answer or a description names, nobody but the gateway is talked
// to.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	bait := newGateway(t, netip.MustParseAddr("127.0.0.3")).withUPnP(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the bait was asked for %s", r.URL)
	}, "")
	var baited string
	bait.set(func() { baited = fmt.Sprintf("http://127.0.0.3:%d", bait.ports.ssdp) })
	description := func(from, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.ReplaceAll(deviceDescription, from, to))
		}
	}
	for name, c := range map[string]struct {
		description http.HandlerFunc
		location    string
	}{
		"another host":      {nil, "http://127.0.0.3:80/root.xml"},
		"control elsewhere": {description("/control", baited+"/control"), ""},
		"base elsewhere":    {description("<device><deviceType>urn:schemas-upnp-org:device:Int", "<URLBase>"+baited+"/</URLBase><device><deviceType>urn:schemas-upnp-org:device:Int"), ""},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, baited+"/root.xml", http.StatusFound)
		}, ""},
		"no service":       {description("WANIPConnection", "Another"), ""},
		"another document": {description("root", "rot"), ""},
		"a large description": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<root><a>"+strings.Repeat("x", 2*maxBody)+"</a></root>")
		}, ""},
		"a deep description": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<root>"+strings.Repeat("<device><deviceList>", maxBody/20))
		}, ""},
		"entities": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><root><device><friendlyName>&b;</friendlyName></device></root>`)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, router).withUPnP(c.description, c.location)
			err := newUPnP(g.route(), ourPort, g.ports.ssdp).probe(within(t))
			if f := (*failure)(nil); !errors.As(err, &f) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestPermitted: which places are the gateway's.
func TestPermitted(t *testing.T) {
	six := netip.MustParseAddr("fe80::1")
	for _, c := range []struct {
		place   string
		gateway netip.Addr
		want    bool
	}{
		{"http://127.0.0.2/root.xml", router, true},
		{"http://127.0.0.2:5000/root.xml", router, true},
		{"http://[::ffff:127.0.0.2]:5000/root.xml", router, true},
		{"http://127.0.0.3:5000/root.xml", router, false},
		{"http://[fe80::1]:5000/root.xml", router, false},
		{"http://localhost/root.xml", router, false},
		{"http://router.example/root.xml", router, false},
		{"http://a:b@127.0.0.2/root.xml", router, false},
		{"https://127.0.0.2/root.xml", router, false},
		{"file:///etc/passwd", router, false},
		{"", router, false},
		{"http://[2001:db8::1]:5000/root.xml", six, true}, // the connection goes to fe80::1
		{"http://[fe80::1%25eth0]:5000/root.xml", six, true},
		{"http://127.0.0.2/root.xml", six, false},
	} {
		u, err := url.Parse(c.place)
		if err != nil {
			t.Fatal(err)
		}
		if err := permitted(u, c.gateway); (err == nil) != c.want {
			t.Errorf("%s of %s: %v", c.place, c.gateway, err)
		}
	}
}

// TestOthersAnswer: the answers of other devices to a search are ignored, also those that
// name the gateway.
func TestOthersAnswer(t *testing.T) {
	t.Parallel()
	g := newGateway(t, router).withUPnP(nil, "")
	other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.3:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	silent := newGateway(t, router)
	silent.ports.ssdp = silent.packets(func(_ []byte, from netip.AddrPort) []byte {
		other.WriteToUDPAddrPort([]byte(answerTo(search[0], "http://127.0.0.2:80/root.xml")), from)
		return nil
	})
	a := attempt(UPnP, newUPnP(silent.route(), ourPort, silent.ports.ssdp).probe(within(t)))
	if want := (Attempt{UPnP, NoAnswer, "only other devices answered"}); a != want {
		t.Errorf("%+v", a)
	}
	if err := newUPnP(g.route(), ourPort, g.ports.ssdp).probe(within(t)); err != nil {
		t.Errorf("the gateway itself: %v", err)
	}
}

// TestCancelled: all that waits ends with its context.
func TestCancelled(t *testing.T) {
	g := newGateway(t, router)
	begun := make(chan bool, 100)
	at := g.packets(func([]byte, netip.AddrPort) []byte { begun <- true; return nil })
	for _, p := range protocols(g.route(), ourPort, nil, ports{at, at}) {
		ctx, cancel := context.WithCancel(within(t))
		ended := make(chan error, 1)
		go func() { ended <- p.probe(ctx) }()
		<-begun
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", p.kind(), err)
		}
	}
}
