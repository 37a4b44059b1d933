package seal

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/flynn/noise"

	"anodenet/anode"
)

// An invitation is a preshared key that one side made and gave the other, the guest, by a way
// of its own. The guest's HELLO names it by an ID in message 1, which only the issuer can read.
// The issuer looks the key up after it has read message 1, and mixes it into message 2:
//
//	guest                                                issuer
//	Join     -- HELLO: id, in message 1 -------------->  OnHello: looks the key up
//	OnWelcome <-- WELCOME: message 2 with the key -----
//	session  -- first sealed packet ------------------>  Confirm: the guest has the key
//	         <-- keepalive ----------------------------  so the guest knows that
//
// The key never travels, and what a HELLO says proves nothing: a replayed one ends as a pending
// session. An issuer that does not know the ID answers as if there were none. The guest sees
// that by the key that opens message 2, which nobody can replay, since it is made for this
// HELLO's ephemeral key.
//
// A session by an invitation is not one to send data on: Current never returns it, and it ends
// when there is an ordinary one.

// InvitationID names an invitation in a HELLO. The zero value is none.
type InvitationID [8]byte

// String returns the ID in hex digits.
func (id InvitationID) String() string { return hex.EncodeToString(id[:]) }

// Invitation is what a guest has of one.
type Invitation struct {
	ID  InvitationID
	PSK [32]byte
}

// Claim says what an invitation of ours is worth now.
type Claim uint8

// The claims.
const (
	Dead  Claim = iota // there is none with this ID, or it may not be used any more
	Live               // its key is the session's
	Later              // there is one, and no handshake is made by it now
)

// String returns the word for a claim.
func (c Claim) String() string {
	if c > Later {
		return "unknown claim"
	}
	return [...]string{"dead", "live", "later"}[c]
}

// Errors of handshakes by invitations.
var (
	ErrUninvited = errors.New("seal: a stranger without an invitation, in a network with a secret")
	ErrLater     = errors.New("seal: the invitation is asked for too often")
	ErrRefused   = errors.New("seal: the other side does not know the invitation")
)

const (
	invitedSilence = 10 * time.Second // after which a session by an invitation may have ended at the other side

	proofs     = 7               // keepalives by which a guest proves that it has the key: 16 s
	lingersFor = 2 * time.Second // what is under way in a session that an ordinary one has replaced
)

// Invitation returns the ID of the invitation by which the session was made; zero: it is an
// ordinary one.
func (s *Session) Invitation() InvitationID { return s.invitation }

// Invited reports whether the session was made by an invitation.
func (s *Session) Invited() bool { return s.invitation != InvitationID{} }

// Refused reports whether the handshake that made the session named an invitation that the other
// side does not know. It is an ordinary session then.
func (s *Session) Refused() bool { return s.refused }

// Join begins a handshake by an invitation of the other side's, in place of any that is under
// way, and goes on with it for a while. It does nothing if one by it is under way, or if there is a
// session by it in which the other side was heard just now, and another handshake has not been under way since: it may
// have started anew, and know nothing of the session.
func (s *Set) Join(now time.Duration, i *Invitation, patience time.Duration) error {
	now = max(now, 1)
	s.timers.joined = now - giveUp + patience
	if s.Joining() && *s.attempt.invitation == *i {
		return nil
	}
	if x := s.Invited(now); x != nil && x.invitation == i.ID && s.alive(now, x) {
		return nil
	}
	return s.begin(now, i)
}

// Joining reports whether a handshake by an invitation of the other side's is under way.
func (s *Set) Joining() bool { return s.attempt != nil && s.attempt.invitation != nil }

// alive reports whether the other side was heard in a session by an invitation just now, and no handshake has gone
// unanswered since.
func (s *Set) alive(now time.Duration, x *Session) bool {
	heard := time.Duration(x.received.Load())
	vain := s.attempt != nil && s.attempt.began > heard && s.attempt.began < now
	return heard != 0 && now-heard < invitedSilence && !vain
}

// Leave ends the handshake by an invitation that is under way. Sessions stay.
func (s *Set) Leave(now time.Duration) {
	if s.Joining() {
		s.abandon(max(now, 1))
	}
}

// Invited returns the newest confirmed session by an invitation, or nil.
func (s *Set) Invited(now time.Duration) (newest *Session) {
	for _, x := range s.live {
		if x.Invited() && !x.Ended() && !x.tooOld(int64(now)) {
			newest = x
		}
	}
	return newest
}

// Guest reports whether there is a session by an invitation, confirmed or pending.
func (s *Set) Guest(now time.Duration) bool {
	return s.Invited(now) != nil || slices.ContainsFunc(s.pending, (*Session).Invited)
}

