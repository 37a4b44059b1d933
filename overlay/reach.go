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

// reach is the part that keeps the node reachable from outside. What one other says about us is
// only a hint: it makes a candidate, and a question to the others.
//
//	outside    how others see us: NETID of relays and friends, a STUN server, a port mapping
//	anchors    the relays to which the way through our NAT is kept open
//	lifetime   how long the NAT keeps it open without a packet
//	linger     answers to others who measure the same
//	filtering  what the NAT lets in
//	hairpin    whether the NAT sends packets to its own outside back in
//	elsewhere  answers to others who measure the same
//	greetings  peers that have just been added, and are reached by nobody's help
type reach struct {
	l         *loop
	questions questions
	outside   outside
	anchors   anchors
	lifetime  lifetime
	linger    linger
	greetings greetings
	stun      stun
	extras    extras
	filtering filtering
	hairpin   hairpin
	elsewhere elsewhereAnswers

	// preferred lists the relays of our zone, best first; nil: none.
	preferred func() []*peer.Peer
}

func newReach(l *loop) reach {
	return reach{l: l, anchors: anchors{since: l.now}, lifetime: newLifetime(), linger: linger{of: map[*peer.Peer]*late{}},
		greetings: greetings{of: map[*peer.Peer]mono.Time{}}, filtering: filtering{due: mono.Never}, hairpin: hairpin{due: mono.Never},
		elsewhere: newElsewhere()}
}

// message takes NETID and LINGER.
func (r *reach) message(m *message) error {
	if m.type_ == wire.Linger {
		if x, err := wire.ParseLinger(m.body); err == nil && x.Elsewhere {
			r.answerElsewhere(m, x.Request)
			return nil
		}
		return r.lingerAsked(m)
	}
	return r.netID(m, nil)
}

// tick does what is due.
func (r *reach) tick() mono.Time {
	r.questions.expire(r)
	return min(r.questions.due(), r.tickAnchors(), r.tickOutside(), r.tickLifetime(), r.tickLinger(), r.tickGreetings(), r.tickSTUN(),
		r.tickFiltering(), r.tickHairpin())
}

// linksChanged asks all anew: what others saw of us was seen by way of other links.
func (r *reach) linksChanged() {
	r.questions.list = nil
	r.extras.close()
	r.outside.begin(r.l.now)
	r.anchors.begin(r.l.now)
	r.lifetime.begin(r.l.now)
	r.filtering.begin()
	r.hairpin.begin()
	r.stun.begin(r.l.now)
	r.greetings.again(r.l.now)
}

// changed notes that the ways to a peer are other ones.
func (r *reach) changed(p *peer.Peer) {
	if p.Standing() >= book.Relay {
		soon := r.l.now.Add(lookAgain)
		r.anchors.due, r.outside.due = min(r.anchors.due, soon), min(r.outside.due, soon)
	}
}

// lookAgain is how long changes of peers are gathered before relays are chosen anew.
const lookAgain = 20 * time.Millisecond

// forget drops a peer.
func (r *reach) forget(p *peer.Peer) {
	r.questions.list = slices.DeleteFunc(r.questions.list, func(q *question) bool { return q.peer == p })
	if x := r.outside.ports.sock; x != nil && x.peer == p.Contact {
		r.extras.shut(x)
		r.outside.ports.sock, r.outside.ports.renews = nil, false
	}
	if x := r.lifetime.sock; x != nil && x.peer == p.Contact {
		r.extras.shut(x)
		r.lifetime.begin(r.l.now)
	}
	r.filtering.forget(p, r.l.now)
	r.forgetHairpin(p)
	r.anchors.list = slices.DeleteFunc(r.anchors.list, func(a *anchor) bool { return a.peer == p })
	r.anchors.due = r.l.now
	r.linger.forget(p)
	delete(r.greetings.of, p)
}

// close ends what the part began. Nothing of it runs any more when it returns.
func (r *reach) close() {
	r.extras.close()
	r.extras.reading.Wait()
}

// witness is somebody outside who can say how it sees us, at one endpoint.
type witness struct {
	peer *peer.Peer
	at   path.Info
	sure bool // a relay of our zone, or where people said that it is
}

// The most witnesses of each family of addresses. Two tell the kind of a NAT; a third outvotes one
// that lies.
const (
	witnesses4 = 3
	witnesses6 = 2
)

// witnesses lists who can be asked: the relays of our zone, then the added peers that are reached
// directly by an endpoint that the user gave, then other such peers with public addresses.
func (r *reach) witnesses() (list []witness) {
	var four, six int
	add := func(p *peer.Peer, static, sure bool) {
		seen4, seen6 := false, false
		for w := range p.Direct {
			is4 := w.Endpoint.Addr.Addr().Is4()
			if w.Endpoint.Kind != link.UDP { // what is seen of a connection says nothing of UDP
				continue
			}
			if w.OnLink || (w.Origin == path.Static) != static || !static && !routable(w.Endpoint.Addr.Addr()) {
				continue
			}
			if is4 && (seen4 || four == witnesses4) || !is4 && (seen6 || six == witnesses6) ||
				slices.ContainsFunc(list, func(x witness) bool { return x.at.Endpoint == w.Endpoint }) {
				continue
			}
			list = append(list, witness{p, w, sure})
			if is4 {
				seen4 = true
				four++
			} else {
				seen6 = true
				six++
			}
		}
	}
	if r.preferred != nil {
		for _, p := range r.preferred() {
			add(p, true, true)
			add(p, false, true)
		}
	}
	for _, p := range r.l.zones.registeredGiven() {
		add(p, false, false)
	}
	for _, static := range []bool{true, false} {
		for _, p := range slices.Backward(r.l.finder.relays) {
			if p.Standing() >= book.Added {
				add(p, static, static)
			}
		}
	}
	return list
}

