package main

import "strings"

// counterMeaning describes a counter of a node in plain words; "" if its name says it.
func counterMeaning(name string) string {
	for _, part := range []func(string) string{trafficMeaning, droppedMeaning, adapterMeaning, socketMeaning} {
		if text := part(name); text != "" {
			return text
		}
	}
	return ""
}

func trafficMeaning(name string) string {
	switch name {
	case "tx_packets", "tx_bytes":
		return "sent to peers, encrypted"
	case "rx_packets", "rx_bytes":
		return "received from peers, encrypted"
	case "relayed_packets", "relayed_bytes":
		return "forwarded between other peers"
	case "control_rx":
		return "handshakes and searches received"
	case "control_tx":
		return "handshakes and searches sent"
	case "handshakes":
		return "sessions made"
	case "auth_errors_received":
		return "a peer could not read a packet of this node"
	case "errors_received":
		return "a peer reported an error"
	}
	return ""
}

func droppedMeaning(name string) string {
	switch strings.TrimPrefix(name, "drop_") {
	case "zone_wanted":
		return "zone files that were asked for faster than they can be fetched"
	case "zone_connection":
		return "requests for the zone file, beyond the limits"
	case "short", "flags", "header", "message", "handshake":
		return "malformed, or of an unknown version"
	case "not_ours":
		return "for a node that is not known here"
	case "relay_refused":
		return "not forwarded: its sender is not added, or relay is off"
	case "relay_hops":
		return "not forwarded: it crossed too many relays"
	case "source_rate", "budget":
		return "more than one sender may cause"
	case "inbox_authentic", "inbox_waiting", "inbox_unsigned", "waiting_full":
		return "a queue was full"
	case "unknown_session":
		return "of a session that is not known, or has ended"
	case "seal_auth", "mac":
		return "forged, damaged, or with another secret"
	case "seal_replay":
		return "received twice"
	case "unknown_sender":
		return "from somebody who is not known here"
	case "own_address", "machine", "reflection":
		return "from this node's own address"
	case "hint":
		return "endpoints that were not tried: too many"
	case "standing":
		return "from somebody who may not send this"
	case "blocked":
		return "from a blocked peer"
	case "cleartext":
		return "not encrypted"
	case "strangers":
		return "too many strangers at once"
	case "no_secret":
		return "from somebody without the network's secret"
	case "no_route":
		return "no path to the peer"
	case "key_ended":
		return "the session had ended"
	case "too_big":
		return "too large for the path"
	case "write":
		return "the system did not take it"
	case "copies":
		return "a broadcast that arrived more than once"
	}
	return ""
}

func adapterMeaning(name string) string {
	switch strings.TrimPrefix(name, "tun_") {
	case "out_reads", "out_messages":
		return "from programs of this machine"
	case "out_drop_not_ipv6":
		return "not IPv6"
	case "out_drop_source":
		return "a program used an address that is not this node's"
	case "out_drop_multicast":
		return "multicast, which is not carried"
	case "out_drop_foreign":
		return "to an address that is no Anode address"
	case "in_messages", "in_writes":
		return "to programs of this machine"
	case "in_drop_policy":
		return "from somebody who is not added, and not an answer"
	case "in_drop_write_error", "icmp_write_error":
		return "the adapter did not take it"
	case "in_drop_malformed", "out_drop_malformed", "in_drop_type":
		return "malformed"
	case "icmp_sent":
		return "ICMPv6 errors to programs, such as unreachable"
	case "icmp_limited":
		return "ICMPv6 errors that were not sent: too many"
	}
	return ""
}

func socketMeaning(name string) string {
	switch strings.TrimPrefix(name, "link_") {
	case "rx_dropped":
		return "the socket's queue was full"
	case "tx_waits":
		return "the socket's send buffer was full"
	case "tx_too_big":
		return "larger than the interface's MTU"
	case "tx_unreachable":
		return "no route to the network or machine"
	case "tx_port_unreachable":
		return "nothing listens on the other machine's port"
	case "tx_denied":
		return "a firewall of this machine refused it"
	case "tx_no_buffer":
		return "the interface's queue was full"
	case "tx_bad_source":
		return "the source address is not this machine's, or not yet"
	case "tx_bad_endpoint":
		return "the socket cannot send to such an endpoint"
	case "rx_trains", "tx_trains":
		return "groups of packets in one system call"
	}
	return ""
}
