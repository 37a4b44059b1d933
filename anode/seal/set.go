package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/flynn/noise"

	"anodenet/anode"
	"anodenet/anode/wire"
)

const (
	maxLive    = 3 // confirmed sessions of a Set
	maxPending = 2

	pendingLife = 10 * time.Second // to be confirmed in
	together    = 5 * time.Second  // handshakes of both sides within this are one event
	staleEvery  = time.Second
	hearsPeer   = time.Second // an unknown index means nothing while so recently heard
)

// Local is our side of all handshakes. What it holds is never changed.
type Local struct {
	Identity *anode.Identity
	PSK      [32]byte  // the network secret; zeros: none
	PeerID   uint8     // our own, 1 to 15 (draft 3.4)
	Rand     io.Reader // nil: crypto/rand
	Lanes    int       // how many consecutive indices we receive on; 0: 1
	// StandardAES is to seal with the standard library's AES-GCM, even where ours runs.
	StandardAES bool
	Adapter     bool             // we have one, and take IP6 and IP6P
	Can         Capabilities     // more that we can do
	Exact       bool             // SetStanding says exactly whether we let the peer in
	Instance    wire.Instance    // drawn at random when we start; zero: not said
	Clock       func() time.Time // for stamps; nil: time.Now
	Invitation  lookup           // returns the key of an invitation of ours, for a handshake of from's that was authenticated; it must be quick. nil: there are none
	Reach       func() Reach     // where peers that were added may reach us now; nil: we say nothing, and take no NAT_T
}

func (l *Local) random() io.Reader {
	if l.Rand == nil {
		return rand.Reader
	}
	return l.Rand
}

func (l *Local) stamp() Stamp {
	if l.Clock == nil {
		return stampOf(time.Now())
	}
	return stampOf(l.Clock())
}

func (l *Local) lanes() int { return min(max(l.Lanes, 1), MaxLanes) }

// overlap reports whether the blocks of our indices that begin at a and b overlap.
func (l *Local) overlap(a, b uint16) bool {
	n := uint16(l.lanes())
	return a-b < n || b-a < n
}

// lower reports whether our address is lower than the peer's.
func (l *Local) lower(peer anode.Address) bool {
	own := l.Identity.Address()
	return slices.Compare(own[:], peer[:]) < 0
}

// announcement is what we say of ourselves to a peer.
func (l *Local) announcement(admitted, trusted bool) Announcement {
	a := Announcement{Lanes: l.lanes(), Standing: wire.StandingNotAdded, Instance: l.Instance}
	if admitted {
		a.Standing = wire.StandingAdded
	}
	a.Capabilities = l.Can
	if l.Adapter {
		a.Capabilities |= TakesIP6
	}
	if l.Exact {
		a.Capabilities |= ExactStanding
	}
	if l.Reach != nil {
		a.Capabilities |= TakesPunch
	}
	if l.Reach != nil && trusted {
		a.Reach = l.Reach()
	}
	return a
}

// life is what a Set knows of a session:
//
//	          sealed packet opened
//	pending -----------------------> confirmed ---.
//	   |  10 s, or a newer one                    | 180 s, 2^32 packets, or newer ones
//	   `----------------------------> ended <-----'
//
// A session of our own handshake begins confirmed.
type life struct {
	state     state
	began     time.Duration // of the handshake: HELLO first sent, or received
	confirmed time.Duration
	confirms  int           // keepalives sent so that the peer confirms it
	confirmAt time.Duration // when to send the next; of the issuer of an invitation: what came last when one was sent

	// Of a session that the peer's HELLO made.
	stamp   Stamp
	hello   [sha256.Size]byte // of index and noise message 1
	welcome *Message          // while pending
}

type state uint8

const (
	pending state = iota
	confirmed
	ended
)

func (s state) String() string { return [...]string{"pending", "confirmed", "ended"}[s] }

