package seal

import (
	"net/netip"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// friendLabel begins what a tag is of. No packet has such flags, which a MAC covers first, so
// a tag is never the MAC of a packet.
const friendLabel = "anode friends 1"

// FriendTag returns the tag of FRIENDS by which the peer with this key recognises sender (package
// wire). source is the IP address that the packet comes from: sent again from another one, the tag
// means nothing.
func (m *MAC) FriendTag(salt [8]byte, sender anode.Address, source netip.Addr, s *Scratch) wire.FriendTag {
	from := source.As16()
	var text [len(friendLabel) + len(salt) + anode.AddressSize + len(from)]byte
	b := append(text[:0], friendLabel...)
	b = append(b, salt[:]...)
	b = append(b, sender[:]...)
	b = append(b, from[:]...)
	sum := m.Sum(b, s)
	return wire.FriendTag(sum[:])
}
