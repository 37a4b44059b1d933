package tun

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
)

// receiver is a merger whose frames are kept.
type receiver struct {
	*merger
	count  counters
	frames [][]byte
}

// newReceiver makes one for a node that has added alice, bob and carol.
func newReceiver(self anode.ULA, has offloads) *receiver {
	r := new(receiver)
	now := time.Unix(0, 0)
	r.merger = newMerger(self, testLAN(self, alice, bob, carol), has, newPolicy(self, func() time.Time { return now }), &r.count, func(f []byte) error {
		r.frames = append(r.frames, slices.Clone(f))
		return nil
	})
	return r
}

// put opens a message into a slot.
func (r *receiver) put(from anode.ULA, m []byte) {
	s := r.Slot(len(m) + 16)
	for i := range s { // as a failed opening might leave it
		s[i] = 0xee
	}
	r.Put(from, true, s[:copy(s, m)])
}

// packets is what the system makes of the frames that were written.
func (r *receiver) packets(t testing.TB) (all [][]byte) {
	t.Helper()
	for i, f := range r.frames {
		p, err := segment(f)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		all = append(all, p...)
	}
	return all
}

var everything = offloads{checksum: true, tcp: true, udp: true}

// TestRound sends made-up traffic of three peers to a fourth, their super-packets
// interleaved, cut anywhere and joined again; the packets that come out are those that
// went in, whatever the systems leave to each other.
func TestRound(t *testing.T) {
	var joined, written uint64
	for seed := range uint64(48) {
		has := []offloads{everything, {checksum: true, tcp: true}, {checksum: true}, {}}[seed%4]
		self := anode.ULA{0: 0xfd, 15: 9}
		r := newReceiver(self, has)
		peers := []anode.ULA{alice, bob, carol}
		var gens []*traffic
		want := make([][][]byte, len(peers))
		var splits []*splitter
		for _, p := range peers {
			gens = append(gens, newTraffic(seed, p, self))
			gens[len(gens)-1].lan = seed >= 32
			splits = append(splits, &splitter{self: p, lan: testLAN(p, self), count: new(counters)})
		}
		mix := rand.New(rand.NewPCG(seed, 99))
		for range 60 {
			i := mix.IntN(len(peers))
			f := gens[i].frame()
			packets, err := segment(f)
			if err != nil {
				t.Fatal(err)
			}
			want[i] = append(want[i], packets...)
			var sent [][]byte
			if !splits[i].load(f) {
				t.Fatalf("seed %d: not taken: %x", seed, f[:min(len(f), 100)])
			}
			for m := splits[i].next(); m != nil; m = splits[i].next() {
				sent = append(sent, unpack(peers[i], self, m))
				if splits[i].echo {
					want[i] = want[i][:len(want[i])-1] // the engine's affair
					continue
				}
				r.put(peers[i], m)
				if mix.IntN(20) == 0 {
					clear(r.Slot(mix.IntN(2000))) // something that could not be opened
				}
			}
			if err := equalPackets(sent, packets); err != nil {
				t.Errorf("seed %d: messages: %v", seed, err)
			}
			if mix.IntN(4) == 0 {
				r.Flush()
			}
		}
		r.Flush()
		got := make([][][]byte, len(peers))
		for _, p := range r.packets(t) {
			i := slices.IndexFunc(peers, func(u anode.ULA) bool {
				if a := alias4(u); p[0]>>4 == 4 {
					return string(p[12:16]) == string(a[:])
				}
				return string(p[8:24]) == string(u[:])
			})
			got[i] = append(got[i], p)
		}
		for i := range peers {
			if err := equalPackets(got[i], want[i]); err != nil {
				t.Errorf("seed %d, %+v, peer %d: %v", seed, has, i, err)
			}
		}
		for i := range numCounters {
			if n := r.count[i].Load(); n > 0 && i != inMessages && i != inWrites {
				t.Errorf("seed %d: %s is %d", seed, counterNames[i], n)
			}
		}
		if has.tcp {
			joined += r.count[inMessages].Load()
			written += r.count[inWrites].Load()
		}
		if t.Failed() {
			return
		}
	}
	if joined < 2*written {
		t.Errorf("%d messages became %d frames: hardly anything was joined", joined, written)
	}
}

// TestSuperRound sends super-packets one way, whole, and as the packets that a system
// without offloads makes of them, and wants the same super-packets out.
func TestSuperRound(t *testing.T) {
	for _, size := range []int{1, 20, 536, 1368} {
		g := newTraffic(uint64(size), alice, bob)
		f := tcpFields{src: 1, dst: 2, seq: 0xfffff000, ack: 5, window: 9, flags: flagACK | flagPSH, options: make([]byte, 12)}
		f.payload = g.bytes(size*40 + size/2 + 1)
		superRound(t, size, vnetTCP6, packet(alice, bob, 6<<28|0x2a<<20|77, protoTCP, 33, f.bytes()), f.payload)
		a, b := alias4(alice), alias4(bob)
		superRound(t, size, vnetTCP4, packet4(a, b, header4{0x2a, 0xfffe, ip4DF, 33, protoTCP}, f.bytes()), f.payload)
		superRound(t, size, vnetTCP4, packet4(a, b, header4{0x2a, 0xfffe, 0, 33, protoTCP}, f.bytes()), f.payload)
		u := udpBytes(7, 8, f.payload)
		superRound(t, size, vnetUDP, packet(alice, bob, 6<<28, protoUDP, 64, u), f.payload)
		superRound(t, size, vnetUDP, packet4(a, b, header4{0x2a, 0xfffe, ip4DF, 33, protoUDP}, u), f.payload)
		superRound(t, size, vnetUDP, packet4(a, b, header4{0x2a, 0xfffe, 0, 33, protoUDP}, u), f.payload)
	}
}

func superRound(t *testing.T, size int, kind byte, p, payload []byte) {
	t.Helper()
	proto, start := p[6], ip6Size
	if p[0]>>4 == 4 {
		proto, start = p[9], ip4Size
	}
	in := frame(vnetHeader{vnetNeedsChecksum, kind, size, start, checksumAt(proto)}, left(p, proto, start))
	want := slices.Clone(in)
	be.PutUint16(want[2:], 0)

	single, err := segment(in)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range single {
		single[i] = frame(vnetHeader{}, p)
	}
	for _, frames := range [][][]byte{{in}, single} {
		s := splitter{self: alice, lan: testLAN(alice, bob), count: new(counters)}
		r := newReceiver(bob, everything)
		for _, f := range frames {
			if !s.load(f) {
				t.Fatal("not taken")
			}
			for m := s.next(); m != nil; m = s.next() {
				r.put(alice, m)
			}
		}
		r.Flush()
		if len(r.frames) != 1 {
			t.Fatalf("size %d: %d frames became %d", size, len(frames), len(r.frames))
		}
		got := r.frames[0]
		be.PutUint16(got[2:], 0) // the length of all headers is a hint
		if string(got) != string(want) {
			t.Errorf("size %d, from %d frames: another super-packet:\n%x\n%x", size, len(frames), got[:120], want[:120])
		}
	}
}
