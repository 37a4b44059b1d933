package overlay

import (
	"net/netip"
	"slices"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// FilteringKind is what the NAT or firewall in front of the node lets in (RFC 4787, 5).
type FilteringKind uint8

// The kinds. Whether a packet of an address gets in to which the node has never sent cannot be
// found out: nobody may be asked to send to an address that did not ask itself.
const (
	FilteringUnknown FilteringKind = iota
	FilteringPort                  // only what comes from an address and port to which the node has sent
	FilteringOpen                  // any port of an address to which it has sent, and perhaps any address
)

func (k FilteringKind) String() string {
	return [...]string{"unknown", "address_port_dependent", "not_port_dependent"}[k]
}

// filtering is the measurement of it with the main socket: a relay is asked to answer from the port
// that was asked, and from another one.
//
//	LINGER, long ---> NETID from both ports       not port dependent
//	             ---> NETID from the same port    three times: port dependent
//	             ---> nothing                     three times: the relay does not know it, another one is asked
type filtering struct {
	kind  FilteringKind
	due   mono.Time
	asked map[netip.AddrPort]bool // relays that have been asked to the end; at most witnesses4

	peer   *peer.Peer // who is being asked; nil: nobody
	to     link.Endpoint
	id     uint32
	knows  bool // it has answered from the port that was asked
	silent int  // questions that were answered from that port alone
	lost   int  // questions that were not answered
}

const (
	filterAfter = 2 * time.Second // a relay has said how it sees us: other things come first
	filterEvery = time.Second
	filterTries = 3
)

// begin forgets what was measured by other links.
func (f *filtering) begin() { *f = filtering{due: mono.Never} }

// look has it measured soon, since somebody can be asked.
func (f *filtering) look(now mono.Time) {
	if f.kind == FilteringUnknown && f.peer == nil {
		f.due = min(f.due, now.Add(filterAfter))
	}
}

// forget ends a question to a peer that is dropped.
func (f *filtering) forget(p *peer.Peer, now mono.Time) {
	if f.peer == p {
		f.next(now)
	}
}

// next goes on with another relay.
func (f *filtering) next(now mono.Time) {
	*f = filtering{kind: f.kind, due: now.Add(filterEvery), asked: f.asked}
}

// done records what was found.
func (f *filtering) done(k FilteringKind) { *f = filtering{kind: k, due: mono.Never} }

// tickFiltering takes the end of a question, and asks the next one.
func (r *reach) tickFiltering() mono.Time {
	f := &r.filtering
	if r.l.now < f.due {
		return f.due
	}
	f.due = mono.Never
	if f.peer != nil {
		r.filterEnd()
	}
	if f.kind != FilteringUnknown || f.due != mono.Never {
		return f.due
	}
	w, ok := r.filterWitness()
	if !ok {
		return f.due
	}
	f.peer, f.to, f.knows, f.id = w.peer, w.at.Endpoint.Place(), false, r.l.env.Request()
	f.due = r.l.now.Add(patience(w.at.RTT))
	w.peer.Reply(r.l.now, f.to, 0, wire.Linger, wire.LingerMsg{Request: f.id, Elsewhere: true}.Append(nil))
	return f.due
}

// filterEnd takes the end of a question: nothing came from another port.
func (r *reach) filterEnd() {
	f := &r.filtering
	if f.knows {
		f.silent++
	} else {
		f.lost++
	}
	f.id = 0
	switch {
	case f.silent == filterTries:
		f.done(FilteringPort)
	case f.lost == filterTries:
		if f.asked == nil {
			f.asked = map[netip.AddrPort]bool{}
		}
		f.asked[f.to.Addr] = true
		f.next(r.l.now)
	default:
		f.peer, f.due = nil, r.l.now.Add(filterEvery)
	}
}

// filterWitness returns who can be asked: one that has said how it sees us, by IPv4 if there is any.
func (r *reach) filterWitness() (witness, bool) {
	f := &r.filtering
	list := slices.DeleteFunc(r.witnesses(), func(w witness) bool {
		ep := w.at.Endpoint.Place()
		return f.asked[ep.Addr] || !r.outside.heard(ep.Addr)
	})
	if len(list) == 0 || len(f.asked) == witnesses4 {
		return witness{}, false
	}
	k := slices.IndexFunc(list, func(w witness) bool { return w.at.Endpoint.Addr.Addr().Is4() })
	return list[max(k, 0)], true
}

// filterSeen takes an answer to the question, and reports whether it is one. It counts from wherever
// it comes: what shows the kind is that it was let in.
func (r *reach) filterSeen(m *message, request uint32) bool {
	f := &r.filtering
	if f.peer == nil || f.peer != m.peer || f.id == 0 || f.id != request || m.hop != 0 {
		return false
	}
	if m.from.Addr == f.to.Addr {
		f.knows = true
		return true
	}
	f.done(FilteringOpen)
	return true
}

// elsewhereAnswers is the part of a relay: a socket for each answer, closed at once.
type elsewhereAnswers struct {
	budget mono.Networks
}

func newElsewhere() elsewhereAnswers {
	return elsewhereAnswers{mono.Networks{Each: mono.Rate{PerSecond: 1, Burst: 4}, Total: mono.Rate{PerSecond: 20, Burst: 20}, Prefix: mono.Host}}
}

// answerElsewhere answers the long LINGER of an added peer.
func (r *reach) answerElsewhere(m *message, request uint32) {
	answer := wire.NetIDMsg{Request: request, Endpoint: wire.UDP(m.from.Addr)}.Append(nil)
	if m.hop != 0 || !r.mayAnswerElsewhere(m.from) {
		return
	}
	if b, err := r.l.shell.sign(m.peer, wire.NetID, answer, m.machine, false); err == nil && r.sendElsewhere(b, m.from) {
		m.peer.Reply(r.l.now, m.from, m.machine, wire.NetID, answer)
	}
}

// answerElsewhere answers the long LINGER of a client.
func (s *clients) answerElsewhere(c *client, machine uint8, request uint32, ep link.Endpoint) {
	r := &s.l.reach
	if !r.mayAnswerElsewhere(ep) {
		return
	}
	answer := wire.NetIDMsg{Request: request, Endpoint: wire.UDP(ep.Addr)}.Append(nil)
	if r.sendElsewhere(s.l.n.toClient(s.l.shell.buf[:0], c, machine, wire.NetID, answer, &s.l.shell.scratch), ep) {
		s.reply(c, machine, ep, wire.NetID, answer)
	}
}

func (r *reach) mayAnswerElsewhere(to link.Endpoint) bool {
	ok := r.elsewhere.budget.Allow(r.l.now, to.Addr.Addr())
	if !ok {
		r.l.n.counters.count(dLinger)
	}
	return ok
}

// sendElsewhere sends a packet, which is in the shell's buffer, from a port of its own. It reports
// whether that was done.
func (r *reach) sendElsewhere(b []byte, to link.Endpoint) bool {
	r.l.shell.buf = b[:0]
	conn, err := link.ListenExtra(r.l.n.cfg.Network)
	if err != nil {
		r.l.n.log.Debug("no second socket", "err", err)
		return false
	}
	defer conn.Close()
	r.l.n.counters.count(cControlTx)
	if _, err := conn.NewWriter().Write([]link.Train{{Buf: b, Size: len(b), Endpoint: to}}); err != nil {
		r.l.n.counters.count(dWrite)
		return false
	}
	return true
}
