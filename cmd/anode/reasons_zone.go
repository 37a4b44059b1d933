package main

import (
	"cmp"
	"context"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// zoneOld is the age of a copy from which on its relays may be other ones by now.
const zoneOld = 24 * time.Hour

// zoneNotes are what doctor finds in the files of our zone and a peer's, if it may be why the peer
// is not reached.
func zoneNotes(ctx context.Context, c *control.Client, s overlay.Status, peer anode.Address, now time.Time) (list []advice) {
	answer, err := c.ZoneFiles(ctx)
	if err != nil {
		return nil
	}
	for _, f := range answer.Files {
		if f.Own || f.Zone == peer.Zone() {
			list = append(list, zoneAdvice(f, s.Address, now)...)
		}
	}
	return list
}

// zoneAdvice is what is wrong with a zone file so that its relays are not found. One that cannot be
// fetched does no harm as long as the copy is new.
func zoneAdvice(f control.ZoneFile, self anode.Address, now time.Time) (list []advice) {
	for _, x := range judgeZone(f, self, false, now) {
		switch x.Code {
		case "zone_stale":
			if f.Checked == nil || now.Sub(*f.Checked) <= zoneOld {
				continue
			}
		case "zone_unreachable", "zone_no_file", "zone_no_relay", "zone_peer":
		default:
			continue
		}
		list = append(list, advice{x.Code, x.Says, x.Try})
	}
	return list
}

// gateOf returns what stands between this machine and everybody outside: a portal, or a proxy that
// does not let it through. It is NoReason if somebody outside answers, or nothing is known of one.
func gateOf(ctx context.Context, c *control.Client, s overlay.Status) overlay.Reason {
	for _, transport := range []string{"udp", "tcp", "http"} {
		if worksBy(s, transport) {
			return overlay.NoReason
		}
	}
	answer, err := c.ZoneFiles(ctx)
	if err != nil {
		return overlay.NoReason // the daemon is of another version
	}
	return gateIn(s, answer.Files)
}

// gateIn finds the gate in what a daemon knows.
func gateIn(s overlay.Status, files []control.ZoneFile) (gate overlay.Reason) {
	for _, f := range files {
		if f.Own {
			gate = f.Gate
		}
	}
	note := func(r overlay.Reason) {
		switch r {
		case overlay.ReasonCaptivePortal, overlay.ReasonProxyAuth, overlay.ReasonProxyRefused:
			gate = cmp.Or(gate, r)
		}
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			note(r.TroubleReason)
		}
	}
	for _, p := range s.Peers {
		for _, w := range p.Ways {
			note(w.TroubleReason)
		}
	}
	return gate
}

// gated has a peer that is not reached for want of any way out say what is in the way.
func gated(p overlay.PeerStatus, gate overlay.Reason) overlay.PeerStatus {
	switch p.Reason {
	case overlay.ReasonNoAnswer, overlay.ReasonNoEndpoint, overlay.ReasonUDPBlocked, overlay.ReasonRelaySilent, overlay.ReasonPeerAsleep:
		if gate != overlay.NoReason {
			p.Reason, p.ReasonAt = gate, ""
		}
	}
	return p
}

// helped reports whether a relay would help with a reason why a peer is not reached.
func helped(code string) bool {
	switch overlay.Reason(code) {
	case overlay.ReasonNoAnswer, overlay.ReasonNoEndpoint, overlay.ReasonNotAtRelay, overlay.ReasonRelaySilent, overlay.ReasonPeerAsleep:
		return true
	}
	return code == "unreachable"
}
