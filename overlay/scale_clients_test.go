//go:build linux

package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// What a relay costs with few and with many clients: see BenchmarkScale.

var clientSizes = []int{10, 1000, 100_000}

func BenchmarkScaleClients(b *testing.B) {
	for _, size := range clientSizes {
		b.Run(fmt.Sprintf("clients=%d", size), func(b *testing.B) {
			w := newManyClients(b, size)
			b.Run("memory", w.benchMemory)
			b.Run("packet", func(b *testing.B) { w.benchPackets(b, false) })
			b.Run("packet-mixed", func(b *testing.B) { w.benchPackets(b, true) })
			b.Run("packet-flow", w.benchFlow)
			w.n.setLimits(RelayLimits{})
			b.Run("packet-free", func(b *testing.B) { w.benchPackets(b, false) })
			b.Run("ping", w.benchPing)
			b.Run("event", w.benchEvent)
			b.Run("register", w.benchRegister)
			b.Run("expiry", w.benchExpiry)
		})
	}
}

// manyClients is a relay with clients, half of which are in one /24.
type manyClients struct {
	clientWorld
	list   []*client
	memory int64
}

func newManyClients(b *testing.B, size int) *manyClients {
	w := &manyClients{clientWorld: newClientWorld(b)}
	w.wire.mute = true
	w.list = make([]*client, size)
	before := heapInUse()
	for k := range w.list {
		w.list[k] = w.join(k)
	}
	w.memory = heapInUse() - before
	return w
}

// join has the k-th client registered, with a key that nobody agreed on.
func (w *manyClients) join(k int) *client {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], uint64(k+1))
	ep := w.place(k)
	c := w.l.clients.add(zoned(anode.Address(scaleBytes(k, 0))), key, ep.Addr.Addr())
	if c == nil {
		w.tb.Fatal("no room for a client")
	}
	w.n.clients.moor(c, 1, placeOf(ep), w.now())
	return c
}

// place is where the k-th client is.
func (w *manyClients) place(k int) link.Endpoint {
	a := netip.AddrFrom4([4]byte{100, byte(k >> 16), byte(k >> 8), byte(k)})
	if k%2 == 0 {
		a = netip.AddrFrom4([4]byte{203, 0, 113, byte(k >> 1)})
	}
	return link.Endpoint{Addr: netip.AddrPortFrom(a, uint16(1024+k>>9))}
}

func (w *manyClients) benchMemory(b *testing.B) {
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(w.memory)/1e6, "MB")
	b.ReportMetric(float64(w.memory)/float64(len(w.list)), "B/client")
}

// benchPackets is single packets that are forwarded, without the system calls: between two
// clients, or from each to another one, the worst case.
func (w *manyClients) benchPackets(b *testing.B, mixed bool) {
	const batch = 4096
	packets, from := make([][]byte, batch), make([]link.Endpoint, batch)
	for k := range packets {
		x, y := 0, 1
		if mixed {
			x, y = k*7919%len(w.list), (k*104729+1)%len(w.list)
		}
		if x == y {
			y = (y + 1) % len(w.list)
		}
		p := make([]byte, wire.SealedMin+1200)
		h := wire.NewSealedHeader(w.list[x].id, w.list[y].id, 1, 0)
		copy(p, h[:])
		packets[k], from[k] = p, w.place(x)
	}
	var m meter
	trains := make([]link.Train, readTrains) // as inLoop reads them, without allocating
	for b.Loop() {
		w.clock.advance(time.Second)
		w.rx.now = w.now()
		m.start()
		for k, p := range packets {
			p[0] = 0
			trains[k%readTrains] = link.Train{Buf: p, Size: len(p), Endpoint: from[k]}
			if k%readTrains == readTrains-1 {
				w.rx.batch(trains)
				w.rx.relay.flush()
			}
		}
		m.stop(batch)
	}
	if w.n.counters[cClientPackets].Load() == 0 || w.n.counters[dRelayRefused].Load() != 0 || w.n.counters[dClientLimit].Load() != 0 {
		b.Fatalf("%d packets were relayed, %d refused", w.n.counters[cClientPackets].Load(), w.n.counters[dRelayRefused].Load())
	}
	m.report(b)
}

