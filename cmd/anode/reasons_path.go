package main

import (
	"cmp"
	"fmt"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/portmap"
)

// usualPort is the UDP port of anode unless somebody changes it.
const usualPort = 8737

// outsideWords is reasonWords for the reasons that are about networks and relays.
func outsideWords(p overlay.PeerStatus, self anode.Address) (what, try string) {
	who, relay := label(p), "the relay"
	if p.ReasonAt != "" {
		relay += " (" + p.ReasonAt + ")"
	}
	switch p.Reason {
	case overlay.ReasonUDPBlocked:
		return "nothing from outside reaches this machine, so it cannot reach " + who + ": its network blocks UDP, or has no internet",
			"allow outgoing UDP in the firewall of this network, or use another network, such as that of a phone"
	case overlay.ReasonRelaySilent:
		return fmt.Sprintf("%s that could lead to %s does not answer: it is off, or the network here blocks UDP", relay, who),
			"on the relay: anode status; if it runs, allow outgoing UDP in the firewall of this network"
	case overlay.ReasonRelayPolicy:
		return fmt.Sprintf("%s that could lead to %s forwards nothing for this machine: it has not added it", relay, who),
			"on the relay: anode peers add " + self.String()
	case overlay.ReasonPeerAsleep:
		return who + " was connected earlier, and does not answer now, neither directly nor through a relay: it sleeps, is off, or has lost its network",
			"wake it up or switch it on; then, on that machine: anode status"
	case overlay.ReasonNotAtRelay:
		return fmt.Sprintf("%s answers, but %s cannot be found through it: %s is off, or its network blocks UDP, or it does not use that relay", relay, who, nameOf(p)),
			"on that machine: anode doctor, and anode netcheck, which lists its relays"
	case overlay.ReasonTCPRefused:
		return fmt.Sprintf("the machine of %s takes no connection at %s: anode does not run there, or does not listen on this TCP port", who, cmp.Or(p.ReasonAt, "its endpoint")),
			"on that machine: anode status"
	case overlay.ReasonCaptivePortal:
		return "the network of this machine shows a login page of its own in place of the servers that lead to " + who,
			"open a web browser and log in to the network"
	case overlay.ReasonProxyAuth:
		return "the proxy of this network does not take the user name and the password, or wants some, so this machine cannot reach " + who,
			proxyUserTry
	case overlay.ReasonProxyRefused:
		return "the proxy of this network refuses the connections that lead to " + who,
			"ask who runs the proxy to let them through, or use another network"
	}
	return "", ""
}

// proxyUserTry is what to do about a proxy that does not know this machine.
const proxyUserTry = "write NAME:PASSWORD into a file, and its name as proxy_credentials = \"file:PATH\" into the configuration"

