package tun

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// segmentMessage is an IP6P with TCP.
func segmentMessage(f tcpFields) []byte {
	return slices.Concat([]byte{byte(wire.IP6P), 0x60, 0, 0, 9, protoTCP, 64}, f.bytes())
}

// segment4 is an IP4 with TCP.
func segment4(h header4, f tcpFields) []byte {
	h.ttl, h.proto = 64, protoTCP
	return slices.Concat([]byte{byte(wire.IP4)}, head4Bytes(h, true), f.bytes())
}

// head4Bytes is what IP4 begins with; left: the receiver computes the checksum.
func head4Bytes(h header4, left bool) []byte {
	b := be.AppendUint16(be.AppendUint16([]byte{h.class}, h.ident), h.fragment)
	if left {
		b[3] |= 0x80
	}
	return append(b, h.ttl, h.proto)
}

// TestJoin has pairs of messages, and whether they become one super-packet.
func TestJoin(t *testing.T) {
	data := func(n int) []byte { return make([]byte, n) }
	first := tcpFields{src: 1, dst: 2, seq: 1000, ack: 5, flags: flagACK, window: 9, options: data(12), payload: data(100)}
	second := first
	second.seq += 100
	with := func(f tcpFields, change func(*tcpFields)) []byte {
		f.options = slices.Clone(f.options)
		change(&f)
		return segmentMessage(f)
	}
	at := func(m []byte, i int, v byte) []byte { m[i] = v; return m }
	dgram := func(ports, n int) []byte { return append([]byte{byte(wire.Dgram), 0, 1, 0, byte(ports)}, data(n)...) }
	a, b := segmentMessage(first), segmentMessage(second)
	seg4 := func(f tcpFields, ident, fragment uint16) []byte {
		return segment4(header4{ident: ident, fragment: fragment}, f)
	}
	a4, b4 := seg4(first, 9, ip4DF), seg4(second, 9, ip4DF)
	udp4 := func(ident, fragment uint16, ports, n int) []byte {
		return slices.Concat([]byte{byte(wire.IP4)}, head4Bytes(header4{0, ident, fragment, 64, protoUDP}, true), udpBytes(1, uint16(ports), data(n)))
	}
	group4 := slices.Concat([]byte{byte(wire.Group)}, unhex(t, "00000000000000000000ffffe00000fb"), udp4(0, ip4DF, 7, 100)[1:])
	for _, c := range []struct {
		name string
		a, b []byte
		want int // frames
	}{
		{"the next segment", a, b, 1},
		{"shorter", a, with(second, func(f *tcpFields) { f.payload = data(99) }), 1},
		{"with PSH", a, with(second, func(f *tcpFields) { f.flags |= flagPSH }), 1},
		{"with FIN", a, with(second, func(f *tcpFields) { f.flags |= flagFIN }), 1},
		{"CWR first", with(first, func(f *tcpFields) { f.flags |= flagCWR }), b, 1},
		{"ECE on both", with(first, func(f *tcpFields) { f.flags |= flagECE }), with(second, func(f *tcpFields) { f.flags |= flagECE }), 1},
		{"UDP", dgram(7, 100), dgram(7, 100), 1},
		{"UDP, shorter", dgram(7, 100), dgram(7, 1), 1},

		{"IPv4", a4, b4, 1},
		{"IPv4, another identification", a4, seg4(second, 77, ip4DF), 1},
		{"IPv4, may be cut, the next identification", seg4(first, 0xffff, 0), seg4(second, 0, 0), 1},
		{"IPv4, with PSH", a4, at(seg4(second, 9, ip4DF), headIP4+tcpFlags, flagACK|flagPSH), 1},
		{"UDP over IPv4", udp4(5, ip4DF, 7, 100), udp4(5, ip4DF, 7, 100), 1},
		{"UDP over IPv4, shorter", udp4(5, 0, 7, 100), udp4(6, 0, 7, 1), 1},

		{"IPv4, may be cut, another identification", seg4(first, 9, 0), seg4(second, 11, 0), 2},
		{"IPv4, may be cut, the same identification", seg4(first, 9, 0), seg4(second, 9, 0), 2},
		{"IPv4, only one may be cut", seg4(first, 9, ip4DF), seg4(second, 10, 0), 2},
		{"IPv4, another class", a4, at(seg4(second, 9, ip4DF), 1, 2), 2},
		{"IPv4, another time to live", a4, at(seg4(second, 9, ip4DF), 6, 63), 2},
		{"IPv4, a gap", a4, seg4(first, 9, ip4DF), 2},
		{"IPv4 and IPv6", a4, b, 2},
		{"IPv6 and IPv4", a, b4, 2},
		{"IPv4, TCP and UDP", a4, udp4(9, ip4DF, 7, 100), 2},
		{"IPv4, UDP and TCP", udp4(9, ip4DF, 7, 100), b4, 2},
		{"UDP over IPv4, longer", udp4(5, ip4DF, 7, 100), udp4(5, ip4DF, 7, 101), 2},
		{"UDP over IPv4, another port", udp4(5, ip4DF, 7, 100), udp4(5, ip4DF, 8, 100), 2},
		{"UDP over IPv4, without data", udp4(5, ip4DF, 7, 100), udp4(5, ip4DF, 7, 0), 2},
		{"UDP over IPv4 and DGRAM", udp4(5, ip4DF, 7, 100), dgram(7, 100), 2},
		{"to a group", group4, slices.Clone(group4), 2},

		{"longer", a, with(second, func(f *tcpFields) { f.payload = data(101) }), 2},
		{"a gap", a, with(second, func(f *tcpFields) { f.seq++ }), 2},
		{"again", a, a, 2},
		{"no data", a, with(second, func(f *tcpFields) { f.payload = nil }), 2},
		{"first without data", with(first, func(f *tcpFields) { f.payload = nil; f.seq += 100 }), b, 2},
		{"another ack", a, with(second, func(f *tcpFields) { f.ack++ }), 2},
		{"another window", a, with(second, func(f *tcpFields) { f.window++ }), 2},
		{"another option", a, with(second, func(f *tcpFields) { f.options[11]++ }), 2},
		{"fewer options", a, with(second, func(f *tcpFields) { f.options = f.options[:8] }), 2},
		{"more options", a, with(second, func(f *tcpFields) { f.options = data(16) }), 2},
		{"another port", a, with(second, func(f *tcpFields) { f.dst++ }), 2},
		{"another flow label", a, at(segmentMessage(second), 4, 8), 2},
		{"another class", a, at(segmentMessage(second), 2, 0x20), 2},
		{"another hop limit", a, at(segmentMessage(second), 6, 63), 2},
		{"urgent pointer", a, at(segmentMessage(second), headIP6+tcpUrgent, 1), 2},
		{"CWR second", a, with(second, func(f *tcpFields) { f.flags |= flagCWR }), 2},
		{"CWR on both", with(first, func(f *tcpFields) { f.flags |= flagCWR }), with(second, func(f *tcpFields) { f.flags |= flagCWR }), 2},
		{"ECE second", a, with(second, func(f *tcpFields) { f.flags |= flagECE }), 2},
		{"RST", a, with(second, func(f *tcpFields) { f.flags |= flagRST }), 2},
		{"URG", a, with(second, func(f *tcpFields) { f.flags |= flagURG }), 2},
		{"SYN on both", with(first, func(f *tcpFields) { f.flags |= flagSYN }), with(second, func(f *tcpFields) { f.flags |= flagSYN }), 2},
		{"URG on both", with(first, func(f *tcpFields) { f.flags |= flagURG }), with(second, func(f *tcpFields) { f.flags |= flagURG }), 2},
		{"after PSH", with(first, func(f *tcpFields) { f.flags |= flagPSH }), b, 2},
		{"after SYN", with(first, func(f *tcpFields) { f.flags |= flagSYN; f.seq-- }), b, 2},
		{"complete TCP", a, at(segmentMessage(second), 0, byte(wire.IP6)), 2},
		{"UDP, another port", dgram(7, 100), dgram(8, 100), 2},
		{"UDP, longer", dgram(7, 100), dgram(7, 101), 2},
		{"UDP without data", dgram(7, 100), dgram(7, 0), 2},
		{"TCP and UDP", a, dgram(7, 100), 2},
	} {
		r := newReceiver(bob, everything)
		r.put(alice, c.a)
		r.put(alice, c.b)
		r.Flush()
		if len(r.frames) != c.want {
			t.Errorf("%s: %d frames, want %d", c.name, len(r.frames), c.want)
		}
		if err := equalPackets(r.packets(t), [][]byte{unpack(alice, bob, c.a), unpack(alice, bob, c.b)}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}

		r = newReceiver(bob, everything)
		r.put(alice, c.a)
		r.put(carol, c.b)
		r.Flush()
		if len(r.frames) != 2 {
			t.Errorf("%s, of another peer: %d frames", c.name, len(r.frames))
		}
	}
}

