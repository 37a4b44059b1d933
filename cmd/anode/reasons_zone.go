package main

import (
	"context"
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// The codes of what is wrong with a zone file.
const (
	zoneNoFile  = "zone_no_file"  // it has never been fetched
	zoneOldFile = "zone_old_file" // it cannot be fetched, and the copy is old
	zoneNoRelay = "zone_no_relay" // it names no relay
)

// zoneOld is the age of a copy from which on its relays may be other ones by now.
const zoneOld = 24 * time.Hour

// zoneFault says what is wrong with a zone file; ok is false if nothing is. A file that cannot be
// fetched does no harm as long as the copy is new.
func zoneFault(f control.ZoneFile, now time.Time) (a advice, ok bool) {
	label := zone.Label(f.Zone)
	fetch := fmt.Sprintf("anode zone show %s, which says why; on the machine that serves it: anode status", f.Zone)
	switch {
	case f.Source == "" && f.Error != "":
		return advice{zoneNoFile, fmt.Sprintf("the file of zone %s, which names its relays, cannot be fetched: %s", label, printable(f.Error)), fetch}, true
	case f.Source == "":
		return a, false
	case f.Relays == 0:
		return advice{zoneNoRelay, "the file of zone " + label + " names no relay, so its members are found only directly",
			"on a machine with a public address: anode up --relay --zone " + f.Zone.String()}, true
	case f.Error != "" && f.Checked != nil && now.Sub(*f.Checked) > zoneOld:
		return advice{zoneOldFile, fmt.Sprintf("the file of zone %s cannot be fetched, and the copy here is from %s ago, so its relays may be others now: %s",
			label, age(now.Sub(*f.Checked)), printable(f.Error)), fetch}, true
	}
	return a, false
}

// zoneFaults says what is wrong with the files of some zones.
func zoneFaults(files []control.ZoneFile, now time.Time, concerns func(control.ZoneFile) bool) (list []advice) {
	for _, f := range files {
		if a, ok := zoneFault(f, now); ok && concerns(f) {
			list = append(list, a)
		}
	}
	return list
}

// zoneNotes are the faults of the zone files that lead to a peer, if it is not reached.
func zoneNotes(ctx context.Context, c *control.Client, p anode.Address, now time.Time) []advice {
	answer, err := c.ZoneFiles(ctx)
	if err != nil {
		return nil
	}
	return zoneFaults(answer.Files, now, func(f control.ZoneFile) bool { return f.Own || f.Zone == p.Zone() })
}

// ownZoneFindings are the faults of the file of this machine's zone, for doctor.
func ownZoneFindings(ctx context.Context, p *patient) (list []finding) {
	if p.client == nil {
		return nil
	}
	answer, err := p.client.ZoneFiles(ctx)
	if err != nil {
		return nil
	}
	for _, a := range zoneFaults(answer.Files, p.now, func(f control.ZoneFile) bool { return f.Own }) {
		list = append(list, finding{"reach", warn, a.Says, a.Try, a.Code})
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
