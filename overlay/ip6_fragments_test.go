package overlay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// piece makes a fragment.
func piece(id uint32, at int, more bool, part string) *ip6Fragment {
	return &ip6Fragment{next: protoUDP, id: id, at: at, more: more, part: []byte(part)}
}

// cut cuts UDP into fragments of at most size bytes.
func cut(udp []byte, size int, id uint32) (list [][]byte) {
	for at := 0; at < len(udp); at += size {
		part := udp[at:min(at+size, len(udp))]
		word := uint16(at)
		if at+len(part) < len(udp) {
			word |= 1
		}
		b := binary.BigEndian.AppendUint16([]byte{protoUDP, 0}, word)
		list = append(list, append(binary.BigEndian.AppendUint32(b, id), part...))
	}
	return list
}

// Fragments become their packet in any order, and repeated. What contradicts itself is
// dropped, with what comes later of it.
func TestIP6Fragments(t *testing.T) {
	const a, b, c = "aaaaaaaa", "bbbbbbbb", "cc"
	for name, x := range map[string]struct {
		parts []*ip6Fragment
		want  string // empty: nothing comes out
		drops int
	}{
		"in order":         {[]*ip6Fragment{piece(1, 0, true, a), piece(1, 8, true, b), piece(1, 16, false, c)}, a + b + c, 0},
		"backwards":        {[]*ip6Fragment{piece(1, 16, false, c), piece(1, 8, true, b), piece(1, 0, true, a)}, a + b + c, 0},
		"repeated":         {[]*ip6Fragment{piece(1, 0, true, a), piece(1, 0, true, a), piece(1, 16, false, c), piece(1, 16, false, c), piece(1, 8, true, b)}, a + b + c, 0},
		"alone":            {[]*ip6Fragment{piece(1, 0, false, c)}, c, 0},
		"of two packets":   {[]*ip6Fragment{piece(1, 0, true, a), piece(2, 8, false, c)}, "", 0},
		"a hole":           {[]*ip6Fragment{piece(1, 0, true, a), piece(1, 16, false, c)}, "", 0},
		"no end":           {[]*ip6Fragment{piece(1, 0, true, a), piece(1, 8, true, b)}, "", 0},
		"other bytes":      {[]*ip6Fragment{piece(1, 0, true, a), piece(1, 0, true, b), piece(1, 8, false, c)}, "", 2},
		"overlaps before":  {[]*ip6Fragment{piece(1, 8, true, a), piece(1, 0, true, a+b), piece(1, 16, false, c)}, "", 2},
		"overlaps after":   {[]*ip6Fragment{piece(1, 0, true, a+b), piece(1, 8, false, c)}, "", 1},
		"within":           {[]*ip6Fragment{piece(1, 0, true, a+b), piece(1, 8, true, b), piece(1, 16, false, c)}, "", 2},
		"behind the end":   {[]*ip6Fragment{piece(1, 8, false, c), piece(1, 16, true, a), piece(1, 0, true, a)}, "", 2},
		"end before parts": {[]*ip6Fragment{piece(1, 16, true, a), piece(1, 8, false, c), piece(1, 0, true, a)}, "", 2},
		"two ends":         {[]*ip6Fragment{piece(1, 8, false, c), piece(1, 8, false, "c"), piece(1, 0, true, a)}, "", 2},
		"not UDP":          {[]*ip6Fragment{{next: protoTCP, id: 1, more: true, part: []byte(a)}, piece(1, 8, false, c)}, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var f ip6Fragments
			contact := peer.NewContact(anode.Address{1})
			drops := 0
			var got []byte
			for _, p := range x.parts {
				udp, ok := f.add(1, contact, p)
				if !ok {
					drops++
				}
				if udp != nil {
					got = udp
				}
			}
			if string(got) != x.want || drops != x.drops {
				t.Errorf("%q with %d drops, want %q with %d", got, drops, x.want, x.drops)
			}
			f.add(mono.Time(0).Add(10*time.Second), peer.NewContact(anode.Address{2}), piece(1, 8, true, a))
			if f.of[contact] != nil || f.all != 8+ip6PartCost {
				t.Errorf("%d bytes are left over", f.all)
			}
		})
	}
}

// What is incomplete has a bound for a peer, for strangers, and for all, and makes room for
// what is newer.
func TestIP6FragmentsBounds(t *testing.T) {
	var f ip6Fragments
	part := string(make([]byte, 1024))
	check := func() {
		t.Helper()
		held, strangers := 0, 0
		for _, p := range f.of {
			of := 0
			for _, k := range p.packets {
				of += k.cost()
			}
			if of > ip6One || len(p.packets) > ip6Packets || of != p.held {
				t.Fatalf("a peer holds %d (%d) in %d packets", of, p.held, len(p.packets))
			}
			if held += of; p.stranger {
				strangers += of
			}
		}
		if held != f.all || strangers != f.strangers || f.all > ip6All || f.strangers > ip6Strangers {
			t.Fatalf("%d of %d, %d of %d", f.all, held, f.strangers, strangers)
		}
	}
	full, strange := 0, 0
	for i := range 40 {
		c := peer.NewContact(anode.Address{byte(i)})
		if i%2 == 0 {
			c.SetStanding(book.Added)
		}
		for id := range uint32(30) {
			for at := range 60 {
				_, ok := f.add(1, c, piece(id, 8+at*1024, true, part))
				if check(); !ok && i%2 == 0 {
					full++
				} else if !ok {
					strange++
				}
			}
		}
	}
	if full == 0 || strange == 0 || f.all < ip6All-ip6One || f.strangers < ip6Strangers/2 {
		t.Errorf("%d and %d were dropped; %d bytes are held, %d of strangers", full, strange, f.all, f.strangers)
	}
	// A peer that fills its own room can still send: the older ones go.
	f = ip6Fragments{}
	c := peer.NewContact(anode.Address{1})
	c.SetStanding(book.Added)
	for id := range uint32(ip6Packets) {
		for at := range 60 {
			f.add(1, c, piece(id, 8+at*1024, true, part))
		}
	}
	f.add(1, c, piece(100, 0, true, "12345678"))
	if udp, _ := f.add(1, c, piece(100, 8, false, "9")); string(udp) != "123456789" {
		t.Errorf("%q", udp)
	}
	// Too many parts of one packet.
	f = ip6Fragments{}
	dropped := 0
	for at := range 2 * ip6Parts {
		if _, ok := f.add(1, c, piece(1, 8+at*8, true, "12345678")); !ok {
			dropped++
		}
	}
	if dropped != ip6Parts {
		t.Errorf("%d parts were dropped", dropped)
	}
	// 2 seconds.
	f = ip6Fragments{}
	f.add(1, c, piece(1, 0, true, "12345678"))
	if udp, _ := f.add(mono.Time(1).Add(ip6For), c, piece(1, 8, false, "9")); udp != nil {
		t.Error("after two seconds")
	}
}

