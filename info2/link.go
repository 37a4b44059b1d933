package info2

import (
	"net/netip"
	"time"
)

// linkID names a connection between core and shell; never used twice. It is
// also the origin of the messages that the link brings.
type linkID uint64

// direction says who dialled.
type direction uint8

const (
	inbound direction = iota
	outbound
)

func (d direction) String() string {
	if d == outbound {
		return "out"
	}
	return "in"
}

// purpose is why there is a connection.
type purpose uint8

const (
	keep    purpose = iota // a link
	deliver                // one message for a per-message neighbour
	check                  // does it answer, and whom does it know? then close
)

// linkState is where a connection is.
//
//	 accept            dial
//	    |                |  connected: we send the hello
//	    |             dialing
//	    |                |
//	awaitHello       awaitOK
//	    | hello: we     | OK
//	    | send the OK   |
//	    +------> open <-+
//	               |  the other side ends its half, having said nothing
//	            hearing
//
// Every state ends in removal from core.links.
type linkState uint8

const (
	dialing linkState = iota
	awaitOK
	awaitHello
	open
	hearing
)

func (s linkState) String() string {
	return [...]string{"dialing", "awaiting ok", "awaiting hello", "open", "hearing"}[s]
}

// link is one connection, from the dial or accept to its removal. All of it
// belongs to the core.
type link struct {
	id          linkID
	addr, local netip.Addr
	direction   direction
	purpose     purpose
	parcel      outgoing // of a deliver link

	state    linkState
	since    time.Time // of state
	opened   time.Time
	deadline time.Time // the state must have ended; zero: none
	in       parser
	unknown  int
	spoke    bool // said something after the handshake

	out      outbox
	rate     bucket
	writing  time.Time // a write is under way since; zero: none
	free     time.Time // no write before
	quiet    time.Time // after our OK: nothing before, unless it speaks
	lastSent time.Time // end of the last write that held a message

	fresh, dups uint64    // messages it was first with, and others
	suspect     bool      // a relayed LOGOFF named it, and it has not spoken since
	backconnect time.Time // it asked to be dialled back
	asked       time.Time // FRIEND REQUEST written or queued
	owed        bool      // of it, the reply
	full        bool      // its queue displaces
}

// receives says whether messages are forwarded to it.
func (l *link) receives() bool {
	return l.purpose == keep && (l.state == open || l.state == hearing)
}

// askable is when it can be asked for a friend: not before it has shown that it
// stays, and not too often.
func (l *link) askable() time.Time {
	if l.asked.IsZero() {
		return l.opened.Add(perMessage)
	}
	return l.asked.Add(askAgain)
}

// usefulness is the share of messages that the link was first with. One that has
// had no time to show it counts as good: who just came needs us more than one
// who has links enough.
func (l *link) usefulness(now time.Time) float64 {
	u := float64(l.fresh+1) / float64(l.fresh+l.dups+4)
	if now.Sub(l.opened) < newcomer {
		u = max(u, 0.5)
	}
	if l.suspect {
		u /= 2
	}
	return u
}

// sendable is when the next message can be written; ok is false if none can
// before something else happens.
func (l *link) sendable(now time.Time) (at time.Time, ok bool) {
	due, waiting := l.out.next()
	if !waiting || !l.writing.IsZero() || l.state != open && l.state != hearing {
		return at, false
	}
	for _, bound := range [...]time.Time{l.free, l.quiet, l.rate.ready(now)} {
		if due.Before(bound) {
			due = bound
		}
	}
	return due, true
}

// neighbour is a servent that is dialled for every message: it sent
// BACKCONNECT and closed, or closes what we dial after one message.
type neighbour struct {
	addr    netip.Addr
	until   time.Time // forgotten then
	out     outbox
	dialled bool // a delivery is under way
	failed  bool // the last one: the next failure ends it
}
