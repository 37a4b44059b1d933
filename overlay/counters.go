package overlay

import "sync/atomic"

// counter names one thing that is counted; every packet that is dropped has one.
type counter int

// The counters, in the order of counterNames.
const (
	cTxPackets counter = iota
	cTxBytes
	cRxPackets
	cRxBytes
	cRelayedPackets
	cRelayedBytes
	cControlRx
	cControlTx
	cHandshakes

	dShort
	dFlags
	dHeader
	dNotOurs
	dRelayRefused
	dRelayHops
	dSourceRate
	dInboxFull
	dUnknownSession
	dSealAuth
	dSealReplay
	dSealOther
	dSealType
	dUnknownSender
	dOwnAddress
	dMAC
	dBudget
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
	dKeyEnded
	dTooBig
	dFragment
	dReflection
	dWrite
	dPong
	dCopies

	counterCount
)

var counterNames = [counterCount]string{
	"tx_packets", "tx_bytes", "rx_packets", "rx_bytes", "relayed_packets", "relayed_bytes",
	"control_rx", "control_tx", "handshakes",
	"drop_short", "drop_flags", "drop_header", "drop_not_ours", "drop_relay_refused", "drop_relay_hops",
	"drop_source_rate", "drop_inbox_full", "drop_unknown_session", "drop_seal_auth", "drop_seal_replay",
	"drop_seal_other", "drop_seal_type", "drop_unknown_sender", "drop_own_address", "drop_mac", "drop_budget",
	"drop_blocked", "drop_cleartext", "drop_message", "drop_handshake", "drop_cookie", "drop_strangers",
	"drop_no_secret", "auth_errors_received", "errors_received", "drop_waiting_full", "drop_no_route",
	"drop_key_ended", "drop_too_big", "drop_fragment", "drop_reflection", "drop_write", "drop_pong", "drop_copies",
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