// TestJoinEnds has what ends a super-packet: what comes after is another.
func TestJoinEnds(t *testing.T) {
	f := tcpFields{src: 1, dst: 2, flags: flagACK, payload: make([]byte, 1000)}
	next := func(change func(*tcpFields)) []byte {
		g := f
		change(&g)
		f.seq += uint32(len(g.payload))
		return segmentMessage(g)
	}
	same := func(*tcpFields) {}
	for _, c := range []struct {
		name    string
		changes []func(*tcpFields)
		want    []int // segments of each frame
	}{
		{"PSH", []func(*tcpFields){same, func(f *tcpFields) { f.flags |= flagPSH }, same, same}, []int{2, 2}},
		{"a short one", []func(*tcpFields){same, same, func(f *tcpFields) { f.payload = f.payload[:9] }, same}, []int{3, 1}},
		{"as many as a train has", slices.Repeat([]func(*tcpFields){same}, 70), []int{64, 6}},
	} {
		r := newReceiver(bob, everything)
		for _, change := range c.changes {
			r.put(alice, next(change))
		}
		r.Flush()
		var got []int
		for _, f := range r.frames {
			p, err := segment(f)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(p))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: frames of %v segments, want %v", c.name, got, c.want)
		}
	}
}

// TestLargest joins up to the length that an IPv6 packet can have, and takes single
// messages up to that.
func TestLargest(t *testing.T) {
	for size := 1060; size < 1100; size++ { // 65,535 lies anywhere in the last segment
		r := newReceiver(bob, everything)
		f := tcpFields{flags: flagACK, payload: make([]byte, size)}
		for range 64 {
			r.put(alice, segmentMessage(f))
			f.seq += uint32(size)
		}
		r.Flush()
		if got := len(r.packets(t)); got != 64 || len(r.frames) != 2 {
			t.Errorf("%d segments of %d bytes came in %d frames", got, size, len(r.frames))
		}
	}
	for size := 1050; size < 1100; size++ {
		r := newReceiver(bob, everything)
		f := tcpFields{flags: flagACK, payload: make([]byte, size)}
		for range 64 {
			r.put(alice, segment4(header4{fragment: ip4DF}, f))
			f.seq += uint32(size)
		}
		r.Flush()
		if got := len(r.packets(t)); got != 64 || len(r.frames) != 2 {
			t.Errorf("%d segments of %d bytes over IPv4 came in %d frames", got, size, len(r.frames))
		}
	}
	r := newReceiver(bob, everything)
	big4 := append([]byte{byte(wire.IP4), 0, 0, 0, 0, 0, 64, 200}, make([]byte, maxIP4-ip4Size)...)
	r.put(alice, big4)
	r.put(alice, append(big4, 0))
	r.Flush()
	if got := len(r.packets(t)); got != 1 || r.count[inMalformed].Load() != 1 {
		t.Errorf("%d packets over IPv4, want 1", got)
	}
	r = newReceiver(bob, everything)
	big := append([]byte{byte(wire.IP6), 0x60, 0, 0, 0, 59, 64}, make([]byte, maxIP6)...)
	r.put(alice, big)
	r.put(alice, append([]byte{byte(wire.Dgram), 0, 1, 0, 1}, make([]byte, maxIP6-udpSize)...))
	r.Flush()
	if got := len(r.packets(t)); got != 2 || r.count[inMalformed].Load() != 0 {
		t.Errorf("%d packets, want 2", got)
	}
	for _, m := range [][]byte{
		append(big, 0),
		append([]byte{byte(wire.Dgram), 0, 1, 0, 1}, make([]byte, maxIP6-udpSize+1)...),
		make([]byte, 1<<20),
	} {
		r.frames = nil
		n := r.count[inMalformed].Load()
		r.put(alice, m)
		r.Flush()
		if len(r.frames) != 0 || r.count[inMalformed].Load() != n+1 {
			t.Errorf("a message of %d bytes came in", len(m))
		}
	}
}

