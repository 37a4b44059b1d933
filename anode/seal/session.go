package seal

import (
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal/gcm"
	"anodenet/anode/wire"
)

const (
	// packetLimit is how many packets one key seals in one lane.
	packetLimit = 1 << 32

	// MaxLanes is the most lanes that either side has.
	MaxLanes = 16
)

// Session is one sealed session, both directions. Any number of goroutines seal and
// open. Sessions are made and ended by a Set.
//
// A side grants a block of consecutive indices, one for each of its receiving queues
// (a TLV of the handshake), over which the other side spreads its sending queues. The
// index is part of the nonce, so each is a lane with a counter and a window of its own
// under the same keys, and queues share nothing that is written for each packet.
type Session struct {
	// What never changes.
	ends
	initiator  bool                    // we are
	header     [wire.SealedHeader]byte // of what we send; the number is put in
	from       [16]byte                // sender and recipient ID of what we receive
	announced  Announcement            // by the peer
	invitation InvitationID            // by which it was made; zero: none
	refused    bool                    // see Refused
	keys       atomic.Pointer[keys]

	// Of those who seal.
	departs []departure  // a lane each
	sent    atomic.Int64 // when a message was last sealed, ns; 0: never

	// Of those who open.
	_        [64]byte
	arrives  []window     // a lane each
	received atomic.Int64 // when anything was last opened, ns; 0: never
	data     atomic.Int64 // the same, without keepalives

	// Of both: read for every batch, written seldom.
	_      [64]byte
	active atomic.Bool // the Set's timers know that packets flow

	// Of the Set.
	life life
}

// departure is one lane of what we send, on a cache line of its own.
type departure struct {
	counter atomic.Uint64 // the next
	_       [56]byte
}

// keys are both directions' AEADs. They go away together, all at once.
type keys struct{ send, recv *gcm.AEAD }

// newAEAD is AES-256-GCM, the standard library's or ours.
func newAEAD(key *[32]byte, standard bool) (*gcm.AEAD, error) {
	if standard {
		return gcm.NewStandard(key)
	}
	return gcm.New(key)
}

// ends are what a session is made with besides its keys: the names that its packets
// carry, and when it began.
type ends struct {
	local, peer   anode.Address
	localID       uint8 // peer IDs (draft 3.4)
	peerID        uint8
	index, remote uint16        // the first on which we receive; on which the peer does
	lanes         int           // on which we receive
	standard      bool          // the standard library's AEAD
	born          time.Duration // of the keys
}

// newSession makes a session of two keys.
func newSession(e ends, initiator bool, send, recv *[32]byte, announced Announcement) (*Session, error) {
	local, peer := e.local.ID(), e.peer.ID()
	theirs := wire.NewSealedHeader(peer, local, e.peerID, e.localID)
	s := &Session{ends: e, initiator: initiator, announced: announced,
		header: wire.NewSealedHeader(local, peer, e.localID, e.peerID), from: wire.SealedIDs(theirs[:]),
		departs: make([]departure, announced.Lanes), arrives: make([]window, e.lanes)}

	var k keys
	var err error
	if k.send, err = newAEAD(send, e.standard); err != nil {
		return nil, err
	}
	if k.recv, err = newAEAD(recv, e.standard); err != nil {
		return nil, err
	}
	s.keys.Store(&k)
	return s, nil
}

// Peer is the address that the session is with.
func (s *Session) Peer() anode.Address { return s.peer }

// PeerID says which machine of the peer's address the session is with.
func (s *Session) PeerID() uint8 { return s.peerID }

// Index is the first receiver index of what comes in.
func (s *Session) Index() uint16 { return s.index }

// Lanes is how many consecutive indices we receive on.
func (s *Session) Lanes() int { return len(s.arrives) }

// Initiator reports whether the session's handshake was ours.
func (s *Session) Initiator() bool { return s.initiator }

// Announced is what the peer said of itself. ok is false until the session is
// confirmed: whoever sent the first message of the handshake may have replayed it. Only
// the goroutine of the Set may call it.
func (s *Session) Announced() (a Announcement, ok bool) {
	if s.life.state != confirmed {
		return Announcement{}, false
	}
	return s.announced, true
}

// Said is Announced for those who have opened a packet in the session, which proves that the
// handshake was not replayed. Any goroutine may call it.
func (s *Session) Said() Announcement { return s.announced }

// Restarted reports whether the peer has started anew since the handshake of old, if it says so. It
// means something only if a packet was opened in s: until then, who sent the first message of the
// handshake may have replayed it. Any goroutine may call it.
func (s *Session) Restarted(old *Session) bool {
	now, before := s.announced.Instance, old.announced.Instance
	return now != before && now != (wire.Instance{}) && before != (wire.Instance{})
}

