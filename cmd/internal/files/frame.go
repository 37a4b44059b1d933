package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// kind is the type of a frame.
type kind byte

// The frames (see the package's picture).
const (
	kindOffer kind = iota + 1
	kindEntries
	kindAlive
	kindAccept
	kindRefuse
	kindDone
	kindHave
	kindReady
	kindFile
	kindPiece
	kindSkip
	kindEnd
	kindFailed
	kindGot
	kindOver
	kindFinish
	kindBye
)

// Lengths of frames.
const (
	headerSize  = 5
	maxBatch    = 64 << 10 // ENTRIES, DONE and HAVE
	maxPayload  = hashSize + pieceSize
	offerSize   = 4 + 8 + hashSize
	havesAFrame = 1024
	donesAFrame = 8192
)

// lengths are the shortest and the longest payload of each type.
var lengths = [...]struct{ least, most int }{
	kindOffer:   {offerSize, offerSize},
	kindEntries: {1, maxBatch},
	kindAlive:   {0, 0},
	kindAccept:  {0, 0},
	kindRefuse:  {1, 1 + maxText},
	kindDone:    {4, maxBatch},
	kindHave:    {4 + hashSize, maxBatch},
	kindReady:   {0, 0},
	kindFile:    {4, 4},
	kindPiece:   {hashSize + 1, maxPayload},
	kindSkip:    {hashSize, hashSize},
	kindEnd:     {hashSize, hashSize},
	kindFailed:  {0, maxText},
	kindGot:     {8, 8},
	kindOver:    {0, 0},
	kindFinish:  {4, 4},
	kindBye:     {0, 0},
}

// ErrProtocol says that the other side sent what it may not send.
var ErrProtocol = errors.New("the other side does not follow the protocol")

// violation is an ErrProtocol that says what was wrong.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// frame is one message. Its payload lies in the buffer that it was read into.
type frame struct {
	kind    kind
	payload []byte
}

// appendHeader appends the header of a frame.
func appendHeader(b []byte, k kind, length int) []byte {
	return binary.BigEndian.AppendUint32(append(b, byte(k)), uint32(length))
}

// parseHeader returns the type of a frame and the length of its payload.
func parseHeader(b [headerSize]byte) (kind, int, error) {
	k, n := kind(b[0]), binary.BigEndian.Uint32(b[1:])
	if k == 0 || int(k) >= len(lengths) {
		return 0, 0, violation("a frame of the unknown type %d", k)
	}
	if limit := lengths[k]; n < uint32(limit.least) || n > uint32(limit.most) {
		return 0, 0, violation("a frame of type %d with %d bytes", k, n)
	}
	return k, int(n), nil
}

// kinds is a set of types.
type kinds uint32

func setOf(list ...kind) (s kinds) {
	for _, k := range list {
		s |= 1 << k
	}
	return s
}

func (s kinds) has(k kind) bool { return s>>k&1 == 1 }

// readFrame reads a frame of one of some types into a buffer, which has room for them. It
// returns io.EOF if the connection ends between two frames.
func readFrame(r io.Reader, buffer []byte, want kinds) (frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}
	k, n, err := parseHeader(header)
	if err == nil && !want.has(k) {
		err = violation("a frame of type %d at the wrong time", k)
	}
	if err != nil {
		return frame{}, err
	}
	if _, err := io.ReadFull(r, buffer[:n]); err != nil {
		return frame{}, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return frame{k, buffer[:n]}, nil
}

// offer announces a manifest.
type offer struct {
	count int
	bytes int64
	id    Hash
}

func appendOffer(b []byte, o offer) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(o.count))
	b = binary.BigEndian.AppendUint64(b, uint64(o.bytes))
	return append(b, o.id[:]...)
}

// parseOffer reads an OFFER, whose length the frame guarantees.
func parseOffer(b []byte) (o offer, err error) {
	count, bytes := binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
	switch {
	case count == 0:
		return o, violation("an offer of nothing")
	case count > maxEntries:
		return o, fmt.Errorf("%w: %d; the most is %d", ErrTooMany, count, maxEntries)
	case bytes > maxSize:
		return o, fmt.Errorf("%w: %d bytes", ErrTooBig, bytes)
	}
	return offer{int(count), int64(bytes), Hash(b[12:])}, nil
}

// parseIndexes reads a DONE for a manifest of count entries, and calls f for each index.
func parseIndexes(b []byte, count int, f func(int)) error {
	if len(b)%4 != 0 {
		return violation("half an index")
	}
	for ; len(b) > 0; b = b[4:] {
		i := binary.BigEndian.Uint32(b)
		if uint64(i) >= uint64(count) {
			return violation("no entry %d", i)
		}
		f(int(i))
	}
	return nil
}

// parseHave reads a HAVE for a manifest of count entries.
func parseHave(b []byte, count int) (index int, hashes []Hash, err error) {
	if (len(b)-4)%hashSize != 0 {
		return 0, nil, violation("half a hash")
	}
	i := binary.BigEndian.Uint32(b)
	if uint64(i) >= uint64(count) {
		return 0, nil, violation("no entry %d", i)
	}
	for b = b[4:]; len(b) > 0; b = b[hashSize:] {
		hashes = append(hashes, Hash(b))
	}
	return int(i), hashes, nil
}
