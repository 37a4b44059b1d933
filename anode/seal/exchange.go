package seal

import (
	"crypto/sha256"
	"slices"
	"time"

	"anodenet/anode/wire"
)

// cookieReplies is how many COOKIEs of one handshake are answered at once; anybody
// who sees the HELLO can forge them.
const cookieReplies = 8

// OnHello takes the body of a HELLO whose MAC is right, from the machine with the
// sender peer ID of its header. reply, if any, goes back on the path that the HELLO
// came by. pending, if any, is a new session: it is to be received on before reply is
// sent, is not sent on, and is handed to Confirm when a packet was opened in it.
//
// The errors are ErrBody, ErrVersion, ErrAuth, ErrDuplicate, ErrMachine, ErrRandom,
// ErrUninvited, ErrLater, and ErrStale if a STALE is due and one was sent just now.
func (s *Set) OnHello(now time.Duration, senderPeerID uint8, body []byte) (reply *Message, pending *Session, err error) {
	now = max(now, 1)
	h, err := ParseHello(body)
	if err != nil {
		return nil, nil, err
	}
	if foreign(s.peerID, senderPeerID) {
		return nil, nil, ErrMachine
	}
	id := sha256.Sum256(body[17:]) // all except the cookie
	for _, x := range s.Live() {
		if x.life.hello == id {
			if x.life.welcome == nil {
				return nil, nil, ErrDuplicate
			}
			return x.life.welcome, nil, nil
		}
	}

	state, err := newHandshake(s.local, s.peer, false, &s.local.PSK, s.mac)
	if err != nil {
		return nil, nil, err
	}
	payload, _, _, err := readMessage(state, h.Noise)
	if err != nil {
		return nil, nil, err
	}
	if len(payload) < stampSize || !Stamp(payload).valid() {
		return nil, nil, ErrBody
	}
	announced, ok := parseAnnouncement(payload[stampSize:])
	if !ok {
		return nil, nil, ErrBody
	}
	if s.closed() && announced.Invitation == (InvitationID{}) {
		return nil, nil, ErrUninvited
	}
	stamp := Stamp(payload)
	if reply, err := s.stale(now, senderPeerID, h.Index, stamp); reply != nil || err != nil {
		return reply, nil, err
	}
	psk, live, err := s.key(announced.Invitation)
	if err != nil {
		return nil, nil, err
	}
	if err := state.SetPresharedKey(psk[:]); err != nil {
		return nil, nil, err
	}

	index, err := s.local.newIndex(s.Live(), s.attempt)
	if err != nil {
		return nil, nil, err
	}
	msg, first, second, err := state.WriteMessage(nil, s.local.announcement(s.admitted, s.trusted).append(nil))
	if err != nil {
		return nil, nil, err
	}
	x, err := s.session(now, false, senderPeerID, index, h.Index, first, second, announced)
	if err != nil {
		return nil, nil, err
	}
	if live {
		x.invitation = announced.Invitation
	}
	reply = &Message{Type: wire.Welcome, PeerID: senderPeerID,
		Body: Welcome{Index: index, Your: h.Index, Noise: msg}.Append(nil)}
	x.life.began, x.life.stamp, x.life.hello, x.life.welcome = now, stamp, id, reply
	s.enqueue(x)
	return reply, x, nil
}

// stale judges the stamp of a valid HELLO: it must be greater than the greatest
// confirmed one, and than one of the pending ones if there are too many of those.
func (s *Set) stale(now time.Duration, senderPeerID uint8, index uint16, stamp Stamp) (*Message, error) {
	least := s.greatest
	if len(s.pending) == maxPending {
		least = later(least, lowest(s.pending).life.stamp)
	}
	switch slices.Compare(stamp[:], least[:]) {
	case 1:
		return nil, nil
	case 0:
		return nil, ErrDuplicate
	}
	if s.staleSent != 0 && now-s.staleSent < staleEvery {
		return nil, ErrStale
	}
	s.staleSent = now
	return &Message{Type: wire.Stale, PeerID: senderPeerID, Body: Stale{index, least}.Append(nil)}, nil
}

