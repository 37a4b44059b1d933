package main

import (
	"fmt"
	"strings"

	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
)

// statusAnswer is the JSON of status.
type statusAnswer struct {
	overlay.Status
	control.ZoneFiles
	Hosts []peerHost     `json:"peer_hosts"` // the host names among the endpoints that people gave
	Local []proxy.Status `json:"local"`      // proxies, and forwarded and exposed ports
	waiting
}

// zoneWords names the zone of a node, and says whether the node relays for it.
func zoneWords(n *eventNode) string {
	if n.Relays {
		return zone.Label(n.Zone) + "; this machine relays for every address in it"
	}
	return zone.Label(n.Zone)
}

// zoneFacts are the zone files that the node follows, a line each, its own first.
func (a *app) zoneFacts(s overlay.Status, files []control.ZoneFile) (facts [][2]string) {
	for _, f := range files {
		label := "peers' zone"
		if f.Own {
			label = "zone"
		}
		facts = append(facts, [2]string{label, a.zoneFact(f)})
	}
	if len(facts) == 0 && s.Zone != 0 {
		facts = append(facts, [2]string{"zone", s.Zone.String()})
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			if z.Own && r.Own {
				facts = append(facts, [2]string{"relay", a.zoneRelayFact(r)})
			}
		}
	}
	return facts
}

// zoneRelayFact is the relay at which others find this node, in one line.
func (a *app) zoneRelayFact(r overlay.ZoneRelayStatus) string {
	words := r.Endpoint
	if words == "" {
		words = r.Address.ID().String()
	}
	switch {
	case r.State == overlay.RelaySilent && r.LastHeard == nil:
		return words + ": has not answered yet"
	case r.State == overlay.RelaySilent:
		return words + ": does not answer, last heard " + a.ago(r.LastHeard)
	case r.State == overlay.RelayConnecting:
		return words + ": asked, no answer yet"
	}
	if r.RTT > 0 {
		words += ", " + millis(r.RTT) + " ms"
	}
	return words + ", last heard " + a.ago(r.LastHeard)
}

// zoneFact is a zone file in one line.
func (a *app) zoneFact(f control.ZoneFile) string {
	words := []string{zoneLabel(f)}
	if f.Source == "" {
		words = append(words, "no zone file yet")
	} else {
		words = append(words, fmt.Sprintf("revision %d", f.Revision), number(f.Relays, "relay"), "from "+f.Source)
	}
	if f.Served != "" {
		words = append(words, "served at "+f.Served)
	}
	if f.Checked != nil && f.Source != control.SourceSelf {
		words = append(words, "checked "+a.ago(f.Checked))
	}
	return strings.Join(words, ", ")
}

// zoneLabel is a zone's ID and its name.
func zoneLabel(f control.ZoneFile) string {
	label := zone.Label(f.Zone)
	if f.Name != "" {
		label += fmt.Sprintf(" (%s)", cut(f.Name, 40))
	}
	return printable(label)
}

// zoneWarnings say why a zone file is not there, or not served.
func zoneWarnings(files []control.ZoneFile) (list []string) {
	for _, f := range files {
		if f.Error != "" && f.Own {
			list = append(list, fmt.Sprintf("the file of zone %s: %s", zone.Label(f.Zone), printable(f.Error)))
		}
	}
	return list
}

// number is a number of things.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
