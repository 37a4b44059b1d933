package main

import (
	"fmt"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
)

// label is how a peer is called: north (055b413c40ef750d), or the ID alone.
func label(p overlay.PeerStatus) string { return labelOf(p.Name, p.ID) }

func labelOf(name string, id anode.ID) string {
	if name == "" {
		return id.String()
	}
	return fmt.Sprintf("%s (%s)", name, id)
}

// way is a path in words: "via udp 10.0.0.2:8737, direct".
func way(p overlay.PathStatus) string {
	var kind string
	switch p.Kind {
	case overlay.PathNone, "":
		return "without a path"
	case overlay.PathLAN:
		kind = "direct (LAN)"
	case overlay.PathRelay:
		kind = "relayed"
		if p.Via != nil {
			kind += " by " + p.Via.ID().String()
		}
	default:
		kind = string(p.Kind)
	}
	if p.Endpoint == "" {
		return kind
	}
	return "via " + spaced(p.Endpoint) + ", " + kind
}

// spaced makes "udp 10.0.0.2:8737" of an endpoint's text, "udp:10.0.0.2:8737".
func spaced(endpoint string) string {
	for _, kind := range []string{"udp", "tcp", "eth"} {
		if rest, ok := strings.CutPrefix(endpoint, kind+":"); ok {
			return kind + " " + rest
		}
	}
	return endpoint
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
