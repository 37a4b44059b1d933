package wire

import (
	"bytes"
	"slices"
	"time"
)

// Bounds of a Reassembler.
const (
	// FragMessages is how many unfinished messages a session may have.
	FragMessages = 4
	// FragTimeout is how long a message may take to arrive.
	FragTimeout = 2 * time.Second

	fragParts    = 1024 // of a message: 64 KiB in parts of 64 bytes
	fragPartCost = 64   // of memory that a part takes besides its bytes
	fragDead     = 64   // messages that were given up and are remembered
	fragDone     = 8    // the same of those that are whole
)

// FragResult says what became of a FRAG.
type FragResult uint8

// The fates of a FRAG. All except the first three are to be counted as drops.
const (
	FragHeld     FragResult = iota // it waits for the rest of its message
	FragWhole                      // it was the last one missing
	FragRepeated                   // it is there already, or was: nothing changes
	FragOverlap                    // it overlaps what is there: the message is given up
	FragTotal                      // another total than before: the message is given up
	FragParts                      // too many parts: the message is given up
	FragDead                       // of a message that was given up
	FragNested                     // a FRAG within: the message is given up
	FragRoom                       // no room
)

// String names the result, as a counter would be.
func (r FragResult) String() string {
	switch r {
	case FragHeld:
		return "held"
	case FragWhole:
		return "whole"
	case FragRepeated:
		return "repeated"
	case FragOverlap:
		return "overlap"
	case FragTotal:
		return "total"
	case FragParts:
		return "parts"
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
// goroutine; the zero value is ready. now is any clock that does not go back.
//
// At most FragMessages are under way, each for at most FragTimeout; a further one takes
// the place of the oldest. The parts of a message that was given up are dropped for
// FragTimeout more: they do not begin it anew, so they cannot push out the next one.
//
// The memory grows with the parts that arrived, whatever total they announce.
type Reassembler struct {
	partial []partial // oldest first
	dead    []fragID  // given up
	done    []fragID  // whole
	held    int
	lost    uint64
}

// fragID is a message that is over, and since when.
type fragID struct {
	id    uint32
	since time.Duration
}

// Held is the memory of all parts in bytes, a little more than their lengths; callers
// bound its sum over all sessions.
func (r *Reassembler) Held() int { return r.held }

// Lost is the number of messages that were given up.
func (r *Reassembler) Lost() uint64 { return r.lost }

// Expire gives up what is older than FragTimeout. Add does so too.
func (r *Reassembler) Expire(now time.Duration) {
	old := func(since time.Duration) bool { return now-since > FragTimeout }
	for len(r.dead) > 0 && old(r.dead[0].since) {
		r.dead = r.dead[1:]
	}
	for len(r.done) > 0 && old(r.done[0].since) {
		r.done = r.done[1:]
	}
	for len(r.partial) > 0 && old(r.partial[0].since) {
		r.giveUp(now, 0)
	}
}

// Idle reports whether the Reassembler may be forgotten: it is as good as a new one.
func (r *Reassembler) Idle() bool { return len(r.partial)+len(r.dead)+len(r.done) == 0 }

// Add takes one FRAG. With FragWhole it returns the message, type byte first, which
// belongs to the caller. The Reassembler grows by at most room bytes over what it holds,
// and gives up its oldest messages before it refuses a part with FragRoom.
func (r *Reassembler) Add(now time.Duration, m FragMsg, room int) (msg []byte, result FragResult) {
	r.Expire(now)
	i := r.find(m.ID)
	if i < 0 {
		if remembers(r.dead, m.ID) {
			return nil, FragDead
		}
		if remembers(r.done, m.ID) {
			return nil, FragRepeated
		}
	}
	if m.Offset == 0 && Type(m.Part[0]) == Frag {
		r.bury(now, m.ID, i)
		return nil, FragNested
	}
	at := 0
	if i >= 0 {
		if at, result = r.partial[i].place(m); result == FragRepeated {
			return nil, result
		} else if result != FragHeld {
			r.giveUp(now, i)
			return nil, result
		}
	}
	if i = r.makeRoom(now, i, m.ID, len(m.Part)+fragPartCost, room); i < 0 {
		return nil, FragRoom
	}
	if i == len(r.partial) {
		r.partial = append(r.partial, partial{id: m.ID, since: now, total: int(m.Total)})
	}
	p := &r.partial[i]
	p.parts = slices.Insert(p.parts, at, part{int(m.Offset), bytes.Clone(m.Part)})
	p.length += len(m.Part)
	r.held += len(m.Part) + fragPartCost
	if p.length < p.total {
		return nil, FragHeld
	}
	msg = p.whole()
	r.remove(i)
	r.done = remember(r.done, fragDone, fragID{m.ID, now})
	return msg, FragWhole
}

// makeRoom gives up the oldest messages until cost bytes more fit in, and one message
// more, if i < 0. It returns where message id is, or is to be; or -1 if it has to go.
func (r *Reassembler) makeRoom(now time.Duration, i int, id uint32, cost, room int) int {
	limit := r.held + room
	if cost > limit {
		r.bury(now, id, i)
		return -1
	}
	for r.held+cost > limit || i < 0 && len(r.partial) >= FragMessages {
		r.giveUp(now, 0)
		switch {
		case i == 0:
			return -1
		case i > 0:
			i--
		}
	}
	if i < 0 {
		i = len(r.partial)
	}
	return i
}

func (r *Reassembler) find(id uint32) int {
	return slices.IndexFunc(r.partial, func(p partial) bool { return p.id == id })
}

// bury gives up a message, whether it is under way, as number i, or never began.
func (r *Reassembler) bury(now time.Duration, id uint32, i int) {
	if i >= 0 {
		r.giveUp(now, i)
		return
	}
	r.lost++
	r.dead = remember(r.dead, fragDead, fragID{id, now})
}

// giveUp forgets a message that did not make it, except its ID.
func (r *Reassembler) giveUp(now time.Duration, i int) {
	r.lost++
	r.dead = remember(r.dead, fragDead, fragID{r.partial[i].id, now})
	r.remove(i)
}

func (r *Reassembler) remove(i int) {
	p := &r.partial[i]
	r.held -= p.length + len(p.parts)*fragPartCost
	r.partial = slices.Delete(r.partial, i, i+1)
}

func remembers(list []fragID, id uint32) bool {
	return slices.ContainsFunc(list, func(f fragID) bool { return f.id == id })
}

// remember adds to a list of at most n, of which the oldest goes first.
func remember(list []fragID, n int, f fragID) []fragID {
	if len(list) == n {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, f)
}

// partial is a message of which parts are missing.
type partial struct {
	id     uint32
	since  time.Duration
	total  int
	length int    // of all parts
	parts  []part // ascending, and none overlaps another
}

type part struct {
	offset int
	bytes  []byte
}

// place returns where in the list of parts m belongs; FragHeld says that it may go there.
func (p *partial) place(m FragMsg) (at int, result FragResult) {
	if int(m.Total) != p.total {
		return 0, FragTotal
	}
	from, to := int(m.Offset), int(m.Offset)+len(m.Part)
	at, found := slices.BinarySearchFunc(p.parts, from, func(x part, from int) int { return x.offset - from })
	switch {
	case found && bytes.Equal(p.parts[at].bytes, m.Part):
		return at, FragRepeated
	case at > 0 && p.parts[at-1].offset+len(p.parts[at-1].bytes) > from, at < len(p.parts) && p.parts[at].offset < to:
		return at, FragOverlap
	case len(p.parts) == fragParts:
		return at, FragParts
	}
	return at, FragHeld
}

// whole is the message, of which all parts are there.
func (p *partial) whole() []byte {
	msg := make([]byte, 0, p.total)
	for _, x := range p.parts {
		msg = append(msg, x.bytes...)
	}
	return msg
}
