package vnet

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"anodenet/overlay/link"
)

// diagnoseFor is how long link.System waits for an ICMP error.
const diagnoseFor = 3500 * time.Millisecond

var _ link.Diagnoser = (*Host)(nil)

// Diagnose implements link.Diagnoser.
func (h *Host) Diagnose(ctx context.Context, ep link.Endpoint) link.Symptom {
	told := make(chan link.Symptom, 1)
	if err := h.probe(ep, func(x link.Symptom) {
		select {
		case told <- x:
		default:
		}
	}); err != nil {
		return link.SymptomOf(err)
	}
	end := time.NewTimer(diagnoseFor)
	defer end.Stop()
	select {
	case x := <-told:
		return x
	case <-end.C:
	case <-ctx.Done():
	}
	return link.Silence
}

// probe sends a datagram of one byte from a port that nothing else has.
func (h *Host) probe(ep link.Endpoint, told func(link.Symptom)) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.refuses {
		return syscall.EPERM
	}
	x, err := h.find(ep)
	if err != nil {
		return err
	}
	for h.conns[h.nextPort] != nil {
		h.nextPort++
	}
	p := packet{from: netip.AddrPortFrom(x.from, h.nextPort), to: ep.Addr, data: []byte{0}, hops: 64, told: told}
	h.nextPort++
	h.writers++
	h.w.add(event{at: time.Now().Add(Tick), sender: h.number<<32 | h.writers, do: func() { h.send(p, x) }})
	return nil
}