// Set has the sessions with one machine: one address and peer ID. It does no I/O,
// and its memory is bounded whatever comes in. It belongs to one goroutine.
//
// A Set may begin without a peer ID, as the one of whichever machine of the address
// answers. It takes the peer ID of the first machine that proves to have the keys, by
// a WELCOME or by the first packet in a session of its HELLO, and keeps it. So an
// engine has a Set for each machine of an address, and at most one that is for any.
// It hands a HELLO to the Set of the sender's peer ID, else to the one for any machine,
// else to a new Set; and a WELCOME, COOKIE or STALE to the Sets that it may answer
// (Answers, Outstanding). If the Set for any machine turns out to be of a machine that
// has a Set, that one absorbs it.
//
// now is the engine's clock in all methods, from any fixed point; it counts sleep,
// and is the clock of Session.Sent and Session.Received. After each call of a method
// that takes now, other than Current and Unanswered, the engine calls Tick.
type Set struct {
	local    *Local
	peer     anode.Address
	peerID   uint8 // 0: not known yet
	admitted bool  // we let the peer in, and say so
	trusted  bool  // it is told where we are
	mac      *MAC  // shared with the peer; nil: not known

	live    []*Session // confirmed, oldest first
	pending []*Session
	attempt *attempt // our HELLO that is not answered yet
	ended   []*Session
	gaveUp  bool

	sent      Stamp // the last in a HELLO of ours
	reported  Stamp // the greatest that a STALE told us
	greatest  Stamp // the greatest confirmed of the peer's
	staleSent time.Duration
	staleRead time.Duration

	timers timers
}

// attempt is our outstanding handshake.
type attempt struct {
	state      *handshake
	invitation *Invitation // by which it is made; nil: none
	hello      Hello
	began      time.Duration
	next       time.Duration // when to send it again
	interval   time.Duration // between the next two
	cookies    int           // COOKIEs answered at once
}

// NewSet makes the Set of a peer, of whose machines peerID is one, or 0 for any.
func NewSet(l *Local, peer anode.Address, peerID uint8) *Set {
	return &Set{local: l, peer: peer, peerID: peerID & 0x0f}
}

// PeerID is the peer ID of the machine that the sessions are with. 0 is any machine;
// OnWelcome or Confirm changes it once.
func (s *Set) PeerID() uint8 { return s.peerID }

// SetStanding says what handshakes from now on tell the peer: whether we let it in, and,
// only to who is trusted, where we are. A Set is made for a peer to which neither applies.
func (s *Set) SetStanding(admitted, trusted bool) { s.admitted, s.trusted = admitted, trusted }

// SetMAC says which MAC is shared with the peer. Its key saves each handshake from now on one of four key agreements.
func (s *Set) SetMAC(m *MAC) { s.mac = m }

// Outstanding reports whether our HELLO with this index is waiting for its answer.
func (s *Set) Outstanding(index uint16) bool {
	return s.attempt != nil && s.attempt.hello.Index == index
}

// Absorb takes over all that other has: a Set for any machine of the address, which the
// machine of s answered. other is empty afterwards, and of no more use.
func (s *Set) Absorb(now time.Duration, other *Set) {
	now = max(now, 1)
	for _, x := range other.live {
		s.confirm(x.life.confirmed, x)
	}
	for _, x := range other.pending {
		s.enqueue(x)
	}
	s.ended = append(s.ended, other.ended...)
	s.sent, s.reported = later(s.sent, other.sent), later(s.reported, other.reported)
	s.greatest = later(s.greatest, other.greatest)
	s.timers.heard = max(s.timers.heard, other.timers.heard)
	if other.Current(now) != nil {
		s.timers.relax(now)
	} else {
		s.timers.wanted = max(s.timers.wanted, other.timers.wanted)
	}
	*other = Set{local: other.local, peer: other.peer, admitted: other.admitted, trusted: other.trusted, mac: other.mac}
}