// pathReasonWords says in one sentence why the path to a peer is not a better one, and what
// to do about it. Both are empty if nothing is known against the path.
func pathReasonWords(p overlay.PeerStatus, s overlay.Status) (what, try string) {
	who, at := label(p), cmp.Or(p.PathReasonAt, "its endpoint")
	port := portOf(s.Listen)
	openEither := fmt.Sprintf("switch on UPnP, NAT-PMP or PCP in the router here or in that of %s; or forward UDP port %d to this machine, or port %d to that one", nameOf(p), port, usualPort)
	openThere := fmt.Sprintf("switch on UPnP, NAT-PMP or PCP in the router of %s, or forward UDP port %d to it", nameOf(p), usualPort)
	switch p.PathReason {
	case overlay.ReasonUDPSilent:
		return "UDP gets no answer on this network, so packets to " + who + " go in a connection, which costs speed",
			"nothing, if it is fast enough: UDP is tried again, and used when it works; otherwise allow outgoing UDP in the firewall of this network"
	case overlay.ReasonPunching:
		return "a direct path to " + who + " is being opened, and packets take the relay until then", "wait a few seconds; then anode why " + nameOf(p)
	case overlay.ReasonFamilyMismatch:
		return fmt.Sprintf("this machine has only IPv%s, and %s only IPv%s, so no packet can go directly", familyOf(s.Network), who, otherFamily(s.Network)),
			"nothing, if the relay is fast enough; otherwise ask the internet provider of either side for the other version of IP"
	case overlay.ReasonHairpin:
		return fmt.Sprintf("this machine and %s are behind the same router, which does not send packets back inside", who),
			"connect both to the same network (not to a guest network or one with client isolation), or switch on \"NAT loopback\" (hairpin NAT) in the router"
	case overlay.ReasonHereSymmetric:
		return fmt.Sprintf("the router or provider of this machine takes another port for each connection (symmetric NAT), which %s cannot foresee", who),
			openEither
	case overlay.ReasonPeerSymmetric:
		return fmt.Sprintf("the router or provider of %s takes another port for each connection (symmetric NAT), which this machine cannot foresee", who),
			openEither
	case overlay.ReasonBothSymmetric:
		return fmt.Sprintf("the routers or providers of this machine and of %s both take another port for each connection (symmetric NAT), which nobody can foresee", who),
			openEither + ": one of both is enough"
	case overlay.ReasonFirewalled:
		if s.Reach.Mapping == "none" && s.Reach.Filtering == "address_port_dependent" && (p.Attempts == nil || p.Attempts.Kind != "none") {
			return fmt.Sprintf("direct packets from %s get lost: a firewall of this machine, of its router or of the provider lets in only replies", who),
				fmt.Sprintf("allow incoming UDP port %d in the firewall of this machine and of its router", port)
		}
		return fmt.Sprintf("direct packets between this machine and %s get lost, although their networks should let them through: a firewall on one side drops them", who),
			fmt.Sprintf("allow incoming UDP port %d in the firewall of this machine and of its router, and port %d on the other side", port, usualPort)
	case overlay.ReasonNoCandidates:
		return fmt.Sprintf("%s names no address at which this machine could try to reach it directly", who),
			openThere + "; then here: anode peers endpoints add " + nameOf(p) + " udp:IP:PORT"
	case overlay.ReasonNoTraversal:
		return "the program of " + who + " cannot open direct paths through routers", "on that machine: anode version, and update it"
	case overlay.ReasonPMTUBlackhole:
		return fmt.Sprintf("the direct path to %s loses all large packets (%s), so it is not used", who, at),
			"allow ICMP (\"packet too big\") in the firewalls of both sides, or correct the MTU of the router or VPN on the way"
	case overlay.ReasonLossy:
		return fmt.Sprintf("the direct path to %s loses many packets (%s), and the relay does not", who, at),
			"nothing: it is used again when it is better; look at the Wi-Fi or line of both sides"
	case overlay.ReasonRelayBetter:
		return fmt.Sprintf("the direct path to %s takes much longer (%s) than the relay", who, at), "nothing: it is used again when it is better"
	}
	p.Reason, p.ReasonAt = p.PathReason, p.PathReasonAt
	return reasonWords(p, s.Address)
}

// familyOf is the version of IP of a machine that has only one.
func familyOf(n overlay.NetworkStatus) string {
	if n.IPv4.Address == "" {
		return "6"
	}
	return "4"
}

func otherFamily(n overlay.NetworkStatus) string {
	if familyOf(n) == "4" {
		return "6"
	}
	return "4"
}

// pathAdvice is what would help a path beside what stands in the way of it.
func pathAdvice(p overlay.PeerStatus, s overlay.Status) (list []advice) {
	if !natted(s.Reach) || len(s.Reach.Mapped) > 0 {
		return nil
	}
	switch p.PathReason {
	case overlay.ReasonHereSymmetric, overlay.ReasonPeerSymmetric, overlay.ReasonBothSymmetric, overlay.ReasonFirewalled, overlay.ReasonNoCandidates:
		list = append(list, noPortmap(s))
	}
	return list
}

// transportAdvice says what a path by TCP or HTTP costs; nil if it goes by another transport.
func transportAdvice(p overlay.PeerStatus, s overlay.Status) []advice {
	why := "UDP to " + label(p) + " does not work"
	if p.Path.Kind == overlay.PathRelay {
		why = "UDP to the relay does not work"
	}
	if s.Transports.UDPSilent {
		why = "UDP gets no answer on this network"
	}
	try := "nothing, if it is fast enough: UDP is tried again, and taken when it works; otherwise allow outgoing UDP in the firewall of this network"
	switch cmp.Or(p.Path.Transport, transportOf(p.Path.Endpoint)) {
	case "tcp":
		return []advice{{"not_udp", why + ", so packets go by TCP: " + costTCP, try}}
	case "http":
		return []advice{{"not_udp", why + ", so packets go by HTTP: " + costHTTP, try}}
	}
	return nil
}

// symmetricAdvice says what a symmetric NAT here means where no relay helps; nil if there is none.
func symmetricAdvice(s overlay.Status) []advice {
	if s.Reach.Mapping != "dependent" || len(s.Reach.Mapped) > 0 {
		return nil
	}
	return []advice{{string(overlay.ReasonHereSymmetric),
		"the router or provider of this machine takes another port for each connection (symmetric NAT), so without a relay it reaches only peers with a public address or an open port",
		fmt.Sprintf("add on both machines a third one that both can reach; or forward UDP port %d to this machine in the router, and run anode id --reach again", portOf(s.Listen))}}
}

