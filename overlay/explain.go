package overlay

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// explain completes a status by what all of it together shows: why a peer is silent, and why
// the path to it is not a better one. It only reads and writes the status.
func (s *Status) explain() {
	o := s.outlook()
	for k := range s.Peers {
		p := &s.Peers[k]
		if p.Reason == ReasonNoAnswer || p.Reason == ReasonNoEndpoint {
			p.Reason, p.ReasonAt = o.refine(p)
		}
		p.explainWays()
		p.PathReason, p.PathReasonAt = s.obstacle(p)
	}
}

// explainWays says of each way that is not used why not.
func (p *PeerStatus) explainWays() {
	relay := slices.IndexFunc(p.Ways, func(w WayStatus) bool { return w.Used && w.Via != nil })
	for k := range p.Ways {
		w := &p.Ways[k]
		switch {
		case w.Used:
		case w.State == WayNotUsable:
			w.Reason = ReasonNoRoute
		case w.Silent && w.TroubleReason != NoReason:
			w.Reason = w.TroubleReason
		case w.Silent:
			w.Reason = ReasonNoAnswer
		case w.State == WaySmall:
			w.Reason = ReasonPMTUBlackhole
		case relay >= 0 && (w.State == WayUnproven || w.State == WayChecking):
			w.Reason = ReasonPunching
		case w.State == WayWorks && w.Via == nil && relay >= 0:
			w.Reason = w.worse(&p.Ways[relay])
		}
	}
}

// worse says why a direct way that works is not used in place of a relayed one.
func (w *WayStatus) worse(relay *WayStatus) Reason {
	switch {
	case w.Loss > lossyFrom && w.Loss > 2*relay.Loss:
		return ReasonLossy
	case w.RTT > relay.RTT:
		return ReasonRelayBetter
	}
	return NoReason
}

// outlook is what all peers together show about our network: it tells apart why one of them
// does not answer.
type outlook struct {
	heard  bool            // somebody outside answers
	silent []WayStatus     // others outside that do not, each at an address of its own
	gate   Reason          // what keeps connections to the outside from coming about: a portal, or the proxy
	relays []relayOutlook  // that answer directly
	is     map[string]bool // the addresses of silent
}

// relayOutlook is a peer, or a relay of a zone, that can lead to others.
type relayOutlook struct {
	address  anode.Address
	endpoint string
	refuses  bool // it has not added us
}

// enough is how many silent ones show that the fault is ours.
const enough = 2

func (s *Status) outlook() *outlook {
	o := &outlook{is: map[string]bool{}}
	for k := range s.Peers {
		p := &s.Peers[k]
		if !p.Allowed {
			continue
		}
		for _, w := range p.Ways {
			o.way(s, w)
		}
		if p.State != StateUnreachable && p.Path.Via == nil && (p.Path.Kind == PathDirect || p.Path.Kind == PathLAN) {
			o.relays = append(o.relays, relayOutlook{p.Address, p.Path.Endpoint, p.Admits != nil && !*p.Admits})
		}
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			o.zoneRelay(s, r)
		}
	}
	for _, x := range s.Reach.Seen {
		if a, ok := addrOf(x.From); ok && x.By == nil { // a STUN server
			o.heard = true
			s.Network.note(a)
		}
	}
	return o
}

// way takes one way to a peer.
func (o *outlook) way(s *Status, w WayStatus) {
	if g := w.TroubleReason; g == ReasonCaptivePortal || g == ReasonProxyAuth || g == ReasonProxyRefused {
		o.gate = g
	}
	a, ok := addrOf(w.Endpoint)
	if !ok || w.OnLink || w.Via != nil || !a.IsGlobalUnicast() {
		return
	}
	switch {
	case w.State.answers():
		o.heard = true
		s.Network.note(a)
	case w.Silent && strings.HasPrefix(w.Endpoint, "udp:") && w.Origin != path.Told.String() && w.Origin != path.Predicted.String() && !o.is[a.String()]:
		o.is[a.String()] = true
		o.silent = append(o.silent, w)
	}
}

