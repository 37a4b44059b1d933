package wire

import "time"

// Bounds of a Reassembler.
const (
	// FragMessages is how many unfinished messages a session may have.
	FragMessages = 4
	// FragTimeout is how long a message may take to arrive.
	FragTimeout = 2 * time.Second

	// fragGaps bounds the pieces between which bytes are missing. 64 KiB in parts of a
	// kilobyte, every other one late, has half as many.
	fragGaps = 64
)

// FragResult says what became of a FRAG.
type FragResult uint8

// The fates of a FRAG. All but the first two are to be counted.
const (
	FragHeld    FragResult = iota // it waits for the rest of its message
	FragWhole                     // it was the last one missing
	FragOverlap                   // it overlaps what was there: the message is given up
	FragTotal                     // another total than before: the message is given up
	FragGaps                      // too many gaps: the message is given up
	FragDead                      // of a message that was given up
	FragNested                    // a FRAG within
	FragRoom                      // no room for a message of this size
)

// String names the result, as a counter would be.
func (r FragResult) String() string {
	switch r {
	case FragHeld:
		return "held"
	case FragWhole:
		return "whole"
	case FragOverlap:
		return "overlap"
	case FragTotal:
		return "total"
	case FragGaps:
		return "gaps"
	case FragDead:
		return "dead"
	case FragNested:
		return "nested"
	case FragRoom:
		return "room"
	}
	return "unknown"
}

// Reassembler puts the FRAGs of one session together. It is pure and for one
// goroutine; the zero value is ready. At most FragMessages are under way, each for
// at most FragTimeout; a further one takes the place of the oldest.
//
// A message of which two parts overlap, or differ in the total, is given up, and its
// other parts with it until it times out: replays never get here, since FRAG is
// only ever sealed, so nobody honest does that.
type Reassembler struct {
	partial []partial // oldest first
	held    int       // bytes of all partials
	expired uint64
}

// Held is the number of bytes that the Reassembler keeps; callers bound their sum.
func (r *Reassembler) Held() int { return r.held }

// Lost is the number of messages that timed out or had to make room.
func (r *Reassembler) Lost() uint64 { return r.expired }

// Expire gives up what is older than FragTimeout. Add does so too.
func (r *Reassembler) Expire(now time.Time) {
	for len(r.partial) > 0 && now.Sub(r.partial[0].since) > FragTimeout {
		r.drop(0)
	}
}

// Add takes one FRAG. With FragWhole it returns the message, type byte first, which
// belongs to the caller. The Reassembler grows by at most room bytes over what it holds,
// and gives up its own oldest messages, before it refuses a new one with FragRoom.
func (r *Reassembler) Add(now time.Time, m FragMsg, room int) (msg []byte, result FragResult) {
	r.Expire(now)
	if m.Offset == 0 && Type(m.Part[0]) == Frag {
		r.giveUp(m.ID)
		return nil, FragNested
	}
	i := r.find(m.ID)
	if i < 0 {
		if !r.makeRoom(int(m.Total), room) {
			return nil, FragRoom
		}
		r.partial = append(r.partial, partial{id: m.ID, since: now, buf: make([]byte, m.Total)})
		r.held += int(m.Total)
		i = len(r.partial) - 1
	}
	p := &r.partial[i]
	switch result = p.add(m); result {
	case FragHeld, FragDead:
		return nil, result
	case FragWhole:
		msg = p.buf
		r.remove(i)
		return msg, FragWhole
	}
	r.giveUp(m.ID)
	return nil, result
}

func (r *Reassembler) find(id uint32) int {
	for i := range r.partial {
		if r.partial[i].id == id {
			return i
		}
	}
	return -1
}

// makeRoom drops the oldest until one more message of n bytes fits in.
func (r *Reassembler) makeRoom(n, room int) bool {
	limit := r.held + room
	if n > limit {
		return false
	}
	for len(r.partial) >= FragMessages || r.held+n > limit {
		r.drop(0)
	}
	return true
}

// giveUp frees a message's memory and keeps its ID, so that late parts do not begin it anew.
func (r *Reassembler) giveUp(id uint32) {
	if i := r.find(id); i >= 0 {
		r.held -= len(r.partial[i].buf)
		r.partial[i].buf, r.partial[i].spans = nil, nil
	}
}

// drop forgets a message that did not make it.
func (r *Reassembler) drop(i int) {
	if r.partial[i].buf != nil {
		r.expired++
	}
	r.remove(i)
}

func (r *Reassembler) remove(i int) {
	r.held -= len(r.partial[i].buf)
	r.partial = append(r.partial[:i], r.partial[i+1:]...)
	r.partial[:len(r.partial)+1][len(r.partial)] = partial{} // nothing keeps the buffer
}

// partial is a message of which parts are missing.
type partial struct {
	id    uint32
	since time.Time
	buf   []byte // of the total's length; nil if given up
	spans []span // what is there: ascending, never touching
}

type span struct{ from, to int }

func (p *partial) add(m FragMsg) FragResult {
	switch {
	case p.buf == nil:
		return FragDead
	case int(m.Total) != len(p.buf):
		return FragTotal
	}
	s := span{int(m.Offset), int(m.Offset) + len(m.Part)}
	i := 0 // the first span that ends behind s's start
	for i < len(p.spans) && p.spans[i].to <= s.from {
		i++
	}
	if i < len(p.spans) && p.spans[i].from < s.to {
		return FragOverlap
	}
	copy(p.buf[s.from:s.to], m.Part)

	before := i > 0 && p.spans[i-1].to == s.from
	after := i < len(p.spans) && p.spans[i].from == s.to
	switch {
	case before && after:
		p.spans[i-1].to = p.spans[i].to
		p.spans = append(p.spans[:i], p.spans[i+1:]...)
	case before:
		p.spans[i-1].to = s.to
	case after:
		p.spans[i].from = s.from
	case len(p.spans) == fragGaps:
		return FragGaps
	default:
		p.spans = append(p.spans, span{})
		copy(p.spans[i+1:], p.spans[i:])
		p.spans[i] = s
	}
	if p.spans[0] == (span{0, len(p.buf)}) {
		return FragWhole
	}
	return FragHeld
}
