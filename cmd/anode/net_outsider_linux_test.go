package main_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
)

// outsider is a program of ours that speaks Anode with a node as a test wants it: an
// identity, a peer ID, a socket. It shakes hands and answers like a node, except what
// its test forbids, and it sends whatever it is told to.
type outsider struct {
	t      *testing.T
	id     *anode.Identity
	peerID uint8
	node   anode.Address // the one it speaks to
	mac    *seal.MAC
	conn   *net.UDPConn
	came   chan arrival

	mu      sync.Mutex // guards what follows
	to      netip.AddrPort
	began   time.Time
	set     *seal.Set
	answers func(wire.Type, bool) bool
	heard   map[wire.Type]int
	sends   func(p []byte) // in place of the socket, if it is not nil
}

// arrival is a message that came to an outsider.
type arrival struct {
	kind          wire.Type
	sealed        bool
	sender        uint8 // peer IDs of the header
	recipient     uint8
	bytes         int // of the packet
	msg           []byte
	authenticated bool // false: a beacon, or something else without a MAC
}

// everything is what an outsider answers unless told otherwise.
func everything(wire.Type, bool) bool { return true }

// nothing is for an outsider that only listens.
func nothing(wire.Type, bool) bool { return false }

// newIdentity makes a key.
func newIdentity(t *testing.T) *anode.Identity {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newOutsider starts an outsider on a host, at a port of its own, which speaks to the
// node at an address and port.
func newOutsider(h *host, id *anode.Identity, peerID uint8, node *host, at string) *outsider {
	h.t.Helper()
	to := netip.MustParseAddrPort(at)
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	conn, err := in(h, func() (*net.UDPConn, error) { return net.ListenUDP(network, nil) })
	if err != nil {
		h.t.Fatal(err)
	}
	key, err := seal.SharedKey(id, node.address)
	if err != nil {
		h.t.Fatal(err)
	}
	o := &outsider{t: h.t, id: id, peerID: peerID, node: node.address, mac: seal.NewMAC(key), conn: conn, to: to,
		came: make(chan arrival, 4096), began: time.Now().Add(-time.Hour), answers: everything, heard: map[wire.Type]int{}}
	o.set = seal.NewSet(&seal.Local{Identity: id, PeerID: peerID}, node.address, 0)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.listen()
	}()
	h.t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return o
}

func (o *outsider) now() time.Duration { return time.Since(o.began) }

// listen takes packets and keeps the timers of the handshake.
func (o *outsider) listen() {
	const tick = 50 * time.Millisecond
	buf := make([]byte, 1<<16)
	for {
		o.conn.SetReadDeadline(time.Now().Add(tick))
		n, err := o.conn.Read(buf)
		switch {
		case err == nil:
			o.take(append([]byte(nil), buf[:n]...))
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return // closed
		}
		o.mu.Lock()
		o.tick()
		o.mu.Unlock()
	}
}

// take reads one packet, notes it and answers it.
func (o *outsider) take(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, ok := o.read(p)
	if !ok {
		return
	}
	o.heard[a.kind]++
	select {
	case o.came <- a:
	default:
	}
	if !a.authenticated || !o.answers(a.kind, a.sealed) {
		return
	}
	reply := o.sendPlain
	if a.sealed {
		reply = o.sendSealed
	}
	switch a.kind {
	case wire.Hello:
		if m, _, err := o.set.OnHello(o.now(), a.sender, a.msg); err == nil && m != nil {
			o.sendPlain(wire.Type(m.Type), m.Body)
		}
	case wire.Welcome:
		o.set.OnWelcome(o.now(), a.sender, a.msg) // an error: one that we do not wait for
	case wire.Stale:
		o.set.OnStale(o.now(), a.msg)
	case wire.EPCReq:
		reply(wire.EPC, a.msg)
	case wire.Ping:
		reply(wire.Pong, a.msg)
	case wire.Probe:
		if m, err := wire.ParseProbe(a.msg); err == nil {
			reply(wire.ProbeAck, m.AppendAck(nil))
		}
	}
}

// read opens or checks a packet. ok is false for what is not for us.
func (o *outsider) read(p []byte) (a arrival, ok bool) {
	if wire.IsSealed(p) {
		a.sender, a.recipient = wire.SealedPeers(p)
		for _, x := range o.set.Live() {
			if int(wire.SealedIndex(p)-x.Index()) >= x.Lanes() {
				continue
			}
			msg, err := x.Open(make([]byte, len(p)-wire.SealedMin), p, int64(o.now()))
			if err != nil {
				continue
			}
			o.set.Confirm(o.now(), x)
			x.Received(int64(o.now()), len(msg) > 0)
			if len(msg) == 0 {
				return a, false // a keepalive
			}
			return arrival{wire.Type(msg[0]), true, a.sender, a.recipient, len(p), msg[1:], true}, true
		}
		return a, false
	}
	h, msg, err := wire.Parse(p)
	if err != nil || h.Sender.ShortID() != o.node.ID() {
		return a, false
	}
	a = arrival{h.Type, false, h.SenderPeer, h.RecipientPeer, len(p), msg, o.mac.Verify(p, new(seal.Scratch))}
	if h.Type == wire.Cookie && o.answers(h.Type, false) {
		if m, err := o.set.OnCookie(o.now(), msg); err == nil && m != nil {
			o.sendPlain(wire.Type(m.Type), m.Body)
		}
	}
	return a, a.authenticated || h.MAC == [8]byte{}
}

