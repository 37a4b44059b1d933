package gateway

import "sync/atomic"

// counter names what is counted.
type counter int

const (
	outOpened counter = iota // connections of programs that became streams
	inOpened                 // streams that became connections to services
	outRefused
	outUnreachable
	outFailed // timed out, or the system did not complete the handshake
	inRefused
	inFailed  // no answer of the system, or the stream was not opened after all
	aborted   // connections that ended by a reset or an error
	malformed // packets that are not TCP of ours
	tooMany   // connections beyond the limits
	repeated  // SYNs while the stream is being opened
	unknown   // SYNs that nobody waits for
	foreign   // packets of netstack that are not TCP
	useless   // ICMPv6 errors that are not about a connection that is being opened

	numCounters
)

var counterNames = [numCounters]string{
	outOpened:      "gateway_out_opened",
	inOpened:       "gateway_in_opened",
	outRefused:     "gateway_out_refused",
	outUnreachable: "gateway_out_unreachable",
	outFailed:      "gateway_out_failed",
	inRefused:      "gateway_in_refused",
	inFailed:       "gateway_in_failed",
	aborted:        "gateway_aborted",
	malformed:      "gateway_drop_malformed",
	tooMany:        "gateway_drop_too_many",
	repeated:       "gateway_drop_repeated_syn",
	unknown:        "gateway_drop_unknown_syn",
	foreign:        "gateway_drop_not_tcp",
	useless:        "gateway_drop_error",
}

type counters [numCounters]atomic.Uint64

func (c *counters) add(i counter) { c[i].Add(1) }

// Counters returns the gateway's counters by name.
func (g *Gateway) Counters() map[string]uint64 {
	m := make(map[string]uint64, numCounters+1)
	for i, name := range counterNames {
		m[name] = g.count[i].Load()
	}
	g.mu.Lock()
	m["gateway_connections"] = uint64(len(g.table.all))
	g.mu.Unlock()
	return m
}
