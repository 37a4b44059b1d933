package wire

import "encoding/binary"

// ProbeMin is the size of the smallest PROBE on the wire.
const ProbeMin = SealedOverhead + 6

// ProbeMsg is PROBE: id[4] size[2] zeros, and PROBE_ACK: id[4] size[2]. Size is that of
// the whole sealed packet, the UDP payload: a path that carries it to the other end
// is as wide.
type ProbeMsg struct {
	ID   uint32
	Size uint16
}

// ParseProbe reads a PROBE, and checks that it is of the size that it says, and zeros.
func ParseProbe(b []byte) (m ProbeMsg, err error) {
	if len(b) < 6 {
		return m, ErrShort
	}
	m = ProbeMsg{binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:])}
	if err := exactly(b, int(m.Size)-SealedOverhead); err != nil {
		return ProbeMsg{}, err
	}
	for _, c := range b[6:] {
		if c != 0 {
			return ProbeMsg{}, ErrField
		}
	}
	return m, nil
}

// AppendProbe writes a PROBE, filled up so that the sealed packet has m.Size bytes, or
// ProbeMin if that is more.
func (m ProbeMsg) AppendProbe(dst []byte) []byte {
	m.Size = max(m.Size, ProbeMin)
	dst = m.AppendAck(dst)
	return append(dst, make([]byte, m.Size-ProbeMin)...)
}

// ParseProbeAck reads a PROBE_ACK.
func ParseProbeAck(b []byte) (m ProbeMsg, err error) {
	if err := exactly(b, 6); err != nil {
		return m, err
	}
	return ProbeMsg{binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:])}, nil
}

// AppendAck writes the PROBE_ACK of m behind dst.
func (m ProbeMsg) AppendAck(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.ID)
	return binary.BigEndian.AppendUint16(dst, m.Size)
}
