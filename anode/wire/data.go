package wire

import "encoding/binary"

const (
	// DgramHeader is the length of a DGRAM's two ports.
	DgramHeader = 4
	// IP6Header is the length of what IP6 and IP6P keep of the fixed IPv6 header.
	IP6Header = 6
	// FragHeader is the length of a FRAG's head.
	FragHeader = 8
)

// DgramMsg is DGRAM: source port[2] destination port[2] payload (draft 4.2.10).
type DgramMsg struct {
	Source, Destination uint16
	Payload             []byte
}

// ParseDgram reads a DGRAM.
func ParseDgram(b []byte) (m DgramMsg, err error) {
	if len(b) < DgramHeader {
		return m, ErrShort
	}
	return DgramMsg{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[DgramHeader:]}, nil
}

// Append writes the message behind dst.
func (m DgramMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, m.Source)
	dst = binary.BigEndian.AppendUint16(dst, m.Destination)
	return append(dst, m.Payload...)
}

// IP6Msg is IP6 and IP6P: version/class/flow[4] next header[1] hop limit[1] payload, an
// IPv6 packet between the ULAs of the two ends, which are not sent. In IP6P the
// payload is TCP or UDP, its checksum field 0.
type IP6Msg struct {
	Flow       uint32 // version (6), class and flow label, as in the first word of IPv6
	NextHeader uint8
	HopLimit   uint8
	Payload    []byte
}

// ParseIP6 reads an IP6 or IP6P.
func ParseIP6(b []byte) (m IP6Msg, err error) {
	if len(b) < IP6Header {
		return m, ErrShort
	}
	if b[0]>>4 != 6 {
		return m, ErrField
	}
	return IP6Msg{binary.BigEndian.Uint32(b), b[4], b[5], b[IP6Header:]}, nil
}

// Append writes the message behind dst.
func (m IP6Msg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Flow)
	dst = append(dst, m.NextHeader, m.HopLimit)
	return append(dst, m.Payload...)
}

// ParseIP checks that an IP is one whole IPv4 or IPv6 packet, and says which.
// Jumbograms are none.
func ParseIP(b []byte) (version int, err error) {
	if len(b) == 0 {
		return 0, ErrShort
	}
	version = int(b[0] >> 4)
	header, length := 0, 0
	switch {
	case version == 4 && len(b) >= 20:
		header, length = int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if header < 20 || length < header {
			return 0, ErrField
		}
	case version == 6 && len(b) >= 40:
		length = 40 + int(binary.BigEndian.Uint16(b[4:]))
	case version == 4 || version == 6:
		return 0, ErrShort
	default:
		return 0, ErrField
	}
	if err := exactly(b, length); err != nil {
		return 0, err
	}
	return version, nil
}

// FragMsg is FRAG: id[4] offset[2] total[2] part, a piece of a message with its type
// byte. It is only ever sealed, and there is no FRAG in a FRAG.
type FragMsg struct {
	ID     uint32
	Offset uint16
	Total  uint16 // length of type and message
	Part   []byte
}

// ParseFrag reads a FRAG: its part is not empty and lies within the total.
func ParseFrag(b []byte) (m FragMsg, err error) {
	if len(b) <= FragHeader {
		return m, ErrShort
	}
	m = FragMsg{binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), b[FragHeader:]}
	if int(m.Offset)+len(m.Part) > int(m.Total) {
		return FragMsg{}, ErrField
	}
	return m, nil
}

// Append writes the message behind dst.
func (m FragMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.ID)
	dst = binary.BigEndian.AppendUint16(dst, m.Offset)
	dst = binary.BigEndian.AppendUint16(dst, m.Total)
	return append(dst, m.Part...)
}
