package peer

import (
	"cmp"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// profile is what is known of a peer, whatever machines it has.
type profile struct {
	*Contact
	Name string // for logs; empty: none

	env    *Env
	key    *seal.MAC        // nil until it is needed
	signed mono.Time        // the last authentic packet without seal
	seen   mono.Time        // the last authentic packet of any kind that the loop saw
	stood  wire.StandingMsg // whether the other side has added us, as a machine told last
}

// Label is how the peer is called in logs.
func (p *profile) Label() string { return cmp.Or(p.Name, p.ID.String()) }

// Key returns the peer's MAC key, agreeing on it the first time.
func (p *profile) Key() (*seal.MAC, error) {
	if p.key == nil {
		k, err := seal.SharedKey(p.env.Local.Identity, p.Address)
		if err != nil {
			return nil, err
		}
		p.SetKey(seal.NewMAC(k))
	}
	return p.key, nil
}

// HasKey reports whether Key costs nothing.
func (p *profile) HasKey() bool { return p.key != nil }

// SetKey is for a key that was agreed on before there was a peer.
func (p *profile) SetKey(m *seal.MAC) {
	p.key = m
	p.publishKey()
}

// publishKey lets the lanes tell what is authentic, for added peers and relays.
func (p *profile) publishKey() {
	if p.Standing() >= book.Relay {
		p.MAC.Store(p.key)
	} else {
		p.MAC.Store(nil)
	}
}

// Signed notes that an unsealed packet of the peer's was authentic. It may be a replay.
func (p *profile) Signed(now mono.Time) {
	p.signed, p.seen = now, now
}

// Sealed notes that a sealed message came, in a session.
func (p *profile) Sealed(now mono.Time) {
	p.seen = now
}

// Seen returns when the peer last proved to be there.
func (p *profile) Seen() mono.Time { return max(p.seen, mono.Time(p.Marks.Heard.Load())) }

// Met notes that the peer was heard of, if only by a beacon.
func (p *profile) Met(now mono.Time) { p.seen = now }
