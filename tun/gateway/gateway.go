// Package gateway joins TCP of the adapter to streams, for peers that speak only streams:
// programs on this machine reach the streams of such a peer by TCP to its ULA, and streams
// that the peer opens reach the services of this machine, which see the peer's ULA.
//
//	program -- TCP --> adapter -- Outbound --> netstack ..> Dial -- stream --> peer
//	service <-- TCP -- adapter <---- Put ----- netstack <.. Inbound <- stream -- peer
//
// TCP ends in gVisor's netstack, which is made when the first connection needs it. What is
// agreed on one side is agreed on the other first: a program's connection is accepted after
// the peer accepted the stream, and a stream after the service accepted the connection. So
// what the other end refuses is refused, and both directions end separately.
//
//	gateway.go    packets of programs, and what connections there are
//	outbound.go   a program's SYN becomes a stream
//	inbound.go    a peer's stream becomes a connection to a service
//	pump.go       bytes in both directions
//	table.go      how many connections there may be, and how large their buffers
//	netstack.go   gVisor's netstack, and its way to the adapter
//	packet.go     the few packets that are read and made without it
//
// # Memory
//
// At most 8192 connections exist, 2048 of them with one peer. All send and receive buffers
// together hold at most 64 MiB: 512 KiB each while there are no more than 64 connections,
// and half of that each time their number doubles, down to 4 KiB. netstack lets a buffer
// grow to that limit as far as a connection uses it. What is on its way between a connection
// and its stream takes at most 64 MiB more. An idle connection holds a buffer of 2 KiB.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"anodenet/anode"
)

// Config is what a Gateway stands on. Any goroutine may call the functions.
type Config struct {
	Self  anode.ULA // our address
	MTU   int       // of the adapter
	Super bool      // the system takes super-packets

	// Dial opens a stream to a port of a peer. It understands errors that are
	// syscall.ECONNREFUSED, EHOSTUNREACH, ENETUNREACH or EACCES; with others the program
	// waits until it gives up.
	Dial func(ctx context.Context, peer anode.ULA, port uint16) (net.Conn, error)

	// Put passes a TCP packet to the system, whose source is a peer's ULA, by the rules for
	// packets of that peer. The parts together are the IPv6 packet; its checksum is not
	// set. size is the length of each segment's payload of a super-packet, else 0. One
	// goroutine at a time calls it; it must not wait, and keeps none of the memory.
	Put func(peer anode.ULA, size int, parts ...[]byte)

	// NoRoute and Prohibited answer a packet to a peer by an ICMPv6 error, as those of
	// tun.Device; msg is the packet as a message of type IP6.
	NoRoute, Prohibited func(peer anode.ULA, msg []byte)

	Log *slog.Logger // nil: none
}

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the gateway is closed")
	// ErrBusy is returned when there are as many connections as may be.
	ErrBusy = errors.New("too many connections")
)

// Gateway is all connections. New makes it, Close ends it.
type Gateway struct {
	cfg     Config
	ctx     context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup
	count   counters
	buffers buffers
	net     atomic.Pointer[netstack] // nil: not needed yet

	putting sync.Mutex // held while Put is called

	mu     sync.Mutex
	closed bool
	table  table
}

// New makes a gateway without connections.
func New(c Config) *Gateway {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: c, table: newTable()}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.buffers.init()
	return g
}

// Close ends all connections at once, and waits for all goroutines.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.closed = true
	n := g.net.Load()
	g.mu.Unlock()
	g.stop()
	g.running.Wait()
	if n != nil {
		n.stack.Destroy()
	}
	return nil
}

// Outbound takes an IPv6 packet or super-packet with TCP, which our system sends to a peer
// that speaks only streams, or an ICMPv6 error about TCP. It copies what it needs of it, and
// does not wait. The packet's checksum is not looked at.
func (g *Gateway) Outbound(packet []byte) {
	if isICMP(packet) {
		g.rejected(packet)
		return
	}
	h, ok := parse(packet)
	switch {
	case !ok || h.self != g.cfg.Self:
		g.count.add(malformed)
	case h.opens():
		g.syn(h, packet)
	default:
		g.inject(h, packet)
	}
}

// inject passes a packet to netstack, which resets what it does not know.
func (g *Gateway) inject(h header, packet []byte) {
	if n := g.net.Load(); n != nil {
		n.inject(packet)
	} else { // of a connection from before we started
		g.reset(h)
	}
}

// rejected takes an ICMPv6 error of our system, as a firewall sends it: it ends the connection
// that it is about, if that is still being opened.
func (g *Gateway) rejected(packet []byte) {
	f, ok := parseUnreachable(packet, g.cfg.Self)
	n := g.net.Load()
	if !ok || n == nil || !n.reject(f) {
		g.count.add(useless)
	}
}

// put passes a packet to the system.
func (g *Gateway) put(peer anode.ULA, packet []byte) {
	g.putting.Lock()
	defer g.putting.Unlock()
	g.cfg.Put(peer, 0, packet)
}

// netstack returns the stack, which it makes if there is none.
func (g *Gateway) netstack() (*netstack, error) {
	if n := g.net.Load(); n != nil {
		return n, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.net.Load()
	if n != nil || g.closed {
		return n, g.closing()
	}
	n, err := newNetstack(g, g.table.share())
	if err != nil {
		return nil, err
	}
	g.net.Store(n)
	g.cfg.Log.Info("a peer speaks only streams: the gateway carries its TCP")
	return n, nil
}

// closing returns ErrClosed after Close; the lock is held.
func (g *Gateway) closing() error {
	if g.closed {
		return ErrClosed
	}
	return nil
}

// begin makes room for a connection.
func (g *Gateway) begin(c *conn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if !g.table.add(c) {
		g.count.add(tooMany)
		return ErrBusy
	}
	g.resize()
	return nil
}

// end gives a connection's room back.
func (g *Gateway) end(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.table.remove(c)
	g.resize()
}

// resize gives all connections the buffers that their number allows; the lock is held.
func (g *Gateway) resize() {
	share, changed := g.table.resize()
	n := g.net.Load()
	if !changed || n == nil {
		return
	}
	n.limit(share)
	for c := range g.table.all {
		if c.ep != nil {
			shrink(c.ep, share)
		}
	}
}

// established notes that a connection has its endpoint.
func (g *Gateway) established(c *conn, e endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.table.settle(c)
	c.endpoint = e
	shrink(c.ep, g.table.share())
}

// goes runs f in a goroutine that Close waits for, unless that has been called.
func (g *Gateway) goes(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Go(f)
	return true
}
