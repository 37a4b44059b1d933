package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
)

// checkZone looks at the zone files that the daemon follows.
func checkZone(ctx context.Context, p *patient) []finding {
	if p.status == nil {
		return nil
	}
	files, err := p.client.ZoneFiles(ctx)
	if err != nil {
		return nil // the daemon is of another version, which is a finding of its own
	}
	var list []finding
	for _, f := range files.Files {
		list = append(list, judgeZone(f, p.status.Address, slices.Contains(p.status.Relaying.Zones, f.Zone), p.now)...)
	}
	return list
}

// judgeZone judges a zone file; relays says whether this machine relays for the zone.
func judgeZone(f control.ZoneFile, self anode.Address, relays bool, now time.Time) []finding {
	const topic = "zone"
	label := "zone " + zone.Label(f.Zone)
	if !f.Own {
		if f.Source != "" || f.Problem == "" {
			return nil
		}
		return []finding{{topic, warn, fmt.Sprintf("%s, in which a peer is, has no zone file, so its relays are not known: %s", label, printable(f.Error)),
			"ask who runs that zone; until then the peer is only reached by endpoints that are known", "zone_peer"}}
	}
	list := judgeZoneProblem(f, label, now)
	if relays && f.Source != "" && !f.Listed {
		list = append(list, finding{topic, warn, "this machine relays for its zone, but the zone file does not name it, so nobody uses it as a relay",
			fmt.Sprintf("in the zone file: zr.%x=IP:PORT::%s and a greater r", f.Relays, self), "zone_unlisted"})
	}
	if f.Source != "" && f.Relays == 0 {
		list = append(list, finding{topic, warn, "the file of " + label + " names no relay", "in the zone file: zr.0=IP:PORT::ADDRESS and a greater r", "zone_no_relay"})
	}
	if text := zone.Caveat(f.Zone); text != "" {
		list = append(list, finding{topic, warn, "not everybody can use this machine's zone: " + text,
			"nothing, if all machines are there; otherwise anode zone join IP, with a public address", "zone_limited"})
	}
	if len(list) > 0 {
		return list
	}
	if f.Source == "" {
		return []finding{{topic, fine, "the file of " + label + " is being fetched", "", "zone_fetching"}}
	}
	return []finding{{topic, fine, fmt.Sprintf("the file of %s has revision %d and comes from %s", label, f.Revision, f.Source), "", "zone"}}
}

// judgeZoneProblem judges what the daemon says about the file of its own zone.
func judgeZoneProblem(f control.ZoneFile, label string, now time.Time) []finding {
	const topic = "zone"
	text, serve := printable(f.Error), "anode up --relay --zone "+zone.Label(f.Zone)+" on the machine with the zone's address, and TCP port 80 open in its firewall"
	one := func(v verdict, says, try, code string) []finding {
		return []finding{{topic, v, says, cmp.Or(f.Try, try), code}}
	}
	switch f.Problem {
	case "":
		return nil
	case control.ZonePortTaken:
		return one(bad, "the zone file is not served, since another program has the port: "+text, "stop that program", "zone_port_taken")
	case control.ZonePortDenied:
		return one(bad, "the zone file is not served, since the daemon may not listen there: "+text, "CAP_NET_BIND_SERVICE for the daemon", "zone_port_denied")
	case control.ZoneNotServed:
		return one(bad, "the zone file is not served: "+text, "another zone.serve", "zone_not_served")
	case control.ZoneUnreadable:
		return one(bad, "the zone file of this machine cannot be used: "+text, "anode zone check FILE", "zone_unreadable")
	case control.ZoneOlder:
		return one(warn, fmt.Sprintf("the zone file on the web is older than the copy of this machine, which has revision %d: %s", f.Revision, text),
			"nothing, if a cache on the way is at fault; otherwise a greater r in the zone file. Without that it is used after some hours", "zone_older")
	}
	code := "zone_unreachable"
	if f.Problem == control.ZoneNoFile {
		code = "zone_no_file"
	}
	if f.Source == "" {
		return one(bad, "the file of "+label+" cannot be fetched, so this machine has no relay: "+text, serve, code)
	}
	since := "at a time that is not known"
	if f.Checked != nil {
		since = age(max(0, now.Sub(*f.Checked))) + " ago"
	}
	if code == "zone_unreachable" {
		code = "zone_stale"
	}
	return one(warn, fmt.Sprintf("the file of %s cannot be fetched; the copy in use was last found to be current %s: %s", label, since, text), serve, code)
}
