package overlay

import (
	"context"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// eventKind says what an event is about, and which of its fields are set.
type eventKind uint8

const (
	evUnsigned eventKind = iota // msg: a whole packet from ep that anybody may have made
	evSigned                    // msg: a whole packet from ep that bears the MAC of contact
	evCookie                    // msg: a whole packet from ep, a COOKIE that answers a HELLO to contact
	evSealed                    // msg: type | message, opened in session in, from ep after hop relays
	evConfirm                   // in: the first packet was opened in it, from ep after hop relays
	evRoam                      // in: its newest packet came from ep
	evUnknown                   // contact: it, or somebody who plays it, sends in a session that we do not have, to machine
	evActive                    // contact: a session is in use again and needs its timers
	evWaiting                   // msg: type | message for ula, which cannot be sent yet; unasked: see Queue.Unasked
	evSeekLAN                   // programs send to groups, and some who may want it were not reached yet
	evSpeak                     // msg: type | message of a program for contact, which the loop may not know yet
	evSTUN                      // msg: a packet from ep with the transaction ID of a STUN request
	evExtra                     // msg: a whole packet from ep, an answer of contact to the socket extra
	evRefused                   // contact: a packet to it was refused here, since it would drop it
	evClient                    // msg: a whole packet from ep that bears the MAC of client
	evProven                    // msg: as evUnsigned, and its sender receives what is sent to ep
	evTell                      // in: a packet of it from ep was refused, which it should know
)

// event is something that a lane leaves to the loop.
type event struct {
	kind    eventKind
	hop     uint8
	machine uint8
	unasked bool
	in      *peer.Inbound
	contact *peer.Contact
	client  *client
	ula     anode.ULA
	ep      link.Endpoint
	msg     []byte
	extra   *extra
}

func (e *event) messageType() wire.Type { return wire.Type(e.msg[0]) }

// The bounds of the inboxes; what does not fit is dropped and counted.
const (
	authenticInbox = 1024
	waitingInbox   = 256
	unsignedInbox  = 1024
	clientsInbox   = 1024
	stunInbox      = 16
)

// inbox is what waits for the loop.
type inbox struct {
	authentic chan event      // of packets that were opened or bear an added peer's MAC
	waiting   chan event      // of the adapter
	unsigned  chan event      // of anybody
	clients   chan event      // of those who registered
	stun      chan event      // of STUN servers that were asked
	links     chan link.State // holds the newest alone
	calls     chan call
}

func newInbox() inbox {
	return inbox{
		authentic: make(chan event, authenticInbox),
		waiting:   make(chan event, waitingInbox),
		unsigned:  make(chan event, unsignedInbox),
		clients:   make(chan event, clientsInbox),
		stun:      make(chan event, stunInbox),
		links:     make(chan link.State, 1),
		calls:     make(chan call),
	}
}

// putLinks replaces what waits, which is older.
func (x *inbox) putLinks(s link.State) {
	select {
	case <-x.links:
	default:
	}
	x.links <- s // one goroutine alone calls this, so there is room
}

// post passes an event to the loop, unless its inbox is full.
func (n *lanes) post(e event) bool {
	to, full := n.inbox.authentic, dInboxAuthentic
	switch e.kind {
	case evWaiting, evSpeak, evSeekLAN:
		to, full = n.inbox.waiting, dInboxWaiting
	case evClient, evProven:
		to, full = n.inbox.clients, dInboxClients
	case evSTUN:
		to, full = n.inbox.stun, dSTUN
	case evUnsigned, evUnknown:
		to, full = n.inbox.unsigned, dInboxUnsigned
	}
	select {
	case to <- e:
		return true
	default:
		n.counters.count(full)
		return false
	}
}

// call is a function to be run by the loop.
type call struct {
	run  func(*loop) error
	done chan error
}

// call has the loop run f and waits for it, also if the node ends meanwhile: f writes what belongs to
// the caller.
func (n *Node) call(ctx context.Context, f func(*loop) error) error {
	k := call{f, make(chan error, 1)}
	select {
	case n.inbox.calls <- k: // the loop takes it, and runs it at once
		return <-k.done
	case <-n.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
