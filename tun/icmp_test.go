package tun

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

func newErrors(c *clock) (e *errorMaker, frames *[][]byte) {
	frames = new([][]byte)
	e = &errorMaker{self: alice, now: c.Now, count: new(counters), write: func(f []byte) error {
		*frames = append(*frames, slices.Clone(f))
		return nil
	}}
	return e, frames
}

// TestErrors answers packets of each kind and holds the answer against RFC 4443.
func TestErrors(t *testing.T) {
	g := newTraffic(1, alice, bob)
	for _, c := range []struct {
		name string
		p    []byte
	}{
		{"UDP", withChecksum(packet(alice, bob, 6<<28, protoUDP, 64, udpBytes(1, 2, []byte("abc"))), protoUDP, ip6Size, udpChecksum)},
		{"UDP with a class", packet(alice, bob, 6<<28|0x2e<<22|5, protoUDP, 64, udpBytes(1, 2, []byte("abc")))},
		{"TCP", packet(alice, bob, 6<<28|7, protoTCP, 9, syn)},
		{"large", packet(alice, bob, 6<<28, 200, 64, g.bytes(1400))},
		{"echo request", withChecksum(packet(alice, bob, 6<<28, protoICMP, 64, echoBytes(icmpEcho, 5), []byte("xyz")), protoICMP, ip6Size, 2)},
		{"extension header", packet(alice, bob, 6<<28, protoDestination, 64, []byte{59, 0, 1, 4, 0, 0, 0, 0})},
		{"later fragment", packet(alice, bob, 6<<28, protoFragment, 64, []byte{protoICMP, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3})},
	} {
		s := splitter{self: alice, count: new(counters)}
		m := messages(t, &s, frame(vnetHeader{}, c.p))
		if len(m) != 1 {
			t.Fatalf("%s: not one message", c.name)
		}
		e, frames := newErrors(newClock())
		d := &Device{errors: errorMaker{self: alice, now: e.now, count: e.count, write: e.write}}
		d.NoRoute(bob, m[0])
		d.Prohibited(bob, m[0])
		d.TooBig(bob, m[0], 1400)
		d.TooBig(bob, m[0], 600)
		want := []struct {
			typ, code byte
			word      uint32
		}{{1, 0, 0}, {1, 1, 0}, {2, 0, 1400}, {2, 0, 1280}}
		if len(*frames) != len(want) {
			t.Fatalf("%s: %d answers", c.name, len(*frames))
		}
		for i, f := range *frames {
			p, err := segment(f)
			if err != nil {
				t.Fatal(err)
			}
			a := p[0]
			b := a[ip6Size:]
			if anode.ULA(a[8:24]) != bob || anode.ULA(a[24:40]) != alice || a[6] != protoICMP || len(a) > minMTU {
				t.Errorf("%s: header %x of %d bytes", c.name, a[:40], len(a))
			}
			if b[0] != want[i].typ || b[1] != want[i].code || be.Uint32(b[4:]) != want[i].word {
				t.Errorf("%s: answer %x", c.name, b[:8])
			}
			if slowSum(b, slowPseudo(a, protoICMP, len(b))) != 0xffff {
				t.Errorf("%s: wrong checksum", c.name)
			}
			q, w := slices.Clone(b[8:]), slices.Clone(c.p[:min(len(c.p), minMTU-ip6Size-icmpSize)])
			for _, p := range [][]byte{q, w} { // the checksum of what DGRAM and PING carry is not known any more
				if at := map[byte]int{protoUDP: 6, protoICMP: 2}[p[6]]; at > 0 {
					clear(p[ip6Size+at:][:2])
				}
			}
			if string(q) != string(w) {
				t.Errorf("%s: quoted\n%x\nof\n%x", c.name, q, w)
			}
		}
	}
}

// TestErrorsNever has packets that are not answered.
func TestErrorsNever(t *testing.T) {
	e, frames := newErrors(newClock())
	for _, m := range [][]byte{
		nil,
		{0x50},
		{0x09, 0, 1},
		{0x7f, 1, 2, 3},
		unhex(t, "02 0001 0002"),
		unhex(t, "50 60000000 3a 40 0100 0000 00000000"),                  // ICMPv6 error
		unhex(t, "50 60000000 3a 40 0200 0000 00000500"),                  // another
		unhex(t, "50 60000000 3a 40 8900 0000 00000000"),                  // redirect
		unhex(t, "50 60000000 3a 40"),                                     // ICMPv6 without a type
		unhex(t, "50 60000000 3c 40 3a00 010400000000 0100 000000000000"), // error behind options
		unhex(t, "50 60000000 3c 40 3a01 010400000000"),                   // cut
		unhex(t, "50 60000000 2c 40 3a00 0001 00000001 0300 0000"),        // error in a first fragment
	} {
		e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
		if len(*frames) != 0 {
			t.Fatalf("answered: %x", m)
		}
	}
	if n := e.count[errNone].Load(); n != 12 {
		t.Errorf("%d counted", n)
	}
}

// TestErrorRate sends many at once, and then one whenever there may be one.
func TestErrorRate(t *testing.T) {
	c := newClock()
	e, frames := newErrors(c)
	m := unhex(t, "09 0001 0002 61")
	for range 1000 {
		e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
	}
	if n := len(*frames); n != errBurst {
		t.Errorf("%d at once", n)
	}
	for range 1000 {
		c.step(time.Second / errRate / 2)
		e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
	}
	if n := len(*frames) - errBurst; n < 499 || n > 501 {
		t.Errorf("%d in five seconds", n)
	}
	c.step(-time.Hour) // a clock that was set back
	e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
	c.step(time.Second)
	n := len(*frames)
	e.answer(bob, m, icmpUnreachable, icmpNoRoute, 0)
	if len(*frames) != n+1 {
		t.Error("none after the clock was set back")
	}
	if got := e.count[errSent].Load() + e.count[errLimited].Load(); got != 2002 {
		t.Errorf("%d counted", got)
	}
}

func FuzzRebuild(f *testing.F) {
	f.Add(unhex(f, "54 00 0000 4000 40 11 0001 0002 0009 0000 61"))
	f.Add(unhex(f, "09 0001 0002 61"))
	f.Add(unhex(f, "01 0001 0002 61"))
	f.Add(unhex(f, "50 60000000 3c 40 3a00 010400000000 8000 000000000000"))
	f.Fuzz(func(t *testing.T, m []byte) {
		if len(m) > 0 && m[0] == byte(wire.IP4) {
			e := errorMaker{self: alice, lan: testLAN(alice, bob)}
			_, n := e.rebuild4(bob, m)
			if q := e.quote4(); n != 0 && (n < ip4Size || n < len(q) && sound4(q[:n]) != nil) {
				t.Fatalf("%d bytes of %x", n, m)
			}
			return
		}
		b := make([]byte, minMTU-ip6Size-icmpSize)
		n := rebuild(b, &alice, &bob, m)
		if n != 0 && (n < ip6Size || n < len(b) && n != ip6Size+int(be.Uint16(b[4:]))) {
			t.Fatalf("%d bytes of %x", n, m)
		}
	})
}
