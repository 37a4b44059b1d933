package overlay

import (
	"slices"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// anchors are the relays to which the way through our NAT, or through a firewall that watches
// connections, is kept open: what is sent to us by them arrives, however long we have been silent.
type anchors struct {
	list  []*anchor
	since mono.Time // our links are as they are
	due   mono.Time
}

// anchor is one of them.
//
//	            answer                    unanswered
//	asked ------------> kept, every interval ------> asked again, ever more seldom
//	  ^------------------------'        another one takes its place meanwhile
type anchor struct {
	peer   *peer.Peer
	ep     link.Endpoint
	rtt    time.Duration
	since  mono.Time // it was chosen
	heard  mono.Time // the last answer
	sent   mono.Time // the last packet for it
	misses int       // questions unanswered in a row
	next   mono.Time // something is to be sent
}

const (
	maxAnchors  = 2                // that are kept
	knownAnchor = 6                // that are remembered: some may be silent
	quickTries  = 3                // before an anchor counts as silent
	cheapFrom   = 15 * time.Second // with a shorter interval only one anchor is kept, for the traffic

	keepFirst  = 8 * time.Second   // before anything is known: shorter than the shortest NATs in use
	keepFor    = 5 * time.Minute   // so long, while it is being measured
	keepAfter  = 20 * time.Second  // if it cannot be measured: most NATs keep 30 s and more
	keepMost   = 100 * time.Second // RFC 4787 asks for two minutes
	answerEach = 40 * time.Second  // a keepalive asks for an answer, but not two in a row: the other kind shows where we are

	retryFirst = time.Second // a silent anchor is asked again; doubles
	retryLast  = 5 * time.Minute
)

// begin asks every anchor at once: our links are other ones.
func (a *anchors) begin(now mono.Time) {
	a.since = now
	a.askAll(now)
}

// askAll has every anchor asked now.
func (a *anchors) askAll(now mono.Time) {
	a.due = now
	for _, x := range a.list {
		x.misses, x.next, x.heard = 0, now, 0
	}
}

// silent reports whether an anchor leaves questions unanswered.
func (x *anchor) silent() bool { return x.misses >= quickTries }

// tickAnchors chooses the anchors, and sends what is due.
func (r *reach) tickAnchors() mono.Time {
	a := &r.anchors
	if r.l.now < a.due {
		return a.due
	}
	r.choose()
	a.due = mono.Never
	kept := 0
	for _, x := range a.list {
		if !x.silent() {
			kept++
		}
		every := r.interval(x)
		if kept > 1 && every < cheapFrom && x.heard != 0 {
			every = mono.Forever
		}
		if x.next == 0 { // an answer came
			x.next = mono.Never
			if every != mono.Forever {
				x.next = max(x.sent.Add(every), r.l.now)
			}
		}
		if x.next <= r.l.now {
			r.keep(x, every)
		}
		a.due = min(a.due, x.next)
	}
	return a.due
}

// choose drops anchors that are none any more, and adds others where too few answer.
func (r *reach) choose() {
	a := &r.anchors
	list := r.witnesses()
	a.list = slices.DeleteFunc(a.list, func(x *anchor) bool {
		if x.silent() {
			return x.peer.Standing() < book.Added
		}
		return !slices.ContainsFunc(list, func(w witness) bool { return w.peer == x.peer && w.at.Endpoint.Place() == x.ep })
	})
	live := 0
	for _, x := range a.list {
		if !x.silent() {
			live++
		}
	}
	natted := r.outside.mapping.Kind > path.None
	for _, w := range list {
		best, ok := w.peer.Best()
		if live == maxAnchors || len(a.list) == knownAnchor {
			break
		}
		if !w.sure && !natted { // it may be one of those that we relay for, and keep their own way open
			continue
		}
		if !ok || best.Endpoint != w.at.Endpoint || slices.ContainsFunc(a.list, func(x *anchor) bool { return x.peer == w.peer }) {
			continue
		}
		a.list = append(a.list, &anchor{peer: w.peer, ep: w.at.Endpoint.Place(), rtt: w.at.RTT, since: r.l.now, next: r.l.now})
		live++
	}
}

// interval is how often something has to be sent to an anchor; Forever if never.
func (r *reach) interval(x *anchor) time.Duration {
	if r.outside.mapping.Kind == path.None && x.ep.Addr.Addr().Is4() {
		return mono.Forever
	}
	if life := r.lifetime.known(r); life != 0 {
		// It is shorter than what was measured already. A second is margin enough for the shortest.
		return min(max(life*4/5, min(life-time.Second, keepFirst)), keepMost)
	}
	if r.l.now.Sub(r.anchors.since) < keepFor {
		return keepFirst
	}
	return keepAfter
}

// keep sends an anchor what is due: a question, or what needs no answer.
func (r *reach) keep(x *anchor, every time.Duration) {
	if r.questions.waits(x.ep) {
		x.next = mono.Never // its end decides
		return
	}
	if x.silent() {
		x.peer.Learned(r.l.now, r.l.n.book.Learned(x.peer.Address))
		x.peer.Recheck(r.l.now)
		r.l.touch(x.peer)
	}
	x.sent = r.l.now
	r.l.n.counters.count(cKeepalives)
	if x.misses == 0 && x.heard != 0 && every != mono.Forever && r.l.now.Sub(x.heard)+every/2 < max(answerEach, 2*every) {
		x.peer.Reply(r.l.now, x.ep, 0, wire.Pong, nil) // the shortest message that nobody answers
		x.next = r.l.now.Add(every)
		return
	}
	x.next = mono.Never
	r.ask(x.peer, x.ep, nil, forMapping, 0, patience(x.rtt))
}

// doubtEvery is how often a relay is asked because it is doubted.
const doubtEvery = 500 * time.Millisecond

// doubt asks a relay now how it sees us, since nothing comes by it, or by the direct way that its
// answer led to.
func (r *reach) doubt(relay *peer.Peer) {
	for _, x := range r.anchors.list {
		if x.peer == relay && !x.silent() && r.l.now.Sub(x.sent) >= doubtEvery {
			x.next, x.heard, r.anchors.due = r.l.now, 0, r.l.now
		}
	}
}

// introduce has a relay learn where we are, since packets will go by it that it takes only from
// where it knows us: it may have started anew, or our NAT.
func (r *reach) introduce(relay *peer.Peer, heard mono.Time) {
	if r.l.now.Sub(heard) > introduceAfter {
		relay.Recheck(r.l.now)
		r.l.touch(relay)
	}
}

// introduceAfter is how long after it was heard a relay is known to know us.
const introduceAfter = 2 * time.Second

// anchorOf returns the anchor that a question was for, or nil.
func (r *reach) anchorOf(q *question) *anchor {
	k := slices.IndexFunc(r.anchors.list, func(x *anchor) bool { return x.peer == q.peer && x.ep == q.to })
	if k < 0 {
		return nil
	}
	return r.anchors.list[k]
}

// answered notes that an anchor answered.
func (r *reach) answered(q *question) {
	if x := r.anchorOf(q); x != nil {
		x.rtt = max(r.l.now.Sub(q.sent), 1)
		x.misses, x.heard, x.next = 0, r.l.now, 0
		x.sent = max(x.sent, q.sent)
		r.anchors.due = r.l.now
	}
}

// anchorSilent notes that an anchor did not answer.
func (r *reach) anchorSilent(q *question) {
	x := r.anchorOf(q)
	if x == nil {
		return
	}
	x.misses++
	r.l.zones.suspect(x.peer.Address)
	switch {
	case !x.silent():
		x.next = r.l.now
	case x.misses == quickTries:
		r.l.n.log.Info("a relay does not answer", "peer", x.peer.Label(), "endpoint", x.ep.Addr)
		fallthrough
	default:
		x.next = r.l.now.Add(min(retryFirst<<min(x.misses-quickTries, 16), retryLast))
	}
	r.anchors.due = r.l.now
}