// zoneRelay takes a relay of a zone.
func (o *outlook) zoneRelay(s *Status, r ZoneRelayStatus) {
	w := WayStatus{Endpoint: r.Endpoint, Origin: path.Static.String(), State: WayFailed, Silent: true, TroubleReason: r.TroubleReason}
	if r.State == RelayRegistered {
		w.State = WayWorks
		o.relays = append(o.relays, relayOutlook{r.Address, r.Endpoint, false})
	}
	if r.State != RelayConnecting {
		o.way(s, w)
	}
}

// answers reports whether a way works, for small packets at least.
func (s WayState) answers() bool {
	return s == WayWorks || s == WayUnproven || s == WaySmall || s == WayStale
}

// addrOf returns the address of an endpoint as it is printed.
func addrOf(endpoint string) (netip.Addr, bool) {
	_, text, _ := strings.Cut(endpoint, ":")
	a, err := netip.ParseAddrPort(text)
	return a.Addr().Unmap(), err == nil
}

// refine says more about a peer that does not answer, by what the relays and all the others
// show.
func (o *outlook) refine(p *PeerStatus) (Reason, string) {
	relays := slices.DeleteFunc(slices.Clone(o.relays), func(r relayOutlook) bool { return r.address == p.Address })
	refused := slices.IndexFunc(p.Ways, func(w WayStatus) bool { return w.TroubleReason == ReasonTCPRefused && w.Silent })
	udp := slices.ContainsFunc(p.Ways, func(w WayStatus) bool { return strings.HasPrefix(w.Endpoint, "udp:") && w.Via == nil })
	switch {
	case !o.heard && o.gate != NoReason:
		return o.gate, ""
	case refused >= 0 && !udp && len(relays) == 0: // what UDP shows says more
		return ReasonTCPRefused, p.Ways[refused].Endpoint
	case !o.heard && len(o.silent) >= enough:
		return ReasonUDPBlocked, ""
	case !o.heard && len(relays) == 0 && p.Reason == ReasonNoEndpoint && len(o.silent) > 0:
		return ReasonRelaySilent, o.silent[0].Endpoint
	case len(relays) == 0:
		return p.Reason, p.ReasonAt
	}
	willing := slices.IndexFunc(relays, func(r relayOutlook) bool { return !r.refuses })
	switch {
	case willing < 0:
		return ReasonRelayPolicy, relays[0].endpoint
	case p.LastSeen != nil:
		return ReasonPeerAsleep, p.ReasonAt
	case p.Reason == ReasonNoEndpoint:
		return ReasonNotAtRelay, relays[willing].endpoint
	}
	return p.Reason, p.ReasonAt
}

// obstacle says why the path to a peer is not a direct one, and which endpoint shows it. It is
// NoReason for a direct path, and where there is none at all.
//
// What works and is not used says most. Then comes what makes a direct path impossible, and
// last what the attempts show: they failed, although nothing known is in the way.
func (s *Status) obstacle(p *PeerStatus) (Reason, string) {
	switch {
	case s.Transports.UDPSilent && (p.Path.Transport == link.TCP.String() || p.Path.Transport == link.HTTP.String()):
		return ReasonUDPSilent, ""
	case p.Path.Kind != PathRelay:
		return NoReason, ""
	case p.Reason != NoReason:
		return p.Reason, p.ReasonAt // attempts need a session of two that added each other
	}
	if r, at := p.unused(); r != NoReason {
		return r, at
	}
	a := p.Attempts
	if a == nil {
		return ReasonPunching, ""
	}
	here, there := s.hereSide(), p.thereSide()
	switch {
	case here.apart(&there):
		return ReasonFamilyMismatch, ""
	case !a.Takes:
		return ReasonNoTraversal, ""
	case !there.named(p):
		return ReasonNoCandidates, ""
	case a.Count == 0, a.Last == peer.AttemptRunning, a.Last == peer.AttemptDirect:
		return ReasonPunching, ""
	}
	return here.between(&there)
}