// noPortmap says that the router opens no port, and why not.
func noPortmap(s overlay.Status) advice {
	says := "the router of this machine opens no port for it"
	try := fmt.Sprintf("switch on UPnP, NAT-PMP or PCP in the router, or forward UDP port %d to this machine", portOf(s.Listen))
	switch p := s.Network.Portmap; p.Code {
	case "":
		try = "portmap = true in the configuration has the router asked; " + try
	case string(portmap.BehindNAT), overlay.PortmapElsewhere:
		says += ": " + p.Says
		try = "a router of your own behind no other one; or ask the internet provider for a public address"
	case string(portmap.Mapped):
	default:
		says += ": " + p.Says
	}
	return advice{string(overlay.ReasonNoPortmap), says, try}
}

// natted reports whether a NAT is in front of this machine, as far as is known.
func natted(r overlay.ReachStatus) bool {
	return r.Mapping != "none" && (r.Mapping != "unknown" || r.Endpoint != "")
}

// advice is something that is worth knowing, and what to do about it.
type advice struct {
	Code string `json:"code"`
	Says string `json:"says"`
	Try  string `json:"try,omitempty"`
}

// reasonLine is the row of a code in the help.
type reasonLine struct {
	code overlay.Reason
	says string
}

// pathReasons are the codes that say why a path is no better one, for the help.
func pathReasons() []reasonLine {
	return []reasonLine{
		{overlay.ReasonUDPSilent, "UDP gets no answer here, so a connection is used"},
		{overlay.ReasonPunching, "a direct path is being opened"},
		{overlay.ReasonFamilyMismatch, "one side has only IPv4, the other only IPv6"},
		{overlay.ReasonHairpin, "both are behind one router without NAT loopback"},
		{overlay.ReasonHereSymmetric, "symmetric NAT here"},
		{overlay.ReasonPeerSymmetric, "symmetric NAT there"},
		{overlay.ReasonBothSymmetric, "symmetric NATs on both sides"},
		{overlay.ReasonFirewalled, "a firewall of one side drops direct packets"},
		{overlay.ReasonNoCandidates, "the peer names no address to try"},
		{overlay.ReasonNoTraversal, "the peer's program cannot open direct paths"},
		{overlay.ReasonPMTUBlackhole, "large packets get lost on the direct path"},
		{overlay.ReasonLossy, "the direct path loses many packets"},
		{overlay.ReasonRelayBetter, "the direct path is much slower than the relay"},
		{overlay.ReasonNoPortmap, "the router here opens no port (a note)"},
	}
}

// peerReasons are the codes that say why a peer cannot be reached, for the help.
func peerReasons() []reasonLine {
	return []reasonLine{
		{overlay.ReasonBlocked, "blocked here"},
		{overlay.ReasonNotAddedHere, "not added here"},
		{overlay.ReasonNotAddedThere, "it has not added this machine"},
		{overlay.ReasonOtherSecret, "the network secrets differ"},
		{overlay.ReasonAnotherVersion, "it needs another version of anode"},
		{overlay.ReasonNoSession, "it answers, and accepts no connection"},
		{overlay.ReasonNotHeardThere, "packets from here do not arrive there"},
		{overlay.ReasonNotRunning, "anode does not run on its machine"},
		{overlay.ReasonNoMachine, "no machine has its address"},
		{overlay.ReasonRejected, "a firewall rejects the packets"},
		{overlay.ReasonNoAnswer, "nothing comes back"},
		{overlay.ReasonSendRefused, "this machine refuses to send"},
		{overlay.ReasonNoRoute, "this machine has no route"},
		{overlay.ReasonNoEndpoint, "nobody knows where it is"},
		{overlay.ReasonUDPBlocked, "UDP is blocked here"},
		{overlay.ReasonRelaySilent, "no relay answers"},
		{overlay.ReasonRelayPolicy, "the relay does not forward for this machine"},
		{overlay.ReasonPeerAsleep, "it was connected, and is silent now"},
		{overlay.ReasonNotAtRelay, "the relays answer, and do not find it"},
		{overlay.ReasonTCPRefused, "its machine refuses connections by TCP"},
		{overlay.ReasonCaptivePortal, "this network shows a login page"},
		{overlay.ReasonProxyAuth, "the proxy wants a user name and a password, or others"},
		{overlay.ReasonProxyRefused, "the proxy refuses the connection"},
		{overlay.ReasonTooMuch, "too many messages wait for it"},
		{overlay.ReasonRemoved, "it was removed meanwhile"},
	}
}
