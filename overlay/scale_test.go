//go:build linux

package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// What a node costs with few and with many peers. There is no network and no goroutine:
// a lane and the loop are called in turn, under a clock that the benchmark sets, and what
// they write is answered by the far ends of the sessions. `scripts/bench --scale` makes a
// table of the metrics, which are CPU time of the process (cpu-ns/op), bytes and counts.

var scaleSizes = []int{10, 1000, 10000}

func BenchmarkScale(b *testing.B) {
	for _, size := range scaleSizes {
		b.Run(fmt.Sprintf("peers=%d", size), func(b *testing.B) {
			w := newScaleWorld(b, size)
			b.Run("handshake", w.benchHandshake)
			b.Run("event-active", w.benchActive)
			b.Run("event-epc-req", w.benchEPCReq)
			b.Run("event-roam-known", w.benchRoam)
			b.Run("link-same", w.benchLinkSame)
			b.Run("link-changed", w.benchLinkChanged)
			b.Run("status", w.benchStatus)
			b.Run("memory", w.benchMemory)
			b.Run("hello-stranger", w.benchStrangerHello)
			b.Run("handshake-stranger", w.benchStranger)
			b.Run("idle", w.benchIdle)
			b.Run("forged-short", func(b *testing.B) { w.benchForged(b, w.forgedShort) })
			b.Run("forged-full", func(b *testing.B) { w.benchForged(b, w.forgedFull) })
			b.Run("forged-hello", func(b *testing.B) { w.benchForged(b, w.forgedHello) })
			b.Run("forged-recipient", func(b *testing.B) { w.benchForged(b, w.forgedRecipient) })
			b.Run("forged-sealed", func(b *testing.B) { w.benchForged(b, w.forgedSealed) })
		})
	}
}

// BenchmarkScaleContacts is how much an index of 100,000 contacts takes.
func BenchmarkScaleContacts(b *testing.B) {
	const count = 100_000
	before := heapInUse()
	x := newIndex()
	for k := range count {
		x.add(newContact(anode.Address(scaleBytes(k, 0))))
	}
	size := heapInUse() - before
	last := anode.Address(scaleBytes(count-1, 0))
	id := last.ID()
	for b.Loop() {
		if x.byID(id) == nil {
			b.Fatal("a contact is missing")
		}
	}
	b.ReportMetric(float64(size)/1e6, "MB")
}

// meter adds up the CPU time of what is measured, the collector's included.
type meter struct {
	began, total time.Duration
	ops          int
}

func (m *meter) start() { m.began = cpuTime() }

func (m *meter) stop(ops int) {
	m.total += cpuTime() - m.began
	m.ops += ops
}

