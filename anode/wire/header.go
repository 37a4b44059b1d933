package wire

import "anodenet/anode"

// Flags of the header (draft 3.2; FlagSealed is ours and stands alone).
const (
	FlagFullSender    = 0x01
	FlagFullRecipient = 0x02
	FlagAuthError     = 0x04 // to be counted and shown, never acted upon
	FlagSealed        = 0x08

	knownFlags = FlagFullSender | FlagFullRecipient | FlagAuthError
)

const (
	// MinPacket is the length of the smallest packet: two short IDs, no message.
	MinPacket = 28

	// MACOffset is where the MAC field begins, of MACSize bytes.
	MACOffset = offMAC
	// MACSize is the length of the MAC field.
	MACSize = offSender - offMAC

	offHop       = 0
	offFlags     = 1
	offMAC       = 2
	offSender    = 10
	offRecipient = offSender + anode.IDSize // if the sender is short
)

// Party is the sender or the recipient as a packet names it: by short ID, or by
// full address.
type Party struct {
	ID      anode.ID      // zero if the packet has the full address: see ShortID
	Address anode.Address // zero if the packet has the short ID
}

// Full reports whether the party was named by its full address.
func (p *Party) Full() bool { return !p.Address.IsZero() }

// ShortID is the party's short ID. Of a full address it has to be computed, which
// Parse leaves to those who need it: three AES key schedules.
func (p *Party) ShortID() anode.ID {
	if p.Full() {
		return p.Address.ID()
	}
	return p.ID
}

// size is the party's length in a packet.
func (p *Party) size() int {
	if p.Full() {
		return anode.AddressSize
	}
	return anode.IDSize
}

func (p *Party) append(dst []byte) []byte {
	if p.Full() {
		return append(dst, p.Address[:]...)
	}
	return append(dst, p.ID[:]...)
}

// Header is the header of an unsealed packet (draft 3).
type Header struct {
	Hop           uint8
	Flags         uint8
	MAC           [8]byte
	Sender        Party
	Recipient     Party
	SenderPeer    uint8 // 0 to 15; 0 is any
	RecipientPeer uint8
	Type          Type
}

// Size is the length of the header, which is where the message begins.
func (h *Header) Size() int { return offSender + h.Sender.size() + h.Recipient.size() + 2 }

// Parse reads an unsealed packet; msg is a view of it. A full address is checked
// for its form alone (type, unused bytes, first byte of the point): whether there
// is such a point is left to the key agreement, which cannot do without the check,
// so that a flood of made-up senders costs no square roots.
//
// It returns ErrShort, ErrAddress, or ErrFlags (sealed, or bits that nobody knows:
// they may well change the layout, as ours did).
func Parse(packet []byte) (h Header, msg []byte, err error) {
	if len(packet) < MinPacket {
		return Header{}, nil, ErrShort
	}
	h.Hop = packet[offHop]
	h.Flags = packet[offFlags]
	if h.Flags&^knownFlags != 0 {
		return Header{}, nil, ErrFlags
	}
	h.MAC = [8]byte(packet[offMAC:])

	b := packet[offSender:]
	if b, err = h.Sender.parse(b, h.Flags&FlagFullSender != 0); err != nil {
		return Header{}, nil, err
	}
	if b, err = h.Recipient.parse(b, h.Flags&FlagFullRecipient != 0); err != nil {
		return Header{}, nil, err
	}
	if len(b) < 2 {
		return Header{}, nil, ErrShort
	}
	h.SenderPeer, h.RecipientPeer = b[0]>>4, b[0]&15
	h.Type = Type(b[1])
	return h, b[2:], nil
}

func (p *Party) parse(b []byte, full bool) (rest []byte, err error) {
	if !full {
		if len(b) < anode.IDSize {
			return nil, ErrShort
		}
		p.ID = anode.ID(b)
		return b[anode.IDSize:], nil
	}
	if len(b) < anode.AddressSize {
		return nil, ErrShort
	}
	if !wellFormed(b) {
		return nil, ErrAddress
	}
	p.Address = anode.Address(b)
	return b[anode.AddressSize:], nil
}

// wellFormed checks the form of the address that b, of 40 bytes at least, begins
// with (draft 2.2): type[1]=1 zone[4] unused[2]=0 point[33], a point beginning with 2 or 3.
func wellFormed(b []byte) bool {
	return b[0] == 1 && b[5] == 0 && b[6] == 0 && b[7]&^1 == 2
}

// Append writes the header and msg behind dst, with the MAC as it stands in h
// (package seal signs the packet afterwards). The two flags for full addresses
// follow from the parties, whatever Flags says.
func (h *Header) Append(dst, msg []byte) []byte {
	flags := h.Flags &^ (FlagFullSender | FlagFullRecipient)
	if h.Sender.Full() {
		flags |= FlagFullSender
	}
	if h.Recipient.Full() {
		flags |= FlagFullRecipient
	}
	dst = append(dst, h.Hop, flags)
	dst = append(dst, h.MAC[:]...)
	dst = h.Sender.append(dst)
	dst = h.Recipient.append(dst)
	dst = append(dst, h.SenderPeer<<4|h.RecipientPeer&15, byte(h.Type))
	return append(dst, msg...)
}