// Use has handshakes from now on made with another Local, such as one with another network
// secret. Sessions that are confirmed stay; of handshakes that are under way, those without an
// invitation begin anew.
func (s *Set) Use(now time.Duration, l *Local) error {
	now = max(now, 1)
	s.local = l
	s.keep(func(x *Session) bool { return x.life.state != pending || x.Invited() })
	if s.attempt == nil || s.attempt.invitation != nil {
		return nil
	}
	return s.begin(now, nil)
}

// Heard returns when the other side was last known to have the session: when it was confirmed, or a packet was opened in it.
// For the Set's goroutine.
func (s *Session) Heard() time.Duration {
	return max(s.life.confirmed, time.Duration(s.received.Load()))
}

// heard reports whether anything was opened in the session.
func (s *Session) heard() bool { return s.received.Load() != 0 }

// key returns the preshared key for a handshake of the other side's that names an invitation, or
// none: it is that of the invitation if live.
func (s *Set) key(id InvitationID) (psk [32]byte, live bool, err error) {
	c := Dead
	if id != (InvitationID{}) && s.local.Invitation != nil {
		psk, c = s.local.Invitation(s.peer, id)
	}
	switch {
	case c == Live:
		return psk, true, nil
	case c == Later:
		return psk, false, ErrLater
	case s.closed():
		return psk, false, ErrUninvited
	}
	return s.local.PSK, false, nil
}

// closed reports whether the peer is answered only if it is invited.
func (s *Set) closed() bool { return !s.trusted && s.local.PSK != [32]byte{} }

// opened is what message 2 said.
type opened struct {
	payload       []byte
	first, second *noise.CipherState
	dead          bool // it knows nothing of our invitation
	psk           [32]byte
}

// open reads message 2. The answer to a HELLO with an invitation may know nothing of that; then
// one of the other keys opens it. After an error nothing has changed.
func (s *Set) open(a *attempt, msg []byte) (m opened, err error) {
	if a.invitation == nil {
		m.psk = s.local.PSK
		m.payload, m.first, m.second, err = readMessage(a.state, msg)
		return m, err
	}
	for k, psk := range [][32]byte{a.invitation.PSK, s.local.PSK, {}} {
		if err := a.state.SetPresharedKey(psk[:]); err != nil {
			return m, err
		}
		payload, first, second, e := readMessage(a.state, msg)
		if e == nil {
			return opened{payload, first, second, k > 0, psk}, nil
		}
		err = e
	}
	return m, err
}

// replaced reports whether an ordinary session has taken the place of one by an invitation, and
// since when.
func (s *Set) replaced(x *Session) (since time.Duration, ok bool) {
	for _, c := range s.live {
		heard := time.Duration(c.received.Load())
		if c.Invited() || c.Ended() || max(c.life.confirmed, heard) < x.life.confirmed {
			continue
		}
		if at := max(c.life.confirmed, x.life.confirmed); !ok || at < since {
			since, ok = at, true
		}
	}
	return since, ok
}

// proceed begins the ordinary handshake for which somebody waits, once the one by an invitation
// has led to a session.
func (s *Set) proceed(now time.Duration) {
	x := s.Invited(now)
	if x == nil || s.attempt != nil || s.timers.wanted == 0 || now-s.timers.wanted >= giveUp || s.Current(now) != nil || x.initiator && !x.heard() {
		return
	}
	s.begin(now, nil)
}

// proof is the session by an invitation in which a keepalive is due: a guest's proof that it has
// the key, until it hears something, and the issuer's word that it saw it, as often as it comes.
func (s *Set) proof(now time.Duration, at func(time.Duration)) (due *Session) {
	for _, x := range s.live {
		heard := time.Duration(x.received.Load())
		switch {
		case !x.Invited():
		case x.initiator && heard == 0:
			due = x.confirmation(now, proofs, due, at)
		case !x.initiator && heard > x.life.confirmAt && x.sent.Load() == 0 && due == nil:
			due, x.life.confirmAt = x, heard
		}
	}
	return due
}

// confirmation returns the session if one of at most so many keepalives is due in it, or else due.
func (s *Session) confirmation(now time.Duration, most int, due *Session, at func(time.Duration)) *Session {
	l := &s.life
	if l.confirms == most {
		return due
	}
	if l.confirmAt <= now && due == nil {
		due = s
		l.confirmAt = now + firstRetry<<l.confirms
		l.confirms++
	}
	if l.confirms < most {
		at(l.confirmAt)
	}
	return due
}

// lookup is Local.Invitation.
type lookup func(from anode.Address, id InvitationID) (psk [32]byte, c Claim)
