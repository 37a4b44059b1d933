package link

import (
	"errors"
	"sync/atomic"
	"syscall"
)

// counters belong to one socket. The loops add to them once per batch; any goroutine may
// read them.
type counters struct {
	rxPackets   atomic.Uint64
	rxBytes     atomic.Uint64
	rxTrains    atomic.Uint64
	rxTruncated atomic.Uint64 // longer than the buffer: dropped
	rxBad       atomic.Uint64 // control data or address that cannot be read: dropped
	rxErrors    atomic.Uint64 // a read that failed and was tried again

	txPackets     atomic.Uint64
	txBytes       atomic.Uint64
	txTrains      atomic.Uint64
	txWaits       atomic.Uint64 // the send buffer was full
	txSplit       atomic.Uint64 // trains that had to go as single packets
	txUnpinned    atomic.Uint64 // sent without Local and If, which were no longer valid
	txBadEndpoint atomic.Uint64 // endpoints that this socket cannot speak to
	txRefused     [refusals]atomic.Uint64
}

// refusal is why the system did not take a packet. Such packets are dropped.
type refusal int

const (
	refusedTooBig      refusal = iota // larger than the interface's MTU
	refusedUnreachable                // no route, host or interface
	refusedPort                       // an ICMP error of an earlier packet
	refusedDenied                     // a firewall, or a broadcast that is not allowed
	refusedNoBuffer                   // the interface's queue was full
	refusedAddress                    // a source address that is not ours, or not yet
	refusedOther
	refusals
)

var refusalNames = [refusals]string{
	"tx_too_big", "tx_unreachable", "tx_port_unreachable", "tx_denied", "tx_no_buffer", "tx_bad_source", "tx_other",
}

// refuse counts n packets that were not taken because of errno.
func (c *counters) refuse(errno syscall.Errno, n int) {
	c.txRefused[refusalOf(errno)].Add(uint64(n))
}

func (c *counters) all() map[string]uint64 {
	m := map[string]uint64{
		"rx_packets":      c.rxPackets.Load(),
		"rx_bytes":        c.rxBytes.Load(),
		"rx_trains":       c.rxTrains.Load(),
		"rx_truncated":    c.rxTruncated.Load(),
		"rx_bad":          c.rxBad.Load(),
		"rx_errors":       c.rxErrors.Load(),
		"tx_packets":      c.txPackets.Load(),
		"tx_bytes":        c.txBytes.Load(),
		"tx_trains":       c.txTrains.Load(),
		"tx_waits":        c.txWaits.Load(),
		"tx_split":        c.txSplit.Load(),
		"tx_unpinned":     c.txUnpinned.Load(),
		"tx_bad_endpoint": c.txBadEndpoint.Load(),
	}
	for i, name := range refusalNames {
		m[name] = c.txRefused[i].Load()
	}
	return m
}

// errnoOf returns the system's error in an error of package net.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.EINVAL
}
