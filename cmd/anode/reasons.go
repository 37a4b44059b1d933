package main

import (
	"cmp"
	"fmt"
	"strings"

	"anodenet/anode"
	"anodenet/overlay"
)

// reasonWords says in one sentence why packets do not get through between this node,
// self, and a peer, and what to do about it: a command, or what to look at. Both are
// empty if nothing is known to be wrong.
func reasonWords(p overlay.PeerStatus, self anode.Address) (what, try string) {
	who := label(p)
	at := cmp.Or(p.ReasonAt, "its endpoint")
	name := nameOf(p)
	switch p.Reason {
	case overlay.ReasonBlocked:
		return who + " is blocked here", "anode peers unblock " + name
	case overlay.ReasonNotAddedHere:
		return who + " is not added here, so only its pings get in", "anode peers add " + p.Address.String()
	case overlay.ReasonNotAddedThere:
		return who + " has not added this machine, so only pings get through", "on that machine: anode peers add " + self.String()
	case overlay.ReasonOtherSecret:
		return who + " answers, but its network secret is another one, or only one of the two has one", "the same secret file on both machines; anode config example shows the key secret"
	case overlay.ReasonAnotherVersion:
		return who + " answers, but it needs another version of anode", "anode version on both machines, and update the older one"
	case overlay.ReasonNoSession:
		return who + " answers, but accepts no connection: it has a network secret and has not added this machine", "on that machine: anode peers add " + self.String()
	case overlay.ReasonNotHeardThere:
		return fmt.Sprintf("packets from %s arrive here, but packets from here do not arrive there (%s)", who, at), "on that machine: allow incoming UDP on that port in the firewall"
	case overlay.ReasonNotRunning:
		return fmt.Sprintf("the machine of %s answers, but anode is not running there, has another port, or is rejected by a firewall (%s)", who, at), "on that machine: anode up"
	case overlay.ReasonNoMachine:
		return fmt.Sprintf("no machine answers where %s was (%s)", who, at), "switch it on and connect it; if it has another address now: anode peers endpoints add " + name + " udp:IP:PORT"
	case overlay.ReasonRejected:
		return fmt.Sprintf("a firewall on the way to %s rejects the packets (%s)", who, at), "allow UDP to that port in the firewall of its machine or network"
	case overlay.ReasonNoAnswer:
		if t := transportOf(p.ReasonAt); t == "tcp" || t == "http" {
			return noConnection(p)
		}
		return fmt.Sprintf("%s does not answer: its machine is off or has moved, or a firewall drops UDP (%s)", who, at), "on that machine: anode status; and allow incoming UDP on its port in the firewall"
	case overlay.ReasonSendRefused:
		return fmt.Sprintf("this machine refuses to send to %s (%s): a firewall here drops outgoing UDP", who, at), "allow outgoing UDP in the firewall of this machine"
	case overlay.ReasonNoRoute:
		return fmt.Sprintf("this machine has no route to %s (%s)", who, at), "connect this machine to a network; anode doctor shows its routes"
	case overlay.ReasonNoEndpoint:
		return "nobody knows where " + who + " is", "if it runs on another network: anode peers endpoints add " + name + " udp:IP:PORT"
	case overlay.ReasonTooMuch:
		return "too many messages wait for " + who, "again in a few seconds"
	case overlay.ReasonRemoved:
		return who + " was removed", "anode peers add " + p.Address.String()
	}
	return outsideWords(p, self)
}

// noConnection says why no connection to a peer comes about.
func noConnection(p overlay.PeerStatus) (what, try string) {
	for _, w := range p.Ways {
		if w.Trouble == "" {
			continue
		}
		says, try, _ := strings.Cut(w.Trouble, "; try: ")
		if strings.Contains(says, "proxy") {
			try = cmp.Or(try, "look at proxy and proxy_credentials in the configuration (anode config show)")
		}
		return fmt.Sprintf("no connection to %s comes about at %s: %s", label(p), w.Endpoint, says),
			cmp.Or(try, "check the endpoint, and that anode runs there (anode status)")
	}
	return fmt.Sprintf("%s does not answer: its machine is off or has moved, or a firewall drops the connection (%s)", label(p), p.ReasonAt),
		"on that machine: anode status; and allow incoming TCP on its port in the firewall"
}
