package overlay

import (
	"context"
	"errors"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// People is who decides about what peers tell us: TELL and TOLD, and the sessions that invitations
// make. The loop calls its methods, so they must not wait: they put what they get into a
// bounded queue of their own.
type People interface {
	// Heard takes a TELL. It reports whether there was room: what is not taken is counted and
	// comes again.
	Heard(h Heard) bool
	// Told takes the answer to a TELL of ours.
	Told(a anode.Address, m wire.ToldMsg)
	// Up is told that a session with an added peer, or one by an invitation, is confirmed.
	Up(u Up)
	// Invitation returns the preshared key of an invitation that may be used now; ok is false if
	// there is none. It must be fast: a stranger's HELLO waits for it.
	Invitation(id InvitationID) (psk [32]byte, ok bool)
}

// InvitationID names an invitation in a HELLO. It says nothing about the token.
type InvitationID [8]byte

// Heard is a TELL as it came.
type Heard struct {
	From       anode.Address
	Standing   book.Standing
	Invitation InvitationID // the session's, which proves that the sender has the token; zero: none
	Endpoint   string       // where it came from, for people to see
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

// Guest is an invitation of somebody else's, with which handshakes are made until it ends.
type Guest struct {
	Issuer    anode.Address
	ID        InvitationID
	PSK       [32]byte
	Endpoints []wire.Endpoint
	Relays    []RelayAt
	Until     time.Time
}

// RelayAt is a relay and where it is.
type RelayAt struct {
	Address  anode.Address
	Endpoint wire.Endpoint
}

// ErrNoPeople says that the node was made without People.
var ErrNoPeople = errors.New("this node takes no messages of people")

// Tell sends a TELL once, in the session with a or in one that it begins. An error says that it was
// not sent; without one it may still be lost, so the caller repeats it until TOLD comes.
func (n *Node) Tell(ctx context.Context, a anode.Address, m wire.TellMsg) error {
	return ErrNoPeople
}

// TellBack answers a TELL, in the session with a. Without one the answer is dropped: the TELL
// comes again.
func (n *Node) TellBack(ctx context.Context, a anode.Address, m wire.ToldMsg) error {
	return ErrNoPeople
}

// Join makes handshakes with the issuer of an invitation by its token, until an ordinary session with the
// issuer is up, until g.Until, or until Join is called with another invitation of the issuer's.
// The issuer need not be added. A zero ID ends it.
func (n *Node) Join(ctx context.Context, g Guest) error { return ErrNoPeople }

// Doors lists where a guest can reach this node now: endpoints, the most promising first, and relays that
// forward to it for anybody.
func (n *Node) Doors(ctx context.Context) (endpoints []wire.Endpoint, relays []RelayAt, err error) {
	return nil, nil, ErrNoPeople
}

// SetSecret replaces the network's secret: handshakes from now on use it.
func (n *Node) SetSecret(ctx context.Context, psk [32]byte) error { return ErrNoPeople }
