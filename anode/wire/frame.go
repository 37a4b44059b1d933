package wire

import (
	"bufio"
	"encoding/binary"
	"io"
)

// MaxFrame is the longest packet that fits into a frame.
const MaxFrame = 1<<16 - 1

// AppendFrame writes a packet as TCP, HTTP and Ethernet carry it: length[2] packet, the
// length not counting itself (draft 2.9.2, 2.9.3). It returns ErrLong for a packet of
// more than MaxFrame bytes.
func AppendFrame(dst, packet []byte) ([]byte, error) {
	if len(packet) > MaxFrame {
		return dst, ErrLong
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(packet))), packet...), nil
}

// NextFrame cuts the first frame off b and returns its packet, a view. ErrShort says
// that the rest of it is still missing. What follows a frame of Ethernet is padding.
func NextFrame(b []byte) (packet, rest []byte, err error) {
	if len(b) < 2 {
		return nil, b, ErrShort
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b)-2 < n {
		return nil, b, ErrShort
	}
	return b[2 : 2+n], b[2+n:], nil
}

// FrameReader takes the packets out of a stream of frames. It is for one goroutine
// and holds 64 KiB.
type FrameReader struct{ r *bufio.Reader }

// NewFrameReader reads frames from r.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{bufio.NewReaderSize(r, 2+MaxFrame)}
}

// Next returns the next packet, valid until the following call. At the end of the
// stream it returns io.EOF, or io.ErrUnexpectedEOF within a frame.
func (f *FrameReader) Next() ([]byte, error) {
	head, err := f.r.Peek(2)
	if err != nil {
		return nil, cutShort(err, len(head))
	}
	n := 2 + int(binary.BigEndian.Uint16(head))
	frame, err := f.r.Peek(n)
	if err != nil {
		return nil, cutShort(err, len(frame))
	}
	_, err = f.r.Discard(n)
	return frame[2:], err
}

func cutShort(err error, had int) error {
	if err == io.EOF && had > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
