package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// Invitation is one that somebody else issued. Handshakes are made with it until it ends.
type Invitation struct {
	Issuer    anode.Address
	ID        InvitationID
	PSK       [32]byte
	Endpoints []wire.Endpoint // where the issuer may be, at most 8 count
	Relays    []RelayAt       // that forward to it, at most 2 count
	Until     time.Time       // zero, or later than in 30 days: in 30 days
}

// RelayAt is a relay and where it is.
type RelayAt struct {
	Address  anode.Address
	Endpoint wire.Endpoint
}

// ErrJoins says that as many invitations are tried as can be at a time.
var ErrJoins = errors.New("too many invitations are tried at once")

// ErrNoKey says that an invitation has no key: without one, the session would be anybody's.
var ErrNoKey = errors.New("the invitation has no key")

// Bounds of Join.
const (
	maxJoins          = 16
	maxGuestEndpoints = 8
	longestJoin       = 30 * 24 * time.Hour
)

// Join makes handshakes with the issuer of an invitation by its token, until an ordinary session with the
// issuer is up in which it says that it has added us, until g.Until, until it is found that the issuer
// does not know the invitation (see People), or until Join is called with another invitation of the
// issuer's. The issuer need not be added. A zero ID ends it.
//
// It tries for 30 s at first, then for 10 s at a time, after pauses of 30 s that double up to 15
// minutes; at once when our links change or a way to the issuer is found.
//
// The errors are ErrNoPeople, ErrSelf, ErrBlocked, ErrNoKey, ErrJoins, and that of ctx.
func (n *Node) Join(ctx context.Context, g Invitation) error {
	if n.cfg.People == nil {
		return ErrNoPeople
	}
	return n.call(ctx, func(l *loop) error { return l.tells.join(g) })
}

// joins are the invitations of others that are tried.
type joins struct{ of map[*peer.Peer]*join }

// join is one.
//
//	        handshake by the invitation       ordinary session, and it has added us
//	trying ----------------------------> let in ------------------------------------> over
//	   ^  |                                |
//	   |  '--- the issuer knows nothing ---+---> over: People.Refused
//	   '----------- the session ended -----'
//
// The issuer makes the ordinary session when it has added the guest. If it does not, it may have started
// anew in between, and know nothing of the session: then the guest tries an ordinary one, and then the
// invitation again.
type join struct {
	Invitation
	invitation seal.Invitation
	until      mono.Time
	next       mono.Time // when to try again
	tried      mono.Time // the last time
	pause      time.Duration
	came       int  // sessions by the invitation, since our links changed
	in         bool // there was one
	wanted     bool // and an ordinary one was tried since the last try
	up         bool // an ordinary one came up since the join began
}

const (
	firstTry  = 30 * time.Second // for how long
	laterTry  = 10 * time.Second
	joinPause = 30 * time.Second // doubles
	joinLast  = 15 * time.Minute
	joinAgain = 5 * time.Second // at the earliest, when there is a reason

	unreadAgain = 2 * time.Second // at the earliest, when the issuer cannot be read

	joinsSoon = 4 // sessions by the invitation; after more the two last pauses double each time
)

// join begins with an invitation.
func (t *tells) join(g Invitation) error {
	l := t.l
	p := l.peers.get(g.Issuer)
	switch {
	case g.Issuer == l.n.address:
		return ErrSelf
	case g.ID == InvitationID{}:
		if p != nil {
			t.leave(p)
		}
		return nil
	case g.PSK == [32]byte{}:
		return ErrNoKey
	case l.n.book.Standing(g.Issuer) == book.Blocked:
		return ErrBlocked
	case (p == nil || t.joins.of[p] == nil) && len(t.joins.of) >= maxJoins:
		return fmt.Errorf("%w: at most %d", ErrJoins, maxJoins)
	}
	if err := book.CheckAddress(g.Issuer); err != nil {
		return err
	}
	if p == nil {
		p = l.peers.add(peer.New(l.env, g.Issuer))
		l.finder.known(p)
	}
	l.peers.strangers.forget(p) // it keeps its place as long as it is tried
	if old := t.joins.of[p]; old != nil && old.ID != g.ID {
		p.Leave(l.now)
	}
	left := g.Until.Sub(l.n.cfg.Clock.Now())
	if g.Until.IsZero() || left > longestJoin {
		left = longestJoin
	}
	g.Endpoints = g.Endpoints[:min(len(g.Endpoints), maxGuestEndpoints)]
	t.joins.of[p] = &join{Invitation: g, invitation: seal.Invitation{ID: g.ID, PSK: g.PSK}, until: l.now.Add(left), next: l.now}
	l.zones.give(g.Issuer, g.Endpoints, g.Relays)
	return nil
}

