package tun

import (
	"slices"
	"testing"
)

// TestErrors4 answers IPv4 packets of each kind and holds the answer against RFC 792, RFC
// 1191 and RFC 1812.
func TestErrors4(t *testing.T) {
	g := newTraffic(1, alice, bob)
	a, b := alias4(alice), alias4(bob)
	for _, c := range []struct {
		name string
		p    []byte
	}{
		{"UDP", withChecksum(packet4(a, b, header4{2, 7, ip4DF, 9, protoUDP}, udpBytes(1, 2, []byte("abc"))), protoUDP, ip4Size, udpChecksum)},
		{"TCP", packet4(a, b, header4{0, 7, ip4DF, 64, protoTCP}, syn)},
		{"large", packet4(a, b, header4{0, 7, 0, 64, 200}, g.bytes(1400))},
		{"echo request", packet4(a, b, header4{0, 7, 0, 64, protoICMP4}, icmpBytes(8, []byte("xyz")))},
		{"first fragment", packet4(a, b, header4{0, 7, ip4MF, 64, protoUDP}, udpBytes(1, 2, make([]byte, 16)))},
	} {
		s := splitter{self: alice, lan: testLAN(alice, bob), count: new(counters)}
		m := messages(t, &s, frame(vnetHeader{}, slices.Clone(c.p)))
		if len(m) != 1 {
			t.Fatalf("%s: not one message", c.name)
		}
		e, frames := newErrors(newClock())
		d := &Device{errors: errorMaker{self: alice, lan: s.lan, now: e.now, count: e.count, write: e.write}}
		d.NoRoute(bob, m[0])
		d.Prohibited(bob, m[0])
		d.TooBig(bob, m[0], 1400)
		d.TooBig(bob, m[0], 600)
		d.errors.noAlias(c.p)
		want := []struct {
			code byte
			word uint32
		}{{1, 0}, {13, 0}, {4, 1400}, {4, 1280}, {1, 0}}
		if len(*frames) != len(want) {
			t.Fatalf("%s: %d answers", c.name, len(*frames))
		}
		for i, f := range *frames {
			p, err := segment(f)
			if err != nil {
				t.Fatal(err)
			}
			x := p[0]
			i4 := x[ip4Size:]
			if [4]byte(x[12:]) != b || [4]byte(x[16:]) != a || x[9] != protoICMP4 || len(x) > 576 {
				t.Errorf("%s: header %x of %d bytes", c.name, x[:20], len(x))
			}
			if i4[0] != 3 || i4[1] != want[i].code || be.Uint32(i4[4:]) != want[i].word {
				t.Errorf("%s: answer %x", c.name, i4[:8])
			}
			if slowSum(i4, 0) != 0xffff {
				t.Errorf("%s: wrong checksum", c.name)
			}
			q, w := slices.Clone(i4[8:]), slices.Clone(c.p[:min(len(c.p), 576-28)])
			if err := sound4(append(slices.Clone(q), make([]byte, len(c.p)-len(q))...)); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			for _, p := range [][]byte{q, w} { // the checksum is that of the message
				if at := map[byte]int{protoUDP: 6, protoTCP: 16}[p[9]]; at > 0 {
					clear(p[ip4Size+at:][:2])
				}
			}
			if string(q) != string(w) {
				t.Errorf("%s: quoted\n%x\nof\n%x", c.name, q, w)
			}
		}
	}
}

// TestErrors4Never has IPv4 packets that are not answered.
func TestErrors4Never(t *testing.T) {
	e, frames := newErrors(newClock())
	e.lan = testLAN(alice, bob)
	never := [][]byte{
		{0x54},
		unhex(t, "54 00 0000 4000 40"),
		unhex(t, "54 00 0000 4000 40 01"), // ICMP without a type
		unhex(t, "54 00 0000 4000 40 01 0300 0000 00000000"), // an error
		unhex(t, "54 00 0000 4000 40 01 0500 0000 00000000"), // a redirect
		unhex(t, "54 00 0000 0009 40 11 0001 0002"),          // a later fragment
		unhex(t, "55 ff0200000000000000000000000000fb 60000000 11 ff 14e9 14e9 000a 1234 6162"),
		unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 c000 ff 11 14e9 14e9 000a 0000 6162"),
	}
	for _, m := range never {
		e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
	}
	e.answer(carol, unhex(t, "54 00 0000 4000 40 11 0001 0002"), icmpUnreachable, icmpNoRoute, 0) // has no alias
	e.noAlias(packet4(alias4(alice), alias4(carol), header4{fragment: 9, proto: protoUDP}, []byte{1, 2}))
	e.noAlias(packet4(alias4(alice), alias4(carol), header4{proto: protoICMP4}, icmpBytes(11)))
	if n := e.count[errNone].Load(); len(*frames) != 0 || n != uint64(len(never)+3) {
		t.Errorf("%d answers, %d counted", len(*frames), n)
	}
}

// TestNoAlias sends to an alias that nobody has: the system is told, and not more often than
// of other errors.
func TestNoAlias(t *testing.T) {
	p := packet4(alias4(alice), alias4(carol), header4{ttl: 64, proto: protoUDP}, udpBytes(1, 2, []byte("hello")))
	c := newClock()
	e, frames := newErrors(c)
	e.lan = testLAN(alice, bob)
	e.lan.unknown = e.noAlias
	s := splitter{self: alice, lan: e.lan, count: new(counters)}
	for range 1000 {
		if s.load(frame(vnetHeader{}, slices.Clone(p))) {
			t.Fatal("it left")
		}
	}
	if len(*frames) != errBurst || e.count[errLimited].Load() != 1000-errBurst || s.count[outAlias].Load() != 1000 {
		t.Fatalf("%d answers", len(*frames))
	}
	x := (*frames)[0][vnetSize:]
	if [4]byte(x[12:]) != alias4(carol) || [4]byte(x[16:]) != alias4(alice) || x[20] != 3 || x[21] != 1 || string(x[28:]) != string(p) {
		t.Errorf("answer %x", x)
	}
}
