package tun

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
)

// injected passes packets of bob's to alice's system, and keeps the frames.
func injected(has offloads) (i *Injector, frames *[][]byte) {
	frames = new([][]byte)
	return &Injector{self: alice, has: has, policy: newPolicy(alice, time.Now), write: func(f []byte) error {
		*frames = append(*frames, slices.Clone(f))
		return nil
	}}, frames
}

// segmentsOf is what a system makes of a super-packet.
func segmentsOf(f tcpFields, size int) (all [][]byte) {
	for at := 0; at < len(f.payload); at += size {
		s := f
		s.seq += uint32(at)
		s.payload = f.payload[at:min(at+size, len(f.payload))]
		if at > 0 {
			s.flags &^= flagCWR
		}
		if at+size < len(f.payload) {
			s.flags &^= flagPSH | flagFIN
		}
		all = append(all, withChecksum(packet(bob, alice, 6<<28, protoTCP, 64, s.bytes()), protoTCP, ip6Size, tcpChecksum))
	}
	return all
}

// Whatever the system takes, it gets the same segments with right checksums.
func TestInject(t *testing.T) {
	g := newTraffic(1, bob, alice)
	f := tcpFields{src: 80, dst: 5000, seq: 1<<32 - 3000, ack: 7, flags: flagACK | flagPSH | flagFIN | flagCWR, window: 9, options: g.bytes(12), payload: g.bytes(50_001)}
	p := packet(bob, alice, 6<<28, protoTCP, 64, f.bytes())
	for name, has := range map[string]offloads{"super": {checksum: true, tcp: true}, "checksum": {checksum: true}, "off": {}} {
		for _, size := range []int{1380, 50_000, 50_001, 0} {
			i, frames := injected(has)
			if err := i.Put(true, size, p[:30], p[30:70], nil, p[70:]); err != nil {
				t.Fatal(err)
			}
			want := segmentsOf(f, 50_001)
			if size > 0 {
				want = segmentsOf(f, size)
			}
			var got [][]byte
			for _, x := range *frames {
				s, err := segment(x)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, s...)
			}
			if err := equalPackets(got, want); err != nil {
				t.Errorf("%s, %d: %v", name, size, err)
			}
			if has.tcp && len(*frames) != 1 {
				t.Errorf("%d frames", len(*frames))
			}
			if n := int(i.count[inMessages].Load()); n != len(want) {
				t.Errorf("%d counted, %d sent", n, len(want))
			}
		}
	}
}

// What is not TCP of a peer to us does not come in, nor what the policy refuses.
func TestInjectNot(t *testing.T) {
	syn, data := tcpFields{src: 80, dst: 5000, flags: flagSYN}, tcpFields{src: 80, dst: 5000, flags: flagACK}
	change := func(at int, v byte) []byte {
		p := packet(bob, alice, 6<<28, protoTCP, 64, data.bytes())
		p[at] = v
		return p
	}
	for name, x := range map[string]struct {
		p       []byte
		trusted bool
		want    counter
	}{
		"nothing":           {nil, true, inMalformed},
		"IPv4":              {change(0, 0x45), true, inMalformed},
		"UDP":               {change(6, protoUDP), true, inMalformed},
		"a wrong length":    {change(5, 21), true, inMalformed},
		"a long header":     {change(ip6Size+tcpOffset, 6<<4), true, inMalformed},
		"for somebody else": {packet(bob, carol, 6<<28, protoTCP, 64, data.bytes()), true, inMalformed},
		"from ourselves":    {packet(alice, alice, 6<<28, protoTCP, 64, data.bytes()), true, inMalformed},
		"from no ULA":       {packet(anode.ULA{0: 0x20, 15: 1}, alice, 6<<28, protoTCP, 64, data.bytes()), true, inMalformed},
		"too long":          {make([]byte, 1<<17), true, inMalformed},
		"a stranger's SYN":  {packet(bob, alice, 6<<28, protoTCP, 64, syn.bytes()), false, inUnasked},
		"a stranger's data": {packet(bob, alice, 6<<28, protoTCP, 64, data.bytes()), false, inUnasked},
		"an added peer's":   {packet(bob, alice, 6<<28, protoTCP, 64, syn.bytes()), true, none},
	} {
		i, frames := injected(everything)
		i.Put(x.trusted, 0, x.p)
		if x.want == none {
			if len(*frames) != 1 {
				t.Errorf("%s: %d frames", name, len(*frames))
			}
		} else if n := i.count[x.want].Load(); len(*frames) != 0 || n != 1 {
			t.Errorf("%s: %d frames, counted %d times", name, len(*frames), n)
		}
	}
}

