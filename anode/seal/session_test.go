package seal

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// identity makes a fixed identity from a number, for tests.
func identity(t testing.TB, n byte) *anode.Identity {
	t.Helper()
	scalar := bytes.Repeat([]byte{n}, 32)
	line := func(a string) string { return "ANODE-256-40:" + a + ":" + hex.EncodeToString(scalar) }
	key, err := ecdh.P256().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	id, err := anode.ParseIdentity(line(anode.NewAddress(0x01020304, key.PublicKey()).String()))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// pair makes both sides of a session, with fixed keys and one lane each way.
func pair(t testing.TB) (a, b *Session) {
	t.Helper()
	return lanes(t, 1, 1)
}

// lanes is pair where a receives on m lanes and b on n.
func lanes(t testing.TB, m, n int) (a, b *Session) {
	t.Helper()
	alice, bob := identity(t, 1).Address(), identity(t, 2).Address()
	k1, k2 := [32]byte{1}, [32]byte{2}
	a, err := newSession(ends{alice, bob, 3, 5, 0x0a0a, 0x0b0b, m, false, 0}, true, &k1, &k2, Announcement{Lanes: n})
	if err != nil {
		t.Fatal(err)
	}
	b, err = newSession(ends{bob, alice, 5, 3, 0x0b0b, 0x0a0a, n, false, 0}, false, &k2, &k1, Announcement{Lanes: m})
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// seal makes one packet.
func sealOne(t testing.TB, s *Session, msg []byte) []byte {
	t.Helper()
	c, ok := s.Reserve(0, 1, 0)
	if !ok {
		t.Fatal("no counter")
	}
	return s.Seal(nil, c, msg)
}

func TestSealedPacketGolden(t *testing.T) {
	a, b := pair(t)
	sealOne(t, a, nil)
	packet := sealOne(t, a, []byte("\x09hello"))
	want := unhex(t, `00 08 0b0b 000000000001 d39ae67d211cbe91 d1648fb207750bee 35
		9967ac219167 7fcb5419cc2b1f080c991fd98bb2ac47`)
	if !bytes.Equal(packet, want) {
		t.Errorf("%x, want %x", packet, want)
	}
	msg, err := b.Open(make([]byte, 100), packet, 0)
	if err != nil || string(msg) != "\x09hello" {
		t.Errorf("opened %q, %v", msg, err)
	}
}

func TestSealAndOpen(t *testing.T) {
	a, b := pair(t)
	for _, n := range []int{0, 1, 15, 16, 17, 1400, 65000} {
		msg := make([]byte, n)
		for i := range msg {
			msg[i] = byte(i)
		}
		for _, way := range []struct{ from, to *Session }{{a, b}, {b, a}} {
			c, _ := way.from.Reserve(0, 1, 0)
			train := way.from.Seal([]byte("before"), c, msg)
			packet := train[6:]
			if string(train[:6]) != "before" || len(packet) != wire.SealedMin+n {
				t.Fatalf("%d bytes became %d", n, len(packet))
			}
			packet[0] = 77 // relayed
			got, err := way.to.Open(make([]byte, n), packet, 0)
			if err != nil || !bytes.Equal(got, msg) {
				t.Errorf("%d bytes: %v", n, err)
			}
			if _, err := way.to.Open(make([]byte, n), packet, 0); err != ErrReplay {
				t.Errorf("%d bytes again: %v", n, err)
			}
			if _, err := way.from.Open(make([]byte, n), packet, 0); err != ErrHeader {
				t.Errorf("%d bytes reflected: %v", n, err)
			}
		}
	}
}

// Whatever is changed in a packet, it does not open, and the true one still does.
func TestForgedPacketsDoNothing(t *testing.T) {
	a, b := pair(t)
	packet := sealOne(t, a, []byte("payload"))
	dst := make([]byte, 100)
	for i := 1; i < len(packet); i++ {
		for bit := range 8 {
			forged := bytes.Clone(packet)
			forged[i] ^= 1 << bit
			_, err := b.Open(dst, forged, 0)
			want := ErrAuth
			switch {
			case i < 4 || i >= 10 && i < 26:
				want = ErrHeader
			case i < 6: // the counter's highest bytes
				want = ErrEnded
			}
			if err != want {
				t.Errorf("byte %d bit %d: %v, want %v", i, bit, err, want)
			}
		}
	}
	for n := range packet {
		want := ErrAuth
		if n < wire.SealedMin {
			want = ErrShort
		}
		if _, err := b.Open(dst, packet[:n], 0); err != want {
			t.Errorf("cut to %d: %v, want %v", n, err, want)
		}
	}
	if _, err := b.Open(dst, append(bytes.Clone(packet), 0), 0); err != ErrAuth {
		t.Errorf("a byte longer: %v", err)
	}
	if w := &b.arrives[0]; w.next.Load() != 0 || w.ring.Load() != nil {
		t.Error("forged packets moved the window, or took memory for it")
	}
	if msg, err := b.Open(dst, packet, 0); err != nil || string(msg) != "payload" {
		t.Errorf("the true packet: %q, %v", msg, err)
	}
}

func TestNoPlaintextOnTheWire(t *testing.T) {
	a, _ := pair(t)
	msg := bytes.Repeat([]byte("secret words "), 100)
	packet := sealOne(t, a, msg)
	for i := 0; i+8 <= len(msg); i++ {
		if bytes.Contains(packet, msg[i:i+8]) {
			t.Fatalf("the packet shows %q", msg[i:i+8])
		}
	}
	if again := sealOne(t, a, msg); bytes.Equal(again[wire.SealedHeader:], packet[wire.SealedHeader:]) {
		t.Error("two packets of one message are the same")
	}
}

// Packets reordered and duplicated at random: each is opened once at most, and all
// that are not too old are.
func TestReplayAndReordering(t *testing.T) {
	a, b := pair(t)
	r := rand.New(rand.NewPCG(1, 2))
	var packets [][]byte
	for i := range 3000 {
		msg := binary.BigEndian.AppendUint32(nil, uint32(i))
		p := sealOne(t, a, msg)
		packets = append(packets, p)
		if r.IntN(3) == 0 {
			packets = append(packets, p)
		}
	}
	r.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	seen := map[uint32]bool{}
	for _, p := range packets {
		msg, err := b.Open(make([]byte, 8), p, 0)
		if err != nil {
			if !errors.Is(err, ErrReplay) {
				t.Fatal(err)
			}
			continue
		}
		n := binary.BigEndian.Uint32(msg)
		if seen[n] {
			t.Fatalf("packet %d was opened twice", n)
		}
		seen[n] = true
	}
	if len(seen) != 3000 {
		t.Errorf("%d packets were opened, want 3000", len(seen))
	}
}

func TestCountersEnd(t *testing.T) {
	a, b := pair(t)
	a.departs[0].counter.Store(packetLimit - 3)
	first, ok := a.Reserve(0, 3, 0)
	if !ok || first != uint64(a.remote)<<48|(packetLimit-3) {
		t.Fatalf("the last three: %x, %v", first, ok)
	}
	last := a.Seal(nil, first+2, []byte("x"))
	if _, err := b.Open(make([]byte, 1), last, 0); err != nil {
		t.Errorf("the last packet: %v", err)
	}
	if _, ok := a.Reserve(0, 1, 0); ok {
		t.Error("one more than 2^32")
	}
	if !a.Ended() {
		t.Error("a used-up key has not ended")
	}
	over := a.Seal(nil, first+3, []byte("x"))
	if _, err := b.Open(make([]byte, 1), over, 0); err != ErrEnded {
		t.Errorf("a counter too high: %v", err)
	}
	c, _ := pair(t)
	if c.departs[0].counter.Store(packetLimit - 3); func() bool { _, ok := c.Reserve(0, 4, 0); return ok }() {
		t.Error("a batch beyond the limit")
	}
}

func TestEraseEndsEverything(t *testing.T) {
	a, b := pair(t)
	packet := sealOne(t, a, []byte("first"))
	c, _ := a.Reserve(0, 1, 0)
	a.Erase()
	b.Erase()
	if _, ok := a.Reserve(0, 1, 0); ok || !a.Ended() {
		t.Error("an erased session reserves")
	}
	late := a.Seal(nil, c, []byte("secret"))
	if len(late) != wire.SealedMin+6 || bytes.Contains(late, []byte("secret")) {
		t.Errorf("sealed after the end: %x", late)
	}
	if _, err := b.Open(make([]byte, 9), packet, 0); err != ErrEnded {
		t.Errorf("opened after the end: %v", err)
	}
}

// Several goroutines seal on one session while it ends: no counter twice, no race.
func TestConcurrentSeal(t *testing.T) {
	a, b := pair(t)
	const each, batch = 300, 5
	out := make([][][]byte, 4)
	var wg sync.WaitGroup
	for g := range out {
		wg.Go(func() {
			for range each {
				first, ok := a.Reserve(0, batch, 0)
				if !ok {
					t.Error("no counters")
				}
				for i := range uint64(batch) {
					out[g] = append(out[g], a.Seal(nil, first+i, []byte("x")))
				}
				a.Sent(int64(g + 1))
				a.Activate()
			}
		})
	}
	wg.Wait()
	n := 0
	for _, packets := range out {
		for _, p := range packets {
			if _, err := b.Open(make([]byte, 1), p, 0); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if n != 4*each*batch {
		t.Errorf("%d packets", n)
	}
	for range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				c, ok := a.Reserve(0, 1, 0)
				if !ok {
					return
				}
				a.Seal(nil, c, []byte("x"))
				if i == 50 {
					a.Erase()
				}
			}
		})
	}
	wg.Wait()
}

