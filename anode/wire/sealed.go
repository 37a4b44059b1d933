package wire

import (
	"encoding/binary"

	"anodenet/anode"
)

const (
	// SealedHeader is the length of a sealed packet's header.
	SealedHeader = offPeers + 1
	// TagSize is the length of the AES-GCM tag that a sealed packet ends with.
	TagSize = 16
	// SealedOverhead is what sealing adds to a message: header, type byte and tag.
	SealedOverhead = SealedHeader + 1 + TagSize
	// SealedMin is the length of the smallest sealed packet, an empty plaintext.
	SealedMin = SealedHeader + TagSize

	offNumber = offMAC // index[2] counter[6]
	offPeers  = offRecipient + anode.IDSize

	counterMask = 1<<48 - 1
)

// The views below are for the data path: no errors, and all but RecipientID inlined. The
// Sealed ones want a packet for which IsSealed holds.

// IsSealed reports whether packet is a sealed one and long enough.
func IsSealed(packet []byte) bool {
	return len(packet) >= SealedMin && packet[offFlags] == FlagSealed
}

// SealedIndex is the receiver's session index.
func SealedIndex(packet []byte) uint16 { return binary.BigEndian.Uint16(packet[offNumber:]) }

// SealedCounter is the 48-bit packet counter.
func SealedCounter(packet []byte) uint64 {
	return binary.BigEndian.Uint64(packet[offNumber:]) & counterMask
}

// SealedSender is the sender's short ID.
func SealedSender(packet []byte) anode.ID { return anode.ID(packet[offSender:]) }

// SealedIDs are the short IDs of sender and recipient, one after the other.
func SealedIDs(packet []byte) [2 * anode.IDSize]byte {
	return [2 * anode.IDSize]byte(packet[offSender:])
}

// SealedPeers are the two peer IDs.
func SealedPeers(packet []byte) (sender, recipient uint8) {
	return packet[offPeers] >> 4, packet[offPeers] & 15
}

// SealedNonce is the nonce: four zero bytes, index and counter.
func SealedNonce(packet []byte) (nonce [12]byte) {
	copy(nonce[4:], packet[offNumber:offSender])
	return nonce
}

// SealedParts are the associated data and what is encrypted: type, message and tag.
func SealedParts(packet []byte) (associated, ciphertext []byte) {
	return packet[offFlags:SealedHeader], packet[SealedHeader:]
}

// NewSealedHeader makes the header of sealed packets. What differs from packet to packet
// is put in by PutSealedNumber.
func NewSealedHeader(sender, recipient anode.ID, senderPeer, recipientPeer uint8) (h [SealedHeader]byte) {
	h[offFlags] = FlagSealed
	copy(h[offSender:], sender[:])
	copy(h[offRecipient:], recipient[:])
	h[offPeers] = senderPeer<<4 | recipientPeer&15
	return h
}

// SealedNumber is index and counter as one number; consecutive counters of an index are
// consecutive numbers.
func SealedNumber(index uint16, counter uint64) uint64 {
	return uint64(index)<<48 | counter&counterMask
}

// PutSealedNumber writes index and counter into a header.
func PutSealedNumber(packet []byte, number uint64) {
	binary.BigEndian.PutUint64(packet[offNumber:], number)
}

// RecipientID is the short ID of the recipient of any packet, sealed or not. It
// returns false for what Parse or IsSealed would refuse by length, flags or the
// recipient's address. It computes the ID only if the packet has the recipient's full
// address, which nobody's does.
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
