package config

import (
	"net/netip"

	"anodenet/overlay/alias"
)

// LAN is the virtual LAN.
type LAN struct {
	Peers LANPeers `toml:"peers"`
	IP4   Range    `toml:"ip4"`
	Games bool     `toml:"games"`
}

// Discovery is how machines find each other on the real LAN.
type Discovery struct {
	Interfaces []string `toml:"interfaces"` // empty: all
	Announce   Announce `toml:"announce"`
	Quiet      []string `toml:"quiet"` // names of interfaces, prefixes and addresses
}

// LANPeers says who is in the virtual LAN.
type LANPeers struct{ word string }

// The values of LANPeers.
var (
	lanPeers  = []string{"chosen", "all"}
	LANChosen = LANPeers{"chosen"}
	LANAll    = LANPeers{"all"}
)

// UnmarshalText reads the word.
func (p *LANPeers) UnmarshalText(b []byte) (err error) {
	p.word, err = oneOf(string(b), lanPeers)
	return err
}

// MarshalText returns the word.
func (p LANPeers) MarshalText() ([]byte, error) { return []byte(p.word), nil }

// Announce says who the beacon on the real LAN is for.
type Announce struct{ word string }

// The values of Announce.
var (
	announces       = []string{"all", "friends", "off"}
	AnnounceAll     = Announce{"all"}
	AnnounceFriends = Announce{"friends"}
	AnnounceOff     = Announce{"off"}
)

// UnmarshalText reads the word.
func (a *Announce) UnmarshalText(b []byte) (err error) {
	a.word, err = oneOf(string(b), announces)
	return err
}

// MarshalText returns the word.
func (a Announce) MarshalText() ([]byte, error) { return []byte(a.word), nil }

// Range is where IPv4 aliases are from.
type Range struct{ netip.Prefix } // not valid: there are none

const (
	rangeForms = "a private IPv4 range of /8 to /24, such as \"198.18.0.0/15\", or \"off\""
	rangeOff   = "off"
)

// UnmarshalText reads a prefix that alias.CheckRange takes, or "off".
func (r *Range) UnmarshalText(b []byte) error {
	r.Prefix = netip.Prefix{}
	if string(b) == rangeOff {
		return nil
	}
	p, err := netip.ParsePrefix(string(b))
	if err == nil {
		err = alias.CheckRange(p)
	}
	if err == nil {
		r.Prefix = p
	}
	return err
}

// MarshalText returns what UnmarshalText reads.
func (r Range) MarshalText() ([]byte, error) {
	if !r.IsValid() {
		return []byte(rangeOff), nil
	}
	return []byte(r.String()), nil
}
