// Package vnet is a simulated internet for tests of whole nodes: hosts and routers
// on segments that delay, lose, reorder, duplicate and cut off packets, under the
// virtual time of testing/synctest.
//
//	host --- segment --- router --- segment --- host
//	  |    (broadcast)                |
//	 Conn                           host --- another segment
//
// Each host is a link.Network, and its sockets behave as link.System's do on Linux,
// errors included. Packets are UDP payloads with addresses; nothing below UDP is
// simulated, except ICMP errors, for Host.Diagnose and Host.OnICMP.
//
// Hosts also have connections (link.Streams), whose segments travel as packets do: see
// stream.go. ICMP errors about segments, and path MTUs below 1260 bytes, are not simulated.
// Proxy and Captive stand between a host and the servers that it wants to reach.
//
// # NATs and firewalls
//
// A NAT is a router that translates the UDP packets which leave by its outside interface,
// and those that come in by it to one of its addresses (RFC 4787):
//
//	        inside       |  mapping, with its permits     |  outside
//	                     |                                |
//	192.168.1.9:8737 ----|--> 51.0.1.1:8737 -------------|--> 51.0.3.1:8737
//	                     |                                |
//	192.168.1.9:8737 <---|--- 51.0.1.1:8737 <--[permit?]--|--- 51.0.3.1:8737
//	                     |                                |
//	     twin <----------|----- hairpin <--[permit?]      |
//
// The first packet of an inside endpoint makes a mapping: one for all remotes, one for each
// remote address, or one for each remote endpoint (Mapping). PortChoice says which outside
// port it has. Each packet to a remote permits it to answer; what others send is dropped,
// as far as Filtering depends on who they are. Mapping and permits end when neither side
// has used them for the Lifetime. Forward and Map make explicit mappings, which let
// everyone in.
//
// A Firewall watches over one interface of a host or router, without translation. Both
// may be on one router, and one NAT may be behind another.
//
// An Internet joins sites of named kinds, for tests that go through all pairs of them:
//
//	host -- LAN -- router with NAT -- access segment -- Internet -- access segment -- ...
//
// # Repeatability
//
// A run with the same seed gives the same result, if what the nodes themselves do is
// determined by what they read and when. For this, all happens in one place, in the order
// of (time, sender, number): a Write only notes its packets, which leave a Tick later,
// when all that is sent at one moment is known. Each interface and each NAT has its own
// source of randomness.
package vnet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"
)

// Tick is how long the fastest packet takes.
const Tick = time.Microsecond

// World is one simulated internet. Its methods, and those of all that is in it, may
// be called from any goroutine of the bubble it was made in.
type World struct {
	seed uint64

	timer *time.Timer   // for the next event
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed when run has ended

	mu     sync.Mutex
	closed bool
	hosts  []*Host
	events events
	free   []*event // to be used again
	count  map[string]uint64
	tapped []func()
}

// New makes an empty world. Close it before the bubble ends.
func New(seed uint64) *World {
	w := &World{seed: seed, count: make(map[string]uint64), timer: time.NewTimer(time.Hour),
		stop: make(chan struct{}), ended: make(chan struct{})}
	w.timer.Stop()
	go w.run()
	return w
}

// TB is what Seed needs of a *testing.T.
type TB interface {
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
}

// Seed chooses a seed, or takes it from the environment variable ANODE_SEED, and prints
// it if the test fails.
func Seed(t TB) uint64 {
	seed := rand.Uint64()
	if s := os.Getenv("ANODE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 0, 64)
		if err != nil {
			t.Logf("ANODE_SEED: %v; using %#x", err, seed)
		} else {
			seed = n
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat this: ANODE_SEED=%#x", seed)
		}
	})
	return seed
}

// Close ends all reads and watches and stops the world. It must not be called by a tap.
func (w *World) Close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.stop)
		w.events = nil
		for _, h := range w.hosts {
			h.close()
		}
	}
	w.mu.Unlock()
	<-w.ended
}

