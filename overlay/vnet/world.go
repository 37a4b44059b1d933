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
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"anodenet/overlay/link"
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

// packet is one UDP packet. Its data is never written to.
type packet struct {
	from, to netip.AddrPort
	data     []byte
	hops     int
	told     func(link.Symptom) // gets the ICMP error, if there is one; nil: nobody listens
}

// tell sends an ICMP error, which always arrives.
func (p *packet) tell(x link.Symptom) {
	if p.told != nil {
		p.told(x)
	}
}

// size is that of the IP packet.
func (p *packet) size() int {
	if p.to.Addr().Is4() {
		return 20 + 8 + len(p.data)
	}
	return 40 + 8 + len(p.data)
}

// event is a future event; events happen in the order of (at, sender, number).
type event struct {
	at     time.Time
	sender uint64
	number uint64
	do     func()
}

// add puts an event in line.
func (w *World) add(e event) {
	if w.closed {
		return
	}
	heap.Push(&w.events, e)
	if w.events[0].number == e.number && w.events[0].sender == e.sender {
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
		heap.Pop(&w.events).(event).do()
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

// source makes the random source of the sender with the given number.
func (w *World) source(sender uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, sender)) }

// events is a heap.
type events []event

func (q events) Len() int      { return len(q) }
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q events) Less(i, j int) bool {
	a, b := &q[i], &q[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	if a.sender != b.sender {
		return a.sender < b.sender
	}
	return a.number < b.number
}
func (q *events) Push(x any) { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return e
}

// Packet is what a tap sees: one packet as it is put onto a segment, before the
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
