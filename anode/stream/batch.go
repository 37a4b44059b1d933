package stream

// Limits of a train; a sealed packet is at most sealRoom bytes longer than its message.
const (
	maxSegments = 40
	maxTrain    = 65000
	sealRoom    = 64
	maxBatch    = 256 << 10
)

// Train is messages of one length behind one another, the last perhaps shorter. A message
// is type[1] message. It has at most 40 messages, and no more than fit a link.Train of
// 65,000 bytes when each is sealed.
type Train struct {
	Buf  []byte
	Size int // bytes of each message except the last
}

// Batch is what a Machine sends at once. Its memory is used again after Reset.
type Batch struct {
	// Trains are to be sent in order. They are valid until Reset.
	Trains []Train
	buf    []byte
}

// Reset empties the batch.
func (b *Batch) Reset() { b.Trains, b.buf = b.Trains[:0], b.buf[:0] }

// room returns the memory for a message of n bytes, or nil if the batch is full.
func (b *Batch) room(n int) []byte {
	if len(b.buf)+n > maxBatch && len(b.buf) > 0 {
		return nil
	}
	if cap(b.buf) == 0 {
		b.buf = make([]byte, 0, maxBatch)
	}
	at := len(b.buf)
	if at+n > cap(b.buf) {
		return nil
	}
	b.buf = b.buf[:at+n]
	if t := b.last(); t != nil && t.takes(n) {
		t.Buf = t.Buf[:len(t.Buf)+n]
	} else {
		b.Trains = append(b.Trains, Train{b.buf[at : at+n : cap(b.buf)], n})
	}
	return b.buf[at : at+n : at+n]
}

func (b *Batch) last() *Train {
	if len(b.Trains) == 0 {
		return nil
	}
	return &b.Trains[len(b.Trains)-1]
}

// takes reports whether a message of n bytes may follow in the train.
func (t *Train) takes(n int) bool {
	count := len(t.Buf) / t.Size
	return len(t.Buf)%t.Size == 0 && n <= t.Size && count < maxSegments && (count+1)*(t.Size+sealRoom) <= maxTrain
}
