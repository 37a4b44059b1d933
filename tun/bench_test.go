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

func loopQueue(f []byte, has offloads) *Queue {
	return newQueue(alice, nil, has, newPolicy(alice, time.Now), &loopPort{f})
}

// segments44 are the messages of a super-packet of 44 segments.
func segments44(t testing.TB) (all [][]byte) {
	s := splitter{self: bob, count: new(counters)}
	p := superPacket(ip6Size + 32 + 44*1368)
	copy(p[vnetSize+8:], bob[:])
	copy(p[vnetSize+24:], alice[:])
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
			"TCP":   segments44(t),
			"UDP":   slices.Repeat([][]byte{append([]byte{byte(wire.Dgram), 0, 2, 0, 1}, make([]byte, 1200)...)}, 44),
			"mixed": {append([]byte{byte(wire.Dgram), 0, 2, 0, 1}, make([]byte, 10)...), unhex(t, "02 0001 0000 33"), unhex(t, "50 60000000 3b 40"), unhex(t, "7f")},
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
func BenchmarkSplit(b *testing.B) {
	f := superPacket(61000)
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
func BenchmarkJoin(b *testing.B)    { benchmarkJoin(b, everything) }
func BenchmarkJoinOff(b *testing.B) { benchmarkJoin(b, offloads{}) }

func benchmarkJoin(b *testing.B, has offloads) {
	all := segments44(b)
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
