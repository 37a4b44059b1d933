package main

import (
	"cmp"
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
)

// agoWords says how long packets have taken their path.
func agoWords(p overlay.PeerStatus) string {
	if p.PathAge == 0 || p.Path.Kind == overlay.PathNone {
		return ""
	}
	return ", for " + age(secondsOf(p.PathAge))
}

func secondsOf(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// attemptWords says what the attempts to open a direct path have cost and brought.
func attemptWords(a overlay.AttemptsStatus) string {
	text := fmt.Sprintf("%d to open a direct path, with %d packets", a.Count, a.Requests)
	if word := attemptResults[string(a.Last)]; word != "" {
		text += fmt.Sprintf("; the last %s %s ago", word, age(secondsOf(a.LastAge)))
	}
	if a.Next > 0 {
		text += "; the next in " + age(secondsOf(a.Next)) + " if something is sent"
	}
	return text
}

// attemptResults are the results of an attempt in words that are followed by a time.
var attemptResults = map[string]string{
	"running": "began",
	"direct":  "opened one",
	"small":   "opened one that loses large packets",
	"failed":  "got no answer",
	"nothing": "had no address to try",
	"budget":  "had to wait, since many packets were sent before,",
}

// wayWords is one way to a peer: where it leads, who named it, and how it is.
func wayWords(w overlay.WayStatus, names map[anode.Address]string) string {
	text := w.Endpoint
	if w.Via != nil {
		text = "relay " + cmp.Or(names[*w.Via], w.Via.ID().String()) + " " + text
	}
	if who := originWords[w.Origin]; who != "" && w.Via == nil {
		text += " (" + who + ")"
	}
	text += ": " + wayState(w)
	if w.Trouble != "" && (w.State == overlay.WayFailed || w.State == overlay.WayChecking || w.State == overlay.WayUntried) {
		text += ": " + w.Trouble
	}
	if w.RTT > 0 && w.State != overlay.WayFailed {
		text += ", " + millis(w.RTT) + " ms"
	}
	if w.Loss >= 0.01 {
		text += fmt.Sprintf(", %.0f%% lost", 100*w.Loss)
	}
	return text
}

// originWords says where an endpoint comes from.
var originWords = map[string]string{
	"beacon":    "heard on this network",
	"heard":     "a packet came from there",
	"roamed":    "its last packet came from there",
	"told":      "the peer names it",
	"predicted": "expected of its router",
	"stored":    "it worked before",
	"static":    "given",
	"named":     "given, by a name",
}

// wayState says how a way is.
func wayState(w overlay.WayStatus) string {
	switch w.State {
	case overlay.WayUntried:
		return "not tried yet"
	case overlay.WayChecking:
		if w.Silent {
			return "no answer so far"
		}
		return "being tried"
	case overlay.WayWorks:
		if w.Used {
			return "in use"
		}
		switch w.Reason {
		case overlay.ReasonLossy:
			return "works, and loses many packets"
		case overlay.ReasonRelayBetter:
			return "works, and is much slower"
		}
		return "works"
	case overlay.WayUnproven:
		if w.Used {
			return "in use"
		}
		return "answers, large packets not tried yet"
	case overlay.WaySmall:
		return "answers, and loses large packets"
	case overlay.WayStale:
		return "worked, and may have been forgotten by a router"
	case overlay.WayFailed:
		return "no answer"
	case overlay.WayNotUsable:
		return "not tried: it leads nowhere from here"
	}
	return string(w.State)
}
