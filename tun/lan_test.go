package tun

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
)

// TestSplitGolden4 holds each kind of message of the virtual LAN against its bytes.
func TestSplitGolden4(t *testing.T) {
	const a, b = "64400002", "64400003"
	const six = "fdaa0000 00000000 00000000 00000001"
	none, udp, tcp := "00 00 0000 0000 0000 0000", "01 00 0000 0000 1400 0600", "01 00 0000 0000 1400 1000"
	for _, c := range []struct {
		name, frame string
		want        []string
	}{
		{"UDP, checksum left", udp + "4502 001f 0007 4000 3f11 0000" + a + b + "0101 0202 000b 1234 616263",
			[]string{"54 02 0007 c000 3f 11 0101 0202 000b 0000 616263"}},
		{"UDP, no checksum", none + "4500 001f 0007 0000 4011 0000" + a + b + "0101 0202 000b 0000 616263",
			[]string{"54 00 0007 0000 40 11 0101 0202 000b 0000 616263"}},
		// 0003 + 64400002 + 64400003 = c888: the aliases go out of the sum.
		{"UDP, checksum wrong", none + "4500 001f 0007 0000 4011 0000" + a + b + "0101 0202 000b 1111 616263",
			[]string{"54 00 0007 0000 40 11 0101 0202 000b d996 616263"}},
		{"UDP super-packet, may not be cut", "01 05 1c00 0200 1400 0600" + "4500 0021 0007 4000 4011 0000" + a + b + "0101 0202 000d 1234 6162636465",
			[]string{"54 00 0007 c000 40 11 0101 0202 000a 0000 6162", "54 00 0007 c000 40 11 0101 0202 000a 0000 6364", "54 00 0007 c000 40 11 0101 0202 0009 0000 65"}},
		{"TCP super-packet, may be cut", "01 81 2800 0200 1400 1000" + "4500 002d ffff 0000 4006 0000" + a + b + "0101 0202 fffffffe 00000004 5099 0005 1234 0000 6162636465",
			[]string{"54 00 ffff 8000 40 06 0101 0202 fffffffe 00000004 5090 0005 0000 0000 6162",
				"54 00 0000 8000 40 06 0101 0202 00000000 00000004 5010 0005 0000 0000 6364",
				"54 00 0001 8000 40 06 0101 0202 00000002 00000004 5019 0005 0000 0000 65"}},
		{"TCP, checksum left", tcp + "4500 0029 0007 4000 4006 0000" + a + b + "0101 0202 00000003 00000004 5010 0005 1234 0000 61",
			[]string{"54 00 0007 c000 40 06 0101 0202 00000003 00000004 5010 0005 0000 0000 61"}},
		{"later fragment", none + "4500 001c 0007 2002 4011 0000" + a + b + "6162636465666768",
			[]string{"54 00 0007 2002 40 11 6162636465666768"}},
		{"echo request", none + "4500 001e 0007 4000 4001 0000" + a + b + "0800 1234 0007 0001 6162",
			[]string{"54 00 0007 4000 40 01 0800 1234 0007 0001 6162"}},
		{"an error", none + "4500 0038 0007 4000 4001 0000" + a + b + "0303 1234 0000 0000" + "4500 001c 0001 4000 4011 1111" + b + a + "0101 0202 0008 0000",
			[]string{"54 00 0007 4000 40 01 0303 1234 0000 0000 4500 001c 0001 4000 4011 d996 00000000 00000000 0101 0202 0008 0000"}},

		{"UDP to an IPv4 group", udp + "4500 001f 0007 4000 ff11 0000" + a + "e00000fb" + "14e9 14e9 000b 1234 616263",
			[]string{"55 00000000000000000000ffffe00000fb 00 0007 c000 ff 11 14e9 14e9 000b 0000 616263"}},
		{"UDP to all, no checksum", none + "4500 001f 0007 0000 4011 0000" + a + "ffffffff" + "14e9 14e9 000b 0000 616263",
			[]string{"55 00000000000000000000ffffffffffff 00 0007 8000 40 11 14e9 14e9 000b 0000 616263"}},
		{"UDP super-packet to the range's broadcast", "01 05 1c00 0200 1400 0600" + "4500 001f 0007 0000 4011 0000" + a + "647fffff" + "0101 0202 000b 1234 616263",
			[]string{"55 00000000000000000000ffff647fffff 00 0007 8000 40 11 0101 0202 000a 0000 6162", "55 00000000000000000000ffff647fffff 00 0008 8000 40 11 0101 0202 0009 0000 63"}},
		{"echo request to an IPv4 group", none + "4500 001c 0007 0000 0101 0000" + a + "e0000001" + "0800 f7f7 0007 0001",
			[]string{"55 00000000000000000000ffffe0000001 00 0007 0000 01 01 0800 f7f7 0007 0001"}},
		{"UDP to an IPv6 group, checksum complete", none + "60012345 000b 11 ff" + six + "ff020000 00000000 00000000 000000fb" + "14e9 14e9 000b 1234 616263",
			[]string{"55 ff0200000000000000000000000000fb 60012345 11 ff 14e9 14e9 000b 1234 616263"}},
	} {
		s := &splitter{self: alice, lan: testLAN(alice, bob), count: new(counters)}
		got := messages(t, s, unhex(t, c.frame))
		var want [][]byte
		for _, w := range c.want {
			want = append(want, unhex(t, w))
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s:\ngot  %x\nwant %x", c.name, got, want)
		}
		if group := c.want[0][:2] == "55"; group == (s.to == bob) || group && string(s.to[:]) != string(want[0][1:17]) {
			t.Errorf("%s: goes to %x", c.name, s.to)
		}
	}
}

