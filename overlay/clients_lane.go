package overlay

import (
	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// What lanes do for clients: to recognize their packets, and to answer the PINGs that keep
// them registered. A relay of many clients gets thousands of those a second.

// clientRate bounds the unsealed packets of one client to us. Whoever recorded them can
// send them again.
var clientRate = mono.Rate{PerSecond: 10, Burst: 30}

// client returns the client whose MAC a packet bears, or nil.
func (rx *receiver) client(h *wire.Header, p []byte) *client {
	if rx.n.serves.Load() == nil || h.MAC == [8]byte{} || h.Flags&wire.FlagAuthError != 0 {
		return nil
	}
	for c := rx.n.clients.byParty(&h.Sender); c != nil; c = c.next.Load() {
		if seal.NewMAC(c.key).Verify(p, &rx.scratch) {
			return c
		}
		if h.Sender.Full() {
			break
		}
	}
	return nil
}

// registers reports whether a packet may be from somebody who wants to register.
func (rx *receiver) registers(h *wire.Header) bool {
	return rx.n.serves.Load() != nil && (h.Type == wire.Ping || h.Type == wire.EPCReq) && h.Sender.Full() && h.MAC != [8]byte{}
}

// fromClient takes an authentic packet of a client. A PING from where the client is is
// answered here; anything else is for the loop.
func (rx *receiver) fromClient(c *client, h *wire.Header, msg, p []byte, ep link.Endpoint) {
	n := rx.n
	if !c.control.Allow(rx.now, clientRate) {
		n.counters.count(dBudget)
		return
	}
	n.counters.count(cControlRx)
	b := c.at(h.SenderPeer, placeOf(ep))
	if b == nil || h.Type != wire.Ping && h.Type != wire.Pong || h.Hop != 0 {
		n.post(event{kind: evClient, client: c, ep: ep, msg: append([]byte(nil), p...)})
		return
	}
	b.heard.Store(int64(rx.now))
	if h.Type == wire.Pong { // a sign of life that needs no answer
		return
	}
	rx.answers.add(n.toClient(rx.answers.buf, c, h.SenderPeer, wire.Pong, msg, &rx.scratch), ep)
}

// toClient appends a signed message to a client.
func (n *lanes) toClient(dst []byte, c *client, machine uint8, t wire.Type, body []byte, s *seal.Scratch) []byte {
	h := wire.Header{Sender: wire.Party{ID: n.id}, Recipient: wire.Party{ID: c.id}, SenderPeer: n.peerID(), RecipientPeer: machine, Type: t}
	at := len(dst)
	dst = h.Append(dst, body)
	seal.NewMAC(c.key).Sign(dst[at:], s)
	return dst
}

// outbox is unsealed packets that a lane sends with its next batch.
type outbox struct {
	w        link.Writer
	counters *counters
	buf      []byte
	trains   []link.Train
}

const maxAnswers = 64

// add takes a packet that was appended to buf.
func (a *outbox) add(buf []byte, to link.Endpoint) {
	b := buf[len(a.buf):]
	a.buf = buf
	a.trains = append(a.trains, link.Train{Buf: b, Size: len(b), Endpoint: to})
	if len(a.trains) == maxAnswers {
		a.flush()
	}
}

func (a *outbox) flush() {
	if len(a.trains) == 0 {
		return
	}
	a.counters.add(cControlTx, len(a.trains))
	if sent, err := a.w.Write(a.trains); err != nil {
		a.counters.add(dWrite, len(a.trains)-sent)
	}
	a.buf, a.trains = a.buf[:0], a.trains[:0]
}

// payer is who pays for the packets of a train that is relayed.
type payer struct {
	allowed bool
	client  *client // nil: an added peer, who has no limits
	asked   bool    // verdict holds
	verdict counter // the limit that was reached; 0: none
}

// credit is what a lane took of the limit of all clients, ahead of its use, so that lanes
// do not meet there at every train.
type credit struct{ bytes, packets int }

// quantum is how much a lane takes at once: what the rate allows in a hundredth of a
// second, within bounds.
func quantum(perSecond uint64, most int) int { return int(min(perSecond/100, uint64(most))) }

// pay has a train paid for, once, and returns the limit that was reached; 0 if none was.
func (rx *receiver) pay(y *payer, t *link.Train) counter {
	if y.asked || y.client == nil {
		return y.verdict
	}
	y.asked = true
	x, count := rx.n.limits.Load(), (len(t.Buf)+t.Size-1)/max(t.Size, 1)
	switch {
	case !y.client.bytes.take(rx.now, len(t.Buf), x.clientByte) || !y.client.packets.take(rx.now, count, x.clientPacket):
		y.verdict = dClientLimit
	case !rx.n.total.take(rx.now, &rx.relay.credit, x, len(t.Buf), count):
		y.verdict = dTotalLimit
	}
	return y.verdict
}

// total is the limit of all clients together.
type total struct{ bytes, packets throttle }

// take reports whether a train is within the limit, by what the lane has left of it or by
// what it takes now.
func (t *total) take(now mono.Time, c *credit, x *relayRates, bytes, packets int) bool {
	if x.TotalBytes == 0 && x.TotalPackets == 0 {
		return true
	}
	if need := bytes - c.bytes; x.TotalBytes != 0 && need > 0 {
		need = max(need, quantum(x.TotalBytes, 1<<18))
		if !t.bytes.take(now, need, x.totalByte) {
			return false
		}
		c.bytes += need
	}
	if need := packets - c.packets; x.TotalPackets != 0 && need > 0 {
		need = max(need, quantum(x.TotalPackets, 256))
		if !t.packets.take(now, need, x.totalPacket) {
			return false
		}
		c.packets += need
	}
	c.bytes, c.packets = max(c.bytes-bytes, 0), max(c.packets-packets, 0)
	return true
}

// clientNamed returns the client with a short ID of which packets to a machine can be
// sent on, and where; nil if there is none.
func (n *lanes) clientNamed(id anode.ID, machine uint8) (*client, *berth) {
	for c := n.clients.named(id); c != nil; c = c.next.Load() {
		if b := c.to(machine); b != nil {
			return c, b
		}
	}
	return nil, nil
}
