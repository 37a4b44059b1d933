package tun

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// messages cuts a frame, and checks that the shape was told right.
func messages(t testing.TB, s *splitter, f []byte) (all [][]byte) {
	t.Helper()
	if !s.load(f) {
		return nil
	}
	count, size, last := s.shape()
	for m := s.next(); m != nil; m = s.next() {
		all = append(all, slices.Clone(m))
		if want := size; len(all) < count && len(m) != want || len(all) == count && len(m) != last {
			t.Errorf("message %d of %d has %d bytes; the shape said %d, and %d for the last", len(all), count, len(m), size, last)
		}
	}
	if len(all) != count {
		t.Errorf("%d messages; the shape said %d", len(all), count)
	}
	if s.next() != nil {
		t.Error("a message after the last")
	}
	return all
}

// TestSplitGolden holds each kind of message against its bytes.
func TestSplitGolden(t *testing.T) {
	const a, b = "fdaa0000 00000000 00000000 00000001", "fdbb0000 00000000 00000000 00000002"
	none, tcp, udp := "00 00 0000 0000 0000 0000", "01 00 0000 0000 2800 1000", "01 00 0000 0000 2800 0600"
	for _, c := range []struct {
		name, frame string
		want        []string
	}{
		{"UDP, checksum left", udp + "60012345 000b 11 40" + a + b + "0101 0202 000b 1234 616263",
			[]string{"09 0101 0202 616263"}},
		{"UDP without data", udp + "60000000 0008 11 40" + a + b + "0101 0202 0008 1234",
			[]string{"09 0101 0202"}},
		{"UDP, checksum right", none + "60000000 000b 11 40" + a + b + "0101 0202 000b 3d09 616263",
			[]string{"09 0101 0202 616263"}},
		{"UDP, checksum wrong", none + "60000000 000b 11 40" + a + b + "0101 0202 000b 3d0a 616263",
			[]string{"50 60000000 11 40 0101 0202 000b 3d0a 616263"}},
		{"UDP, no checksum", none + "60000000 000b 11 40" + a + b + "0101 0202 000b 0000 616263",
			[]string{"50 60000000 11 40 0101 0202 000b 0000 616263"}},
		{"UDP, another class", udp + "60212345 000b 11 40" + a + b + "0101 0202 000b 1234 616263",
			[]string{"53 60212345 11 40 0101 0202 000b 0000 616263"}},
		{"UDP, another class, checksum right", none + "60200000 000b 11 40" + a + b + "0101 0202 000b 3d09 616263",
			[]string{"53 60200000 11 40 0101 0202 000b 0000 616263"}},
		{"UDP, another hop limit", udp + "60012345 000b 11 3f" + a + b + "0101 0202 000b 1234 616263",
			[]string{"53 60012345 11 3f 0101 0202 000b 0000 616263"}},
		{"UDP, length not the rest", none + "60000000 000b 11 40" + a + b + "0101 0202 000a 3d0a 616263",
			[]string{"50 60000000 11 40 0101 0202 000a 3d0a 616263"}},
		{"UDP, length 0", none + "60000000 000b 11 40" + a + b + "0101 0202 0000 3c2a 616263",
			[]string{"50 60000000 11 40 0101 0202 0000 3c2a 616263"}},
		{"UDP super-packet", "01 05 3000 0200 2800 0600" + "60012345 000d 11 40" + a + b + "0101 0202 000d 1234 6162636465",
			[]string{"09 0101 0202 6162", "09 0101 0202 6364", "09 0101 0202 65"}},
		{"UDP super-packet with a class", "01 05 3000 0200 2800 0600" + "60212345 000d 11 40" + a + b + "0101 0202 000d 1234 6162636465",
			[]string{"53 60212345 11 40 0101 0202 000a 0000 6162", "53 60212345 11 40 0101 0202 000a 0000 6364", "53 60212345 11 40 0101 0202 0009 0000 65"}},
		{"TCP, checksum left", tcp + "60212345 0015 06 3f" + a + b + "0101 0202 00000003 00000004 5010 0005 1234 0000 61",
			[]string{"53 60212345 06 3f 0101 0202 00000003 00000004 5010 0005 0000 0000 61"}},
		{"TCP, checksum right", none + "60212345 0015 06 3f" + a + b + "0101 0202 00000003 00000004 5010 0005 505b 0000 61",
			[]string{"53 60212345 06 3f 0101 0202 00000003 00000004 5010 0005 0000 0000 61"}},
		{"TCP, checksum right and 0", none + "60212345 0016 06 3f" + a + b + "0101 0202 00000003 00000004 5010 0005 0000 0000 b15a",
			[]string{"50 60212345 06 3f 0101 0202 00000003 00000004 5010 0005 0000 0000 b15a"}},
		{"TCP, checksum wrong", none + "60212345 0015 06 3f" + a + b + "0101 0202 00000003 00000004 5010 0005 1234 0000 61",
			[]string{"50 60212345 06 3f 0101 0202 00000003 00000004 5010 0005 1234 0000 61"}},
		{"TCP super-packet: PSH and FIN last, CWR first", "01 84 3c00 0200 2800 1000" + "60212345 0019 06 40" + a + b + "0101 0202 fffffffe 00000004 5099 0005 1234 0000 6162636465",
			[]string{"53 60212345 06 40 0101 0202 fffffffe 00000004 5090 0005 0000 0000 6162",
				"53 60212345 06 40 0101 0202 00000000 00000004 5010 0005 0000 0000 6364",
				"53 60212345 06 40 0101 0202 00000002 00000004 5019 0005 0000 0000 65"}},
		{"echo request", none + "60012345 000a 3a 40" + a + b + "8000 0000 0007 0001 6162" /* checksum below */, []string{"01 0007 0001 6162"}},
		{"echo request, another hop limit", none + "60000000 000a 3a 01" + a + b + "8000 1234 0007 0001 6162",
			[]string{"50 60000000 3a 01 8000 1234 0007 0001 6162"}},
		{"echo request with a code", none + "60000000 000a 3a 40" + a + b + "8001 22e6 0007 0001 6162",
			[]string{"50 60000000 3a 40 8001 22e6 0007 0001 6162"}},
		// Its checksum would be 0, which is sent as ffff; so this one has none.
		{"UDP, no checksum, and the sum right", none + "60000000 000a 11 40" + a + b + "0101 0202 000a 0000 016e",
			[]string{"50 60000000 11 40 0101 0202 000a 0000 016e"}},
		{"echo reply", none + "60000000 000a 3a 40" + a + b + "8100 1234 0007 0001 6162",
			[]string{"50 60000000 3a 40 8100 1234 0007 0001 6162"}},
		{"nothing behind the header", none + "60000000 0000 3b 40" + a + b, []string{"50 60000000 3b 40"}},
	} {
		f := unhex(t, c.frame)
		if c.name == "echo request" {
			f = append(f[:vnetSize:vnetSize], withChecksum(f[vnetSize:], protoICMP, ip6Size, 2)...)
		}
		got := messages(t, &splitter{self: alice, count: new(counters)}, f)
		var want [][]byte
		for _, w := range c.want {
			want = append(want, unhex(t, w))
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s:\ngot  %x\nwant %x", c.name, got, want)
		}
	}
}