// leave ends the tries to join a peer.
func (t *tells) leave(p *peer.Peer) {
	if t.joins.of[p] == nil {
		return
	}
	delete(t.joins.of, p)
	p.Leave(t.l.now)
	if p.Standing() == book.Stranger {
		t.l.peers.strangers.note(p, noSite)
	}
	t.l.touch(p)
}

// forget drops a peer.
func (t *tells) forget(p *peer.Peer) { delete(t.joins.of, p) }

// refused ends a join: the issuer does not know the invitation.
func (t *tells) refused(p *peer.Peer) {
	x := t.joins.of[p]
	if x == nil {
		return
	}
	t.leave(p)
	t.people().Refused(p.Address, x.ID)
}

// joined notes that there is a session by an invitation. The issuer is there, so that pauses are short
// again if the session leads to nothing, a few times: the secrets of the two may differ until people change that.
func (t *tells) joined(p *peer.Peer, s *seal.Session) {
	if x := t.joins.of[p]; x != nil && x.ID == s.Invitation() {
		x.in, x.wanted, x.pause = true, false, 0
		x.next = t.l.now.Add(x.slower(joinAgain))
		x.came++
	}
}

// slower is a pause of a join, longer if many sessions by the invitation led to nothing.
func (x *join) slower(pause time.Duration) time.Duration {
	return min(pause<<min(max(x.came-joinsSoon, 0), 16), joinLast)
}

// met notes that there is another ordinary session with a peer. The peer is there, so the invitation is tried at once,
// unless that is under way.
func (t *tells) met(p *peer.Peer) {
	x := t.joins.of[p]
	if x == nil {
		return
	}
	if x.up = true; !x.in && !p.Joining() {
		x.next = min(x.next, max(t.l.now, x.tried.Add(joinAgain)))
	}
}

// found tries to join a peer at once, because a way to it was found.
func (t *tells) found(p *peer.Peer) {
	if x := t.joins.of[p]; x != nil && !p.Invited(t.l.now) && p.Unanswered(t.l.now) == 0 {
		x.next = min(x.next, max(t.l.now, x.tried.Add(joinAgain)))
	}
}

// unread takes that the issuer answers an ordinary handshake and we cannot read it: it has a secret that it was to tell us
// in the session by the invitation. It may have lost that one, so another is made.
func (t *tells) unread(p *peer.Peer) {
	x := t.joins.of[p]
	if x == nil || !x.in || t.l.now.Sub(x.tried) < x.slower(unreadAgain) {
		return
	}
	x.tried = t.l.now
	p.Join(t.l.now, &x.invitation, laterTry)
}

// again tries all anew, as eagerly as in the beginning.
func (j *joins) again(now mono.Time) {
	for _, x := range j.of {
		x.next, x.pause, x.came = max(now, x.tried.Add(time.Second)), 0, 0
	}
}

// tickJoins tries what is due, and ends what is over.
func (t *tells) tickJoins() mono.Time {
	next := mono.Never
	for p, x := range t.joins.of {
		if t.over(p, x) {
			t.leave(p)
			continue
		}
		if x.next <= t.l.now {
			t.try(p, x)
		}
		next = min(next, x.next, x.until)
	}
	return next
}

// over reports whether a join has come to its end. An ordinary session from before does not count: the
// issuer may have gone since, and people wait for one that comes up.
func (t *tells) over(p *peer.Peer, x *join) bool {
	return t.l.now >= x.until || x.in && x.up && p.Current(t.l.now) && p.Admits() == wire.StandingAdded
}

// try tries to join a peer once.
func (t *tells) try(p *peer.Peer, x *join) {
	l, patience := t.l, laterTry
	if x.in && !x.wanted {
		x.wanted, x.tried, x.next = true, l.now, l.now.Add(laterTry)
		p.Proceed(l.now)
		p.Join(l.now, &x.invitation, laterTry) // unless the issuer was heard just now
		l.touch(p)
		return
	}
	x.wanted = false
	if x.pause == 0 {
		patience, x.pause = firstTry, joinPause
	}
	x.tried, x.next = l.now, l.now.Add(patience+x.pause)
	x.pause = min(2*x.pause, joinLast)
	for _, e := range x.Endpoints {
		if ep, ok := link.FromWire(e); ok && l.links.mayHint(ep, l.isOverlay, ep.Kind == link.UDP) {
			p.Offer(l.now, path.Way{Endpoint: ep}, path.Stored)
		}
	}
	p.Join(l.now, &x.invitation, patience)
	l.touch(p)
}
