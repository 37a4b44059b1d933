package wire

import (
	"encoding/binary"

	"anodenet/anode"
)

// WhoisKind says by what a WHOIS asks.
type WhoisKind uint8

// The kinds of WHOIS.
const (
	WhoisULA WhoisKind = 1
	WhoisID  WhoisKind = 2
)

// WhoisMsg is WHOIS, which asks for a full address: request[4] kind[1] key[16 ULA, 8 short ID].
type WhoisMsg struct {
	Request uint32
	Kind    WhoisKind
	ULA     anode.ULA // WhoisULA
	ID      anode.ID  // WhoisID; of a ULA it is the ULA's
}

// ParseWhois reads a WHOIS.
func ParseWhois(b []byte) (m WhoisMsg, err error) {
	if len(b) < 5 {
		return m, ErrShort
	}
	m.Request, m.Kind = binary.BigEndian.Uint32(b), WhoisKind(b[4])
	key := b[5:]
	switch m.Kind {
	case WhoisULA:
		if err := exactly(key, len(m.ULA)); err != nil {
			return WhoisMsg{}, err
		}
		if key[0] != 0xfd {
			return WhoisMsg{}, ErrField
		}
		m.ULA = anode.ULA(key)
		m.ID = m.ULA.ID()
	case WhoisID:
		if err := exactly(key, len(m.ID)); err != nil {
			return WhoisMsg{}, err
		}
		m.ID = anode.ID(key)
	default:
		return WhoisMsg{}, ErrField
	}
	return m, nil
}

// Append writes the message behind dst; any kind but WhoisULA asks by ID.
func (m WhoisMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Request)
	if m.Kind == WhoisULA {
		return append(append(dst, byte(WhoisULA)), m.ULA[:]...)
	}
	return append(append(dst, byte(WhoisID)), m.ID[:]...)
}

// Matches reports whether a is what the WHOIS asks for.
func (m *WhoisMsg) Matches(a anode.Address) bool {
	if m.Kind == WhoisULA {
		return a.ULA() == m.ULA
	}
	return a.ID() == m.ID
}

// IAmMsg is IAM, the answer: request[4] address[40], or request[4] alone for "not
// found", which only relays say.
type IAmMsg struct {
	Request uint32
	Address anode.Address // zero: not found
}

// ParseIAm reads an IAM. As in Parse, the address is checked for its form alone;
// whoever takes it checks that it is what was asked for, and on the curve
// (anode.AddressFromBytes), once the request is found to be pending.
func ParseIAm(b []byte) (m IAmMsg, err error) {
	if len(b) < 4 {
		return m, ErrShort
	}
	m.Request = binary.BigEndian.Uint32(b)
	if b = b[4:]; len(b) == 0 {
		return m, nil
	}
	if err := exactly(b, anode.AddressSize); err != nil {
		return IAmMsg{}, err
	}
	if !wellFormed(b) {
		return IAmMsg{}, ErrAddress
	}
	m.Address = anode.Address(b)
	return m, nil
}

// Append writes the message behind dst.
func (m IAmMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Request)
	if m.Address.IsZero() {
		return dst
	}
	return append(dst, m.Address[:]...)
}