func TestBookkeeping(t *testing.T) {
	a, b := pair(t)
	if !a.Activate() || a.Activate() {
		t.Error("Activate is not true once")
	}
	if a.Deactivate(); !a.Activate() {
		t.Error("Activate after Deactivate")
	}
	open := func(msg string, now int64) {
		p := sealOne(t, a, []byte(msg))
		if _, err := b.Open(make([]byte, 9), p, 0); err != nil {
			t.Fatal(err)
		}
		b.Received(now, msg != "")
	}
	open("", 5)
	if b.received.Load() != 5 || b.data.Load() != 0 {
		t.Error("a keepalive is not data")
	}
	if open("x", 6); b.received.Load() != 6 || b.data.Load() != 6 {
		t.Error("data was not noted")
	}
	if open("", 8); b.data.Load() != 6 || b.received.Load() != 8 {
		t.Error("a keepalive counts as the data before it")
	}
	older, newer := sealOne(t, a, nil), sealOne(t, a, nil)
	for _, p := range [][]byte{newer, older} {
		if _, err := b.Open(nil, p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if !b.Newest(newer) || b.Newest(older) {
		t.Error("the newest packet is not known")
	}
	if a.Sent(0); a.sent.Load() == 0 {
		t.Error("sent at time 0 reads as never")
	}
	if a.Peer() != identity(t, 2).Address() || a.PeerID() != 5 || a.Index() != 0x0a0a || !a.Initiator() {
		t.Error("the session's names")
	}
}

// Each lane has its own index, counters and window, and no nonce is used twice however
// many queues share a lane.
func TestLanes(t *testing.T) {
	a, b := lanes(t, 2, 4)
	dst := make([]byte, 16)
	seen := map[string]bool{}
	check := func(from, to *Session, queue, lane int) []byte {
		t.Helper()
		n, ok := from.Reserve(queue, 1, 0)
		p := from.Seal(nil, n, []byte("x"))
		if got := binary.BigEndian.Uint16(p[2:]); !ok || got != to.index+uint16(lane) {
			t.Errorf("queue %d seals for index %x, want lane %d from %x", queue, got, lane, to.index)
		}
		if nonce := string(p[2:10]) + fmt.Sprint(from == a); seen[nonce] {
			t.Errorf("queue %d uses a nonce again", queue)
		} else {
			seen[nonce] = true
		}
		if _, err := to.Open(dst, p, 0); err != nil {
			t.Errorf("queue %d: %v", queue, err)
		}
		if _, err := to.Open(dst, p, 0); err != ErrReplay {
			t.Errorf("queue %d again: %v", queue, err)
		}
		return p
	}
	for range 3 {
		for queue := range 8 {
			check(a, b, queue, queue%4)
			check(b, a, queue, queue%2)
		}
	}
	if a.Lanes() != 2 || b.Lanes() != 4 {
		t.Errorf("%d and %d lanes", a.Lanes(), b.Lanes())
	}
	p := check(a, b, 0, 0)
	p[3]++ // moved to the next lane, where its counter is not known yet
	for range 40 {
		a.Reserve(0, 1, 0)
	}
	if _, err := b.Open(dst, p, 0); err == nil {
		t.Error("a packet opens in another lane")
	}
}

func TestAlign(t *testing.T) {
	for n := 1; n <= MaxLanes; n++ {
		for i := range 1 << 16 {
			first := align(uint16(i), n)
			for lane := range n {
				if got := int(first+uint16(lane)) & 0xff % n; got != lane {
					t.Fatalf("%d lanes from %04x: lane %d is modulo %d", n, first, lane, got)
				}
			}
		}
	}
}

// Several goroutines that open one packet get it once in all: trains of several lanes may
// be joined on their way, and be read by any queue.
func TestOpenedOnce(t *testing.T) {
	a, b := pair(t)
	packets := make([][]byte, 2000)
	for i := range packets {
		packets[i] = sealOne(t, a, []byte("x"))
	}
	var opened atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			dst := make([]byte, 16)
			for _, p := range packets {
				if _, err := b.Open(dst, p, 0); err == nil {
					opened.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n != int64(len(packets)) {
		t.Errorf("%d packets were opened %d times", len(packets), n)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	a, b := pair(t)
	buf := make([]byte, 0, 2000)
	dst := make([]byte, 1400)
	msg := make([]byte, 1400)
	bad := make([]byte, 1443)
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now++
		c, _ := a.Reserve(0, 1, 0)
		p := a.Seal(buf, c, msg)
		a.Sent(now)
		a.Activate()
		if _, err := b.Open(dst, p, 0); err != nil {
			t.Fatal(err)
		}
		b.Received(now, true)
		b.Activate()
		b.Newest(p)
		copy(bad, p)
		bad[6] = 1 // a counter not seen
		if _, err := b.Open(dst, bad, 0); err != ErrAuth {
			t.Fatal(err)
		}
		if _, err := b.Open(dst, p, 0); err != ErrReplay {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	s, _ := pair(b)
	buf, msg := make([]byte, 0, 2000), make([]byte, 1400)
	b.SetBytes(1400)
	b.ReportAllocs()
	for b.Loop() {
		c, _ := s.Reserve(0, 1, 0)
		s.Seal(buf, c, msg)
	}
}

func BenchmarkOpen(b *testing.B) {
	s, r := pair(b)
	dst := make([]byte, 1400)
	packet := sealOne(b, s, dst)
	w := &r.arrives[0]
	b.SetBytes(1400)
	b.ReportAllocs()
	for b.Loop() {
		w.next.Store(0)
		w.first.Store(0)
		if _, err := r.Open(dst, packet, 0); err != nil {
			b.Fatal(err)
		}
		r.Received(1, true)
	}
}
