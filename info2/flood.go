package info2

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// flood brings each message once to everybody except those that it came from:
// our own, those that links bring, and those of another network.
type flood struct {
	fx         *effects
	links      *links
	neighbours *neighbours
	rng        *rand.Rand

	memory memory
	own    bucket // of what is said here
	bridge bucket // of what comes from another network
}

// say sends a text of ours, cleaned and short enough.
func (f *flood) say(now time.Time, text string) (MID, error) {
	if !slices.ContainsFunc(f.links.list, (*link).receives) && len(f.neighbours.list) == 0 {
		return MID{}, ErrNobody
	}
	m := frame{kind: kindSend, mid: f.newMID(now, kindSend), text: text}
	f.fx.inc(OwnMessages)
	f.memory.add(now, memoryKey{kindSend, m.mid}, text)
	f.fx.do(action{op: opDeliver, message: Message{Time: now, MID: m.mid, Text: text, Own: true}})
	f.send(now, m, ownMessage, netip.Addr{})
	return m.mid, nil
}

// inject takes a message from another network, as if a link had brought it.
func (f *flood) inject(now time.Time, mid MID, text string) {
	m := frame{kind: kindSend, mid: mid, text: text}
	switch {
	case !f.bridge.take(now):
		f.fx.inc(DroppedBudget)
	case f.learn(now, m):
		f.fx.do(action{op: opDeliver, message: Message{Time: now, MID: mid, Text: text, Bridged: true}})
		f.send(now, m, bridged, netip.Addr{})
	}
}

// onSend shows and forwards a text that is new.
func (f *flood) onSend(now time.Time, l *link, m frame) {
	raw := m.text
	if m.text = Clean(raw); m.text != raw {
		f.fx.inc(TextsCleaned)
	}
	if m.text == "" {
		f.fx.inc(DroppedEmpty)
		return
	}
	if cut := cutText(m.text, maxText); cut != m.text {
		f.fx.inc(TextsCut)
		m.text = cut
	}
	f.neighbours.renew(now, l.addr)
	if !f.first(now, l, m) {
		return
	}
	f.fx.do(action{op: opDeliver, message: Message{Time: now, MID: m.mid, Text: m.text, From: l.addr}})
	f.forward(now, l, m)
}

// forward sends on what a link has brought.
func (f *flood) forward(now time.Time, l *link, m frame) { f.send(now, m, origin(l.id), l.addr) }

// first reports whether a message is new, and keeps the books of the link.
func (f *flood) first(now time.Time, l *link, m frame) bool {
	f.fx.inc(MessagesIn)
	if f.learn(now, m) {
		l.said.fresh++
		return true
	}
	l.said.dups++
	key := memoryKey{m.kind, m.mid}
	suppressed := l.out.box.drop(key)
	if n := f.neighbours.find(l.addr); n != nil {
		suppressed = n.out.drop(key) || suppressed
	}
	if suppressed {
		f.fx.inc(Suppressed)
	}
	return false
}

// learn remembers a message; false if it was known.
func (f *flood) learn(now time.Time, m frame) bool {
	key := memoryKey{m.kind, m.mid}
	known, other := f.memory.recall(now, key, m.text)
	if known {
		f.fx.inc(Duplicates)
		if other && m.kind == kindSend {
			f.fx.inc(OtherText)
		}
		return false
	}
	f.fx.inc(MessagesNew)
	f.memory.add(now, key, m.text)
	return true
}

// send queues a message for everybody except who brought it. Each receiver gets
// it after a delay of its own, the same for our own messages and for others'.
func (f *flood) send(now time.Time, m frame, from origin, fromAddr netip.Addr) {
	out := outgoing{key: memoryKey{m.kind, m.mid}, from: from, data: m.append(nil)}
	for _, l := range f.links.list {
		if l.receives() && origin(l.id) != from {
			out.due = now.Add(f.delay())
			f.links.queue(l, out)
		}
	}
	for _, n := range f.neighbours.list {
		if n.addr != fromAddr && !f.links.lasting(now, n.addr) {
			out.due = now.Add(f.delay())
			f.neighbours.push(n, out)
		}
	}
}

// newMID draws an identifier that is not in the memory.
func (f *flood) newMID(now time.Time, k kind) MID {
	for {
		mid := midOf(100000 + f.rng.Uint32N(900000))
		if known, _ := f.memory.recall(now, memoryKey{k, mid}, ""); !known {
			return mid
		}
	}
}

// delay is exponential, cut at 600 ms, with a mean of 150 ms.
func (f *flood) delay() time.Duration {
	whole := 1 - math.Exp(-float64(delayMax)/float64(delayBase))
	return time.Duration(-float64(delayBase) * math.Log(1-whole*f.rng.Float64()))
}
