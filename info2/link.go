package info2

import (
	"net/netip"
	"time"
)

// linkID names a connection between core and shell; never used twice. It is
// also the origin of the messages that the link brings.
type linkID uint64

// direction is who dialled.
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
	deliver                // one message for a per-message neighbour, and nothing else
	check                  // does it answer, and which host does it know? then close
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
// Every state ends in removal from links.
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

	in          parser
	out         sender
	said        record
	request     request
	backconnect time.Time // it asked to be dialled back, lately; zero: no
}

// record is what a link has brought, and what that makes us think of it.
type record struct {
	fresh, dups uint64 // messages it was first with, and others
	unknown     int    // keywords
	spoke       bool   // said something after the handshake
	suspect     bool   // a relayed LOGOFF named it, and it has not spoken since
}

// request is our FRIEND REQUEST on a link.
type request struct {
	at   time.Time // written or queued; zero: never
	owed bool      // the reply
}

// set moves the link to a state that must have ended by deadline; zero: it may
// last.
func (l *link) set(now time.Time, s linkState, deadline time.Time) {
	if s == open {
		l.opened = now
	}
	l.state, l.since, l.deadline = s, now, deadline
}

// receives reports whether messages are forwarded to it.
func (l *link) receives() bool {
	return l.purpose == keep && (l.state == open || l.state == hearing)
}

// counts reports whether it is one of the links that we want some but not too
// many of.
func (l *link) counts() bool { return l.purpose == keep && l.state == open }

// askable returns when the other side can be asked for a friend: not before it
// has shown that it stays, and not too often.
func (l *link) askable() time.Time {
	if l.request.at.IsZero() {
		return l.opened.Add(perMessage)
	}
	return l.request.at.Add(askAgain)
}

// registers reports whether its end means that the other side wants to be dialled
// for each message: it has asked for that just now.
func (l *link) registers(now time.Time) bool {
	return l.direction == inbound && !l.backconnect.IsZero() && now.Sub(l.backconnect) <= perMessage
}

// usefulness is the share of messages that the link was first with. One that has
// had no time to show it counts as good: a newcomer needs us more than somebody
// who has links enough.
func (l *link) usefulness(now time.Time) float64 {
	u := float64(l.said.fresh+1) / float64(l.said.fresh+l.said.dups+4)
	if now.Sub(l.opened) < newcomer {
		u = max(u, 0.5)
	}
	if l.said.suspect {
		u /= 2
	}
	return u
}

// sendable returns when the next message can be written; ok is false if none can
// before something else happens.
func (l *link) sendable(now time.Time) (at time.Time, ok bool) {
	if l.state != open && l.state != hearing {
		return at, false
	}
	return l.out.next(now)
}