// TestSplitDrops4 has packets of the virtual LAN that may not leave.
func TestSplitDrops4(t *testing.T) {
	a, b := alias4(alice), alias4(bob)
	h := func(proto byte, fragment uint16) header4 { return header4{fragment: fragment, ttl: 64, proto: proto} }
	udp := udpBytes(1, 2, []byte("hello"))
	ok := packet4(a, b, h(protoUDP, 0), udp)
	with := func(p []byte, at int, v byte) []byte { p = slices.Clone(p); p[at] = v; return p }
	options := packet4(a, b, h(protoUDP, 0), make([]byte, 4), udp)
	options[0] = 0x46
	quote := func(src, dst [4]byte) []byte {
		return packet4(a, b, h(protoICMP4, 0), icmpBytes(3, packet4(src, dst, h(protoUDP, 0), udp)))
	}
	super := packet4(a, b, h(protoTCP, 0), tcpFields{payload: make([]byte, 100)}.bytes())
	v := func(kind byte, size, start, at int) vnetHeader {
		return vnetHeader{vnetNeedsChecksum, kind, size, start, at}
	}
	for _, c := range []struct {
		name string
		h    vnetHeader
		p    []byte
		want counter
	}{
		{"short", vnetHeader{}, ok[:19], outMalformed},
		{"a byte less than it says", vnetHeader{}, ok[:len(ok)-1], outMalformed},
		{"a header of 16 bytes", vnetHeader{}, with(ok, 0, 0x44), outMalformed},
		{"a header longer than all", vnetHeader{}, with(ok, 0, 0x4f), outMalformed},
		{"the reserved bit", vnetHeader{}, with(ok, 6, 0x80), outMalformed},
		{"options", vnetHeader{}, options, outOptions},
		{"version 5", vnetHeader{}, with(ok, 0, 0x55), outNotIPv6},
		{"another's alias", vnetHeader{}, packet4(b, b, h(protoUDP, 0), udp), outSource},
		{"no address", vnetHeader{}, packet4([4]byte{}, limited, h(protoUDP, 0), udpBytes(68, 67, nil)), outSource},
		{"ourselves", vnetHeader{}, packet4(a, a, h(protoUDP, 0), udp), outForeign},
		{"internet", vnetHeader{}, packet4(a, [4]byte{8, 8, 8, 8}, h(protoUDP, 0), udp), outForeign},
		{"nobody's alias", vnetHeader{}, packet4(a, alias4(carol), h(protoUDP, 0), udp), outAlias},
		{"TCP cut", vnetHeader{}, packet4(a, b, h(protoTCP, ip4MF), make([]byte, 16)), outMalformed},
		{"overwrites TCP's header", vnetHeader{}, packet4(a, b, h(protoTCP, 1), make([]byte, 16)), outMalformed},
		{"ICMP cut", vnetHeader{}, packet4(a, b, h(protoICMP4, 0), []byte{8, 0, 0, 0}), outMalformed},
		{"an error about our own packet", vnetHeader{}, quote(a, b), outError},
		{"an error about another's packet", vnetHeader{}, quote(alias4(carol), a), outError},
		{"an error about nothing", vnetHeader{}, packet4(a, b, h(protoICMP4, 0), icmpBytes(3)), outError},
		{"an error in a fragment", vnetHeader{}, packet4(a, b, h(protoICMP4, ip4MF), icmpBytes(3, packet4(b, a, h(protoUDP, 0), udp))), outError},
		{"a fragment without its checksum", v(0, 0, 20, 6), packet4(a, b, h(protoUDP, ip4MF), udp), outMalformed},
		{"checksum behind the end", v(0, 0, 40, 6), ok, outMalformed},
		{"TCP over IPv6", v(vnetTCP6, 10, 20, 16), super, outMalformed},
		{"segments of 0", v(vnetTCP4, 0, 20, 16), super, outMalformed},
		{"super-packet, checksum complete", vnetHeader{0, vnetTCP4, 10, 20, 16}, super, outMalformed},
		{"super-packet, another start", v(vnetTCP4, 10, 40, 16), super, outMalformed},
		{"super-packet, a fragment", v(vnetTCP4, 10, 20, 16), with(super, 7, 1), outMalformed},
		{"super-packet of nothing", v(vnetTCP4, 10, 20, 16), packet4(a, b, h(protoTCP, 0), tcpFields{}.bytes()), outMalformed},
		{"super-packet of another protocol", v(vnetUDP, 10, 20, 6), super, outMalformed},
		{"a fragment to a group", vnetHeader{}, packet4(a, [4]byte{239, 1, 2, 3}, h(protoUDP, ip4MF), udp), outGroup},
		{"a super-packet of TCP to a group", v(vnetTCP4, 10, 20, 16), packet4(a, [4]byte{239, 1, 2, 3}, h(protoUDP, 0), udp), outMalformed},
		{"a wrong checksum to a group", vnetHeader{}, packet4(a, [4]byte{239, 1, 2, 3}, h(protoUDP, 0), append([]byte{0, 1, 0, 2, 0, 8}, 9, 9)), outMalformed},
	} {
		var count counters
		s := splitter{self: alice, lan: testLAN(alice, bob), count: &count}
		if s.load(frame(c.h, c.p)) || s.next() != nil {
			t.Errorf("%s: it left", c.name)
		}
		for i := range numCounters {
			if got, want := count[i].Load(), map[bool]uint64{true: 1}[i == c.want]; got != want {
				t.Errorf("%s: %s is %d, want %d", c.name, counterNames[i], got, want)
			}
		}
	}
}