// A stranger's reply comes in.
func TestInjectReply(t *testing.T) {
	i, frames := injected(everything)
	i.policy.track(bob, protoTCP, tcpFields{src: 5000, dst: 80, flags: flagSYN}.bytes())
	i.Put(false, 0, packet(bob, alice, 6<<28, protoTCP, 64, tcpFields{src: 80, dst: 5000, flags: flagSYN | flagACK}.bytes()))
	if len(*frames) != 1 {
		t.Errorf("%d frames", len(*frames))
	}
}

// A system that refuses super-packets although it offered to take them gets segments.
func TestInjectRefused(t *testing.T) {
	i, frames := injected(everything)
	write := i.write
	i.write = func(f []byte) error {
		if parseVnet(f).kind != vnetNone {
			return syscall.EINVAL
		}
		return write(f)
	}
	f := tcpFields{src: 80, dst: 5000, flags: flagACK, payload: make([]byte, 3000)}
	p := packet(bob, alice, 6<<28, protoTCP, 64, f.bytes())
	for range 2 {
		i.Put(true, 1000, p)
	}
	if len(*frames) != 3 || i.count[inRefused].Load() != 1 {
		t.Errorf("%d frames", len(*frames))
	}
	i.write = func([]byte) error { return ErrGone }
	if err := i.Put(true, 0, p); err != ErrGone {
		t.Errorf("%v", err)
	}
}

// Of what was read, sound TCP right after the fixed header is handed out whole, before it is cut.
func TestQueueTCP(t *testing.T) {
	f := tcpFields{src: 5000, dst: 80, flags: flagACK, payload: make([]byte, 3000)}
	tcp := packet(alice, bob, 6<<28, protoTCP, 64, f.bytes())
	udp := packet(alice, bob, 6<<28, protoUDP, 64, udpBytes(1, 2, []byte("x")))
	super := vnetHeader{flags: vnetNeedsChecksum, kind: vnetTCP6, size: 1000, start: ip6Size, at: tcpChecksum}
	for name, x := range map[string]struct {
		frame []byte
		want  []byte
	}{
		"super-packet": {frame(super, left(tcp, protoTCP, ip6Size)), tcp},
		"packet":       {frame(vnetHeader{}, withChecksum(tcp, protoTCP, ip6Size, tcpChecksum)), tcp},
		"wrong":        {frame(vnetHeader{}, func() []byte { p := slices.Clone(tcp); p[ip6Size+tcpChecksum] = 1; return p }()), nil},
		"UDP":          {frame(vnetHeader{}, withChecksum(udp, protoUDP, ip6Size, udpChecksum)), nil},
	} {
		q := loopQueue(x.frame, everything)
		if _, ok, err := q.Read(false); !ok || err != nil {
			t.Fatal(name, ok, err)
		}
		if got := q.TCP(); !slices.Equal(got, x.want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(x.want))
		}
		if count, _, _ := q.Shape(); name == "super-packet" && count != 3 {
			t.Errorf("%d messages afterwards", count)
		}
	}
}

// FuzzInject passes any bytes.
func FuzzInject(f *testing.F) {
	f.Add(packet(bob, alice, 6<<28, protoTCP, 64, tcpFields{flags: flagACK, payload: make([]byte, 100)}.bytes()), 30, true)
	with := make(map[bool]*Injector)
	frames := make(map[bool]*[][]byte)
	for _, super := range []bool{false, true} {
		with[super], frames[super] = injected(offloads{checksum: true, tcp: super})
	}
	f.Fuzz(func(t *testing.T, p []byte, size int, super bool) {
		with[super].Put(true, size, p)
		for _, x := range *frames[super] {
			if _, err := segment(x); err != nil {
				t.Error(err)
			}
		}
		*frames[super] = nil
	})
}