// TestSplitDrops has packets that may not leave, and what they are counted as.
func TestSplitDrops(t *testing.T) {
	ok := packet(alice, bob, 6<<28, 59, 64, []byte{1, 2, 3})
	tcp := packet(alice, bob, 6<<28, protoTCP, 64, tcpFields{payload: make([]byte, 100)}.bytes())
	super := vnetHeader{vnetNeedsChecksum, vnetTCP6, 10, ip6Size, tcpChecksum}
	with := func(p []byte, change func(p []byte)) []byte {
		p = slices.Clone(p)
		change(p)
		return p
	}
	for _, c := range []struct {
		name string
		f    []byte
		want counter
	}{
		{"empty", nil, outNotIPv6},
		{"only a frame header", make([]byte, vnetSize), outNotIPv6},
		{"IPv4", frame(vnetHeader{}, with(ok, func(p []byte) { p[0] = 0x45 })), outNotIPv6},
		{"short", frame(vnetHeader{}, ok[:39]), outMalformed},
		{"a byte less than it says", frame(vnetHeader{}, ok[:len(ok)-1]), outMalformed},
		{"a byte more", frame(vnetHeader{}, append(ok[:len(ok):len(ok)], 0)), outMalformed},
		{"another's address", frame(vnetHeader{}, packet(carol, bob, 6<<28, 59, 64)), outSource},
		{"no address", frame(vnetHeader{}, packet(anode.ULA{}, bob, 6<<28, 59, 64)), outSource},
		{"link-local", frame(vnetHeader{}, packet(anode.ULA{0xfe, 0x80}, bob, 6<<28, 59, 64)), outSource},
		{"multicast", frame(vnetHeader{}, packet(alice, anode.ULA{0xff, 2, 15: 1}, 6<<28, 59, 64)), outMulticast},
		{"internet", frame(vnetHeader{}, packet(alice, anode.ULA{0x20, 1}, 6<<28, 59, 64)), outForeign},
		{"fc00::/8", frame(vnetHeader{}, packet(alice, anode.ULA{0xfc, 1}, 6<<28, 59, 64)), outForeign},
		{"ourselves", frame(vnetHeader{}, packet(alice, alice, 6<<28, 59, 64)), outForeign},
		{"checksum behind the end", frame(vnetHeader{vnetNeedsChecksum, 0, 0, 40, 2}, ok), outMalformed},
		{"checksum in the fixed header", frame(vnetHeader{vnetNeedsChecksum, 0, 0, 30, 2}, ok), outMalformed},
		{"TCP over IPv4", frame(vnetHeader{vnetNeedsChecksum, 1, 10, 40, 16}, tcp), outMalformed},
		{"segments of 0", frame(vnetHeader{vnetNeedsChecksum, vnetTCP6, 0, 40, 16}, tcp), outMalformed},
		{"super-packet, checksum complete", frame(vnetHeader{0, vnetTCP6, 10, 40, 16}, tcp), outMalformed},
		{"super-packet of nothing", frame(super, packet(alice, bob, 6<<28, protoTCP, 64, tcpFields{}.bytes())), outMalformed},
		{"TCP header cut off", frame(super, packet(alice, bob, 6<<28, protoTCP, 64, tcpFields{}.bytes()[:19])), outMalformed},
		{"TCP header longer than all", frame(super, packet(alice, bob, 6<<28, protoTCP, 64, with(tcpFields{payload: make([]byte, 30)}.bytes(), func(p []byte) { p[12] = 0xf0 }))), outMalformed},
		{"another checksum field", frame(vnetHeader{vnetNeedsChecksum, vnetTCP6, 10, 40, 6}, tcp), outMalformed},
		{"another protocol", frame(super, with(tcp, func(p []byte) { p[6] = protoUDP })), outMalformed},
		{"start behind the end", frame(vnetHeader{vnetNeedsChecksum, vnetTCP6, 10, 4000, 16}, tcp), outMalformed},
		{"long extension headers", frame(vnetHeader{vnetNeedsChecksum, vnetTCP6, 10, 40 + 600, 16},
			packet(alice, bob, 6<<28, 60, 64, make([]byte, 600), tcpFields{payload: make([]byte, 100)}.bytes())), outMalformed},
	} {
		var count counters
		s := splitter{self: alice, count: &count}
		if s.load(c.f) || s.next() != nil {
			t.Errorf("%s: it left", c.name)
		}
		for i := range numCounters {
			if got, want := count[i].Load(), map[bool]uint64{true: 1}[i == c.want]; got != want {
				t.Errorf("%s: %s is %d, want %d", c.name, counterNames[i], got, want)
			}
		}
	}
}

