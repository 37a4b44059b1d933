package overlay

import "sync/atomic"

// counter names one thing that is counted; every packet that is dropped has one.
type counter int

// The counters. What is not in the comment of one is in its name in counterNames.
const (
	cTxPackets counter = iota
	cTxBytes
	cRxPackets
	cRxBytes
	cRelayedPackets
	cRelayedBytes
	cClientPackets // of clients, that were relayed
	cClientBytes
	cControlRx // unsealed messages that were authentic
	cControlTx
	cHandshakes

	dShort
	dFlags
	dHeader
	dNotOurs // for a node that we do not know
	dRelayRefused
	dRelayHops
	dSourceRate // unauthenticated packets beyond their source's budget, or that of all
	dInboxAuthentic
	dInboxWaiting
	dInboxUnsigned
	dInboxClients
	dClients // that there was no room for
	dClientLimit
	dTotalLimit
	dUnknownSession
	dSealAuth
	dSealReplay
	dSealOther
	dSealType // a sealed message that is not to be sent sealed, or unknown
	dUnknownSender
	dOwnAddress
	dMachine // for another machine with our address
	dMAC
	dBudget
	dHint // endpoints that were not looked at
	dStanding
	dBlocked
	dCleartext
	dMessage
	dHandshake
	dCookie
	dStrangers
	dNoSecret
	dAuthError
	dErrorReceived
	dWaitingFull
	dNoRoute
	dNotAddedThere // packets of programs to peers that have not added us
	dKeyEnded
	dTooBig
	dFragment
	dReflection
	dHidden  // what strangers on the real LAN ask or announce where this node is silent
	dFriends // announcements to friends that are not for us
	dWrite
	dDiagnosis     // questions why an endpoint does not answer
	dCopies        // of a broadcast, by another lane
	dNetID         // answers about our endpoint that nobody asked for
	dLinger        // questions to be answered late, beyond one of each peer, or from another port too often
	dSTUN          // answers of STUN servers that were not asked there, cannot be read, or are too many
	dExtra         // what came to a second socket and is no answer
	dStream        // messages of streams from strangers
	dSocketRefused // datagrams of strangers
	dSocketFull    // datagrams that a program does not read quickly enough
	dNoAdapter     // for a port where no program listens, or packets for an adapter that is not there
	cKeepalives
	cRebound // times at which others saw another endpoint of us than before
	cWoken   // times at which the node found that it had not run for a while
	cTxMarked
	cPortClosed  // errors that were sent about UDP to ports without a socket
	dPortLimited // such errors, beyond their rate

	// Of what people tell each other.
	dTells      // beyond a budget
	dTellsFull  // that People had no room for
	dNoPeople   // that nobody here takes
	dAside      // what may not travel in a session by an invitation
	dInvitation // handshakes by an invitation that there is not, or not any more
	dClaims     // and by one that was used too often just now

	// Of the virtual LAN.
	cLANTx       // packets of programs to groups, each counted once
	cLANCopies   // and what they became, one a machine
	cLANRx       // packets to groups that came in
	dLANNobody   // packets of programs to groups that nobody wants
	dLANOutsider // of who is not in our virtual LAN, or said that we are not in its
	dLANOut      // beyond the limit of what leaves
	dLANPeer     // beyond the limit of one peer
	dLANIn       // beyond the limit of all peers
	dLANEcho     // what a program would send round in circles
	dLANGroups   // what peers said that was out of date, and groups of ours beyond those that can be told
	dLANWaiting  // packets to members without a session, beyond a few

	counterCount
)

// counterNames are the names in Status.
var counterNames = [counterCount]string{
	cTxPackets: "tx_packets", cTxBytes: "tx_bytes", cRxPackets: "rx_packets", cRxBytes: "rx_bytes",
	cRelayedPackets: "relayed_packets", cRelayedBytes: "relayed_bytes",
	cClientPackets: "relayed_client_packets", cClientBytes: "relayed_client_bytes",
	dInboxClients: "drop_inbox_clients", dClients: "drop_clients", dClientLimit: "drop_client_limit", dTotalLimit: "drop_total_limit",
	cControlRx: "control_rx", cControlTx: "control_tx", cHandshakes: "handshakes",
	dShort: "drop_short", dFlags: "drop_flags", dHeader: "drop_header", dNotOurs: "drop_not_ours",
	dRelayRefused: "drop_relay_refused", dRelayHops: "drop_relay_hops", dSourceRate: "drop_source_rate",
	dInboxAuthentic: "drop_inbox_authentic", dInboxWaiting: "drop_inbox_waiting", dInboxUnsigned: "drop_inbox_unsigned",
	dUnknownSession: "drop_unknown_session", dSealAuth: "drop_seal_auth", dSealReplay: "drop_seal_replay",
	dSealOther: "drop_seal_other", dSealType: "drop_seal_type", dUnknownSender: "drop_unknown_sender",
	dOwnAddress: "drop_own_address", dMachine: "drop_machine", dMAC: "drop_mac", dBudget: "drop_budget", dHint: "drop_hint",
	dStanding: "drop_standing", dBlocked: "drop_blocked", dCleartext: "drop_cleartext", dMessage: "drop_message",
	dHandshake: "drop_handshake", dCookie: "drop_cookie", dStrangers: "drop_strangers", dNoSecret: "drop_no_secret",
	dAuthError: "auth_errors_received", dErrorReceived: "errors_received", dWaitingFull: "drop_waiting_full",
	dNoRoute: "drop_no_route", dKeyEnded: "drop_key_ended", dTooBig: "drop_too_big", dFragment: "drop_fragment",
	dNotAddedThere: "drop_not_added_there", dDiagnosis: "drop_diagnosis", dReflection: "drop_reflection", dHidden: "drop_hidden", dFriends: "drop_friends", dWrite: "drop_write", dCopies: "drop_copies",
	dNetID: "drop_netid", dLinger: "drop_linger", dSTUN: "drop_stun", dExtra: "drop_extra", dStream: "drop_stream", dSocketRefused: "drop_socket_refused", dSocketFull: "drop_socket_full", dNoAdapter: "drop_no_adapter", cKeepalives: "keepalives", cRebound: "rebound", cWoken: "woken",
	cTxMarked: "tx_marked", cPortClosed: "port_closed", dPortLimited: "drop_port_limited",
	dTells: "drop_tells", dTellsFull: "drop_tells_full", dNoPeople: "drop_no_people", dAside: "drop_aside", dInvitation: "drop_invitation", dClaims: "drop_claims",
	cLANTx: "lan_tx_packets", cLANCopies: "lan_tx_copies", cLANRx: "lan_rx_packets",
	dLANNobody: "drop_lan_nobody", dLANOutsider: "drop_lan_outsider", dLANOut: "drop_lan_out_limit", dLANPeer: "drop_lan_peer_limit", dLANIn: "drop_lan_in_limit",
	dLANEcho: "drop_lan_echo", dLANGroups: "drop_lan_groups", dLANWaiting: "drop_lan_waiting",
}

type counters [counterCount]atomic.Uint64

func (c *counters) add(k counter, n int) {
	if n != 0 {
		c[k].Add(uint64(n))
	}
}

func (c *counters) count(k counter) { c[k].Add(1) }

// into writes all counters that have counted anything; "tx_" and "rx_" always.
func (c *counters) into(m map[string]uint64) {
	for k, name := range counterNames {
		if v := c[k].Load(); v != 0 || counter(k) < dShort {
			m[name] = v
		}
	}
}