// Empty reports whether there are no sessions and no handshake.
func (s *Set) Empty() bool {
	return len(s.live) == 0 && len(s.pending) == 0 && s.attempt == nil && len(s.ended) == 0
}

// Pending reports whether a session is one that OnHello made and that was not handed to Confirm.
func (s *Set) Pending(x *Session) bool { return slices.Contains(s.pending, x) }

// Unproved reports whether there is nothing but sessions of the peer's handshakes in which nothing came yet.
func (s *Set) Unproved() bool { return len(s.pending) > 0 && len(s.live) == 0 && s.attempt == nil }

// Live returns all sessions on which to receive, those first that may be sent on.
func (s *Set) Live() []*Session { return slices.Concat(s.live, s.pending) }

// Current is the session on which to send, or nil: the newest confirmed one that no invitation made; of two
// whose handshakes crossed, the one whose initiator has the lower address. So both
// sides choose the same; it does no harm if they do not.
func (s *Set) Current(now time.Duration) (current *Session) {
	for _, c := range s.live { // oldest first
		if c.Invited() || c.Ended() || c.tooOld(int64(now)) {
			continue
		}
		if current == nil || !current.crossed(c) || c.initiator == s.local.lower(s.peer) {
			current = c
		}
	}
	return current
}

// crossed reports whether the handshake of n, the newer one, came of the other side
// while that of s was under way, or at least before s fell out of use. A peer that
// forgot s would begin n after s was confirmed, and never be heard on s again; or it says
// that it has started anew since, and answers a HELLO that we sent before.
func (s *Session) crossed(n *Session) bool {
	return s.initiator != n.initiator && !n.Restarted(s) && n.life.confirmed-s.life.confirmed <= together &&
		(n.life.began <= s.life.confirmed || time.Duration(s.received.Load()) > n.life.confirmed)
}

// Want says that somebody wants to send: without a session, a handshake starts, or
// the one under way goes on for 30 s more. The error is ErrRandom or the like.
func (s *Set) Want(now time.Duration) error {
	now = max(now, 1)
	s.timers.wanted = now
	if s.attempt != nil || s.Current(now) != nil || s.Invited(now) != nil { // then Tick begins: see proceed
		return nil
	}
	return s.begin(now, nil)
}

// Renew starts a handshake although there is a session: the machine is to say anew what
// handshakes say.
func (s *Set) Renew(now time.Duration) error {
	now = max(now, 1)
	if s.attempt != nil {
		return nil
	}
	s.timers.wanted = now
	return s.begin(now, nil)
}

// OnUnknown says that the machine sent a packet to an index that no session has: it
// starts a handshake, unless the peer was just heard on a session that is known.
// Anybody can forge such packets, so that it does so once a second at most.
func (s *Set) OnUnknown(now time.Duration) error {
	now = max(now, 1)
	heard := s.timers.flow(s.live).received
	if s.attempt != nil || s.timers.tried != 0 && now-s.timers.tried < time.Second ||
		heard != 0 && now-heard < hearsPeer && s.Current(now) != nil {
		return nil
	}
	s.timers.wanted = now
	return s.begin(now, nil)
}

// foreign reports whether a machine is not the one of a Set, own, which may be any. Every machine has a
// peer ID other than 0 (draft 3.4).
func foreign(own, peerID uint8) bool {
	return peerID == 0 || own != 0 && peerID != own
}