// benchFlow is a packet of one flow in trains, between whose batches clients send the
// PINGs that keep them registered: one for 320 packets, which is 5000 a second beside
// 15 Gbit/s. What it costs in a relay of many clients more than in one of few is what one
// of them loses of its throughput.
func (w *manyClients) benchFlow(b *testing.B) {
	const count, segments, size = 8, 40, wire.SealedMin + 1200
	h := wire.NewSealedHeader(w.list[0].id, w.list[1].id, 1, 0)
	trains := make([]link.Train, count+1)
	for k := range trains[:count] {
		buf := make([]byte, segments*size)
		for at := 0; at < len(buf); at += size {
			copy(buf[at:], h[:])
		}
		trains[k] = link.Train{Buf: buf, Size: size, Endpoint: w.place(0)}
	}
	pings, from := w.signed(4096, wire.Ping)
	before := w.n.counters[cClientPackets].Load()
	var m meter
	ops := 0
	for b.Loop() {
		w.clock.advance(20 * time.Second)
		m.start()
		for k, p := range pings[:512] {
			w.rx.now = w.now().Add(time.Duration(k) * time.Millisecond)
			for _, t := range trains[:count] {
				for at := 0; at < len(t.Buf); at += size {
					t.Buf[at] = 0 // hops
				}
			}
			trains[count] = link.Train{Buf: p, Size: len(p), Endpoint: from[k]}
			w.rx.batch(trains)
			w.rx.relay.flush()
			w.rx.answers.flush()
		}
		m.stop(512 * count * segments)
		ops += 512 * count * segments
		pings, from = append(pings[512:], pings[:512]...), append(from[512:], from[:512]...)
	}
	if got := w.n.counters[cClientPackets].Load() - before; got != uint64(ops) {
		b.Fatalf("%d of %d packets were relayed", got, ops)
	}
	m.report(b)
}

// signed is signed packets of clients.
func (w *manyClients) signed(count int, t wire.Type) (packets [][]byte, from []link.Endpoint) {
	for k := range count {
		x := k * 7919 % len(w.list)
		h := wire.Header{Sender: wire.Party{ID: w.list[x].id}, Recipient: wire.Party{ID: w.n.id}, SenderPeer: 1, Type: t}
		p := h.Append(nil, wire.AppendEPC(nil, 1))
		seal.NewMAC(w.list[x].key).Sign(p, new(seal.Scratch))
		packets, from = append(packets, p), append(from, w.place(x))
	}
	return packets, from
}

// benchPing is the PING that keeps a client registered, and its PONG.
func (w *manyClients) benchPing(b *testing.B) {
	packets, from := w.signed(1024, wire.Ping)
	before := w.n.counters[cControlTx].Load()
	var m meter
	ops := 0
	for b.Loop() {
		w.clock.advance(20 * time.Second)
		w.rx.now = w.now()
		m.start()
		for k, p := range packets {
			w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: from[k]})
		}
		w.rx.answers.flush()
		m.stop(len(packets))
		ops += len(packets)
	}
	if got := w.n.counters[cControlTx].Load() - before; len(w.list) >= len(packets) && got != uint64(ops) {
		b.Fatalf("%d of %d PINGs were answered", got, ops)
	}
	m.report(b)
}

// benchEvent is a question that the loop answers.
func (w *manyClients) benchEvent(b *testing.B) {
	packets, from := w.signed(1024, wire.EPCReq)
	var m meter
	for b.Loop() {
		w.clock.advance(20 * time.Second)
		m.start()
		for k, p := range packets {
			w.feed(p, from[k])
		}
		m.stop(len(packets))
	}
	m.report(b)
}

// benchRegister is a whole registration of a newcomer.
func (w *manyClients) benchRegister(b *testing.B) {
	w.wire.mute = false
	defer func() { w.wire.mute = true }()
	var m meter
	for k := 0; b.Loop(); k++ {
		w.clock.advance(20 * time.Millisecond)
		r := w.client(testZone, netip.AddrFrom4([4]byte{9, byte(k >> 16), byte(k >> 8), byte(k)}).String())
		ping := r.plain(wire.Ping, []byte("hi"))
		m.start()
		w.feed(ping, r.ep)
		m.stop(0)
		list := w.wire.take()
		if len(list) != 1 {
			b.Fatalf("%d packets after a PING", len(list))
		}
		epc := r.take(w.clock, list[0].b)[0]
		m.start()
		w.feed(epc, r.ep)
		m.stop(1)
		w.wire.take()
		delete(w.by, r.ep.Addr)
	}
	m.report(b)
}

// benchExpiry is what the minutes after the last packet cost in which clients are looked
// at and forgotten, for each client, and the longest that the loop is at it at a time.
func (w *manyClients) benchExpiry(b *testing.B) {
	for b.Loop() {
	}
	count := len(w.l.clients.list)
	began := cpuTime()
	wakes, longest := 0, time.Duration(0)
	for end := w.now().Add(2 * silentClient); w.now() < end; wakes++ {
		w.l.now = w.now()
		start := time.Now()
		next := w.l.settle()
		longest = max(longest, time.Since(start))
		w.clock.advance(max(min(next, end).Sub(w.now()), slack))
	}
	if left := len(w.l.clients.list); left != 0 {
		b.Fatalf("%d clients are left", left)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(cpuTime()-began)/float64(count), "cpu-ns/client")
	b.ReportMetric(float64(longest.Microseconds()), "us-longest")
	b.ReportMetric(float64(wakes)/(2*silentClient.Minutes()), "wakes/min")
}
