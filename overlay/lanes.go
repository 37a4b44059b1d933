package overlay

import (
	"log/slog"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// lanes is what the lanes share with each other and with the loop.
type lanes struct {
	// What never changes.
	address  anode.Address
	id       anode.ID
	ula      anode.ULA
	clock    Clock
	device   Device    // nil: none
	junction *junction // nil: no gateway
	programs *programs
	log      *slog.Logger

	// What any goroutine may use.
	index        *index
	inbox        inbox
	counters     counters
	pings        pings
	fragments    fragments
	ip6Fragments ip6Fragments // of peers with adapters, at a node without one
	budgets      budgets
	clients      *clientIndex
	departures   departures
	total        total                        // of what is relayed for clients
	admits       atomic.Uint32                // from which standing on the adapter's policy lets everything in
	relays       atomic.Bool                  // packets are forwarded
	serves       atomic.Pointer[[]anode.Zone] // whose addresses may register; nil: none's
	limits       atomic.Pointer[relayRates]
	ownID        atomic.Uint32 // our peer ID
	stunWaits    stunAwaited   // what STUN servers were asked and have not answered
	lan          lanLane       // the virtual one
}

// init sets what is the same for all nodes.
func (n *lanes) init() {
	n.index, n.inbox, n.clients = newIndex(), newInbox(), newClientIndex()
	n.programs = newPrograms(n)
	n.departures.wake = make(chan struct{}, 1)
	n.budgets.init()
	n.lan.view.Store(&lanView{})
	n.setOpen(false)
	n.setLimits(DefaultRelayLimits())
}

// peerID is our peer ID.
func (n *lanes) peerID() uint8 { return uint8(n.ownID.Load()) }

// setOpen lets everybody in, or only the peers that were added.
func (n *lanes) setOpen(open bool) {
	from := book.Added
	if open {
		from = book.Stranger
	}
	n.admits.Store(uint32(from))
}

// isOpen reports whether everybody is let in.
func (n *lanes) isOpen() bool { return n.admits.Load() == uint32(book.Stranger) }

// trusts reports whether the policy lets everything of a contact in.
func (n *lanes) trusts(c *peer.Contact) bool { return uint32(c.Standing()) >= n.admits.Load() }

// now is the node's time; it counts sleep.
func (n *lanes) now() mono.Time { return mono.At(n.clock.Since()) }