// TestSplitSizes sends a packet of every size there is.
func TestSplitSizes(t *testing.T) {
	g := newTraffic(1, alice, bob)
	s := splitter{self: alice, count: new(counters)}
	for n := range 1401 {
		for _, p := range [][]byte{
			packet(alice, bob, 6<<28, 200, 64, g.bytes(n)),
			left(packet(alice, bob, 6<<28, protoUDP, 64, udpBytes(1, 2, g.bytes(n))), protoUDP, ip6Size),
			left(packet(alice, bob, 6<<28, protoTCP, 64, tcpFields{payload: g.bytes(n)}.bytes()), protoTCP, ip6Size),
		} {
			h := vnetHeader{}
			if p[6] != 200 {
				h = vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip6Size, checksumAt(p[6])}
			}
			f := frame(h, p)
			want, _ := segment(f)
			m := messages(t, &s, f)
			if len(m) != 1 {
				t.Fatalf("%d bytes: %d messages", n, len(m))
			}
			if err := equalPackets([][]byte{unpack(alice, bob, m[0])}, want); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
	}
}

// FuzzSplit cuts anything that a device might give, and wants the same packets on the
// other side as a system makes of the frame.
func FuzzSplit(f *testing.F) {
	g := newTraffic(1, alice, bob)
	for i := range 400 {
		g.lan = i >= 200
		if b := g.frame(); len(b) < 500 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > vnetSize+ip6Size+maxIP6 {
			return
		}
		in := slices.Clone(b)
		s := splitter{self: alice, lan: testLAN(alice, bob), count: new(counters)}
		all := messages(t, &s, slices.Clone(b)) // which it overwrites
		if len(all) == 0 {
			return
		}
		// What the field of a checksum that is left holds, and a super-packet's UDP
		// length, does not matter to us; the reference wants them right.
		h, p := parseVnet(in), in[vnetSize:]
		if h.kind&^vnetECN == vnetUDP {
			be.PutUint16(p[h.start+udpLength:], uint16(len(p)-h.start))
		}
		if proto := h.kind &^ vnetECN; (proto == vnetTCP6 || proto == vnetTCP4) && p[h.start+tcpFlags]&flagCWR != 0 {
			in[1] |= vnetECN
		}
		in[0] &= vnetNeedsChecksum
		if is, receiver := isIP4(all[0]); is {
			if in[0] != 0 && receiver {
				in = append(in[:vnetSize:vnetSize], left(p, p[9], ip4Size)...)
			}
			p = in[vnetSize:]
			if all[0][0] == byte(wire.Group) && receiver && in[0] == 0 {
				copy(p, withChecksum(p, protoUDP, ip4Size, udpChecksum)) // there may have been none
			}
			set4(p, be.Uint16(p[4:])) // the system makes it right
		} else if all[0][0] == byte(wire.Group) && h.kind != vnetNone {
			in = append(in[:vnetSize:vnetSize], left(p, protoUDP, ip6Size)...)
		} else if in[0] != 0 && all[0][0] != byte(wire.IP6) && all[0][0] != byte(wire.Group) {
			in = append(in[:vnetSize:vnetSize], left(p, p[6], ip6Size)...)
		}
		want, err := segment(in)
		if err != nil {
			t.Fatalf("%v: %x", err, in)
		}
		var got [][]byte
		for _, m := range all {
			got = append(got, unpack(alice, s.to, m))
		}
		if err := equalPackets(got, want); err != nil {
			t.Fatalf("%v\n%x", err, in)
		}
	})
}