// TestNonsense sends nonsense inside a valid session, between segments that must arrive.
func TestNonsense(t *testing.T) {
	tcp := tcpFields{flags: flagACK, payload: make([]byte, 50)}
	for _, c := range []struct {
		name string
		m    []byte
		want counter
	}{
		{"an empty message", nil, inMalformed},
		{"only a type", []byte{byte(wire.IP6)}, inMalformed},
		{"half a header", []byte{byte(wire.IP6P), 0x60, 0, 0, 0, protoTCP}, inMalformed},
		{"IPv4", []byte{byte(wire.IP6), 0x45, 0, 0, 0, 59, 64}, inMalformed},
		{"a TCP header cut off", segmentMessage(tcp)[:headIP6+19], inMalformed},
		{"a TCP header of 16 bytes", func() []byte { m := segmentMessage(tcp); m[headIP6+tcpOffset] = 0x40; return m }(), inMalformed},
		{"a TCP header longer than all", func() []byte { m := segmentMessage(tcp)[:headIP6+30]; m[headIP6+tcpOffset] = 0xf0; return m }(), inMalformed},
		{"a UDP length too great", append([]byte{byte(wire.IP6P), 0x60, 0, 0, 0, protoUDP, 64}, 0, 1, 0, 1, 0, 10, 0, 0, 0), inMalformed},
		{"IP6P of ICMP", append([]byte{byte(wire.IP6P), 0x60, 0, 0, 0, protoICMP, 64}, make([]byte, 20)...), inMalformed},
		{"half a DGRAM", []byte{byte(wire.Dgram), 0, 1, 0}, inMalformed},
		{"half a PONG", []byte{byte(wire.Pong), 0, 1, 0}, inMalformed},
		{"a PONG to nothing", []byte{byte(wire.Pong), 0, 1, 0, 1, 2, 3}, inPong},
		{"a PING", []byte{byte(wire.Ping), 0, 1, 0, 1, 2, 3}, inType},
		{"half an IP4", unhex(t, "54 00 0000 4000 40"), inMalformed},
		{"IP4 with TCP cut off", unhex(t, "54 00 0000 c000 40 06 0001 0002"), inMalformed},
		{"IP4 with a TCP header of 8 bytes, complete", unhex(t, "54 00 0000 4000 40 06 0001 0002 00000000"), inMalformed},
		{"IP4 that overwrites TCP's header", unhex(t, "54 00 0000 0001 40 06 0001 0002 00000000"), inMalformed},
		{"IP4 with a UDP length too great", unhex(t, "54 00 0000 c000 40 11 0001 0002 000a 0000 61"), inMalformed},
		{"IP4, the checksum of ICMP left", unhex(t, "54 00 0000 c000 40 01 0800 0000 0000 0000"), inMalformed},
		{"IP4, the checksum of a fragment left", unhex(t, "54 00 0000 a000 40 11 0001 0002 0008 0000"), inMalformed},
		{"half a group", unhex(t, "55 ff0200000000000000000000000000"), inMalformed},
		{"only a group", unhex(t, "55 ff0200000000000000000000000000fb"), inMalformed},
		{"only an IPv4 group", unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 c000 40"), inMalformed},
		{"a group, version 4", unhex(t, "55 ff0200000000000000000000000000fb 40000000 11 40 0001 0002 0008 1234"), inMalformed},
		{"a group, UDP length too great", unhex(t, "55 ff0200000000000000000000000000fb 60000000 11 40 0001 0002 0009 1234"), inMalformed},
		{"an IPv4 group, a fragment", unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 a000 40 11 0001 0002 0008 0000"), inMalformed},
		{"an IPv4 group, UDP's checksum complete", unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 4000 40 11 0001 0002 0008 1234"), inMalformed},
		{"an IPv4 group, UDP length too great", unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 c000 40 11 0001 0002 0009 0000"), inMalformed},
		{"an unknown type", []byte{0x7f, 0, 1, 0, 1, 2, 3}, inType},
	} {
		r := newReceiver(bob, everything)
		f := tcp
		var want [][]byte
		for range 3 {
			m := segmentMessage(f)
			want = append(want, unpack(alice, bob, m))
			f.seq += 50
			r.put(alice, m)
			r.put(alice, c.m)
		}
		r.Flush()
		if err := equalPackets(r.packets(t), want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := r.count[c.want].Load(); n != 3 {
			t.Errorf("%s: %s is %d, want 3", c.name, counterNames[c.want], n)
		}
	}
}

// TestEcho takes a PONG for each PING that went out, once, and for 30 seconds.
func TestEcho(t *testing.T) {
	c := newClock()
	p := newPolicy(bob, c.Now)
	var count counters
	var frames [][]byte
	m := newMerger(bob, nil, everything, p, &count, func(f []byte) error { frames = append(frames, slices.Clone(f)); return nil })
	pong := unhex(t, "02 0007 0001 616263")
	put := func(from anode.ULA) int {
		frames = nil
		m.Put(from, false, append(m.Slot(len(pong))[:0], pong...))
		m.Flush()
		return len(frames)
	}
	if put(alice) != 0 {
		t.Error("a PONG without a PING came in")
	}
	p.asked(alice, 7, 1)
	if put(carol) != 0 {
		t.Error("another peer's PONG came in")
	}
	if put(alice) != 1 {
		t.Fatal("the PONG did not come in")
	}
	got, _ := segment(frames[0])
	if err := equalPackets(got, [][]byte{unpack(alice, bob, pong)}); err != nil {
		t.Error(err)
	}
	if put(alice) != 0 {
		t.Error("the PONG came in twice")
	}
	p.asked(alice, 7, 1)
	c.step(lifePing)
	if put(alice) != 0 {
		t.Error("a PONG came in too late")
	}
	if n := count[inPong].Load(); n != 4 {
		t.Errorf("%d counted", n)
	}
}

// TestWriteErrors counts what the system refuses, and goes on.
func TestWriteErrors(t *testing.T) {
	var count counters
	refused := errors.New("refused")
	m := newMerger(bob, nil, everything, newPolicy(bob, newClock().Now), &count, func([]byte) error { return refused })
	for range 2 {
		m.Put(alice, true, append(m.Slot(7)[:0], byte(wire.IP6), 0x60, 0, 0, 0, 59, 64))
		if err := m.Flush(); err != refused {
			t.Errorf("Flush returned %v", err)
		}
		if err := m.Flush(); err != nil {
			t.Errorf("Flush of nothing returned %v", err)
		}
	}
	if n := count[inWrite].Load(); n != 2 {
		t.Errorf("%d counted", n)
	}
}

// TestRefused has a system that refuses super-packets: after the first of each protocol
// there are no more.
func TestRefused(t *testing.T) {
	var count counters
	var sizes []int
	m := newMerger(bob, nil, everything, newPolicy(bob, newClock().Now), &count, func(f []byte) error {
		if parseVnet(f).kind != vnetNone {
			return syscall.EINVAL
		}
		sizes = append(sizes, len(f))
		return nil
	})
	f := tcpFields{flags: flagACK, payload: make([]byte, 100)}
	for range 3 {
		for range 2 {
			for _, b := range [][]byte{segmentMessage(f), {byte(wire.Dgram), 0, 1, 0, 1, 7}} {
				for range 2 {
					m.Put(alice, true, append(m.Slot(len(b))[:0], b...))
					if b[0] == byte(wire.IP6P) {
						be.PutUint32(b[headIP6+tcpSeq:], f.seq+100)
					}
				}
			}
		}
		m.Flush()
	}
	if count[inRefused].Load() != 2 || count[inWrite].Load() != 2 || len(sizes) != 24-4 {
		t.Errorf("refused %d, lost %d, written %d", count[inRefused].Load(), count[inWrite].Load(), len(sizes))
	}
}

// checkPacket4 wants an IPv4 packet of alice or carol to bob, or to a group.
func checkPacket4(t *testing.T, p []byte) {
	t.Helper()
	if err := sound4(p); err != nil {
		t.Fatal(err)
	}
	if src := [4]byte(p[12:]); src != alias4(alice) && src != alias4(carol) {
		t.Fatalf("source: %x", p[:ip4Size])
	}
	proto, b := p[9], p[ip4Size:]
	if [4]byte(p[16:]) != alias4(bob) {
		if !testLAN(bob).carries(netip.AddrFrom4([4]byte(p[16:]))) || !shared(true, proto, b) || be.Uint16(p[6:])&^ip4DF != 0 {
			t.Fatalf("to a group: %x", p)
		}
		return
	}
	if proto == protoIGMP || proto == protoOSPF {
		t.Fatalf("protocol %d", proto)
	}
	if proto == protoICMP4 && be.Uint16(p[6:])&ip4Offset == 0 && b[0] != 0 && b[0] != 8 {
		if q := b[8:]; [4]byte(q[12:]) != alias4(bob) || [4]byte(q[16:]) != [4]byte(p[12:]) {
			t.Fatalf("an error about somebody else's packet: %x", p)
		}
	}
}

// FuzzMerge takes sequences of anything that peers might send. What is written must
// be sound packets from those peers.
func FuzzMerge(f *testing.F) {
	add := func(ms ...[]byte) {
		var b []byte
		for i, m := range ms {
			b = append(b, byte(i%4)<<6, byte(len(m)))
			b = append(b, m...)
		}
		f.Add(b)
	}
	tcp := tcpFields{flags: flagACK, options: make([]byte, 12), payload: make([]byte, 20)}
	next := tcp
	next.seq = 20
	add(segmentMessage(tcp), segmentMessage(next), []byte{byte(wire.Dgram), 0, 1, 0, 2, 5, 6, 7, 8}, []byte{byte(wire.Dgram), 0, 1, 0, 2, 5, 6, 7, 8})
	add(unhex(f, "50 60000000 2b 40 0600 0001 00000000 0101"), unhex(f, "50 60000000 3c 40 2c00 c910 00000000"), unhex(f, "02 0001 0002 33"))
	tcp4, next4 := segment4(header4{fragment: ip4DF}, tcp), segment4(header4{fragment: ip4DF}, next)
	dgram4 := unhex(f, "54 00 0000 c000 40 11 0001 0002 000a 0000 6162")
	add(tcp4, next4, dgram4, dgram4)
	add(unhex(f, "54 00 0000 4000 40 01 0800 0000 0001 0001"), unhex(f, "54 00 0001 2000 40 11 0001 0002 0010 1234 6162636465666768"), unhex(f, "54 00 0001 0002 40 11 6162"))
	add(unhex(f, "54 00 0000 4000 40 01 0300 0000 00000000 4500001c 00004000 4011fffe 00000000 00000000 00010002 00080000"))
	add(unhex(f, "55 ff0200000000000000000000000000fb 60000000 11 ff 14e9 14e9 000a 1234 6162"), unhex(f, "55 00000000000000000000ffffe00000fb 00 0000 c000 ff 11 14e9 14e9 000a 0000 6162"))
	add(unhex(f, "50 60000000 3a 40 0100 0000 00000000"), unhex(f, "50 60000000 2c 40 0600 0009 00000001 33"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReceiver(bob, everything)
		r.policy.asked(alice, 1, 2)
		r.policy.track(carol, protoUDP, udpBytes(2, 1, nil))
		for len(b) >= 2 {
			what, n := b[0], min(int(b[1]), len(b)-2)
			m := b[2 : 2+n]
			b = b[2+n:]
			from := []anode.ULA{alice, carol}[what>>7]
			s := r.Slot(n + int(what&31))
			r.Put(from, what&64 != 0, s[:copy(s, m)])
			if what&32 != 0 {
				r.Flush()
			}
		}
		r.Flush()
		for _, p := range r.packets(t) {
			if p[0]>>4 == 4 {
				checkPacket4(t, p)
				continue
			}
			if dst := anode.ULA(p[24:40]); dst[0] == 0xff && r.lan.carries(netip.AddrFrom16(dst)) && shared(false, p[6], p[ip6Size:]) {
				copy(p[24:40], bob[:])
			}
			if src := anode.ULA(p[8:24]); src != alice && src != carol || anode.ULA(p[24:40]) != bob {
				t.Fatalf("addresses: %x", p[:40])
			}
			if len(p) != ip6Size+int(be.Uint16(p[4:])) || p[0]>>4 != 6 {
				t.Fatalf("header: %x", p[:40])
			}
		}
	})
}
