package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// Symptom is what happened to a datagram, as far as our own system and ICMP errors say.
// Anybody can forge those errors: a symptom is for people to read, and nothing may depend
// on it.
type Symptom uint8

// The symptoms.
const (
	Silence     Symptom = iota // it left, and nothing came back
	PortClosed                 // nobody listens on the port there
	NoHost                     // no machine has the address, as a neighbour or a router says
	Rejected                   // a firewall on the way says that it rejects it
	SendRefused                // our own system does not let it leave
	NoRoute                    // our own system has no route
)

// Diagnoser is a Network that can say why an endpoint does not answer. The node's own
// sockets do not hear ICMP errors, which would let strangers disturb them.
type Diagnoser interface {
	// Diagnose sends a datagram of one byte to an endpoint, from a socket of its own, and
	// a second one later. It returns when an error came, when too much time has passed
	// for one, or when ctx ends. An Anode node drops such a datagram and never answers
	// it. Any number of goroutines may call it.
	Diagnose(ctx context.Context, ep Endpoint) Symptom
}

var _ Diagnoser = (*System)(nil)

const (
	// diagnoseFor is longer than a system looks for a neighbour: three times a second.
	diagnoseFor = 3500 * time.Millisecond
	// diagnoseAgain is when the second datagram follows. Systems answer by one ICMP error a
	// second, after the first few, so it is not sent together with what is sent each second.
	diagnoseAgain = 900 * time.Millisecond
)

// Diagnose implements Diagnoser.
func (s *System) Diagnose(ctx context.Context, ep Endpoint) Symptom {
	addr := ep.Addr.Addr().Unmap()
	if addr.Is6() && addr.IsLinkLocalUnicast() && ep.If != 0 {
		addr = addr.WithZone(strconv.Itoa(ep.If))
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, ep.Addr.Port())))
	if err != nil {
		return SymptomOf(err)
	}
	defer c.Close()
	listenICMP(c)
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	end := time.Now().Add(diagnoseFor)
	for _, until := range []time.Time{time.Now().Add(diagnoseAgain), end} {
		if _, err := c.Write([]byte{0}); err != nil {
			return wroteSymptom(c, err)
		}
		if x := waitSymptom(ctx, c, until); x != Silence || ctx.Err() != nil {
			return x
		}
	}
	return Silence
}

// waitSymptom reads until an ICMP error comes or the time is over.
func waitSymptom(ctx context.Context, c *net.UDPConn, until time.Time) Symptom {
	c.SetReadDeadline(until)
	if ctx.Err() != nil { // its end may have come before the deadline was set
		return Silence
	}
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return readSymptom(c, err)
		}
	}
}

// SymptomOf returns what an error of Writer.Write, or of a connect, says of a datagram.
func SymptomOf(err error) Symptom {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return Silence
	}
	switch refusalOf(errno) {
	case refusedDenied:
		return SendRefused
	case refusedUnreachable, refusedAddress:
		return NoRoute
	}
	return Silence
}

// wroteSymptom is that of an error of a write to a connected socket. It may be an ICMP
// error about the datagram before.
func wroteSymptom(c *net.UDPConn, err error) Symptom {
	if x, ok := lastICMP(c); ok {
		return x
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && refusalOf(errno) == refusedPort {
		return PortClosed
	}
	return SymptomOf(err)
}

// readSymptom is that of an ICMP error, which ended a read.
func readSymptom(c *net.UDPConn, err error) Symptom {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return Silence // the time is over
	}
	if x, ok := lastICMP(c); ok {
		return x
	}
	switch refusalOf(errno) {
	case refusedPort:
		return PortClosed
	case refusedUnreachable:
		return NoHost
	case refusedDenied:
		return Rejected
	}
	return Silence
}
