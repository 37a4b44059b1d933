package seal

// Types of the TLVs that the handshake carries, `type[1] length[1] value`. Unknown
// ones are skipped, and of two with one type the first counts.
const (
	// TLVLanes grants consecutive receiver indices: `count[1]`.
	TLVLanes = 0x01
)

// TLV finds the value of the first TLV of a type.
func TLV(b []byte, typ byte) (value []byte, ok bool) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		t, v := b[0], b[2:2+int(b[1])]
		if t == typ {
			return v, true
		}
		b = b[2+len(v):]
	}
	return nil, false
}

// AppendTLV appends one TLV. Its value is at most 255 bytes; what is longer is cut.
func AppendTLV(b []byte, typ byte, value []byte) []byte {
	value = value[:min(len(value), 255)]
	return append(append(b, typ, byte(len(value))), value...)
}

// validTLVs tells whether b is nothing but whole TLVs.
func validTLVs(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		b = b[2+int(b[1]):]
	}
	return true
}