// Reserve takes n consecutive packets of a lane, our sending queue counted from 0:
// what it returns, and the n-1 numbers that follow, are to be given to Seal once
// each. now is the clock that the Set is given, in ns; whoever sends in batches reads
// it once a batch. ok is false when the key is used up, too old or has ended.
func (s *Session) Reserve(lane, n int, now int64) (first uint64, ok bool) {
	if s.tooOld(now) {
		return 0, false
	}
	lane %= len(s.departs)
	next := s.departs[lane].counter.Add(uint64(n))
	return wire.SealedNumber(s.remote+uint16(lane), next-uint64(n)), next <= packetLimit && s.keys.Load() != nil
}

// Seal appends one packet of wire.SealedMin + len(msg) bytes to dst, which has the room,
// and which msg does not overlap. number comes from Reserve. An empty msg is a
// keepalive. If the keys end between Reserve and Seal, it appends as many
// bytes, which say nothing.
func (s *Session) Seal(dst []byte, number uint64, msg []byte) []byte {
	at := len(dst)
	dst = append(dst, s.header[:]...)
	packet := dst[at:]
	wire.PutSealedNumber(packet, number)
	k := s.keys.Load()
	if k == nil {
		return append(dst, make([]byte, len(msg)+wire.TagSize)...)
	}
	nonce := wire.SealedNonce(packet)
	associated, _ := wire.SealedParts(packet)
	return k.send.Seal(dst, nonce[:], msg, associated)
}

// Open writes the message of a packet to dst[:0], which has len(packet) - wire.SealedMin
// bytes of room and does not overlap packet. After an error dst's content is
// unspecified; the errors are ErrShort, ErrHeader, ErrReplay, ErrAuth and ErrEnded.
// now is the clock that the Set is given, in ns; it is enough to read it once a batch.
//
// The lane's replay window is checked before the packet is opened and moved after.
func (s *Session) Open(dst, packet []byte, now int64) (msg []byte, err error) {
	if len(packet) < wire.SealedMin {
		return nil, ErrShort
	}
	lane := wire.SealedIndex(packet) - s.index
	if !wire.IsSealed(packet) || int(lane) >= len(s.arrives) || wire.SealedIDs(packet) != s.from {
		return nil, ErrHeader
	}
	w := &s.arrives[lane]
	counter := wire.SealedCounter(packet)
	k := s.keys.Load()
	if k == nil || counter >= packetLimit || s.tooOld(now) {
		return nil, ErrEnded
	}
	if !w.fresh(counter) {
		return nil, ErrReplay
	}
	nonce := wire.SealedNonce(packet)
	associated, ciphertext := wire.SealedParts(packet)
	msg, err = k.recv.Open(dst[:0], nonce[:], ciphertext, associated)
	if err != nil {
		return nil, ErrAuth
	}
	if !w.take(counter) {
		return nil, ErrReplay // another goroutine was quicker
	}
	return msg, nil
}

// Newest reports whether a packet just opened has the highest counter so far of its lane.
func (s *Session) Newest(packet []byte) bool {
	lane := wire.SealedIndex(packet) - s.index
	return int(lane) < len(s.arrives) && wire.SealedCounter(packet)+1 == s.arrives[lane].next.Load()
}

// Received notes when packets were opened, one or a batch, in ns of the clock that the
// Set is given; data says whether any was more than a keepalive.
func (s *Session) Received(now int64, data bool) {
	set(&s.received, now)
	if data {
		set(&s.data, now)
	}
}

// Sent notes when a message, or a batch, was sealed. The Set notes keepalives itself.
func (s *Session) Sent(now int64) { set(&s.sent, now) }

// set stores a time; storing costs ten times what loading does, and most packets of
// a batch have one time.
func set(t *atomic.Int64, now int64) {
	if now = max(now, 1); t.Load() != now {
		t.Store(now)
	}
}

// Activate is called after Received and Sent. It returns true once when the session
// was idle, and then the Set needs a Tick; where that cannot be arranged now,
// Deactivate makes the next call return true again.
func (s *Session) Activate() bool {
	return !s.active.Load() && s.active.CompareAndSwap(false, true)
}

// Deactivate marks the session as idle.
func (s *Session) Deactivate() { s.active.Store(false) }

// Erase ends the session: nothing can be reserved or opened any more. The keys are
// left to the garbage collector; the standard library has no way to overwrite them.
func (s *Session) Erase() { s.keys.Store(nil) }

// Ended reports whether the keys are gone or used up.
func (s *Session) Ended() bool { return s.keys.Load() == nil || s.used() >= packetLimit }

// tooOld reports whether the keys' time is over. The Set erases them when it is called,
// which a sleeping machine does too late: this is looked at for every packet.
func (s *Session) tooOld(now int64) bool { return now-int64(s.born) >= int64(keyLife) }

// used is how many packets the key has sealed in the lane that sealed most.
func (s *Session) used() (n uint64) {
	for i := range s.departs {
		n = max(n, s.departs[i].counter.Load())
	}
	return n
}
