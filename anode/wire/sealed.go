package wire

import (
	"encoding/binary"

	"anodenet/anode"
)

const (
	// SealedHeader is the length of a sealed packet's header.
	SealedHeader = 27
	// SealedOverhead is what sealing adds to a message: header, type byte and tag.
	SealedOverhead = SealedHeader + 1 + 16
	// SealedMin is the length of the smallest sealed packet, an empty plaintext.
	SealedMin = SealedHeader + 16
)

// The views below are for the data path: no errors, and all but RecipientID inlined. The
// Sealed ones want a packet for which IsSealed holds.

// IsSealed tells whether packet is a sealed one and long enough.
func IsSealed(packet []byte) bool {
	return len(packet) >= SealedMin && packet[offFlags] == FlagSealed
}

// SealedIndex is the receiver's session index.
func SealedIndex(packet []byte) uint16 { return binary.BigEndian.Uint16(packet[2:]) }

// SealedCounter is the 48-bit packet counter.
func SealedCounter(packet []byte) uint64 { return binary.BigEndian.Uint64(packet[2:]) & (1<<48 - 1) }

// SealedSender is the sender's short ID.
func SealedSender(packet []byte) anode.ID { return anode.ID(packet[10:]) }

// SealedRecipient is the recipient's short ID.
func SealedRecipient(packet []byte) anode.ID { return anode.ID(packet[18:]) }

// SealedPeers are the two peer IDs.
func SealedPeers(packet []byte) (sender, recipient uint8) { return packet[26] >> 4, packet[26] & 15 }

// RecipientID is the short ID of the recipient of any packet, sealed or not. It
// returns false for what Parse or IsSealed would refuse by length, flags or the
// recipient's address. Only where the full address of the recipient is given, which
// nobody does, it has to be computed.
func RecipientID(packet []byte) (id anode.ID, ok bool) {
	if len(packet) < SealedMin || packet[offFlags]&^FlagSealed != 0 {
		return recipientID(packet)
	}
	return anode.ID(packet[offRecipient:]), true
}

func recipientID(packet []byte) (anode.ID, bool) {
	h, _, err := Parse(packet)
	if err != nil {
		return anode.ID{}, false
	}
	return h.Recipient.ShortID(), true
}

// BumpHop counts one more relay in a packet of any kind (draft 3.1), without going
// over 255. It returns false, and leaves the packet alone, if that would be more
// than limit.
func BumpHop(packet []byte, limit uint8) bool {
	hop := packet[offHop]
	if hop < 255 {
		hop++
	}
	if hop > limit {
		return false
	}
	packet[offHop] = hop
	return true
}
