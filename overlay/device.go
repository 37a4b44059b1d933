package overlay

import "anodenet/anode"

// A Device is where users' packets come from and go to: the adapter (package
// tun), or a fake in tests. Its messages are those that package tun lists: "What the
// adapter sends": DGRAM, PING and PONG for the system's own echoes, IP6, IP6P, IP4, GROUP.
type Device interface {
	Name() string
	MTU() int
	// NoRoute, Prohibited and TooBig answer the packet that msg was made of with
	// an ICMPv6 error (RFC 4443: 1/0 and 1/1, 2/0 with the MTU), if it is one that
	// may be answered, within a rate limit. Any goroutine may call them.
	NoRoute(to anode.ULA, msg []byte)
	Prohibited(to anode.ULA, msg []byte)
	TooBig(to anode.ULA, msg []byte, mtu int)
	// Counters adds up the device's counters by name.
	Counters() map[string]uint64
	// Close ends a waiting Read with an error.
	Close() error
}

// Queue is both directions of one of the device's packet queues. Its outgoing half
// (Read, Shape, Next, Track, Unasked) is for one goroutine, its incoming half (Slot,
// Came, Put, Flush) for one other.
type Queue interface {
	// Read takes the next packet or super-packet of the system, and returns where
	// it is to go: a peer's ULA, or a multicast group or broadcast address, as 16 bytes, of
	// IPv4 in its IPv4-mapped form. Packets that may not leave (a source that is not
	// ours) are counted and passed over. With wait false it returns ok false
	// where there is nothing to read.
	Read(wait bool) (to anode.ULA, ok bool, err error)
	// Shape returns what the packet becomes: count messages of size bytes, the last
	// of them last bytes long (type byte included).
	Shape() (count, size, last int)
	// Next makes the next message, in place in the read buffer: valid until the
	// next call of Next or Read, for as many receivers as there are. After the last it
	// returns nil.
	Next() []byte
	// Track notes the packet's flow, so that replies from a peer that was not
	// added come in. It is called before Next, for such peers alone.
	Track(to anode.ULA)
	// Unasked reports whether the packet would be lost at a peer that lets only replies
	// in: whether it is neither an echo nor a reply to what came from there. It is
	// called before Next, for such peers, and where it is not known yet.
	Unasked(to anode.ULA) bool

	// Slot returns n bytes for the next message to be opened into. A slot that is
	// not Put is given up by the next call of Slot or Flush.
	Slot(n int) []byte
	// Came notes a message from a peer that lets only replies in, so that replies to it
	// are not Unasked. It is called before Put, for messages in the slot.
	Came(from anode.ULA, msg []byte)
	// Put delivers the message at the start of the last slot. It may be held back
	// until Flush, so as to be merged with the next. from is the peer's ULA, and
	// trusted whether the policy lets everything of that peer in. It reports whether
	// the policy refused the message.
	Put(from anode.ULA, trusted bool, msg []byte) (refused bool)
	// Flush hands everything to the system.
	Flush() error
}

// noQueue stands in where there is no adapter: messages for it are counted.
type noQueue struct {
	slot     []byte
	counters *counters
}

func (q *noQueue) Read(bool) (anode.ULA, bool, error) { return anode.ULA{}, false, nil }
func (q *noQueue) Shape() (count, size, last int)     { return 0, 0, 0 }
func (q *noQueue) Next() []byte                       { return nil }
func (q *noQueue) Track(anode.ULA)                    {}
func (q *noQueue) Unasked(anode.ULA) bool             { return false }
func (q *noQueue) Came(anode.ULA, []byte)             {}
func (q *noQueue) Flush() error                       { return nil }

func (q *noQueue) Put(_ anode.ULA, trusted bool, _ []byte) (refused bool) {
	q.counters.count(dNoAdapter)
	return !trusted
}

func (q *noQueue) Slot(n int) []byte {
	if cap(q.slot) < n {
		q.slot = make([]byte, n)
	}
	return q.slot[:n]
}