// tick sends what the handshake has due.
func (o *outsider) tick() {
	do, _ := o.set.Tick(o.now())
	if do.Hello != nil && o.answers(wire.Hello, false) {
		o.sendPlain(wire.Type(do.Hello.Type), do.Hello.Body)
	}
	if do.Keepalive != nil && o.answers(wire.Hello, false) {
		if n, ok := do.Keepalive.Reserve(0, 1, int64(o.now())); ok {
			o.write(do.Keepalive.Seal(nil, n, nil))
		}
	}
}

// shall sets what the outsider answers from now on, by type and whether it came sealed.
// Forbidding HELLO also ends its own handshakes and keepalives.
func (o *outsider) shall(answers func(kind wire.Type, sealed bool) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers = answers
}

// count is how many messages of a type came.
func (o *outsider) count(kind wire.Type) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heard[kind]
}

// await returns the next message of a type, ok false if none comes in time.
func (o *outsider) await(kind wire.Type, limit time.Duration) (a arrival, ok bool) {
	timeout := time.After(limit)
	for {
		select {
		case a = <-o.came:
			if a.kind == kind && a.authenticated {
				return a, true
			}
		case <-timeout:
			return arrival{}, false
		}
	}
}

// packet makes an unsealed packet with the right MAC, its sender in full.
func (o *outsider) packet(kind wire.Type, msg []byte) []byte {
	h := wire.Header{Sender: wire.Party{Address: o.id.Address()}, Recipient: wire.Party{ID: o.node.ID()}, SenderPeer: o.peerID, Type: kind}
	p := h.Append(nil, msg)
	o.mac.Sign(p, new(seal.Scratch))
	return p
}

// beacon makes the EPI that is broadcast: no recipient, no MAC.
func beacon(from anode.Address) []byte {
	h := wire.Header{Sender: wire.Party{Address: from}, SenderPeer: 1, Type: wire.EPI}
	return h.Append(nil, wire.EPIMsg{}.Append(nil))
}

// sealedLike makes what looks like a sealed packet of a peer to a node, with an index
// that no session has.
func sealedLike(r *rand.Rand, from, to anode.ID, peers byte) []byte {
	p := make([]byte, wire.SealedMin)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	p[0], p[1], p[26] = 0, wire.FlagSealed, peers
	copy(p[10:], from[:])
	copy(p[18:], to[:])
	return p
}

// sendPlain sends an unsealed message.
func (o *outsider) sendPlain(kind wire.Type, msg []byte) { o.write(o.packet(kind, msg)) }

// sendSealed sends a message in the newest session.
func (o *outsider) sendSealed(kind wire.Type, msg []byte) {
	if p := o.sealed(kind, msg); p != nil {
		o.write(p)
	}
}

// sealed makes a packet of the newest session, nil without one.
func (o *outsider) sealed(kind wire.Type, msg []byte) []byte {
	x := o.set.Current(o.now())
	if x == nil {
		return nil
	}
	n, ok := x.Reserve(0, 1, int64(o.now()))
	if !ok {
		return nil
	}
	x.Sent(int64(o.now()))
	return x.Seal(nil, n, append([]byte{byte(kind)}, msg...))
}

// write sends a packet to the node. An error is a packet lost.
func (o *outsider) write(p []byte) {
	if o.sends != nil {
		o.sends(p)
		return
	}
	o.conn.WriteToUDPAddrPort(p, o.to)
}

// say sends a sealed message from outside the outsider's own goroutine.
func (o *outsider) say(kind wire.Type, msg []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sendSealed(kind, msg)
}

// sealNow makes a sealed packet, to be sent from elsewhere.
func (o *outsider) sealNow(kind wire.Type, msg []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sealed(kind, msg)
}

// shakes begins a handshake.
func (o *outsider) shakes() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.set.Want(o.now()); err != nil {
		o.t.Error(err)
	}
	o.tick()
}

// connected reports whether there is a session.
func (o *outsider) connected() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.set.Current(o.now()) != nil
}

// meets shakes hands and waits until the node answers a sealed PING.
func (o *outsider) meets() {
	o.t.Helper()
	o.shakes()
	within(o.t, dialWait, "a session of the outsider", o.connected)
	within(o.t, dialWait, "a sealed PONG", func() bool {
		o.say(wire.Ping, []byte("are you there?"))
		_, ok := o.await(wire.Pong, 300*time.Millisecond)
		return ok
	})
}