func (m *meter) report(b *testing.B) {
	b.ReportMetric(float64(m.total)/float64(m.ops), "cpu-ns/op")
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heapInUse is how much is in use after a collection.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one finalized
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// renewEvery is how much time passes between two events where some must, so that no
// budget is used up.
const renewEvery = 20 * time.Millisecond

// benchHandshake is a handshake of an added peer with an agreed key:
// HELLO, WELCOME and the packet that confirms.
func (w *scaleWorld) benchHandshake(b *testing.B) {
	var m meter
	for k := 0; b.Loop(); k++ {
		w.clock.advance(renewEvery)
		w.handshake(w.live[k%len(w.live)], &m)
	}
	m.report(b)
}

// stranger is the far end of somebody who comes for the first time, from a site of its own.
func (w *scaleWorld) stranger() *remote {
	w.guests++
	return newRemote(w.tb, w.n.address, netip.AddrFrom4([4]byte{100 + byte(w.guests>>16), byte(w.guests >> 8), byte(w.guests), 1}))
}

// benchStrangerHello is a HELLO of a stranger who says nothing more, where all places of
// strangers are taken.
func (w *scaleWorld) benchStrangerHello(b *testing.B) {
	hello := func(m *meter) {
		r := w.stranger()
		p := r.hello(w.clock)
		m.start()
		w.feed(p, r.ep)
		m.stop(1)
		w.clock.advance(time.Second / 300)
		w.wire.take()
	}
	for range strangersMax {
		hello(new(meter))
	}
	var m meter
	for b.Loop() {
		hello(&m)
	}
	m.report(b)
}

// benchStranger is a whole handshake of a stranger.
func (w *scaleWorld) benchStranger(b *testing.B) {
	var m meter
	for b.Loop() {
		w.clock.advance(strangerGrace / strangersCame)
		r := w.stranger()
		w.by[r.ep.Addr] = r
		w.handshake(r, &m)
		delete(w.by, r.ep.Addr)
	}
	m.report(b)
}

// events measures many events of a kind, made by f for the k-th peer with a session.
func (w *scaleWorld) events(b *testing.B, f func(k int) event) {
	const batch = 256
	var m meter
	w.wire.mute = true
	defer func() { w.wire.mute = false }()
	list := make([]event, batch)
	for k := 0; b.Loop(); {
		for i := range list {
			list[i] = f(k % len(w.live))
			k++
		}
		m.start()
		for _, e := range list {
			w.l.handle(e)
			w.l.settle()
		}
		m.stop(batch)
	}
	m.report(b)
}

// benchActive is an event that changes nothing.
func (w *scaleWorld) benchActive(b *testing.B) {
	w.events(b, func(k int) event { return event{kind: evActive, contact: w.contact(w.live[k])} })
}

// benchEPCReq is a sealed question and its answer.
func (w *scaleWorld) benchEPCReq(b *testing.B) {
	w.events(b, func(k int) event {
		in := (*w.contact(w.live[k]).Inbound.Load())[0]
		return event{kind: evSealed, in: in, ep: w.live[k].ep, msg: wire.AppendEPC([]byte{byte(wire.EPCReq)}, uint32(k))}
	})
}

// benchRoam is a packet from an endpoint that is known already.
func (w *scaleWorld) benchRoam(b *testing.B) {
	w.events(b, func(k int) event {
		return event{kind: evRoam, in: (*w.contact(w.live[k]).Inbound.Load())[0], ep: w.live[k].ep}
	})
}

// benchLinkSame is a link event that changes nothing.
func (w *scaleWorld) benchLinkSame(b *testing.B) {
	x, y := scaleLinks(0), scaleLinks(0)
	var m meter
	for b.Loop() {
		m.start()
		for range 1000 {
			if !x.Same(y) {
				b.Fatal("not the same")
			}
		}
		m.stop(1000)
	}
	m.report(b)
}

// benchLinkChanged is one that has the ways in use checked again: it is for all peers.
func (w *scaleWorld) benchLinkChanged(b *testing.B) {
	var m meter
	for k := byte(0); b.Loop(); k++ {
		w.clock.advance(time.Second / 10)
		m.start()
		w.l.now = w.now()
		w.l.linksChanged(scaleLinks(k))
		w.l.settle()
		m.stop(1)
		w.answer()
	}
	m.report(b)
}

// benchForged is a flood of 9,000 packets a second from many addresses, of which each
// was made without a key.
func (w *scaleWorld) benchForged(b *testing.B, forge func(k int) []byte) {
	const batch = 1024
	var m meter
	w.wire.mute = true
	defer func() { w.wire.mute = false }()
	list := make([][]byte, batch)
	for i := range list {
		list[i] = forge(i)
	}
	for k := uint32(0); b.Loop(); {
		m.start()
		for _, p := range list {
			k++
			w.clock.advance(time.Second / 9000)
			w.feed(p, link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(k >> 16), byte(k >> 8), byte(k)}), link.Port)})
		}
		m.stop(batch)
	}
	m.report(b)
}

func (w *scaleWorld) forged(s wire.Party, t wire.Type, body []byte) []byte {
	h := wire.Header{MAC: [8]byte{1, 2, 3}, Sender: s, Recipient: wire.Party{ID: w.n.id}, SenderPeer: 3, Type: t}
	return h.Append(nil, body)
}

func (w *scaleWorld) forgedShort(k int) []byte {
	return w.forged(wire.Party{ID: w.live[k%len(w.live)].local.Identity.Address().ID()}, wire.EPCReq, wire.AppendEPC(nil, 1))
}

