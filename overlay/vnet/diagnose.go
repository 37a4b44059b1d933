package vnet

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"anodenet/overlay/link"
)

const (
	diagnoseFor   = 3500 * time.Millisecond // as long as link.System waits for an ICMP error
	diagnoseAgain = 900 * time.Millisecond  // when link.System sends a second datagram
)

var _ link.Diagnoser = (*Host)(nil)

// Diagnose implements link.Diagnoser.
func (h *Host) Diagnose(ctx context.Context, ep link.Endpoint) link.Symptom {
	told := make(chan link.Symptom, 1)
	port, done := h.listenICMP(func(x link.Symptom) {
		select {
		case told <- x:
		default:
		}
	})
	defer done()
	for _, wait := range []time.Duration{diagnoseAgain, diagnoseFor - diagnoseAgain} {
		if err := h.probe(port, ep); err != nil {
			return link.SymptomOf(err)
		}
		end := time.NewTimer(wait)
		select {
		case x := <-told:
			end.Stop()
			return x
		case <-ctx.Done():
			end.Stop()
			return link.Silence
		case <-end.C:
		}
	}
	return link.Silence
}

// listenICMP takes a port that nothing else has, and passes on the ICMP errors that come
// to it until done is called.
func (h *Host) listenICMP(told func(link.Symptom)) (port uint16, done func()) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	port = h.freePort()
	h.probes[port] = told
	return port, func() {
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		delete(h.probes, port)
	}
}

// probe sends a datagram of one byte.
func (h *Host) probe(port uint16, ep link.Endpoint) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.refuses {
		return syscall.EPERM
	}
	x, err := h.find(ep)
	if err != nil {
		return err
	}
	p := packet{from: netip.AddrPortFrom(x.from, port), to: ep.Addr, data: []byte{0}, hops: 64}
	h.writers++
	h.w.later(time.Now().Add(Tick), h.number<<32|h.writers, 0, func() { h.send(p, x) })
	return nil
}
