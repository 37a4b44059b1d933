package portmap

import (
	"net/netip"
	"slices"
	"time"
)

// Kind is the protocol of a mapping. The words are stable: scripts read them.
type Kind string

// The protocols.
const (
	PCP    Kind = "pcp"
	NATPMP Kind = "nat-pmp"
	UPnP   Kind = "upnp"
)

// Code says in one word what became of an address. The words are stable: scripts read them.
type Code string

// The codes. Several protocols can fail in different ways: then a Result has the first in
// this order.
const (
	Mapped     Code = "mapped"             // packets that arrive at Mapping.External get in
	BehindNAT  Code = "gateway_behind_nat" // mapped, but the gateway's own address is private: another NAT is before it
	Asking     Code = "asking"             // there is no answer yet
	NotNeeded  Code = "no_nat"             // our IPv4 address is public, so nothing is asked
	Off        Code = "off"                // the user named this network as one where nothing is asked
	NoGateway  Code = "no_gateway"         // there is no default route, or it has no router that is known
	Refused    Code = "refused"            // the gateway forbids it
	NoPort     Code = "no_port"            // it has no free port, or all that were tried are taken
	NotReady   Code = "gateway_not_ready"  // it has no connection to the internet itself
	Unfit      Code = "unfit"              // it answers, but cannot do it
	Failed     Code = "failed"             // what it answers is malformed, or our own system refuses to send
	NoAnswer   Code = "no_answer"          // it answers in no protocol
	notOffered Code = ""                   // of an Attempt only: the protocol was not tried
)

// worst lists the codes of failures, the most telling first.
var worst = [...]Code{Refused, NoPort, NotReady, Unfit, Failed, NoAnswer}

// Text returns a code in words.
func (c Code) Text() string {
	switch c {
	case Mapped:
		return "the gateway lets packets in"
	case BehindNAT:
		return "the gateway maps the port, but it is itself behind another NAT, which does not"
	case Asking:
		return "waiting for the gateway's answer"
	case NotNeeded:
		return "not needed: the address is public"
	case Off:
		return "switched off for this network"
	case NoGateway:
		return "no gateway is known"
	case Refused:
		return "the gateway refuses to map a port"
	case NoPort:
		return "the gateway has no free port"
	case NotReady:
		return "the gateway has no connection to the internet"
	case Unfit:
		return "the gateway cannot map this port"
	case Failed:
		return "the gateway could not be asked, or its answer makes no sense"
	case NoAnswer:
		return "the gateway does not offer port mapping (UPnP, NAT-PMP or PCP)"
	}
	return string(c)
}

// Mapping is a port that the gateway lets in. Packets that anybody sends to External arrive
// at Internal. It is comparable.
type Mapping struct {
	Kind     Kind
	External netip.AddrPort // for IPv6 as a rule the same as Internal: a hole in the firewall
	Internal netip.AddrPort
	// Expires is when the gateway forgets it unless it is renewed, which happens long
	// before; zero: never. It has no monotonic part, so that sleep counts.
	Expires time.Time
	// Doubtful means that External is no address that the internet can reach, since it is
	// private, shared (100.64.0.0/10), loopback or the like. It may still be of use to
	// others behind the same outer NAT.
	Doubtful bool
}

// Attempt is what one protocol answered.
type Attempt struct {
	Kind   Kind
	Code   Code
	Detail string // as the protocol puts it, such as "NOT_AUTHORIZED"; may be empty
}

// Result is what became of one of our addresses.
type Result struct {
	Local   netip.Addr // ours; invalid if there is none
	Gateway netip.Addr // invalid if there is none; link-local ones have a zone
	Code    Code
	Mapping Mapping   // zero unless Code is Mapped or BehindNAT
	Tried   []Attempt // of the last time that the gateway was asked; not to be changed
}

// State is what is known of all addresses. It is not changed after it was passed on.
type State struct {
	IPv4 Result
	IPv6 []Result // one for each global address, at most 4; not to be changed
}

// Mappings lists what the gateway lets in, IPv4 first.
func (s State) Mappings() []Mapping {
	var list []Mapping
	for _, r := range append([]Result{s.IPv4}, s.IPv6...) {
		if r.Mapping != (Mapping{}) {
			list = append(list, r.Mapping)
		}
	}
	return list
}

func (s State) same(t State) bool {
	return s.IPv4.same(t.IPv4) && slices.EqualFunc(s.IPv6, t.IPv6, Result.same)
}

func (r Result) same(s Result) bool {
	return r.Local == s.Local && r.Gateway == s.Gateway && r.Code == s.Code && r.Mapping == s.Mapping && slices.Equal(r.Tried, s.Tried)
}
