package main

import "strings"

// counterMeaning describes a counter of a node in plain words; "" if its name says it.
func counterMeaning(name string) string {
	for _, part := range []func(string) string{trafficMeaning, peopleMeaning, lanMeaning, droppedMeaning, programMeaning, adapterMeaning, gatewayMeaning, socketMeaning, connectionMeaning, localMeaning, namesMeaning} {
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
	case "tx_marked":
		return "sent with a mark that tells the program to send less (ECN), since the queue of a connection was long"
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

// peopleMeaning describes the counters of what people say to each other.
func peopleMeaning(name string) string {
	switch name {
	case "people_blocked":
		return "messages of blocked peers"
	case "people_not_allowed":
		return "messages that their sender may not send"
	case "people_too_much":
		return "messages beyond what one peer may send"
	case "people_malformed", "people_unknown_kind":
		return "messages that are malformed, or of a later version"
	case "people_again":
		return "messages that came before, and were answered again"
	case "people_not_written":
		return "changes that the disk did not take"
	case "people_requests_evicted":
		return "requests that newer ones took the place of"
	case "people_outbox_full", "people_not_sent":
		return "messages of this machine for which there was no room; most are sent later"
	case "people_inbox_full", "people_strangers_inbox_full":
		return "messages that came faster than they could be taken"
	}
	return ""
}

// lanMeaning describes the counters of the virtual LAN.
func lanMeaning(name string) string {
	switch strings.TrimPrefix(name, "drop_lan_") {
	case "lan_tx_packets":
		return "broadcast and multicast packets of programs, sent to the members of the virtual LAN"
	case "lan_tx_copies":
		return "copies of these packets, one for each machine that wants them"
	case "lan_rx_packets":
		return "broadcast and multicast packets received from members of the virtual LAN"
	case "nobody":
		return "broadcast and multicast packets of programs that no member of the virtual LAN wants"
	case "outsider":
		return "messages of peers that are not members of the virtual LAN"
	case "out_limit":
		return "broadcast and multicast packets of programs, beyond the limit"
	case "peer_limit":
		return "broadcast and multicast packets of one peer, beyond its limit"
	case "in_limit":
		return "broadcast and multicast packets of all peers, beyond their limit"
	case "echo":
		return "broadcast and multicast packets that a program on this machine repeats, and that would go round in circles"
	case "groups":
		return "out of date messages about groups, and groups of this machine beyond those that can be told"
	case "waiting":
		return "broadcast and multicast packets to members without a session, beyond the first few"
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
	case "hidden":
		return "strangers on the LAN that this machine is silent towards (discovery)"
	case "friends":
		return "announcements on the LAN that are for others (discovery)"
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

// programMeaning describes what streams and datagrams of the node's own programs count.
func programMeaning(name string) string {
	switch strings.TrimPrefix(name, "drop_") {
	case "stream":
		return "of streams, from somebody who is not let in"
	case "stream_malformed":
		return "of streams, malformed"
	case "stream_unknown":
		return "of streams that are not known, or have ended"
	case "stream_strange":
		return "of streams, against the rules of the stream"
	case "stream_twice":
		return "of streams, data that had arrived before"
	case "stream_no_room":
		return "of streams, more data than the program has room for"
	case "stream_refused":
		return "streams to ports where nothing listens"
	case "stream_waiting":
		return "streams that were opened faster than programs take them"
	case "stream_withdrawn":
		return "streams that the peer no longer waited for when the service had to be asked"
	case "stream_control":
		return "answers about streams that are not known: too many"
	case "socket_refused":
		return "datagrams from somebody who is not let in"
	case "socket_full":
		return "datagrams that a program did not read in time"
	case "no_adapter":
		return "for a port where no program listens; there is no adapter"
	case "port_closed":
		return "peers that were told that no program listens on a UDP port"
	case "port_limited":
		return "UDP for ports where no program listens, not answered: too much"
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
	case "out_drop_group", "in_drop_group":
		return "broadcast and multicast packets that never cross the virtual LAN, such as those of routers and DHCP"
	case "out_drop_no_alias", "in_drop_no_alias":
		return "IPv4 packets to or from an address that is no peer's"
	case "out_drop_ip_options":
		return "IPv4 packets with options"
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

// gatewayMeaning describes TCP between programs of this machine and peers without an adapter.
func gatewayMeaning(name string) string {
	switch strings.TrimPrefix(name, "gateway_") {
	case "connections":
		return "TCP with peers that have no adapter, now"
	case "out_opened":
		return "opened by programs of this machine"
	case "in_opened":
		return "opened by peers"
	case "out_refused":
		return "refused by the peer"
	case "out_unreachable":
		return "not opened: the peer cannot be reached, or is blocked"
	case "out_failed":
		return "not opened: no answer of the peer or the program"
	case "in_refused":
		return "for a port of this machine where nothing listens"
	case "in_failed":
		return "not opened: no answer of a service of this machine, or the peer gave up"
	case "aborted":
		return "ended by a reset or an error"
	case "drop_malformed", "drop_not_tcp":
		return "packets that are no TCP of this machine"
	case "drop_too_many":
		return "connections beyond the limits"
	case "drop_error":
		return "errors of the system about connections that are not being opened"
	case "drop_repeated_syn", "drop_unknown_syn":
		return "repeated by the system while a connection is being opened"
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

// connectionMeaning describes what is counted of TCP, HTTP and Ethernet.
func connectionMeaning(name string) string {
	name, ok := strings.CutPrefix(name, "mux_")
	if !ok {
		return ""
	}
	for _, part := range []func(string) string{muxTrafficMeaning, muxRefusedMeaning, webMeaning} {
		if text := part(name); text != "" {
			return text
		}
	}
	return ""
}

func muxTrafficMeaning(name string) string {
	switch name {
	case "rx_packets", "rx_bytes":
		return "received by TCP, HTTP and Ethernet"
	case "tx_packets", "tx_bytes":
		return "sent by TCP, HTTP and Ethernet"
	case "connections":
		return "connections and HTTP sessions that are open now"
	case "connections_unproved":
		return "of those, open ones whose other side has not proved who it is"
	case "accepted":
		return "connections that others opened"
	case "dialled":
		return "connections that this node opened"
	case "dial_failed":
		return "connections that this node could not open"
	case "ended":
		return "connections that ended"
	case "tx_queue_full":
		return "not sent: a connection's queue was full"
	case "tx_too_late":
		return "not sent: a connection was stuck"
	case "tx_connection_gone":
		return "not sent: the connection had ended"
	case "tx_too_many_connections":
		return "not sent: too many connections were open"
	case "tx_dial_later":
		return "not sent: the connection failed a moment ago, and is not opened again yet"
	case "tx_dial_budget":
		return "not sent: too many connections are being opened"
	}
	return ""
}

func muxRefusedMeaning(name string) string {
	switch name {
	case "refused_others":
		return "connections ended: too many of peers that were not added"
	case "accept_failed":
		return "connections that the system could not accept"
	case "ended_replaced_unproved":
		return "connections ended for newer ones: too many whose other side has not proved who it is"
	case "ended_replaced_source":
		return "the same, from one network"
	case "ended_replaced_proved":
		return "connections and HTTP sessions ended for newer ones: too many of one peer"
	case "ended_silent":
		return "connections of this node ended: the other side sent no packets"
	case "refused_connections":
		return "connections refused: too many"
	case "ended_no_packets":
		return "connections ended: what came is no packets"
	case "ended_slow":
		return "connections ended: the other side was too slow"
	case "ended_unproved":
		return "connections ended: the other side did not prove who it is in time"
	case "rx_ethernet_bad":
		return "malformed frames"
	case "tx_ethernet_refused":
		return "frames that the system did not take"
	}
	return ""
}

func webMeaning(name string) string {
	switch strings.TrimPrefix(name, "http_") {
	case "sessions":
		return "HTTP sessions of others that are open now"
	case "sessions_unproved":
		return "of those, open ones whose other side has not proved who it is"
	case "connections":
		return "HTTP connections of others that are open now"
	case "requests":
		return "HTTP requests that came in"
	case "sessions_begun":
		return "HTTP sessions that others began"
	case "streams":
		return "HTTP answers that carried packets as they came"
	case "streams_swallowed":
		return "HTTP answers that somebody on the way kept until their end"
	case "failed":
		return "HTTP requests of this node that failed"
	case "refused_connections":
		return "HTTP connections refused: too many"
	case "refused_query":
		return "HTTP requests refused: not of this protocol"
	case "refused_body":
		return "HTTP requests refused: too large"
	case "refused_in_flight":
		return "HTTP requests refused: too many of one session at once"
	case "refused_sessions":
		return "HTTP sessions refused: too many"
	case "ended_idle":
		return "HTTP sessions ended: nothing came for long"
	case "slow_body":
		return "HTTP requests ended: the other side was too slow"
	case "slow_reader":
		return "HTTP answers ended: the other side did not read them"
	case "no_packets":
		return "HTTP requests ended: what came is no packets"
	case "out_of_turn":
		return "HTTP requests that came out of order, and were not waited for"
	case "no_request":
		return "HTTP connections ended: a request's head was malformed, too long, or too slow"
	case "connections_not_owned":
		return "HTTP connections of a peer beyond its share; they end like those of strangers"
	}
	return ""
}

// localMeaning describes what was not let through between programs of this machine and peers.
func localMeaning(name string) string {
	switch name {
	case "local_not_peer":
		return "requests of programs for something that is no added peer"
	case "local_not_allowed":
		return "connections and datagrams of peers that may not use an exposed port"
	case "local_full":
		return "connections and datagrams beyond the limits"
	case "local_handshake":
		return "connections to a proxy that were not SOCKS5 or CONNECT, or too slow"
	case "local_dial_failed":
		return "connections of programs to peers that came to nothing"
	case "local_service_failed":
		return "connections of peers to a service that was not there"
	case "local_datagrams_dropped":
		return "datagrams that were malformed, of another program, or too many at once"
	}
	return ""
}

// namesMeaning describes the counters of the DNS server.
func namesMeaning(name string) string {
	switch name {
	case "dns_found":
		return "DNS queries of programs for names that exist"
	case "dns_not_found":
		return "DNS queries for names that do not exist"
	case "dns_refused":
		return "DNS queries for names of other domains, or for whole zones"
	case "dns_malformed":
		return "DNS queries that cannot be read"
	case "dns_unsupported":
		return "DNS messages of kinds that the server does not know"
	case "dns_truncated":
		return "DNS answers that did not fit; the program asks again by TCP"
	case "dns_silent":
		return "DNS messages that are no queries"
	case "dns_foreign":
		return "DNS queries of other machines, which are not answered"
	case "dns_limited":
		return "DNS queries beyond what one program may ask"
	case "dns_connections_full":
		return "DNS connections beyond those that may be open at once"
	case "dns_failed":
		return "DNS answers that the system did not send, and connections that it did not give"
	}
	return ""
}
