package tun

import (
	"errors"

	"anodenet/anode"
)

// maxReadErrors is how many reads may fail in a row before Read gives up.
const maxReadErrors = 100

// Queue is both directions of one of the device's queues. It implements
// overlay.Queue, which says who may call what.
type Queue struct {
	out struct { // owned by the goroutine that calls Read, Shape, Next, Track and Unasked
		port   port
		policy *policy
		buf    []byte
		split  splitter
		count  counters
	}
	in struct { // owned by the goroutine that calls Slot, Came, Put and Flush
		merge *merger
		count counters
	}
}

func newQueue(self anode.ULA, l *lan, has offloads, p *policy, port port) *Queue {
	q := newIncoming(self, l, has, p, port)
	q.out.port, q.out.policy = port, p
	q.out.buf = make([]byte, vnetSize+ip6Size+maxIP6+1)
	q.out.split = splitter{self: self, lan: l, count: &q.out.count}
	return q
}

// newIncoming makes a queue without an outgoing half.
func newIncoming(self anode.ULA, l *lan, has offloads, p *policy, port port) *Queue {
	q := new(Queue)
	q.in.merge = newMerger(self, l, has, p, &q.in.count, port.write)
	return q
}

// Read takes the next packet or super-packet that may leave, and returns its destination: a
// peer's ULA, or a group, which never begins with 0xfd. With wait false, ok is false if there
// is nothing to read. It returns ErrClosed after Close, and ErrGone when the interface is
// gone.
func (q *Queue) Read(wait bool) (to anode.ULA, ok bool, err error) {
	o := &q.out
	for failed := 0; ; {
		n, err := o.port.read(o.buf, wait)
		switch {
		case err == nil && n == 0:
			return anode.ULA{}, false, nil
		case err == nil:
			failed = 0
			if o.split.load(o.buf[:n]) {
				return o.split.to, true, nil
			}
		case errors.Is(err, ErrClosed), errors.Is(err, ErrGone):
			return anode.ULA{}, false, err
		default:
			o.count.add(outReadError, 1)
			if failed++; failed == maxReadErrors {
				return anode.ULA{}, false, err
			}
		}
	}
}

// Shape returns what the packet becomes: count messages of size bytes, of which the last
// has last bytes.
func (q *Queue) Shape() (count, size, last int) { return q.out.split.shape() }

// Next makes the next message in place: valid until the next call of Next or Read.
// After the last it returns nil.
func (q *Queue) Next() []byte {
	o := &q.out
	m := o.split.next()
	if o.split.echo && m != nil {
		o.policy.asked(o.split.to, be.Uint16(m[1:]), be.Uint16(m[3:]))
	}
	return m
}

// TCP returns the packet just read as it is, a super-packet whole, if it is TCP right after
// the fixed header with a checksum that was left to the device or is right; else nil. The
// checksum in it is 0. It is called before Next, and valid until then.
func (q *Queue) TCP() []byte { return q.out.split.tcp() }

// Track notes the packet's flow, so that replies of an untrusted peer are let in. IPv4 and
// groups are for peers that are trusted.
func (q *Queue) Track(to anode.ULA) {
	if q.out.split.untracked {
		return
	}
	next, b := q.out.split.flow()
	q.out.policy.track(to, next, b)
}

// Unasked reports whether the packet would be lost at a peer that lets only replies in.
func (q *Queue) Unasked(to anode.ULA) bool {
	if q.out.split.untracked {
		return true
	}
	next, b := q.out.split.flow()
	return q.out.policy.unasked(to, next, b)
}

// Came notes what came from a peer that lets only replies in.
func (q *Queue) Came(from anode.ULA, msg []byte) { q.in.merge.policy.came(from, msg) }

// Slot returns n bytes for the next message to be opened into.
func (q *Queue) Slot(n int) []byte { return q.in.merge.Slot(n) }

// Put delivers the message at the start of the last slot, and reports whether the policy
// refused it.
func (q *Queue) Put(from anode.ULA, trusted bool, msg []byte) (refused bool) {
	return q.in.merge.Put(from, trusted, msg)
}

// Flush passes everything to the system. Packets that the system refuses are counted; the
// only errors are ErrClosed and ErrGone.
func (q *Queue) Flush() error {
	err := q.in.merge.Flush()
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrGone) {
		return err
	}
	return nil
}
