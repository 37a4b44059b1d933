// Package invite reads and writes invitation links, and derives what a handshake needs from a
// token.
package invite

import (
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Token is the secret of an invitation. It never crosses the network: both sides derive keys from it.
type Token [16]byte

// Link is what an invitation link says. Without a token it is a business card.
type Link struct {
	Address   anode.Address
	Token     Token           // zero: none
	Expires   time.Time       // seconds; zero: not said
	Name      string          // of who issued it, as book.CheckName; empty: not said
	Endpoints []wire.Endpoint // at most 4
	Relays    []Relay         // at most 2
}

// Relay is a relay that forwards to the issuer for anybody.
type Relay struct {
	Address  anode.Address
	Endpoint wire.Endpoint
}