// lowest is the pending session with the lowest stamp. Old HELLOs that somebody
// replays cannot crowd out a new one, since theirs are lower.
func lowest(pending []*Session) *Session {
	return slices.MinFunc(pending, func(a, b *Session) int {
		return slices.Compare(a.life.stamp[:], b.life.stamp[:])
	})
}

// enqueue adds a pending session; the lowest stamp makes room.
func (s *Set) enqueue(x *Session) {
	if len(s.pending) == maxPending {
		low := lowest(s.pending)
		s.keep(func(x *Session) bool { return x != low })
	}
	s.pending = append(s.pending, x)
}

// OnWelcome takes the body of a WELCOME whose MAC is right. The session is the one
// to send on from now, Current permitting; the peer does not use it before it has
// opened a packet in it, for which Tick asks a keepalive. The errors are ErrBody,
// ErrVersion, ErrUnexpected, ErrMachine, ErrAuth, and ErrRefused if the peer does not know the
// invitation and its answer is of no more use; where it is, the session says so. A Set for any machine is the
// sender's afterwards.
func (s *Set) OnWelcome(now time.Duration, senderPeerID uint8, body []byte) (*Session, error) {
	now = max(now, 1)
	w, err := ParseWelcome(body)
	if err != nil {
		return nil, err
	}
	a := s.attempt
	if a == nil || w.Your != a.hello.Index {
		return nil, ErrUnexpected
	}
	if foreign(s.peerID, senderPeerID) {
		return nil, ErrMachine
	}
	m, err := s.open(a, w.Noise)
	if err != nil {
		return nil, err
	}
	announced, ok := parseAnnouncement(m.payload)
	if !ok {
		s.abandon(now) // the handshake's keys are used up
		return nil, ErrBody
	}
	if m.dead && m.psk != s.local.PSK { // it is of a network without our secret
		s.abandon(now)
		return nil, ErrRefused
	}
	x, err := s.session(now, true, senderPeerID, a.hello.Index, w.Index, m.first, m.second, announced)
	if err != nil {
		s.abandon(now)
		return nil, err
	}
	if x.refused = m.dead; a.invitation != nil && !m.dead {
		x.invitation = a.invitation.ID
	}
	s.attempt, s.timers.trying, s.timers.heard = nil, 0, now
	x.life.began, x.life.confirmAt = a.began, now
	s.confirm(now, x)
	return x, nil
}

// Confirm says that a sealed packet was opened in a session that OnHello made. For
// other sessions it does nothing.
func (s *Set) Confirm(now time.Duration, x *Session) {
	now = max(now, 1)
	i := slices.Index(s.pending, x)
	if i < 0 {
		return
	}
	s.pending = slices.Delete(s.pending, i, i+1)
	x.life.welcome = nil
	s.confirm(now, x)
	s.greatest = later(s.greatest, x.life.stamp)
	if !x.Invited() {
		s.timers.relax(now)
	}
}

// OnCookie takes the body of a COOKIE, which has no MAC: the HELLO that it returns is
// to be sent where the COOKIE came from, if any is due. The errors are ErrBody and
// ErrUnexpected.
func (s *Set) OnCookie(now time.Duration, body []byte) (*Message, error) {
	c, err := ParseChallenge(body)
	if err != nil {
		return nil, err
	}
	a := s.attempt
	if a == nil || c.Your != a.hello.Index || c.First != [16]byte(a.hello.Noise) {
		return nil, ErrUnexpected
	}
	a.hello.Cookie = c.Cookie
	if a.cookies == cookieReplies {
		return nil, nil
	}
	a.cookies++
	return a.message(s.peerID), nil
}

// OnStale takes the body of a STALE whose MAC is right: a new handshake starts, with
// a greater stamp. The errors are ErrBody, ErrUnexpected and ErrRandom; and ErrStale
// for more than one a second.
func (s *Set) OnStale(now time.Duration, body []byte) error {
	now = max(now, 1)
	t, err := ParseStale(body)
	if err != nil {
		return err
	}
	a := s.attempt
	if a == nil || t.Your != a.hello.Index || slices.Compare(t.Greatest[:], s.sent[:]) < 0 {
		return ErrUnexpected
	}
	if s.staleRead != 0 && now-s.staleRead < staleEvery {
		return ErrStale
	}
	s.staleRead = now
	s.reported = later(s.reported, t.Greatest)
	return s.begin(now, a.invitation)
}
