package main

import (
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

// helped reports whether a relay would help with a reason why a peer is not reached.
func helped(code string) bool {
	switch overlay.Reason(code) {
	case overlay.ReasonNoAnswer, overlay.ReasonNoEndpoint, overlay.ReasonNotAtRelay, overlay.ReasonRelaySilent, overlay.ReasonPeerAsleep:
		return true
	}
	return code == "unreachable"
}
