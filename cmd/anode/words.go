package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
)

// label is a peer's name and short ID, north (055b413c40ef750d), or the ID alone.
func label(p overlay.PeerStatus) string { return labelOf(p.Name, p.ID) }

func labelOf(name string, id anode.ID) string {
	if name == "" {
		return id.String()
	}
	return fmt.Sprintf("%s (%s)", name, id)
}

// takesNoRequests says of a peer that was asked why nobody decides there.
const takesNoRequests = "does not take requests, or declined an earlier one; you are connected if somebody there asks you"

// route is a path in words: "LAN udp:10.0.0.2:8737", "direct tcp:192.0.2.9:443",
// "relay north" or "relay http north". Relays have the names in names; the others have their
// short IDs.
func route(p overlay.PathStatus, names map[anode.Address]string) string {
	switch {
	case p.Kind == overlay.PathNone, p.Kind == "":
		return "no path"
	case p.Kind == overlay.PathRelay && p.Via != nil:
		return pathWord(p, names)
	}
	return kindWord(p.Kind) + " " + p.Endpoint // whose beginning is the transport
}

// pathWord is the kind of a path: LAN, direct, relay NAME, or - without a path. What is not
// UDP is named: direct tcp, relay http NAME.
func pathWord(p overlay.PathStatus, names map[anode.Address]string) string {
	if p.Kind == overlay.PathNone || p.Kind == "" {
		return "-"
	}
	word := kindWord(p.Kind)
	if t := cmp.Or(p.Transport, transportOf(p.Endpoint)); t != "udp" && t != "" {
		word += " " + t
	}
	if p.Kind == overlay.PathRelay && p.Via != nil {
		word += " " + cmp.Or(names[*p.Via], p.Via.ID().String())
	}
	return word
}

func kindWord(k overlay.PathKind) string {
	if k == overlay.PathLAN {
		return "LAN"
	}
	return string(k)
}

// transportOf is the transport of an endpoint: udp, tcp, http or ethernet; "" if it is not
// known.
func transportOf(endpoint string) string {
	switch kind, _, _ := strings.Cut(endpoint, ":"); kind {
	case "https":
		return "http"
	case "eth":
		return "ethernet"
	case "udp", "tcp", "http":
		return kind
	}
	return ""
}

// namesOf returns the names of the peers that have one.
func namesOf(peers []overlay.PeerStatus) map[anode.Address]string {
	names := map[anode.Address]string{}
	for _, p := range peers {
		names[p.Address] = p.Name
	}
	return names
}

// millis is a duration in milliseconds, with as many digits as mean something.
func millis(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// bytesOf is a number of bytes for people.
func bytesOf(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.5 && unit < len(units)-1 {
		f, unit = f/1000, unit+1
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[unit])
	}
	return fmt.Sprintf("%.0f %cB", f, units[unit])
}

// age is a duration for people, in its two largest units.
func age(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// shortAge is a duration for people, in its largest unit.
func shortAge(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}