// Counters counts what happened to all packets, by name: "sent", "delivered", and the
// reason for each dropped one.
func (w *World) Counters() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.count)
}

// packet is one UDP packet, an ICMP error about one, or a segment of a connection. Its data is
// never written to.
type packet struct {
	from, to netip.AddrPort
	data     []byte
	hops     int
	icmp     *ICMPError // nil: not an ICMP error
	seg      *segment   // nil: not of a connection
}

// size is that of the IP packet.
func (p *packet) size() int {
	header := 40
	if p.to.Addr().Is4() {
		header = 20
	}
	if p.icmp != nil {
		return 2*header + 8 + 8 // it quotes the headers of the packet
	}
	if p.seg != nil {
		header += 12 // that of TCP is longer than that of UDP
	}
	return header + 8 + len(p.data)
}

// event is a future event; events happen in the order of (at, sender, number). It is
// either a packet that arrives, or something to do.
type event struct {
	at     time.Time
	sender uint64
	number uint64

	do func()

	p   packet
	to  *Interface
	seg *Segment // where it was sent
}

// later has do called at a time in the future.
func (w *World) later(at time.Time, sender, number uint64, do func()) {
	e := w.event(at, sender, number)
	e.do = do
	w.add(e)
}

// event returns an event that is not in use.
func (w *World) event(at time.Time, sender, number uint64) *event {
	var e *event
	if n := len(w.free); n > 0 {
		e, w.free = w.free[n-1], w.free[:n-1]
	} else {
		e = new(event)
	}
	e.at, e.sender, e.number = at, sender, number
	return e
}

// add puts an event in line.
func (w *World) add(e *event) {
	if w.closed {
		return
	}
	w.events.push(e)
	if w.events[0] == e {
		w.timer.Reset(time.Until(e.at))
	}
}

// run handles events until the world is closed. All happens on this one goroutine, since
// one for each event would cost more than the event.
func (w *World) run() {
	defer close(w.ended)
	defer w.timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.timer.C:
			w.due()
		}
	}
}

// due handles all events that are due.
func (w *World) due() {
	w.mu.Lock()
	now := time.Now()
	for len(w.events) > 0 && !w.events[0].at.After(now) {
		w.happen(w.events.pop())
	}
	if len(w.events) > 0 {
		w.timer.Reset(time.Until(w.events[0].at))
	}
	tapped := w.tapped
	w.tapped = nil
	w.mu.Unlock()
	for _, f := range tapped {
		f()
	}
}

// happen handles one event.
func (w *World) happen(e *event) {
	if e.do != nil {
		e.do()
	} else if e.to.up && e.to.seg == e.seg {
		e.to.host.receive(e.to, e.p)
	} else {
		w.count["drop_interface_down"]++
	}
	*e = event{}
	w.free = append(w.free, e)
}

// source makes the random source of the sender with the given number.
func (w *World) source(sender uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, sender)) }

// events is a heap. It is not container/heap's, which costs more than the events do.
type events []*event

// before reports whether a happens before b.
func (a *event) before(b *event) bool {
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	if a.sender != b.sender {
		return a.sender < b.sender
	}
	return a.number < b.number
}

func (q *events) push(e *event) {
	s := append(*q, e)
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(s[parent]) {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = e
	*q = s
}

func (q *events) pop() *event {
	s := *q
	first, last := s[0], s[len(s)-1]
	s[len(s)-1] = nil
	s = s[:len(s)-1]
	*q = s
	if len(s) == 0 {
		return first
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].before(s[child]) {
			child++
		}
		if !s[child].before(last) {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = last
	return first
}

// Packet is what a tap sees: one UDP packet as it is put onto a segment, before the
// segment loses or delays it.
type Packet struct {
	At       time.Time
	Segment  string
	From, To netip.AddrPort
	Data     []byte // not to be changed
}

// String returns the packet's time, segment, addresses and length.
func (p Packet) String() string {
	return fmt.Sprintf("%s %s: %s > %s, %d bytes", p.At.Format("15:04:05.000000"), p.Segment, p.From, p.To, len(p.Data))
}
