package overlay

import (
	"crypto/rand"
	"crypto/subtle"
	"slices"
	"sync"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// extra is a socket beside the main one, open while something is measured with it. One peer at one
// endpoint is asked by it, and nothing else that arrives counts.
type extra struct {
	conn link.Conn
	w    link.Writer
	port uint16

	peer *peer.Contact
	mac  *seal.MAC
	to   link.Endpoint

	nonce [hairpinNonce]byte // of a packet from the main socket, which shows that the NAT hairpins
}

// hairpinNonce is shorter than any packet of ours.
const hairpinNonce = 16

// extras are those that are open.
type extras struct {
	list    []*extra // at most maxExtras
	reading sync.WaitGroup
}

const maxExtras = 4

// open opens a socket to ask a peer at an endpoint; nil if it cannot.
func (r *reach) open(p *peer.Peer, to link.Endpoint) *extra {
	mac, err := p.Key()
	if err != nil || len(r.extras.list) == maxExtras {
		return nil
	}
	conn, err := link.ListenExtra(r.l.n.cfg.Network)
	if err != nil {
		r.l.n.log.Debug("no second socket", "err", err)
		return nil
	}
	x := &extra{conn: conn, w: conn.NewWriter(), port: conn.LocalPort(), peer: p.Contact, mac: mac, to: to.Place()}
	rand.Read(x.nonce[:])
	r.extras.list = append(r.extras.list, x)
	r.extras.reading.Go(func() { r.l.n.readExtra(x) })
	return x
}

// shut closes one. Its reader ends soon.
func (e *extras) shut(x *extra) {
	if x == nil {
		return
	}
	x.conn.Close()
	e.list = slices.DeleteFunc(e.list, func(y *extra) bool { return y == x })
}

// close closes all.
func (e *extras) close() {
	for len(e.list) > 0 {
		e.shut(e.list[0])
	}
}

// extraRate bounds what one such socket passes to the loop.
var extraRate = mono.Rate{PerSecond: 10, Burst: 10}

// readExtra passes the answers that come to the loop, until the socket is closed.
func (n *lanes) readExtra(x *extra) {
	var scratch seal.Scratch
	var budget mono.Bucket
	trains := make([]link.Train, 4)
	for {
		k, err := x.conn.Read(trains)
		if err != nil {
			return
		}
		for _, t := range trains[:k] {
			switch {
			case !x.answers(n, t, &scratch) && !x.isNonce(t.Buf):
				n.counters.count(dExtra)
			case !budget.Allow(n.now(), extraRate):
				n.counters.count(dBudget)
			default:
				n.post(event{kind: evExtra, contact: x.peer, ep: t.Endpoint, msg: append([]byte(nil), t.Buf...), extra: x})
			}
		}
	}
}

// isNonce reports whether a packet is the nonce of this socket.
func (x *extra) isNonce(p []byte) bool { return subtle.ConstantTimeCompare(p, x.nonce[:]) == 1 }

// answers reports whether a train is one NETID of who was asked.
func (x *extra) answers(n *lanes, t link.Train, scratch *seal.Scratch) bool {
	if t.Endpoint.Place() != x.to || len(t.Buf) > t.Size {
		return false
	}
	h, _, err := wire.Parse(t.Buf)
	return err == nil && h.Type == wire.NetID && h.MAC != [8]byte{} && x.mac.Verify(t.Buf, scratch) && n.forUs(&h, t.Buf) &&
		(h.RecipientPeer == 0 || h.RecipientPeer == n.peerID())
}

// forUs reports whether a packet is for our address.
func (n *lanes) forUs(h *wire.Header, p []byte) bool {
	if h.Flags&wire.FlagFullRecipient != 0 {
		return h.Recipient.Address == n.address
	}
	id, ok := wire.RecipientID(p)
	return ok && id == n.id
}

// extraAnswer takes an answer that came to such a socket, authentic.
func (l *loop) extraAnswer(e event) {
	if e.extra.isNonce(e.msg) {
		l.reach.hairpinCame(e.extra)
		return
	}
	h, msg, err := wire.Parse(e.msg)
	p := l.peers.get(e.contact.Address)
	if err != nil || p == nil || !slices.Contains(l.reach.extras.list, e.extra) {
		l.n.counters.count(dNetID)
		return
	}
	p.Signed(l.now)
	m := &message{peer: p, type_: h.Type, body: msg, from: e.ep, hop: h.Hop, machine: h.SenderPeer}
	if err := l.reach.netID(m, e.extra); err != nil {
		l.n.counters.count(dMessage)
	}
	l.touch(p)
}

// extra sends an unsealed message by a second socket.
func (s *shell) extra(x *extra, p *peer.Peer, to link.Endpoint, t wire.Type, body []byte) {
	b, err := s.sign(p, t, body, 0, true)
	if err != nil {
		return
	}
	s.buf = b[:0]
	s.l.n.counters.count(cControlTx)
	if _, err := x.w.Write([]link.Train{{Buf: b, Size: len(b), Endpoint: to}}); err != nil {
		s.l.n.counters.count(dWrite)
	}
}