// Whatever is put together is what was cut, and what is read lies within its message.
func FuzzIP6Fragments(f *testing.F) {
	f.Add(uint64(1), []byte("\x11\x00\x00\x01\x00\x00\x00\x0112345678"))
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		var all ip6Fragments
		c := peer.NewContact(anode.Address{1})
		if x, ok := readFragment(raw); ok {
			if x.at%8 != 0 || x.at+len(x.part) > ip6Longest || len(x.part) == 0 {
				t.Errorf("%+v", x)
			}
			all.add(1, c, &x)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		udp := make([]byte, 8+r.IntN(ip6Longest-8))
		for i := range udp {
			udp[i] = byte(r.Uint32())
		}
		size := max(512, 8*(1+r.IntN(200)))
		list := cut(udp, size, 77)
		r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		list = slices.Insert(list, r.IntN(len(list)), list[r.IntN(len(list))])
		var got [][]byte
		c = peer.NewContact(anode.Address{2})
		for _, b := range list {
			x, ok := readFragment(b)
			if !ok {
				t.Fatalf("% x", b[:8])
			}
			if whole, _ := all.add(1, c, &x); whole != nil {
				got = append(got, whole)
			}
		}
		if len(got) == 0 || !bytes.Equal(got[0], udp) {
			t.Errorf("%d packets from %d fragments of %d bytes", len(got), len(list), size)
		}
	})
}

// A program on a machine with an adapter sends datagrams that its system cuts, and one without
// answers as long ones. Those for a port without a socket are answered as whole ones are.
func TestLongDatagramsOfAdapter(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newBareNode(t, w.Host("b"))
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		from, to := a.address0().ULA(), b.address0().ULA()
		send := func(id uint32, port uint16, payload []byte, damage bool) {
			u := binary.BigEndian.AppendUint16([]byte{4000 >> 8, 4000 & 0xff}, port)
			u = append(append(binary.BigEndian.AppendUint16(u, uint16(udpHeader+len(payload))), 0, 0), payload...)
			binary.BigEndian.PutUint16(u[6:], checksum(u, pseudoSum(&from, &to, protoUDP, len(u))))
			if damage {
				u[udpHeader]++
			}
			for _, part := range cut(u, 1232, id) {
				a.dev.out <- outgoing{to, [][]byte{wire.IP6Msg{Flow: 6 << 28, NextHeader: protoFragment, HopLimit: 64, Payload: part}.Append([]byte{byte(wire.IP6)})}}
			}
		}
		got := make([]byte, 1<<16)
		for id, size := range []int{1300, 4000, 30000, mostDgram} {
			want := bytes.Repeat([]byte{byte(id + 1)}, size)
			send(uint32(id), 53, want, false)
			_ = s.SetReadDeadline(time.Now().Add(3 * time.Second))
			n, peer, err := s.ReadFrom(got)
			if err != nil || !bytes.Equal(got[:n], want) || peer.String() != fmt.Sprintf("[%v]:4000", from) {
				t.Errorf("%d bytes: %d from %v, %v", size, n, peer, err)
				continue
			}
			if _, err := s.WriteTo(want, peer); err != nil {
				t.Error(err)
			}
			settle(time.Second)
			answer := wire.DgramMsg{Source: 53, Destination: 4000, Payload: want}.Append([]byte{byte(wire.Dgram)})
			all := a.dev.delivered()
			if len(all) == 0 || all[len(all)-1].msg != string(answer) {
				t.Errorf("the answer of %d bytes did not arrive", size)
			}
		}
		send(100, 53, make([]byte, 4000), true)
		_ = s.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, _, err := s.ReadFrom(got); !os.IsTimeout(err) {
			t.Errorf("one with a wrong checksum: %v", err)
		}
		before := len(a.dev.delivered())
		send(101, 54, make([]byte, 4000), false)
		settle(time.Second)
		if all := a.dev.delivered()[before:]; len(all) != 1 || all[0].msg[5] != protoICMP {
			t.Errorf("port 54: %d answers", len(all))
		}
	})
}

// The first datagram may be a long one: it waits for the path, and is cut then.
func TestFirstDatagramIsLong(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Dial(t.Context(), "udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("long"), 10_000)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, 1<<16)
		if n, _, err := s.ReadFrom(got); err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