// unused says why a direct way that answers is not used.
func (p *PeerStatus) unused() (Reason, string) {
	for _, w := range p.Ways {
		if w.Via == nil && (w.State == WaySmall || w.State == WayWorks || w.State == WayUnproven) && w.Reason != NoReason {
			return w.Reason, w.Endpoint
		}
	}
	return NoReason, ""
}

// lossyFrom is the loss from which on a path may be given up for it.
const lossyFrom = 0.1

// side is what is known of one end of a path.
type side struct {
	kind, ports string // of its NAT
	v4, v6      bool   // it can send by them
	known       bool   // which of both is known
	hairpins    bool   // its NAT sends packets to its own outside back in
	seen        []netip.Addr
	// IPv4 ports outside the NAT and inside of it; 0: not known.
	outer, inner uint16
}

// hereSide is our end.
func (s *Status) hereSide() side {
	x := side{kind: s.Reach.Mapping, ports: s.Reach.Ports, v4: s.Network.IPv4.usable(), v6: s.Network.IPv6.usable() && s.Network.IPv6.Public, known: true,
		hairpins: s.Reach.Hairpin == HairpinYes.String()}
	for _, e := range append(slices.Clone(s.Reach.Own), s.Reach.Endpoint) {
		x.see(e)
	}
	return x
}

// thereSide is the peer's, by the endpoints that it names.
func (p *PeerStatus) thereSide() side {
	x := side{kind: p.Attempts.Kind, ports: p.Attempts.Ports}
	for _, w := range p.Ways {
		a, ok := addrOf(w.Endpoint)
		if !ok || w.Via != nil || w.Origin != path.Told.String() {
			continue
		}
		x.known = true
		x.v4, x.v6 = x.v4 || a.Is4(), x.v6 || a.Is6() && routable(a)
		x.see(w.Endpoint)
	}
	return x
}

// see notes an IPv4 endpoint of the end: outside its NAT, or inside.
func (x *side) see(endpoint string) {
	_, text, _ := strings.Cut(endpoint, ":")
	at, err := netip.ParseAddrPort(text)
	switch a := at.Addr().Unmap(); {
	case err != nil || !a.Is4():
	case !routable(a):
		x.inner = cmp.Or(x.inner, at.Port())
	default:
		x.seen = append(x.seen, a)
		x.outer = cmp.Or(x.outer, at.Port())
	}
}

// apart reports whether both ends have no version of IP in common.
func (x *side) apart(y *side) bool {
	return x.known && y.known && (x.v4 || x.v6) && (y.v4 || y.v6) && !(x.v4 && y.v4) && !(x.v6 && y.v6)
}

// named reports whether the peer names an endpoint that can be tried.
func (x *side) named(p *PeerStatus) bool {
	return slices.ContainsFunc(p.Ways, func(w WayStatus) bool { return w.Via == nil && w.State != WayNotUsable })
}

// between says what is between two ends whose attempts failed.
func (x *side) between(y *side) (Reason, string) {
	six := x.v6 && y.v6
	here, there := x.symmetric(), y.symmetric()
	switch {
	case six: // no NAT is in the way
		return ReasonFirewalled, ""
	case !x.hairpins && x.natted() && y.natted() && slices.ContainsFunc(x.seen, func(a netip.Addr) bool { return slices.Contains(y.seen, a) }):
		return ReasonHairpin, ""
	case !x.natted(), !y.natted():
		return ReasonFirewalled, ""
	case here && there:
		return ReasonBothSymmetric, ""
	case here:
		return ReasonHereSymmetric, ""
	case there:
		return ReasonPeerSymmetric, ""
	}
	return ReasonFirewalled, ""
}

func (x *side) natted() bool { return x.kind != path.None.String() }

// symmetric reports whether a NAT gives each destination another port that cannot be known
// beforehand. With one witness alone only ports are known: where attempts fail, and those of
// this machine are not kept, it is one.
func (x *side) symmetric() bool {
	switch x.kind {
	case path.Dependent.String():
		return true
	case path.Unknown.String():
		moved := x.ports == path.PortsUnknown.String() && x.outer != 0 && x.inner != 0 && x.outer != x.inner
		return moved || x.ports == path.Random.String() || x.ports == path.Sequential.String()
	}
	return false
}