// purpose says what a question is for.
type purpose uint8

const (
	forMapping purpose = iota // how does this relay see our main socket
	forPorts                  // which port does a new socket get
	forLife                   // does a mapping live so long
	forHairpin                // where is a new socket seen, to which the main one shall send
)

// question is a NETID_REQ or LINGER that waits for its answer.
type question struct {
	id    uint32
	peer  *peer.Peer
	to    link.Endpoint
	sock  *extra // nil: the main socket
	why   purpose
	delay time.Duration // of a LINGER
	sent  mono.Time
	until mono.Time
}

// questions are those that wait, at most maxQuestions: the oldest counts as unanswered then.
type questions struct {
	list []*question
	last mono.Time // that a question was sent
}

const (
	maxQuestions = 16
	answerIn     = time.Second // a round trip takes no longer
)

// add notes a question, and returns the one that has to go for it; nil if none has.
func (q *questions) add(x *question) (old *question) {
	if len(q.list) == maxQuestions {
		old = q.list[0]
		q.list = slices.Delete(q.list, 0, 1)
	}
	q.list = append(q.list, x)
	return old
}

// take returns the question that an answer is for, which must come from where it was asked, and to
// the socket that asked.
func (q *questions) take(id uint32, p *peer.Peer, from link.Endpoint, sock *extra) (*question, bool) {
	k := slices.IndexFunc(q.list, func(x *question) bool {
		return x.id == id && x.peer == p && x.to == from.Place() && x.sock == sock
	})
	if k < 0 {
		return nil, false
	}
	x := q.list[k]
	q.list = slices.Delete(q.list, k, k+1)
	return x, true
}

// waits reports whether an endpoint owes an answer to the main socket.
func (q *questions) waits(to link.Endpoint) bool {
	return slices.ContainsFunc(q.list, func(x *question) bool { return x.to == to && x.why == forMapping })
}

func (q *questions) due() mono.Time {
	next := mono.Never
	for _, x := range q.list {
		next = min(next, x.until)
	}
	return next
}

// expire drops the questions that nobody answered in time.
func (q *questions) expire(r *reach) {
	for k := 0; k < len(q.list); {
		x := q.list[k]
		if x.until > r.l.now {
			k++
			continue
		}
		q.list = slices.Delete(q.list, k, k+1)
		r.unanswered(x)
	}
}

// ask sends a NETID_REQ, or with a delay a LINGER, and notes it.
func (r *reach) ask(p *peer.Peer, to link.Endpoint, sock *extra, why purpose, delay, patience time.Duration) {
	r.questions.last = max(r.l.now, r.questions.last+1) // no two at the same time: their order tells the step of ports
	q := &question{id: r.l.env.Request(), peer: p, to: to.Place(), sock: sock, why: why, delay: delay, sent: r.questions.last,
		until: r.l.now.Add(delay + patience)}
	if old := r.questions.add(q); old != nil {
		r.unanswered(old)
	}
	t, body := wire.NetIDReq, wire.NetIDMsg{Request: q.id}.Append(nil)
	if delay > 0 {
		t, body = wire.Linger, wire.LingerMsg{Request: q.id, Delay: delay}.Append(nil)
	}
	if sock == nil {
		p.Reply(r.l.now, q.to, 0, t, body)
	} else {
		r.l.shell.extra(sock, p, q.to, t, body)
	}
}

// netID takes an answer: only one that was asked for, from who was asked.
func (r *reach) netID(m *message, sock *extra) error {
	x, err := wire.ParseNetID(m.body)
	if err != nil {
		return err
	}
	if sock == nil && r.filterSeen(m, x.Request) {
		return nil
	}
	q, ok := r.questions.take(x.Request, m.peer, m.from, sock)
	a := x.Endpoint.Addr
	if !ok || m.hop != 0 || x.Endpoint.Kind != wire.UDP(a).Kind || !r.plausible(a.Addr()) || a.Port() == 0 ||
		a.Addr().Is4() != m.from.Addr.Addr().Is4() {
		r.l.n.counters.count(dNetID)
		return nil
	}
	s := path.Sample{Local: r.l.n.conns[0].LocalPort(), Main: sock == nil, To: q.to.Addr, Seen: a, At: q.sent}
	if sock != nil {
		s.Local = sock.port
	}
	switch q.why {
	case forMapping:
		r.answered(q)
		r.seen(s, q.peer.Address)
	case forPorts:
		r.portSeen(q, s)
	case forLife:
		r.lifeSeen(q)
	case forHairpin:
		r.hairpinSeen(q, s)
	}
	return nil
}

// unanswered takes the end of a question.
func (r *reach) unanswered(q *question) {
	switch q.why {
	case forMapping:
		r.outside.due = r.l.now
		r.anchorSilent(q)
	case forPorts:
		r.portLost(q)
	case forLife:
		r.lifeLost(q)
	case forHairpin:
		r.hairpinLost(q)
	}
}
