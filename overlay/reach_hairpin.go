package overlay

import (
	"net/netip"
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// HairpinKind is whether the NAT in front of the node sends packets to its own outside back in.
type HairpinKind uint8

// The kinds.
const (
	HairpinUnknown HairpinKind = iota
	HairpinYes
	HairpinNo
)

func (k HairpinKind) String() string { return [...]string{"unknown", "yes", "no"}[k] }

// hairpin is the measurement of it: the main socket and a second one send to each other's outside
// endpoint, as two machines behind the NAT would. What comes in to the second one counts only if it
// is the nonce of that socket.
//
//	second socket: NETID_REQ ---> NETID: its endpoint outside
//	both: packet, 200 ms, packet, 200 ms, packet ... nonce received: yes; nothing within 1 s: no
type hairpin struct {
	kind  HairpinKind
	due   mono.Time
	tries int
	sock  *extra         // nil: nothing is being measured
	seen  netip.AddrPort // its endpoint outside; invalid: not known yet
	sent  int
}

const (
	hairpinAfter = 4 * time.Second // a relay has said how it sees us: other things come first
	hairpinTries = 3
	hairpinSends = 3
	hairpinEvery = 200 * time.Millisecond
	hairpinWait  = time.Second
)

// begin forgets what was measured by other links. The socket is closed.
func (h *hairpin) begin() { *h = hairpin{due: mono.Never} }

// look has it measured soon, since somebody can be asked for the endpoint of a socket.
func (h *hairpin) look(now mono.Time) {
	if h.kind == HairpinUnknown && h.sock == nil && h.tries < hairpinTries {
		h.due = min(h.due, now.Add(hairpinAfter))
	}
}

// hairpinDone records what was found, and closes the socket.
func (r *reach) hairpinDone(k HairpinKind) {
	h := &r.hairpin
	r.extras.shut(h.sock)
	*h = hairpin{kind: k, due: mono.Never, tries: h.tries}
	if k == HairpinUnknown && h.tries < hairpinTries {
		h.due = r.l.now.Add(hairpinAfter)
	}
}

// tickHairpin opens the socket, or sends what is due.
func (r *reach) tickHairpin() mono.Time {
	h := &r.hairpin
	if r.l.now < h.due {
		return h.due
	}
	h.due = mono.Never
	switch {
	case h.sock == nil:
		r.hairpinOpen()
	case h.sent == hairpinSends:
		r.hairpinDone(HairpinNo)
	case h.seen.IsValid():
		r.hairpinSend()
	}
	return h.due
}

// hairpinOpen asks by a new socket how it is seen, if there is a NAT.
func (r *reach) hairpinOpen() {
	h, o := &r.hairpin, &r.outside
	w, ok := r.witness4()
	switch {
	case !ok, h.kind != HairpinUnknown, o.mapping.Kind == path.None, !o.mapping.Last.Addr().Is4():
		return
	case o.ports.sock != nil || o.ports.due != mono.Never: // a new socket would disturb that
		h.due = r.l.now.Add(hairpinWait)
		return
	}
	h.tries++
	if h.sock = r.open(w.peer, w.at.Endpoint); h.sock == nil {
		r.hairpinDone(HairpinUnknown)
		return
	}
	r.ask(w.peer, w.at.Endpoint, h.sock, forHairpin, 0, patience(w.at.RTT))
}

// hairpinSeen takes the answer about the socket. Only an endpoint at the address at which the main
// socket is seen is sent to: one alone may lie.
func (r *reach) hairpinSeen(q *question, s path.Sample) {
	h := &r.hairpin
	if q.sock != h.sock {
		return
	}
	if s.Seen.Addr() != r.outside.mapping.Last.Addr() {
		r.hairpinDone(HairpinUnknown)
		return
	}
	h.seen, h.due = s.Seen, r.l.now
}

// hairpinLost ends a measurement for which nobody told the endpoint of the socket.
func (r *reach) hairpinLost(q *question) {
	if q.sock == r.hairpin.sock {
		r.hairpinDone(HairpinUnknown)
	}
}

// hairpinSend sends both ways. The packet to the main socket lets the other one in where the NAT
// filters; it is too short to be a packet of ours, and is dropped.
func (r *reach) hairpinSend() {
	h := &r.hairpin
	n := &r.l.n.counters
	n.count(cControlTx)
	if _, err := h.sock.w.Write([]link.Train{{Buf: []byte{0}, Size: 1, Endpoint: link.Endpoint{Addr: r.outside.mapping.Last}}}); err != nil {
		n.count(dWrite)
	}
	r.l.shell.write(append(r.l.shell.buf[:0], h.sock.nonce[:]...), link.Endpoint{Addr: h.seen})
	h.sent++
	h.due = r.l.now.Add(hairpinEvery)
	if h.sent == hairpinSends {
		h.due = r.l.now.Add(hairpinWait)
	}
}

// hairpinCame takes a packet with the nonce of a second socket.
func (r *reach) hairpinCame(x *extra) {
	if x == r.hairpin.sock && r.hairpin.sent > 0 {
		r.hairpinDone(HairpinYes)
	}
}

// forgetHairpin ends a measurement by way of a peer that is dropped.
func (r *reach) forgetHairpin(p *peer.Peer) {
	if x := r.hairpin.sock; x != nil && x.peer == p.Contact {
		r.hairpinDone(HairpinUnknown)
	}
}
