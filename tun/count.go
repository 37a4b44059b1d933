package tun

import "sync/atomic"

// counter names what is counted, in most cases a reason why a packet was dropped. The
// zero value, none, is not counted.
type counter int

const (
	none counter = iota

	// Outgoing, from the system to peers.
	outReads     // packets and super-packets taken
	outMessages  // messages made of them
	outNotIPv6   // another protocol, or IPv4 where there are no aliases
	outMalformed // lengths or offload header inconsistent
	outSource    // a source address that is not ours
	outMulticast // to a multicast address, where groups are off
	outForeign   // to an address that is no peer's ULA or alias
	outGroup     // to a group, by an address or a protocol that stays on its link
	outAlias     // to an alias that nobody has
	outOptions   // IPv4 with options
	outError     // ICMPv4 error about a packet that did not come from that peer to us
	outReadError // the system refused a read

	// Incoming, from peers to the system.
	inMessages  // messages delivered
	inWrites    // packets and super-packets that they were written as
	inType      // a type that is not for the adapter
	inMalformed // lengths or headers inconsistent
	inRouting   // routing header with segments left
	inHome      // Home Address option
	inNeighbour // ICMP that only neighbours on a link may send
	inError     // ICMP error about a packet that did not go from us to that peer
	inUnasked   // no reply to anything, from a peer that was not added
	inGroup     // to a group, by an address or a protocol that stays on its link
	inAlias     // IPv4 from a peer that has no alias
	inRouters   // a protocol that only routers speak
	inPong      // PONG without a PING
	inWrite     // the system refused a write
	inRefused   // the system refused a super-packet, so no more are made of that protocol

	// ICMP errors that we make.
	errSent
	errLimited // over the rate
	errNone    // the packet may not be answered with an error
	errWrite   // the system refused the write

	numCounters
)

var counterNames = [numCounters]string{
	outReads:     "tun_out_reads",
	outMessages:  "tun_out_messages",
	outNotIPv6:   "tun_out_drop_not_ipv6",
	outMalformed: "tun_out_drop_malformed",
	outSource:    "tun_out_drop_source",
	outMulticast: "tun_out_drop_multicast",
	outForeign:   "tun_out_drop_foreign",
	outGroup:     "tun_out_drop_group",
	outAlias:     "tun_out_drop_no_alias",
	outOptions:   "tun_out_drop_ip_options",
	outError:     "tun_out_drop_icmp_error",
	outReadError: "tun_out_read_error",

	inMessages:  "tun_in_messages",
	inWrites:    "tun_in_writes",
	inType:      "tun_in_drop_type",
	inMalformed: "tun_in_drop_malformed",
	inRouting:   "tun_in_drop_routing_header",
	inHome:      "tun_in_drop_home_address",
	inNeighbour: "tun_in_drop_neighbour",
	inError:     "tun_in_drop_icmp_error",
	inUnasked:   "tun_in_drop_policy",
	inGroup:     "tun_in_drop_group",
	inAlias:     "tun_in_drop_no_alias",
	inRouters:   "tun_in_drop_routers",
	inPong:      "tun_in_drop_pong",
	inWrite:     "tun_in_drop_write_error",
	inRefused:   "tun_in_offload_refused",

	errSent:    "tun_icmp_sent",
	errLimited: "tun_icmp_limited",
	errNone:    "tun_icmp_not_allowed",
	errWrite:   "tun_icmp_write_error",
}

// counters belong to one goroutine, which alone adds; any goroutine may read.
type counters [numCounters]atomic.Uint64

func (c *counters) add(i counter, n int) { c[i].Add(uint64(n)) }
