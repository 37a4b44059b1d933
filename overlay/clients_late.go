package overlay

import (
	"container/heap"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// lateAnswers are the answers to LINGERs of clients that are not due yet: one of each
// client, which measures its NAT by them once in a while.
type lateAnswers struct {
	heap  lateHeap
	of    map[*client]bool
	sites map[site]int // how many of heap are of clients of each site
}

type lateAnswer struct {
	client  *client
	to      link.Endpoint
	machine uint8
	request uint32
	due     mono.Time
}

// maxLateAnswers bounds the memory, some hundred bytes each.
const maxLateAnswers = 4096

// lateShare is the part of the free places that one site may have taken: so whoever has many
// clients at one site leaves most of the places to others, and a site that has none gets one
// until there is none at all.
const lateShare = 8

// share reports whether somebody who has taken some of a number of places may take another one.
func share(taken, used, places int) bool {
	return used < places && taken <= (places-used)/lateShare
}

// add reports whether there was room for one more.
func (a *lateAnswers) add(x lateAnswer) bool {
	if a.of[x.client] || !share(a.sites[x.client.site], len(a.heap), maxLateAnswers) {
		return false
	}
	if a.of == nil {
		a.of, a.sites = map[*client]bool{}, map[site]int{}
	}
	a.of[x.client] = true
	a.sites[x.client.site]++
	heap.Push(&a.heap, x)
	return true
}

// take returns an answer that is due; ok is false if none is.
func (a *lateAnswers) take(now mono.Time) (x lateAnswer, ok bool) {
	if len(a.heap) == 0 || a.heap[0].due > now {
		return x, false
	}
	x = heap.Pop(&a.heap).(lateAnswer)
	delete(a.of, x.client)
	if a.sites[x.client.site]--; a.sites[x.client.site] == 0 {
		delete(a.sites, x.client.site)
	}
	return x, true
}

func (a *lateAnswers) next() mono.Time {
	if len(a.heap) == 0 {
		return mono.Never
	}
	return a.heap[0].due
}

// linger takes a LINGER of a client.
func (s *clients) linger(c *client, machine uint8, msg []byte, ep link.Endpoint) {
	x, err := wire.ParseLinger(msg)
	if err != nil {
		s.l.n.counters.count(dMessage)
		return
	}
	if x.Elsewhere {
		s.answerElsewhere(c, machine, x.Request, ep)
		return
	}
	if !s.late.add(lateAnswer{c, ep, machine, x.Request, s.l.now.Add(x.Delay)}) {
		s.l.n.counters.count(dLinger)
	}
}

// answerLate sends the answers to LINGERs that are due.
func (s *clients) answerLate(now mono.Time) {
	for x, ok := s.late.take(now); ok; x, ok = s.late.take(now) {
		if now.Sub(x.due) < time.Second && s.x.get(&x.client.address) == x.client {
			s.reply(x.client, x.machine, x.to, wire.NetID, wire.NetIDMsg{Request: x.request, Endpoint: wire.UDP(x.to.Addr)}.Append(nil))
		}
	}
}

// lateHeap implements heap.Interface.
type lateHeap []lateAnswer

func (h lateHeap) Len() int           { return len(h) }
func (h lateHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h lateHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lateHeap) Push(x any)        { *h = append(*h, x.(lateAnswer)) }

func (h *lateHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = lateAnswer{}
	*h = (*h)[:last]
	return x
}
