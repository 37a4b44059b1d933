package info2

import (
	"net/netip"
	"time"
)

// Inbound is whether others can reach us, as far as can be known.
type Inbound string

const (
	InboundOff     Inbound = "off"           // Config.Listen is nil
	InboundUnknown Inbound = "unknown"       // not linked for long enough to tell
	InboundWorks   Inbound = "works"         // somebody has completed a handshake with us
	InboundNone    Inbound = "outbound only" // linked for five minutes, and nobody has come: a firewall, probably
)

// Status is what a Servent knows of itself, at one moment.
type Status struct {
	Network    string             `json:"network"` // Config.Name
	Port       uint16             `json:"port"`
	Inbound    Inbound            `json:"inbound"`
	InboundAt  time.Time          `json:"inbound_at,omitzero"` // last handshake that came in
	Links      []LinkStatus       `json:"links"`               // by age, oldest first
	Neighbours []NeighbourStatus  `json:"neighbours"`
	Hosts      HostCounts         `json:"hosts"`
	Remembered int                `json:"remembered"` // message identifiers, at most 4096
	Counters   map[Counter]uint64 `json:"counters"`   // without those that are zero
}

// LinkStatus is one connection that messages travel on, or that is becoming one.
type LinkStatus struct {
	Addr       netip.Addr `json:"addr"`
	Name       string     `json:"name,omitempty"` // by Config.NameOf
	Direction  string     `json:"direction"`      // in, out
	State      string     `json:"state"`          // dialing, awaiting ok, awaiting hello, open, hearing
	Since      time.Time  `json:"since"`          // of State
	First      uint64     `json:"first"`          // messages that it brought before others did
	Duplicates uint64     `json:"duplicates"`
	Usefulness float64    `json:"usefulness"` // 0 to 1; the least useful of more than seven goes
	Queued     int        `json:"queued"`     // bytes waiting, at most 65536
	Slow       bool       `json:"slow,omitempty"`
	Suspect    bool       `json:"suspect,omitempty"` // somebody else says it has logged off
}

// NeighbourStatus is a servent without a lasting link that is dialled for every
// message.
type NeighbourStatus struct {
	Addr   netip.Addr `json:"addr"`
	Name   string     `json:"name,omitempty"`
	Until  time.Time  `json:"until"` // forgotten then, unless renewed
	Queued int        `json:"queued"`
}

// HostCounts are the sizes of the host cache.
type HostCounts struct {
	Friends  int `json:"friends"`
	Verified int `json:"verified"` // have answered our hello
	Hearsay  int `json:"hearsay"`  // only named by somebody
	Paused   int `json:"paused"`   // of all, those that must not be dialled now
}

// HostStatus is one entry of the host cache.
type HostStatus struct {
	Addr     netip.Addr `json:"addr"`
	Name     string     `json:"name,omitempty"`
	Standing string     `json:"standing"` // friend, verified, hearsay
	Verified time.Time  `json:"verified,omitzero"`
	Failures int        `json:"failures"`         // in a row
	Next     time.Time  `json:"next,omitzero"`    // no dial before
	ToldBy   netip.Addr `json:"told_by,omitzero"` // zero: the user
	// PerMessage: it has asked to be dialled for each message. It must not be a start
	// address of the next run: a link may be too much for it.
	PerMessage bool `json:"per_message,omitempty"`
}

// status fills in everything that the core knows; names are the shell's.
func (c *core) status(now time.Time) Status {
	st := Status{
		Inbound:    c.presence.inbound(now),
		InboundAt:  c.presence.in,
		Links:      []LinkStatus{},
		Neighbours: []NeighbourStatus{},
		Hosts:      c.hosts.counts(now),
		Remembered: len(c.flood.memory.queue),
		Counters:   c.fx.counters.nonZero(),
	}
	for _, l := range c.links.list {
		if l.purpose != keep {
			continue
		}
		st.Links = append(st.Links, LinkStatus{
			Addr: l.addr, Direction: l.direction.String(), State: l.state.String(), Since: l.since,
			First: l.said.fresh, Duplicates: l.said.dups, Usefulness: l.usefulness(now),
			Queued: l.out.box.bytes, Slow: l.out.full, Suspect: l.said.suspect,
		})
	}
	for _, n := range c.neighbours.list {
		st.Neighbours = append(st.Neighbours, NeighbourStatus{Addr: n.addr, Until: n.until, Queued: n.out.bytes})
	}
	return st
}

// presence is what handshakes have shown of our place in the network.
type presence struct {
	listening bool
	out       time.Time // first OK that we got
	in        time.Time // last hello that came in
}

// inbound is what that means.
func (p *presence) inbound(now time.Time) Inbound {
	switch {
	case !p.listening:
		return InboundOff
	case !p.in.IsZero():
		return InboundWorks
	case !p.out.IsZero() && now.Sub(p.out) >= inboundWait:
		return InboundNone
	}
	return InboundUnknown
}
