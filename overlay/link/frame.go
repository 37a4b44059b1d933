package link

import (
	"encoding/binary"
	"errors"

	"anodenet/anode/wire"
)

// In a connection each packet has its length in front (draft 2.9.2, 2.9.3):
//
//	length[2] packet[length] length[2] packet[length] ...
//
// A length of 0 is no packet, and is passed over.
const frameHeader = 2

// errFrame is the error of a length that no packet has: what comes are no packets.
var errFrame = errors.New("link: no packets")

// appendFrames writes the packets of a train as frames.
func appendFrames(dst []byte, t *Train) []byte {
	for off, end := 0, 0; ; off = end {
		end = t.next(off)
		dst = binary.BigEndian.AppendUint16(dst, uint16(end-off))
		dst = append(dst, t.Buf[off:end]...)
		if end == len(t.Buf) {
			return dst
		}
	}
}

// framed is the length of a train as frames.
func framed(t *Train) int { return len(t.Buf) + frameHeader*t.Packets() }

// cutFrames makes trains of the whole frames at the start of b, in place: the packets move
// together over the lengths between them. It returns how many bytes of b it has used; the
// rest is a frame of which a part is missing. Frames longer than most are an error.
func cutFrames(ts []Train, b []byte, most int, from Endpoint) (out []Train, used int, err error) {
	w, open := 0, false // where the next packet goes, and whether the last train takes more
	for len(b)-used >= frameHeader {
		n := int(binary.BigEndian.Uint16(b[used:]))
		if n > most || n > 0 && n < wire.MinPacket {
			return ts, used, errFrame
		}
		if len(b)-used < frameHeader+n {
			break
		}
		p := b[used+frameHeader : used+frameHeader+n]
		used += frameHeader + n
		if n == 0 {
			continue
		}
		copy(b[w:], p)
		if k := len(ts) - 1; open && n <= ts[k].Size && len(ts[k].Buf)+n <= MaxTrain && len(ts[k].Buf) < MaxSegments*ts[k].Size {
			ts[k].Buf = ts[k].Buf[:len(ts[k].Buf)+n]
			open = n == ts[k].Size
		} else {
			ts = append(ts, Train{Buf: b[w : w+n], Size: n, Endpoint: from})
			open = true
		}
		w += n
	}
	return ts, used, nil
}
