package overlay

import (
	"context"
	"errors"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// People takes TELL and TOLD, and the sessions that invitations make, and decides about them. The loop
// calls its methods. They must not wait and must not call the Node: they put what they get into a bounded
// queue of their own.
type People interface {
	// Heard takes a TELL. It reports whether there was room: what is not taken is counted and
	// comes again.
	Heard(h Heard) bool
	// Told takes the answer to a TELL of ours.
	Told(a anode.Address, m wire.ToldMsg)
	// Up says that a session is confirmed. It must be fast: a stranger's may be one of many.
	Up(u Up)
	// Invitation returns the preshared key of an invitation that from may use now; ok is false if
	// there is none. from has proved its address, but not that it has the token. A guest may use an
	// invitation again that it has used up: it may not know that it was let in, and in a network with a
	// secret no other session can tell it. It must be fast: a stranger's HELLO waits for it.
	Invitation(id InvitationID, from anode.Address) (psk [32]byte, ok bool)
	// Refused says that the issuer of an invitation that we use does not know it: it has expired, was used
	// up, or was revoked. The issuer has proved that it said so. Join has ended.
	Refused(issuer anode.Address, id InvitationID)
}

// InvitationID names an invitation in a HELLO. It says nothing about the token.
type InvitationID = seal.InvitationID

// Heard is a TELL as it came.
type Heard struct {
	From       anode.Address
	Standing   book.Standing
	Invitation InvitationID // the session's, which proves that the sender has the token; zero: none
	Endpoint   string       // where it came from, for people to see; that of a relay, if there is one between
	Msg        wire.TellMsg // its own copy
}

// Up is a session that is confirmed.
type Up struct {
	Address    anode.Address
	Standing   book.Standing
	Invitation InvitationID // of ours, or of the other side's; zero: an ordinary session
	Issued     bool         // the invitation is ours: the other side has proved the token
	Endpoint   string       // where the other side is, for people to see
}

// ErrNoPeople says that the node was made without People.
var ErrNoPeople = errors.New("this node takes no requests of people")

// Tell sends a TELL once, in the session with a or in one that it begins. An error says that it was
// not sent; without one it may still be lost, so the caller repeats it until TOLD comes. It waits for a
// session for some seconds.
func (n *Node) Tell(ctx context.Context, a anode.Address, m wire.TellMsg) error {
	if n.cfg.People == nil {
		return ErrNoPeople
	}
	sent, failed := make(chan uint8, 1), make(chan error, 1)
	err := n.call(ctx, func(l *loop) error {
		p, err := l.meet(a, noSite)
		if err != nil {
			return err
		}
		p.Send(l.now, peer.Waiting{Msg: m.Append([]byte{byte(wire.Tell)}), Sent: sent, Failed: failed})
		l.touch(p)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-sent:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return n.why(context.WithoutCancel(ctx), a)
		}
		return ctx.Err()
	case <-n.done:
		return ErrClosed
	}
}

// TellBack answers a TELL, in the session with a. Without one the answer is dropped: the TELL
// comes again.
func (n *Node) TellBack(ctx context.Context, a anode.Address, m wire.ToldMsg) error {
	if n.cfg.People == nil {
		return ErrNoPeople
	}
	return n.call(ctx, func(l *loop) error {
		if p := l.peers.get(a); p != nil {
			l.tells.back(p, m)
		}
		return nil
	})
}

// SetSecret replaces the network's secret: handshakes from now on use it. Sessions that are up stay
// until their keys end. What is joined is tried again at once.
func (n *Node) SetSecret(ctx context.Context, psk [32]byte) error {
	return n.call(ctx, func(l *loop) error {
		if l.env.Local.PSK == psk {
			return nil
		}
		local := *l.env.Local
		local.PSK = psk
		l.env.Local = &local
		for _, p := range l.peers.byAddress {
			p.Use(l.now)
			l.touch(p)
		}
		l.tells.joins.again(l.now)
		return nil
	})
}

// tells is the part that takes TELL and TOLD, and that makes handshakes by invitations of others.
//
// TELLs of strangers draw on a budget of their network and on one of all strangers. An added peer has a
// budget of its own, and so has a guest with an invitation of ours: see receiver.deliver.
type tells struct {
	l         *loop
	strangers mono.Networks
	claims    map[InvitationID]*claims
	joins     joins
}

var (
	// tellsOfOne is of one added peer, or of one with an invitation.
	tellsOfOne = mono.Rate{PerSecond: 20, Burst: 100}
	// A stranger sends one TELL, a few times. All strangers together have as many as gate has key agreements
	// for: a stranger that has got this far does not fail because of others.
	tellsOfSite      = mono.Rate{PerSecond: 1, Burst: 8}
	tellsOfStrangers = mono.Rate{PerSecond: 250, Burst: 250}
	// claimRate is how many handshakes are made by one invitation.
	claimRate = mono.Rate{PerSecond: 10.0 / 60, Burst: 10}
)

// claims are the handshakes that were made by one invitation.
type claims struct {
	bucket mono.Bucket
	last   mono.Time
}

// Invitations whose handshakes are counted. Those that nobody knows are not among them.
const (
	maxClaims   = 512
	claimsStale = time.Minute // then the bucket is full again
)

func newTells(l *loop) tells {
	return tells{l: l, strangers: mono.Networks{Each: tellsOfSite, Total: tellsOfStrangers, Prefix: mono.Site},
		claims: map[InvitationID]*claims{}, joins: joins{of: map[*peer.Peer]*join{}}}
}

// people returns who takes what people tell; nil: nobody does.
func (t *tells) people() People { return t.l.n.cfg.People }

// message takes TELL and TOLD, which the lane has admitted.
func (t *tells) message(m *message) error {
	if t.people() == nil {
		t.l.n.counters.count(dNoPeople)
		return nil
	}
	if m.type_ == wire.Told {
		x, err := wire.ParseTold(m.body)
		if err == nil {
			t.people().Told(m.peer.Address, x)
		}
		return err
	}
	x, err := wire.ParseTell(m.body)
	if err != nil {
		return err
	}
	if m.peer.Standing() < book.Added && !m.in.Session.Invited() && !t.strangers.Allow(t.l.now, m.from.Addr.Addr()) {
		t.l.n.counters.count(dTells)
		return nil
	}
	m.peer.HeardIn(m.in, m.from)
	x.Body = append([]byte(nil), x.Body...)
	if !t.people().Heard(Heard{m.peer.Address, m.peer.Standing(), m.in.Session.Invitation(), m.from.String(), x}) {
		t.l.n.counters.count(dTellsFull)
	}
	return nil
}

// back answers a TELL. A stranger has no more to do here then.
func (t *tells) back(p *peer.Peer, m wire.ToldMsg) {
	if p.TellBack(t.l.now, m.Append([]byte{byte(wire.Told)})) {
		t.l.peers.strangers.answered(p)
	}
	t.l.touch(p)
}

// claim returns the key of an invitation of ours; see seal.Local.
func (t *tells) claim(from anode.Address, id InvitationID) (psk [32]byte, c seal.Claim) {
	if t.people() == nil {
		return psk, seal.Dead
	}
	psk, ok := t.people().Invitation(id, from)
	switch {
	case !ok, psk == [32]byte{}:
		t.l.n.counters.count(dInvitation)
		return psk, seal.Dead
	case !t.allow(id):
		t.l.n.counters.count(dClaims)
		return psk, seal.Later
	}
	return psk, seal.Live
}

// allow reports whether one more handshake may be made by an invitation that there is.
func (t *tells) allow(id InvitationID) bool {
	x := t.claims[id]
	if x == nil {
		if len(t.claims) >= maxClaims {
			for id, old := range t.claims {
				if t.l.now.Sub(old.last) > claimsStale {
					delete(t.claims, id)
				}
			}
		}
		if len(t.claims) >= maxClaims {
			return false
		}
		x = &claims{}
		t.claims[id] = x
	}
	x.last = t.l.now
	return x.bucket.Allow(t.l.now, claimRate)
}

// up takes a session that was confirmed just now.
func (t *tells) up(p *peer.Peer, s *seal.Session, at string) {
	if t.people() == nil {
		return
	}
	if s.Invited() && s.Initiator() {
		t.joined(p, s)
	} else if !s.Invited() {
		t.met(p)
	}
	if s.Invited() || p.Standing() > book.Blocked {
		t.people().Up(Up{p.Address, p.Standing(), s.Invitation(), s.Invited() && !s.Initiator(), at})
	}
}

// tick goes on with what was joined.
func (t *tells) tick() mono.Time { return t.tickJoins() }

// linksChanged tries what was joined again.
func (t *tells) linksChanged() { t.joins.again(t.l.now) }
