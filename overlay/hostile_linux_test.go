package overlay

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// BenchmarkRelayHostile is what one packet of a flood of 100,000 a second costs a relay of 1000
// clients, loop and lane together, without the system calls. A microsecond is a tenth of a
// core, which is what the honest lose at most.
func BenchmarkRelayHostile(b *testing.B) {
	w := newManyClients(b, 1000)
	anyone := func(k uint32) link.Endpoint {
		return link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(k >> 16), byte(k >> 8), byte(k)}), link.Port)}
	}
	var names []anode.Address
	for range 256 {
		names = append(names, identityIn(b, testZone).Address())
	}
	sealed := func(from, to anode.ID, hop byte) []byte {
		p := make([]byte, wire.SealedMin+1200)
		h := wire.NewSealedHeader(from, to, 1, 0)
		copy(p, h[:])
		p[0] = hop
		return p
	}
	signed, from := w.signed(1, wire.NetIDReq)
	x, y := w.list[0], w.list[1]
	for _, f := range []struct {
		name   string
		packet func(k uint32) ([]byte, link.Endpoint)
	}{
		{"forged-source", func(k uint32) ([]byte, link.Endpoint) { return sealed(x.id, y.id, 0), anyone(k) }},
		{"forged-name", func(k uint32) ([]byte, link.Endpoint) { return sealed(y.id, x.id, 0), w.place(2) }},
		{"loop", func(k uint32) ([]byte, link.Endpoint) { return sealed(x.id, y.id, hopLimit), w.place(0) }},
		{"to-nobody", func(k uint32) ([]byte, link.Endpoint) { return sealed(x.id, anode.ID{byte(k), 1}, 0), w.place(0) }},
		{"register", func(k uint32) ([]byte, link.Endpoint) {
			return forgedPing(names[k%256], w.n.id, []byte("12345678")), anyone(k)
		}},
		{"forged-ping", func(k uint32) ([]byte, link.Endpoint) {
			return forgedPing(w.list[k%1000].address, w.n.id, []byte("12345678")), anyone(k)
		}},
		{"reflected-netid", func(uint32) ([]byte, link.Endpoint) { return signed[0], anyone(9) }},
		{"replayed-netid", func(uint32) ([]byte, link.Endpoint) { return signed[0], from[0] }},
	} {
		b.Run(f.name, func(b *testing.B) {
			const batch = 1024
			var m meter
			var packets [batch][]byte
			var eps [batch]link.Endpoint
			sent := w.n.counters[cControlTx].Load() + w.n.counters[cClientPackets].Load()
			ops := 0
			for k := uint32(0); b.Loop(); k += batch {
				for i := range packets {
					packets[i], eps[i] = f.packet(k + uint32(i))
				}
				m.start()
				for i, p := range packets {
					w.clock.advance(time.Second / 100_000)
					w.rx.now = w.now()
					w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: eps[i]})
					if i%readTrains == readTrains-1 {
						w.rx.relay.flush()
						w.rx.answers.flush()
						w.drain()
					}
				}
				m.stop(batch)
				ops += batch
			}
			m.report(b)
			sent = w.n.counters[cControlTx].Load() + w.n.counters[cClientPackets].Load() - sent
			b.ReportMetric(float64(sent)/float64(ops), "answers/op")
		})
	}
}
