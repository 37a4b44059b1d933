package daemon

import (
	"sync"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
)

// What waits in an inbox beside overlay.Heard and overlay.Up.
type (
	toldBy struct {
		from anode.Address
		msg  wire.ToldMsg
	}
	refusal struct {
		issuer anode.Address
		id     overlay.InvitationID
	}
	decision struct{ about anode.Address }
	review   struct{} // decisions were missed: it takes the place of all
)

// inbox is what the node has for people. Strangers have room of their own, so that none of them takes a peer's.
type inbox struct {
	wake chan struct{} // has room for one

	mu        sync.Mutex
	peers     []any
	strangers []any
	review    bool      // decisions were missed; there is always room for that
	lost      [2]uint64 // of peers, of strangers
}

const (
	inboxPeers     = 4096
	inboxStrangers = 64
)

// put adds what happened, and reports whether there was room.
func (b *inbox) put(x any, stranger bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, most, lost := &b.peers, inboxPeers, &b.lost[0]
	if stranger {
		list, most, lost = &b.strangers, inboxStrangers, &b.lost[1]
	}
	if len(*list) >= most {
		*lost++
		return false
	}
	*list = append(*list, x)
	note(b.wake)
	return true
}

// missed notes that decisions were missed.
func (b *inbox) missed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.review = true
	note(b.wake)
}

// take returns all that waits, that of peers first.
func (b *inbox) take() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := append(b.peers, b.strangers...)
	if b.review {
		list = append(list, review{})
	}
	b.peers, b.strangers, b.review = nil, nil, false
	return list
}

// dropped returns how much there was no room for.
func (b *inbox) dropped() (peers, strangers uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost[0], b.lost[1]
}

// sentTells are the TELLs that may be answered.
type sentTells struct {
	mu  sync.Mutex
	ids map[wire.TellID]uint8 // how many answers are left
}

// Bounds of the TELLs that may be answered: how many, of which more are known again when they are sent again, and how
// often each.
const (
	maxSent    = 4096
	maxAnswers = 8
)

func (t *sentTells) note(id wire.TellID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids == nil || len(t.ids) >= maxSent {
		t.ids = map[wire.TellID]uint8{}
	}
	t.ids[id] = maxAnswers
}

// take reports whether a TELL was sent that may be answered.
func (t *sentTells) take(id wire.TellID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ids[id] == 0 {
		return false
	}
	t.ids[id]--
	return true
}

// sender runs a bounded number of functions at a time. What finds no room is dropped: a TELL is sent again.
type sender struct {
	slots   chan struct{}
	running sync.WaitGroup
	full    atomic.Uint64
}

func (s *sender) send(f func()) {
	select {
	case s.slots <- struct{}{}:
	default:
		s.full.Add(1)
		return
	}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		f()
	})
}
