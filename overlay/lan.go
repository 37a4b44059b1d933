package overlay

import (
	"context"
	"net/netip"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// LANConfig is about the virtual LAN: the peers with which packets to groups and broadcasts are
// exchanged. Both sides must have chosen each other.
type LANConfig struct {
	All    bool       // all added peers are in it, not only those of which the book says so
	Limits *LANLimits // nil: DefaultLANLimits
}

// LANLimits are how much of the virtual LAN passes, a second. Of what comes in, half of the total is
// kept for the members in equal shares, so that none can take the share of another.
type LANLimits struct {
	OutPackets  int `json:"out_packets"`  // of our programs, each counted once however many members get it
	OutBytes    int `json:"out_bytes"`    //
	PeerPackets int `json:"peer_packets"` // that come from one peer
	PeerBytes   int `json:"peer_bytes"`   //
	InPackets   int `json:"in_packets"`   // that come from all peers
	InBytes     int `json:"in_bytes"`     //
}

// DefaultLANLimits are limits that a game of 32 nodes does not reach.
func DefaultLANLimits() LANLimits {
	return LANLimits{OutPackets: 2000, OutBytes: 4 << 20, PeerPackets: 2000, PeerBytes: 4 << 20, InPackets: 8000, InBytes: 16 << 20}
}

// LANState says how far a peer is in the virtual LAN.
type LANState string

// The states. Only with members are packets exchanged.
const (
	LANOff    LANState = "off"    // it is not in ours
	LANChosen LANState = "chosen" // it is in ours, and has not told that we are in its
	LANMember LANState = "member" // each side has chosen the other one
)

// LANStatus is the virtual LAN as a whole.
type LANStatus struct {
	All     bool         `json:"all"`     // all added peers are in it
	Chosen  int          `json:"chosen"`  // peers that are in it here
	Members int          `json:"members"` // of these, those that have us in theirs
	Groups  []netip.Addr `json:"groups"`  // that our programs have joined
	Limits  LANLimits    `json:"limits"`  // a second
	Range   string       `json:"range"`   // of the IPv4 aliases; empty: there are none
	Alias   string       `json:"alias"`   // our own; empty: there are none
}

// SetLAN puts an added peer into our virtual LAN and keeps that, or takes it out (see book.Book.SetLAN).
func (n *Node) SetLAN(ctx context.Context, a anode.Address, on bool) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.SetLAN(a, on) })
}

// SetLANAll has all added peers in our virtual LAN, or only those of which the book says so.
func (n *Node) SetLANAll(ctx context.Context, all bool) error {
	return n.call(ctx, func(l *loop) error {
		l.lan.setAll(all)
		return nil
	})
}

// SetGroups says which multicast groups programs of this machine have joined on the adapter; it replaces
// what was said before. Members of the virtual LAN send what goes to these, and broadcasts. Groups that
// say nothing, such as that of all nodes, are passed over, and so are those beyond wire.MaxGroups, which are
// counted.
func (n *Node) SetGroups(ctx context.Context, groups []netip.Addr) error {
	return n.call(ctx, func(l *loop) error {
		l.lan.setGroups(groups)
		return nil
	})
}