func (w *scaleWorld) forgedFull(k int) []byte {
	return w.forged(wire.Party{Address: w.live[k%len(w.live)].local.Identity.Address()}, wire.EPCReq, wire.AppendEPC(nil, 1))
}

func (w *scaleWorld) forgedHello(k int) []byte {
	return w.forged(wire.Party{Address: scaleAddress(1<<30 + k)}, wire.Hello, make([]byte, 100))
}

func (w *scaleWorld) forgedRecipient(k int) []byte {
	h := wire.Header{MAC: [8]byte{1, 2, 3}, Sender: wire.Party{ID: anode.ID{1}}, Recipient: wire.Party{Address: scaleAddress(1<<30 + k)}, Type: wire.Ping}
	return h.Append(nil, nil)
}

func (w *scaleWorld) forgedSealed(k int) []byte {
	return w.sealedFrom(w.live[k%len(w.live)].local.Identity.Address().ID(), uint16(k)*251)
}

func (w *scaleWorld) sealedFrom(id anode.ID, index uint16) []byte {
	p := make([]byte, wire.SealedMin+40)
	p[1] = wire.FlagSealed
	binary.BigEndian.PutUint16(p[2:], index)
	copy(p[10:], id[:])
	copy(p[18:], w.n.id[:])
	return p
}

// Sealed packets in the name of every added peer begin only as many handshakes as there
// is a budget for, and take no place of what is authentic.
func TestForgedSessionsOfManyPeers(t *testing.T) {
	w := newScaleWorld(t, 3*int(unknownRate.Burst))
	w.rx.now = w.now()
	for _, a := range w.peers {
		p := w.sealedFrom(a.ID(), 1)
		w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: w.live[0].ep})
	}
	if got := len(w.n.inbox.unsigned); got != int(unknownRate.Burst) {
		t.Errorf("%d handshakes are asked for, want %v", got, unknownRate.Burst)
	}
	if got := len(w.n.inbox.authentic); got != 0 {
		t.Errorf("%d forged packets are among the authentic ones", got)
	}
	w.rx.now = w.rx.now.Add(time.Second)
	p := w.sealedFrom(w.peers[len(w.peers)-1].ID(), 1)
	w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: w.live[0].ep})
	if got := len(w.n.inbox.unsigned); got != int(unknownRate.Burst)+1 {
		t.Error("a second later none is asked for")
	}
}

func (w *scaleWorld) benchStatus(b *testing.B) {
	var m meter
	for b.Loop() {
		m.start()
		w.l.status()
		m.stop(1)
	}
	m.report(b)
}

// benchMemory is what was measured while the world was made.
func (w *scaleWorld) benchMemory(b *testing.B) {
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(w.atStart/1e6, "MB")
	b.ReportMetric(w.perLive, "B/session")
	b.ReportMetric(float64(w.began)/1e6, "start-ms")
}

// benchIdle is the ten minutes after the last packet, in which keys end, and ten more.
func (w *scaleWorld) benchIdle(b *testing.B) {
	after, cpu := w.idle(10 * time.Minute)
	for b.Loop() {
	}
	later, cpuLater := w.idle(10 * time.Minute)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(after)/10, "wakes/min")
	b.ReportMetric(float64(cpu)/10, "cpu-ns/min")
	b.ReportMetric(float64(later)/10, "later-wakes/min")
	b.ReportMetric(float64(cpuLater)/10, "later-cpu-ns/min")
}

// idle lets time pass without any packet, as the loop does, and counts how often it wakes.
func (w *scaleWorld) idle(d time.Duration) (wakes int, cpu time.Duration) {
	cpu = cpuTime()
	for end := w.now().Add(d); ; wakes++ {
		w.l.now = w.now()
		next := w.l.settle()
		w.wire.take()
		if next > end {
			w.clock.advance(end.Sub(w.now()))
			return wakes, cpuTime() - cpu
		}
		w.clock.advance(max(next.Sub(w.now()), slack))
	}
}
