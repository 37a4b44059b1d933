package overlay

import (
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// table is what the data path knows of the world: an immutable snapshot, published
// by the control loop. What changes with every handshake or EPC is behind the
// atomic pointers of remote, so that the maps are copied only when peers or
// sessions come and go.
type table struct {
	byULA    map[anode.ULA]*remote
	byID     map[anode.ID]*remote      // peers to forward for
	sessions map[sessionKey]*inbound   // to open what comes in
	sources  map[link.Endpoint]*remote // confirmed endpoints of added peers (address alone)
}

// remote is one peer as the data path sees it. The control loop writes, the loops read.
type remote struct {
	address anode.Address
	ula     anode.ULA
	id      anode.ID

	trusted atomic.Bool            // the policy lets everything of it in
	flight  atomic.Pointer[flight] // nil: nothing can be sent yet
	forward atomic.Pointer[forward]

	rxBytes, txBytes atomic.Uint64 // of sealed packets
	heard            atomic.Int64  // when the last sealed packet came, ns; 0: never
	roamAt           atomic.Int64  // when a new endpoint was last proposed, ns
}

// flight is the way on which packets to a peer leave now: one immutable value.
type flight struct {
	session  *seal.Session
	way      path.Way
	peerID   uint8
	datagram int // the longest sealed packet that the path takes
}

// forward is where a relay sends a peer's packets: by peer ID, 0 for any (draft 3.4).
type forward [16]link.Endpoint

// sessionKey finds the sessions of a sealed packet; two peers may share one.
type sessionKey struct {
	sender anode.ID
	index  uint16
}

// inbound is a session that packets may come in on.
type inbound struct {
	session *seal.Session
	remote  *remote
	peerID  uint8
	pending *atomic.Bool // ours as responder, and nothing has been opened in it yet
	next    *inbound     // another with the same key
}

// newInbound has a session received on.
func newInbound(s *seal.Session, r *remote) *inbound {
	in := &inbound{session: s, remote: r, peerID: s.PeerID(), pending: new(atomic.Bool)}
	in.pending.Store(!s.Initiator())
	return in
}

// at strips an endpoint to what identifies the other side.
func at(e link.Endpoint) link.Endpoint {
	return link.Endpoint{Addr: e.Addr, If: scope(e)}
}

// scope is the interface of a link-local endpoint; it means nothing for others.
func scope(e link.Endpoint) int {
	if e.Addr.Addr().IsLinkLocalUnicast() {
		return e.If
	}
	return 0
}