// TestGroups has what may travel to a group and what may not, by the same rules when it
// leaves and when it comes in.
func TestGroups(t *testing.T) {
	udp := func(src, dst uint16) []byte { return udpBytes(src, dst, []byte("hello")) }
	game, tcp := udp(5000, 6000), tcpFields{src: 1, dst: 2, flags: flagSYN}.bytes()
	mldv2 := slices.Concat([]byte{protoICMP, 0, 5, 2, 0, 0, 1, 0}, icmpBytes(mldReport2, make([]byte, 20)))
	for _, c := range []struct {
		group string
		proto byte
		b     []byte
		want  bool
	}{
		{"ff02::1", protoUDP, game, true},
		{"ff02::fb", protoUDP, udp(5353, 5353), true},
		{"ff02::1:3", protoUDP, udp(5000, 5355), true},
		{"ff05::c", protoUDP, udp(5000, 1900), true},
		{"ff02::1", protoICMP, echoBytes(icmpEcho, 1), true},
		{"224.0.0.1", protoUDP, game, true},
		{"224.0.0.251", protoUDP, udp(5353, 5353), true},
		{"239.255.255.250", protoUDP, udp(5000, 1900), true},
		{"255.255.255.255", protoUDP, game, true},
		{"100.127.255.255", protoUDP, game, true},
		{"224.0.0.1", protoICMP4, icmpBytes(icmp4Echo), true},

		{"ff01::1", protoUDP, game, false},
		{"ff0e::1", protoUDP, game, false},
		{"ff12::1", protoUDP, game, false},
		{"ff32:40:fd12::1", protoUDP, game, false},
		{"ff08::c", protoUDP, game, false},
		{"224.0.1.1", protoUDP, game, false},
		{"232.1.2.3", protoUDP, game, false},
		{"240.0.0.1", protoUDP, game, false},
		{"255.255.255.254", protoUDP, game, false},
		{"100.64.0.0", protoUDP, game, false},
		{"192.168.1.255", protoUDP, game, false},

		{"ff02::1", protoTCP, tcp, false},
		{"255.255.255.255", protoTCP, tcp, false},
		{"ff02::1", protoICMP, echoBytes(icmpReply, 1), false},
		{"ff02::1", protoICMP, icmpBytes(134), false},
		{"ff02::1:ff00:2", protoICMP, icmpBytes(135), false},
		{"ff02::1", protoICMP, icmpBytes(136), false},
		{"ff02::1", protoICMP, icmpBytes(130), false},
		{"ff02::1", protoICMP, icmpBytes(mldReport), false},
		{"ff02::1", protoICMP, icmpBytes(151), false},
		{"ff02::1", protoICMP, icmpBytes(icmpUnreachable), false},
		{"ff02::16", protoHopByHop, mldv2, false},
		{"ff02::1", protoHopByHop, mldv2, false},
		{"ff02::1", protoDestination, slices.Concat([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, game), false},
		{"ff02::1", protoFragment, slices.Concat([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 0}, game), false},
		{"224.0.0.1", protoIGMP, []byte{0x11, 0, 0, 0, 0, 0, 0, 0}, false},
		{"224.0.0.1", protoICMP4, icmpBytes(icmp4Redirect), false},
		{"224.0.0.1", protoICMP4, icmpBytes(9), false},
		{"224.0.0.1", protoICMP4, icmpBytes(13), false},
		{"224.0.0.1", protoICMP, echoBytes(icmpEcho, 1), false},
		{"239.1.2.3", protoOSPF, make([]byte, 30), false},
		{"239.1.2.3", 200, make([]byte, 30), false},
		{"239.1.2.3", protoUDP, game[:7], false},
	} {
		checkGroup(t, c.group, c.proto, c.b, c.want)
	}
	for _, g := range routerGroups {
		checkGroup(t, g.String(), protoUDP, game, false)
	}
	if len(routerGroups) != 23 {
		t.Errorf("%d groups of routers", len(routerGroups))
	}
	for _, port := range []uint16{67, 68, 546, 547, 520, 521, 1985, 646, 6696, 8737} {
		for _, group := range []string{"ff02::1", "255.255.255.255", "239.1.2.3"} {
			checkGroup(t, group, protoUDP, udp(port, 40000), false)
			checkGroup(t, group, protoUDP, udp(40000, port), false)
		}
	}
}

// checkGroup sends a packet of alice to a group, and has one come in from her.
func checkGroup(t *testing.T, group string, proto byte, b []byte, want bool) {
	t.Helper()
	g := netip.MustParseAddr(group)
	to := anode.ULA(g.As16())
	p := packet(alice, to, 6<<28, proto, 255, b)
	m := slices.Concat([]byte{byte(wire.Group)}, to[:], []byte{0x60, 0, 0, 0, proto, 255}, b)
	if g.Is4() {
		p = packet4(alias4(alice), g.As4(), header4{ttl: 255, proto: proto}, b)
		m = slices.Concat([]byte{byte(wire.Group)}, to[:], head4Bytes(header4{ttl: 255, proto: proto}, proto == protoUDP), b)
	}
	for _, on := range []bool{true, false} {
		l := testLAN(alice, bob)
		l.groups = on
		s := splitter{self: alice, lan: l, count: new(counters)}
		left := messages(t, &s, frame(vnetHeader{}, p))
		if got := len(left) == 1; got != (want && on) {
			t.Errorf("%s, protocol %d, %x: left is %v", group, proto, b, got)
		} else if got && (s.to != to || string(left[0]) != string(m)) {
			t.Errorf("%s: to %x\n%x\n%x", group, s.to, left[0], m)
		}
		drops := map[bool][]counter{true: {outGroup, outForeign}, false: {outMulticast, outForeign}}[on]
		if len(left) == 0 && !slices.ContainsFunc(drops, func(c counter) bool { return s.count[c].Load() == 1 }) {
			if s.count[outAlias].Load() != 1 {
				t.Errorf("%s, protocol %d: not counted", group, proto)
			}
		}
		r := newReceiver(bob, everything)
		r.lan.groups = on
		r.put(alice, m)
		r.Flush()
		if got := len(r.frames) == 1; got != (want && on) || !got && r.count[inGroup].Load() != 1 {
			t.Errorf("%s, protocol %d, %x: came in is %v", group, proto, b, got)
		} else if got {
			p := r.packets(t)[0]
			if hops := p[7]; g.Is6() && (anode.ULA(p[24:40]) != to || hops != 255 || anode.ULA(p[8:24]) != alice) {
				t.Errorf("%s: %x", group, p)
			}
			if a := alias4(alice); g.Is4() && ([4]byte(p[16:]) != g.As4() || p[8] != 255 || [4]byte(p[12:]) != a) {
				t.Errorf("%s: %x", group, p)
			}
		}
		s2 := r.Slot(len(m))
		if !r.Put(alice, false, s2[:copy(s2, m)]) {
			t.Errorf("%s: not refused from a peer that is not trusted", group)
		}
	}
}

// TestReports has what the system sends when programs join and leave groups.
func TestReports(t *testing.T) {
	options := func(proto byte, b []byte) []byte {
		p := packet4(alias4(alice), [4]byte{224, 0, 0, 22}, header4{ttl: 1, proto: proto}, []byte{0x94, 4, 0, 0}, b)
		p[0] = 0x46
		return p
	}
	mld := func(src anode.ULA, typ byte) []byte {
		return packet(src, anode.ULA{0xff, 2, 15: 0x16}, 6<<28, protoHopByHop, 1, []byte{protoICMP, 0, 5, 2, 0, 0, 1, 0}, icmpBytes(typ, make([]byte, 20)))
	}
	for _, c := range []struct {
		name string
		p    []byte
		want bool
	}{
		{"MLDv2", mld(alice, 143), true},
		{"MLDv2 without an address", mld(anode.ULA{}, 143), true},
		{"MLDv2, link-local", mld(anode.ULA{0xfe, 0x80, 15: 1}, 143), true},
		{"MLDv1", mld(alice, 131), true},
		{"MLDv1, leaving", mld(alice, 132), true},
		{"MLD query", mld(alice, 130), false},
		{"router solicitation", mld(alice, 133), false},
		{"IGMPv3", options(protoIGMP, make([]byte, 16)), false},
		{"IGMPv3", options(protoIGMP, append([]byte{0x22}, make([]byte, 15)...)), true},
		{"IGMPv2", options(protoIGMP, []byte{0x16, 0, 0, 0, 224, 0, 0, 251}), true},
		{"IGMPv2, leaving", options(protoIGMP, []byte{0x17, 0, 0, 0, 224, 0, 0, 251}), true},
		{"IGMPv1", options(protoIGMP, []byte{0x12, 0, 0, 0, 224, 0, 0, 251}), true},
		{"IGMP query", options(protoIGMP, []byte{0x11, 0, 0, 0, 0, 0, 0, 0}), false},
		{"UDP with options", options(protoUDP, []byte{0x22, 0, 0, 0, 0, 8, 0, 0}), false},
		{"nothing", options(protoIGMP, nil), false},
	} {
		l, said := testLAN(alice, bob), 0
		l.reports = func() { said++ }
		s := splitter{self: alice, lan: l, count: new(counters)}
		if s.load(frame(vnetHeader{}, c.p)) {
			t.Errorf("%s: it left", c.name)
		}
		if said != map[bool]int{true: 1}[c.want] {
			t.Errorf("%s: told %d times", c.name, said)
		}
	}
}

// TestPolicy4 has what a peer may send to our alias. There is nothing for untrusted peers.
func TestPolicy4(t *testing.T) {
	a, b := alias4(alice), alias4(bob)
	hidden := func(p []byte) []byte { // an error's quote as it travels
		if !hideQuote(append(make([]byte, icmpSize), p...), [4]byte(p[12:]), [4]byte(p[16:])) {
			t.Fatal("no quote")
		}
		clear(p[12:20])
		return p
	}
	quote := func() []byte { return packet4(b, a, header4{ttl: 9, proto: protoUDP}, udpBytes(1, 2, nil)) }
	for _, c := range []struct {
		name     string
		proto    byte
		fragment uint16
		b        []byte
		want     counter
	}{
		{"TCP", protoTCP, 0, syn, none},
		{"UDP", protoUDP, 0, udpBytes(1, 2, nil), none},
		{"echo request", protoICMP4, 0, icmpBytes(8), none},
		{"echo reply", protoICMP4, 0, icmpBytes(0), none},
		{"first fragment of an echo", protoICMP4, ip4MF, icmpBytes(8), none},
		{"later fragment", protoICMP4, 7, []byte{5, 0}, none},
		{"GRE", 47, 0, nil, none},
		{"unreachable, about ours", protoICMP4, 0, icmpBytes(3, hidden(quote())), none},
		{"time exceeded, about ours", protoICMP4, 0, icmpBytes(11, hidden(quote())), none},
		{"parameter problem, about ours", protoICMP4, 0, icmpBytes(12, hidden(quote())), none},

		{"unreachable, with addresses", protoICMP4, 0, icmpBytes(3, quote()), inError},
		{"unreachable, about nothing", protoICMP4, 0, icmpBytes(3), inError},
		{"unreachable, quote cut", protoICMP4, 0, icmpBytes(3, hidden(quote())[:19]), inError},
		{"unreachable, quote with options", protoICMP4, 0, icmpBytes(3, append([]byte{0x46}, make([]byte, 30)...)), inError},
		{"unreachable, in a fragment", protoICMP4, ip4MF, icmpBytes(3, hidden(quote())), inError},
		{"source quench", protoICMP4, 0, icmpBytes(4, hidden(quote())), inNeighbour},
		{"redirect", protoICMP4, 0, icmpBytes(5, hidden(quote())), inNeighbour},
		{"redirect in a fragment", protoICMP4, ip4MF, icmpBytes(5), inNeighbour},
		{"router advertisement", protoICMP4, 0, icmpBytes(9), inNeighbour},
		{"router solicitation", protoICMP4, 0, icmpBytes(10), inNeighbour},
		{"timestamp", protoICMP4, 0, icmpBytes(13), inNeighbour},
		{"timestamp reply", protoICMP4, 0, icmpBytes(14), inNeighbour},
		{"address mask", protoICMP4, 0, icmpBytes(17), inNeighbour},
		{"address mask reply", protoICMP4, 0, icmpBytes(18), inNeighbour},
		{"ICMP cut", protoICMP4, 0, []byte{8, 0, 0, 0}, inMalformed},
		{"UDP cut", protoUDP, ip4MF, []byte{0, 1, 0, 2}, inMalformed},
		{"IGMP", protoIGMP, 0, []byte{0x11, 0, 0, 0, 0, 0, 0, 0}, inRouters},
		{"IGMP in a fragment", protoIGMP, 9, nil, inRouters},
		{"EIGRP", 88, 0, nil, inRouters},
		{"OSPF", 89, 0, nil, inRouters},
		{"PIM", 103, 0, nil, inRouters},
		{"VRRP", 112, 0, nil, inRouters},
	} {
		m := slices.Concat([]byte{byte(wire.IP4)}, head4Bytes(header4{fragment: c.fragment, ttl: 64, proto: c.proto}, false), c.b)
		r := newReceiver(bob, everything)
		r.put(alice, m)
		r.Flush()
		for i := none + 1; i < numCounters; i++ {
			if i == inMessages || i == inWrites {
				continue
			}
			if got, want := r.count[i].Load(), map[bool]uint64{true: 1}[i == c.want]; got != want {
				t.Errorf("%s: %s is %d, want %d", c.name, counterNames[i], got, want)
			}
		}
		for _, p := range r.packets(t) {
			checkPacket4(t, p)
		}
		r = newReceiver(bob, everything)
		s := r.Slot(len(m))
		if !r.Put(alice, false, s[:copy(s, m)]) || r.count[inUnasked].Load() != 1 {
			t.Errorf("%s: came in from a peer that is not trusted", c.name)
		}
		r.put(anode.ULA{0xfd, 15: 77}, m)
		r.Flush()
		if r.count[inAlias].Load() != 1 || len(r.frames) != 0 {
			t.Errorf("%s: came in from a peer without an alias", c.name)
		}
	}
}

// TestMoved has two nodes that call each other otherwise than they call themselves, and that
// have different ranges: what one sends is sound at the other, and errors reach who caused
// them.
func TestMoved(t *testing.T) {
	p := netip.MustParsePrefix("10.0.0.0/24")
	ula := func(id uint64) (u anode.ULA) {
		u[0] = 0xfd
		binary.BigEndian.PutUint64(u[8:], id)
		return u
	}
	left, right := ula(1000), ula(2000)
	tables := map[anode.ULA]*alias.Table{left: alias.New(p, left), right: alias.New(alias.Range, right)}
	tables[left].Set([]anode.ULA{ula(2000 % 254), right}) // the lower one has the alias of right
	tables[right].Set([]anode.ULA{left})
	if !tables[left].Moved(right) {
		t.Fatal("not moved")
	}
	lanOf := func(u anode.ULA) *lan {
		l := newLAN(&Config{Aliases: tables[u], Groups: true})
		return &l
	}
	names := func(self, peer anode.ULA) (mine, theirs [4]byte) {
		theirs, ok := tables[self].Alias(peer)
		if !ok {
			t.Fatal("no alias")
		}
		return tables[self].Self().As4(), theirs
	}
	g := newTraffic(1, alice, bob)
	data := g.bytes(96)
	for _, from := range []anode.ULA{left, right} {
		to := map[anode.ULA]anode.ULA{left: right, right: left}[from]
		src, dst := names(from, to)
		mine, theirs := names(to, from)
		packets := func(src, dst [4]byte) [][]byte { // as a node sees what goes from src to dst
			h := func(proto byte, fragment uint16) header4 {
				return header4{ident: 5, fragment: fragment, ttl: 64, proto: proto}
			}
			datagram := withChecksum(packet4(src, dst, h(protoUDP, 0), udpBytes(1, 2, data)), protoUDP, ip4Size, udpChecksum)[ip4Size:]
			segment := withChecksum(packet4(src, dst, h(protoTCP, 0), tcpFields{payload: data}.bytes()), protoTCP, ip4Size, tcpChecksum)[ip4Size:]
			nothing := slices.Clone(datagram)
			clear(nothing[udpChecksum:][:2])
			quoted := packet4(dst, src, h(protoUDP, ip4DF), udpBytes(2, 1, data))
			e := icmpBytes(3, quoted)
			be.PutUint16(e[2:], ^slowSum(e, 0))
			return [][]byte{
				packet4(src, dst, h(protoUDP, 0), datagram),
				packet4(src, dst, h(protoUDP, 0), nothing),
				packet4(src, dst, h(protoUDP, ip4MF), datagram[:48]),
				packet4(src, dst, h(protoUDP, 6), datagram[48:]),
				packet4(src, dst, h(protoTCP, ip4DF), segment),
				packet4(src, dst, h(protoTCP, ip4MF), segment[:48]),
				packet4(src, dst, h(protoICMP4, 0), e),
			}
		}
		s := splitter{self: from, lan: lanOf(from), count: new(counters)}
		r := newReceiver(to, everything)
		r.lan = lanOf(to)
		for _, p := range packets(src, dst) {
			for _, m := range messages(t, &s, frame(vnetHeader{}, p)) {
				if s.to != to {
					t.Errorf("goes to %v", s.to)
				}
				r.put(from, m)
			}
		}
		r.Flush()
		if err := equalPackets(r.packets(t), packets(theirs, mine)); err != nil {
			t.Error(err)
		}
	}
}

// TestAddToSum takes a number out of each checksum there is, and puts it in again. That of UDP
// never becomes 0, which would mean that there is none.
func TestAddToSum(t *testing.T) {
	for _, n := range []uint16{0, 1, 0xc882, 0xfffe, 0xffff} {
		for _, proto := range []byte{protoTCP, protoUDP} {
			for c := range 1 << 16 {
				var b [2]byte
				be.PutUint16(b[:], uint16(c))
				addToSum(b[:], proto, ^n)
				away := be.Uint16(b[:])
				addToSum(b[:], proto, n)
				back := be.Uint16(b[:])
				if proto == protoUDP && (away == 0) != (c == 0) || int(back)%0xffff != c%0xffff || proto == protoUDP && (back == 0) != (c == 0) {
					t.Fatalf("protocol %d, %04x without %04x is %04x, and with it %04x", proto, c, n, away, back)
				}
			}
		}
	}
}

// TestBroadcastOfRanges sends to all between nodes of which each has a range of its own.
func TestBroadcastOfRanges(t *testing.T) {
	ranges := map[anode.ULA]netip.Prefix{alice: netip.MustParsePrefix("198.18.0.0/15"), bob: alias.Range}
	of := func(self, other anode.ULA) (*lan, *alias.Table) {
		table := alias.New(ranges[self], self)
		table.Set([]anode.ULA{other})
		l := newLAN(&Config{Aliases: table, Groups: true})
		return &l, table
	}
	for from, to := range map[anode.ULA]anode.ULA{alice: bob, bob: alice} {
		l, sender := of(from, to)
		s := splitter{self: from, lan: l, count: new(counters)}
		p := packet4(sender.Self().As4(), sender.Broadcast().As4(), header4{ttl: 64, proto: protoUDP}, udpBytes(5000, 6000, []byte("hello")))
		left := messages(t, &s, frame(vnetHeader{}, p))
		if len(left) != 1 || netip.AddrFrom16(s.to).Unmap() != netip.MustParseAddr("100.127.255.255") {
			t.Fatalf("%x to %x", left, s.to)
		}
		r := newReceiver(to, everything)
		m, receiver := of(to, from)
		*r.lan = *m
		r.put(from, left[0])
		r.Flush()
		if len(r.frames) != 1 {
			t.Fatal("it did not come in")
		}
		got := r.packets(t)[0]
		if src, _ := receiver.Alias(from); [4]byte(got[16:]) != receiver.Broadcast().As4() || [4]byte(got[12:]) != src {
			t.Errorf("%x", got)
		}
	}
}