// begin starts a handshake, in place of any that is under way, by an invitation if i is not nil.
// Tick sends the HELLO. After an error nothing has changed.
func (s *Set) begin(now time.Duration, i *Invitation) error {
	s.timers.tried = now
	index, err := s.local.newIndex(s.Live(), s.attempt)
	if err != nil {
		return err
	}
	psk, said := &s.local.PSK, s.local.announcement(s.admitted, s.trusted)
	if i != nil {
		psk, said.Invitation = &i.PSK, i.ID
	}
	state, err := newHandshake(s.local, s.peer, true, psk, s.mac)
	if err != nil {
		return err
	}
	stamp := later(s.local.stamp(), later(s.sent.next(), s.reported.next()))
	msg, _, _, err := state.WriteMessage(nil, said.append(stamp[:]))
	if err != nil {
		return err
	}
	s.sent = stamp
	if s.timers.trying == 0 {
		s.timers.trying = now
	}
	s.attempt = &attempt{state: state, invitation: i, hello: Hello{Index: index, Noise: msg},
		began: now, next: now, interval: firstRetry}
	return nil
}

func later(a, b Stamp) Stamp {
	if slices.Compare(a[:], b[:]) < 0 {
		return b
	}
	return a
}

// newIndex draws a receiver index, the first of a block of which neither one of the
// sessions nor the handshake under way, which may be nil, has any.
func (l *Local) newIndex(live []*Session, a *attempt) (uint16, error) {
	var b [2]byte
	for range 64 {
		if _, err := io.ReadFull(l.random(), b[:]); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrRandom, err)
		}
		index := align(binary.BigEndian.Uint16(b[:]), l.lanes())
		taken := a != nil && l.overlap(a.hello.Index, index)
		for _, x := range live {
			taken = taken || l.overlap(x.index, index)
		}
		if !taken {
			return index, nil
		}
	}
	return 0, ErrRandom
}

// align moves the first index of a block so that, modulo n, the low byte of each index
// is the number of its lane. Sockets are chosen by that, and a flow that goes out by
// one queue has to come back by the same: the system moves it after its replies.
func align(index uint16, n int) uint16 {
	low := int(index & 0xff)
	low -= low % n
	if low+n > 0x100 {
		low -= n
	}
	return index&0xff00 | uint16(low)
}

// message is the HELLO to be sent now.
func (a *attempt) message(peerID uint8) *Message {
	return &Message{Type: wire.Hello, PeerID: peerID, Body: a.hello.Append(nil)}
}

// session makes the session of a finished handshake; first is the initiator's key.
func (s *Set) session(now time.Duration, initiator bool, peerID uint8, index, remote uint16,
	first, second *noise.CipherState, announced Announcement) (*Session, error) {
	send, recv := first.UnsafeKey(), second.UnsafeKey()
	if !initiator {
		send, recv = recv, send
	}
	x, err := newSession(ends{s.local.Identity.Address(), s.peer, s.local.PeerID, peerID, index, remote, s.local.lanes(), s.local.StandardAES, now},
		initiator, &send, &recv, announced)
	clear(send[:])
	clear(recv[:])
	return x, err
}

// confirm makes a session one of the live ones. The peer has proved that it has the
// keys.
func (s *Set) confirm(now time.Duration, x *Session) {
	if s.peerID == 0 {
		s.peerID = x.peerID
		s.keep(func(x *Session) bool { return x.peerID == s.peerID })
	}
	x.life.state, x.life.confirmed = confirmed, now
	s.live = append(s.live, x)
	for i := 0; len(s.live) > maxLive; i++ {
		if oldest := s.live[i]; oldest != s.Current(now) {
			s.keep(func(x *Session) bool { return x != oldest })
		}
	}
}

// keep erases the sessions for which keep is false, and has Tick report them.
func (s *Set) keep(keep func(*Session) bool) {
	drop := func(x *Session) bool {
		if keep(x) {
			return false
		}
		x.Erase()
		x.life.state, x.life.welcome = ended, nil
		s.ended = append(s.ended, x)
		return true
	}
	s.live = slices.DeleteFunc(s.live, drop)
	s.pending = slices.DeleteFunc(s.pending, drop)
}

// Close ends everything. Tick reports the sessions that ended.
func (s *Set) Close() {
	s.keep(func(*Session) bool { return false })
	s.attempt = nil
}
