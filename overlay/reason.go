package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/peer"
)

// Reason says in one word why packets do not get through between us and a peer. The
// words are stable: scripts read them.
type Reason = peer.Reason

// The reasons, as package peer explains them.
const (
	NoReason             = peer.NoReason
	ReasonBlocked        = peer.Blocked
	ReasonNotAddedHere   = peer.NotAddedHere
	ReasonNotAddedThere  = peer.NotAddedThere
	ReasonOtherSecret    = peer.OtherSecret
	ReasonAnotherVersion = peer.AnotherVersion
	ReasonNoSession      = peer.NoSession
	ReasonNotHeardThere  = peer.NotHeardThere
	ReasonNotRunning     = peer.NotRunning
	ReasonNoMachine      = peer.NoMachine
	ReasonRejected       = peer.Rejected
	ReasonNoAnswer       = peer.NoAnswer
	ReasonSendRefused    = peer.SendRefused
	ReasonNoRoute        = peer.NoRoute
	ReasonNoEndpoint     = peer.NoEndpoint
	ReasonUDPBlocked     = peer.UDPBlocked
	ReasonRelaySilent    = peer.RelaySilent
	ReasonRelayPolicy    = peer.RelayPolicy
	ReasonPeerAsleep     = peer.PeerAsleep
	ReasonNotAtRelay     = peer.NotAtRelay
	ReasonTCPRefused     = peer.TCPRefused
	ReasonCaptivePortal  = peer.CaptivePortal
	ReasonProxyAuth      = peer.ProxyAuth
	ReasonProxyRefused   = peer.ProxyRefused
	ReasonUDPSilent      = peer.UDPSilent
	ReasonPunching       = peer.Punching
	ReasonFamilyMismatch = peer.FamilyMismatch
	ReasonHairpin        = peer.Hairpin
	ReasonHereSymmetric  = peer.HereSymmetric
	ReasonPeerSymmetric  = peer.PeerSymmetric
	ReasonBothSymmetric  = peer.BothSymmetric
	ReasonFirewalled     = peer.Firewalled
	ReasonNoCandidates   = peer.NoCandidates
	ReasonNoTraversal    = peer.NoTraversal
	ReasonPMTUBlackhole  = peer.PMTUBlackhole
	ReasonLossy          = peer.Lossy
	ReasonRelayBetter    = peer.RelayBetter
	ReasonNoPortmap      = peer.NoPortmap
	ReasonTooMuch        = peer.TooMuch
	ReasonRemoved        = peer.Removed
)

// Reasons lists all reasons.
func Reasons() []Reason { return peer.Reasons() }

// UnreachableError says why a message could not be sent. It is an ErrUnreachable, and an
// ErrBlocked if that is the reason.
type UnreachableError = peer.UnreachableError

// reason returns why packets do not get through between us and a peer, and the endpoint
// that the reason is about.
func (l *loop) reason(p *peer.Peer) (Reason, string) {
	switch {
	case p.Standing() == book.Blocked:
		return ReasonBlocked, ""
	case !l.n.trusts(p.Contact):
		return ReasonNotAddedHere, ""
	}
	// A session that the peer has lost looks alive for a while. What only the peer itself can
	// have said since is truer.
	r, at := p.Trouble(l.now)
	if stateOf(p) != StateUp || r == ReasonOtherSecret || r == ReasonAnotherVersion {
		if r != NoReason {
			return r, at
		}
	}
	if p.Admits() == wire.StandingNotAdded {
		return ReasonNotAddedThere, ""
	}
	return NoReason, ""
}
