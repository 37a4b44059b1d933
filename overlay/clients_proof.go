package overlay

import (
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// Newcomers under load. Each costs a key agreement, of which a relay makes only so many, and
// anybody can ask for one in any name and from any address. While more ask than can be served,
// they are asked to show that they are where they say they are:
//
//	newcomer                            relay
//	PING nonce[8] ------------------->  no budget is left
//	              <-------------------  COOKIE 0[2] nonce[8] 0[8] cookie[16], no larger than the PING
//	PING nonce[8] cookie[16] -------->  a budget of those who have shown it, fair by network
//	              <-------------------  EPC_REQ, as ever
//
// Who forges addresses never sees a cookie, and who has one network uses up its share alone.
type proofs struct {
	cookies seal.Cookies
	all     mono.Networks // of those who have shown nothing
	proven  mono.Networks
	asked   mono.Networks // COOKIEs
}

// proofSize is the body of a PING with a cookie.
const proofSize = 8 + 16

func newProofs() proofs {
	return proofs{all: newNewcomers(), proven: newProven(),
		asked: mono.Networks{Each: mono.Rate{PerSecond: 500, Burst: 200}, Total: mono.Rate{PerSecond: 20_000, Burst: 2000}, Prefix: mono.Site}}
}

// newNewcomers is fewer than the loop has key agreements for, so that a lane notices that there
// are too many.
func newNewcomers() mono.Networks {
	return mono.Networks{Each: mono.Rate{PerSecond: 1000, Burst: 500}, Total: mono.Rate{PerSecond: 1500, Burst: 500}, Prefix: mono.Site}
}

// newProven is one network's share, and what all of them may cost.
func newProven() mono.Networks {
	return mono.Networks{Each: mono.Rate{PerSecond: 200, Burst: 100}, Total: mono.Rate{PerSecond: 1000, Burst: 500}, Prefix: mono.Site}
}

// newcomer takes a packet that may be from somebody who wants to register.
func (rx *receiver) newcomer(h *wire.Header, msg, p []byte, ep link.Endpoint) {
	x, from := &rx.proofs, ep.Addr.Addr()
	kind := evUnsigned
	switch {
	case h.Flags&wire.FlagAuthError == 0 && rx.n.clients.get(&h.Sender.Address) != nil: // it is no newcomer, and the MAC is not its
		rx.n.counters.count(dMAC)
		return
	case h.Type == wire.Ping && len(msg) == proofSize && x.cookies.Check(rx.now.Duration(), endpointBytes(ep), h.Sender.Address, [16]byte(msg[8:])):
		if kind = evProven; !x.proven.Allow(rx.now, from) {
			rx.n.counters.count(dBudget)
			return
		}
	case x.all.Allow(rx.now, from):
	default:
		rx.n.counters.count(dSourceRate)
		if h.Type == wire.Ping && h.Hop == 0 && len(msg) >= 8 && x.asked.Allow(rx.now, from) {
			rx.askProof(h, [8]byte(msg), len(p), ep)
		}
		return
	}
	rx.n.post(event{kind: kind, ep: ep, msg: append([]byte(nil), p...)})
}

// askProof answers a PING by a COOKIE, unless that would be larger. It names no recipient:
// to compute the short ID of an address costs more than all the rest.
func (rx *receiver) askProof(h *wire.Header, nonce [8]byte, size int, ep link.Endpoint) {
	c := seal.Challenge{Cookie: rx.proofs.cookies.Make(rx.now.Duration(), endpointBytes(ep), h.Sender.Address)}
	copy(c.First[:], nonce[:])
	reply := wire.Header{Sender: wire.Party{ID: rx.n.id}, SenderPeer: rx.n.peerID(), RecipientPeer: h.SenderPeer, Type: wire.Cookie}
	buf := reply.Append(rx.answers.buf, c.Append(make([]byte, 0, 2+16+16)))
	if len(buf)-len(rx.answers.buf) <= size {
		rx.answers.add(buf, ep)
	}
}

// cookie takes a COOKIE that may be a relay's answer to a PING, and reports whether it is.
func (z *zones) cookie(h *wire.Header, msg []byte, ep link.Endpoint) bool {
	x, err := seal.ParseChallenge(msg)
	if err != nil {
		return false
	}
	for _, r := range z.relays {
		if r.peer.ID == h.Sender.ID && r.challenged(&x, ep) {
			return true
		}
	}
	return false
}

// mostCookies is how many COOKIEs one PING is repeated for: it may have gone to two endpoints.
const mostCookies = 3

// challenged repeats the PING that a COOKIE answers, with the cookie. Only who is on the way to
// the relay knows the nonce.
func (r *zoneRelay) challenged(x *seal.Challenge, ep link.Endpoint) bool {
	if [8]byte(x.First[:8]) != r.nonce || !r.wasAsked(ep) || r.cookies == mostCookies {
		return false
	}
	r.cookies++
	r.cookie = append(r.cookie[:0], x.Cookie[:]...)
	r.z.l.shell.Plain(r.peer, ep, wire.Ping, r.question(), 0, true)
	return true
}

// question is the body of the PING: nonce, and the relay's cookie if it asked for one.
func (r *zoneRelay) question() []byte {
	return append(r.nonce[:len(r.nonce):len(r.nonce)], r.cookie...)
}
