package info2

import "net/netip"

// op is what the shell is asked to do.
type op uint8

const (
	opDial      op = iota // addr; then dialed
	opWrite               // data to id, in one write; then sent, or failed
	opWriteLast           // the same, and end our half of the stream right behind it
	opClose               // id, after what is being written; no event follows
	opDeliver             // message is for the people here
)

// action is one thing for the shell to do, in order.
type action struct {
	op      op
	id      linkID
	addr    netip.Addr
	data    []byte
	message Message
}

// effects are what a core wants done and what it has counted. All its parts
// share one.
type effects struct {
	actions  []action
	counters counters
}

func (e *effects) do(a action) { e.actions = append(e.actions, a) }

// take returns the actions since the last call.
func (e *effects) take() []action {
	a := e.actions
	e.actions = nil
	return a
}

func (e *effects) inc(what Counter)        { e.counters[what]++ }
func (e *effects) add(what Counter, n int) { e.counters[what] += uint64(n) }
