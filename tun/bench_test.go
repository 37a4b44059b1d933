package tun

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// loopPort gives the same frame again and again, and takes everything.
type loopPort struct{ frame []byte }

func (p *loopPort) read(b []byte, _ bool) (int, error) { return copy(b, p.frame), nil }
func (p *loopPort) write([]byte) error                 { return nil }

// superPacket is a frame of one TCP flow, of about n bytes.
func superPacket(n int) []byte {
	f := tcpFields{src: 1, dst: 2, flags: flagACK | flagPSH, options: make([]byte, 12), payload: make([]byte, n-ip6Size-32)}
	p := packet(alice, bob, 6<<28, protoTCP, 64, f.bytes())
	return frame(vnetHeader{vnetNeedsChecksum, vnetTCP6, 1368, ip6Size, tcpChecksum}, left(p, protoTCP, ip6Size))
}

// superPacket4 is the same over IPv4, with as much payload.
func superPacket4(n int) []byte {
	f := tcpFields{src: 1, dst: 2, flags: flagACK | flagPSH, options: make([]byte, 12), payload: make([]byte, n-ip6Size-32)}
	p := packet4(alias4(alice), alias4(bob), header4{0, 1, ip4DF, 64, protoTCP}, f.bytes())
	return frame(vnetHeader{vnetNeedsChecksum, vnetTCP4, 1368, ip4Size, tcpChecksum}, left(p, protoTCP, ip4Size))
}

func loopQueue(f []byte, has offloads) *Queue {
	return newQueue(alice, testLAN(alice, bob), has, newPolicy(alice, time.Now), &loopPort{f})
}

// segments44 are the messages of a super-packet of 44 segments; make is one of the functions
// above.
func segments44(t testing.TB, make func(int) []byte) (all [][]byte) {
	s := splitter{self: bob, lan: testLAN(bob, alice), count: new(counters)}
	p := make(ip6Size + 32 + 44*1368)
	if ip := p[vnetSize:]; ip[0]>>4 == 4 {
		a, b := alias4(alice), alias4(bob)
		copy(ip[12:], b[:])
		copy(ip[16:], a[:])
		set4(ip, 1)
	} else {
		copy(ip[8:], bob[:])
		copy(ip[24:], alice[:])
	}
	all = messages(t, &s, p)
	if len(all) != 44 {
		t.Fatal(len(all))
	}
	return all
}

// TestNothingAllocates runs batches of each kind through a queue.
func TestNothingAllocates(t *testing.T) {
	udp := left(packet(alice, bob, 6<<28, protoUDP, 64, udpBytes(1, 2, make([]byte, 1200))), protoUDP, ip6Size)
	echo := withChecksum(packet(alice, bob, 6<<28, protoICMP, 64, echoBytes(icmpEcho, 1), make([]byte, 56)), protoICMP, ip6Size, 2)
	for name, f := range map[string][]byte{
		"TCP":  superPacket(61000),
		"TCP4": superPacket4(61000),
		"group": frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip4Size, udpChecksum},
			packet4(alias4(alice), limited, header4{ttl: 1, proto: protoUDP}, udpBytes(1, 2, make([]byte, 200)))),
		"UDP":  frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip6Size, udpChecksum}, udp),
		"echo": frame(vnetHeader{}, echo),
		"SYN":  frame(vnetHeader{}, packet(alice, bob, 6<<28, protoTCP, 64, syn)),
	} {
		q := loopQueue(f, everything)
		n := testing.AllocsPerRun(100, func() {
			to, ok, err := q.Read(false)
			if !ok || err != nil {
				t.Fatal("no packet")
			}
			q.Shape()
			q.Track(to)
			for q.Next() != nil {
			}
		})
		if n != 0 {
			t.Errorf("reading %s: %v allocations", name, n)
		}
	}
	for _, has := range []offloads{everything, {}} {
		for name, all := range map[string][][]byte{
			"TCP":  segments44(t, superPacket),
			"TCP4": segments44(t, superPacket4),
			"UDP":  slices.Repeat([][]byte{append([]byte{byte(wire.Dgram), 0, 2, 0, 1}, make([]byte, 1200)...)}, 44),
			"mixed": {append([]byte{byte(wire.Dgram), 0, 2, 0, 1}, make([]byte, 10)...), unhex(t, "02 0001 0000 33"), unhex(t, "50 60000000 3b 40"), unhex(t, "7f"),
				unhex(t, "55 ff0200000000000000000000000000fb 60000000 11 ff 14e9 14e9 000a 1234 6162"), unhex(t, "55 00000000000000000000ffffe00000fb 00 0000 c000 ff 11 14e9 14e9 000a 0000 6162")},
		} {
			for _, trusted := range []bool{true, false} {
				q := loopQueue(nil, has)
				n := testing.AllocsPerRun(100, func() {
					for _, m := range all {
						s := q.Slot(len(m) + 16)
						q.Put(bob, trusted, s[:copy(s, m)])
					}
					if err := q.Flush(); err != nil {
						t.Fatal(err)
					}
				})
				if n != 0 {
					t.Errorf("writing %s, %+v, trusted %v: %v allocations", name, has, trusted, n)
				}
			}
		}
	}
}

// BenchmarkSplit cuts a super-packet of 61 KB; the time includes reading it, a copy.
func BenchmarkSplit(b *testing.B)  { benchmarkSplit(b, superPacket(61000)) }
func BenchmarkSplit4(b *testing.B) { benchmarkSplit(b, superPacket4(61000)) }

func benchmarkSplit(b *testing.B, f []byte) {
	q := loopQueue(f, everything)
	b.SetBytes(int64(len(f)))
	b.ReportAllocs()
	for b.Loop() {
		q.Read(true)
		for q.Next() != nil {
		}
	}
}

// BenchmarkJoin joins 44 segments, and BenchmarkJoinOff writes them one by one, checksums
// complete; the time includes copying them into their slots.
func BenchmarkJoin(b *testing.B)     { benchmarkJoin(b, superPacket, everything) }
func BenchmarkJoin4(b *testing.B)    { benchmarkJoin(b, superPacket4, everything) }
func BenchmarkJoinOff(b *testing.B)  { benchmarkJoin(b, superPacket, offloads{}) }
func BenchmarkJoinOff4(b *testing.B) { benchmarkJoin(b, superPacket4, offloads{}) }

func benchmarkJoin(b *testing.B, make func(int) []byte, has offloads) {
	all := segments44(b, make)
	q := loopQueue(nil, has)
	b.SetBytes(int64(44 * len(all[0])))
	b.ReportAllocs()
	for b.Loop() {
		for _, m := range all {
			s := q.Slot(len(m) + 16)
			q.Put(bob, true, s[:copy(s, m)])
		}
		q.Flush()
	}
}
