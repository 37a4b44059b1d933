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
// simulated, except ICMP errors for Host.Diagnose.
//
// A run with the same seed gives the same result, if what the nodes themselves do is
// determined by what they read and when. For this, all happens in one place, in the order
// of (time, sender, number): a Write only notes its packets, which leave a Tick later,
// when all that is sent at one moment is known. Each interface has its own source of
// randomness.
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

	running sync.Mutex // held by run, so that taps see packets in order

	mu     sync.Mutex
	closed bool
	hosts  []*Host
	events events
	free   []*event // to be used again
	timer  *time.Timer
	count  map[string]uint64
	tapped []func()
}

// New makes an empty world. Close it before the bubble ends.
func New(seed uint64) *World {
	w := &World{seed: seed, count: make(map[string]uint64)}
	w.timer = time.AfterFunc(time.Hour, w.run)
	w.timer.Stop()
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

// Close ends all reads and watches and stops the world.
func (w *World) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.timer.Stop()
	w.events = nil
	for _, h := range w.hosts {
		h.close()
	}
}

// Counters counts what happened to all packets, by name: "sent", "delivered", and the
// reason for each dropped one.
func (w *World) Counters() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.count)
}

// packet is one UDP packet, or an ICMP error about one. Its data is never written to.
type packet struct {
	from, to netip.AddrPort
	data     []byte
	hops     int
	icmp     *ICMPError // nil: UDP
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
	e := new(event)
	if n := len(w.free); n > 0 {
		e, w.free = w.free[n-1], w.free[:n-1]
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

// run handles all events that are due.
func (w *World) run() {
	w.running.Lock()
	defer w.running.Unlock()
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
