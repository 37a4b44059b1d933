package info2

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Message is a text that was said on the network.
type Message struct {
	Time time.Time `json:"time"`
	MID  MID       `json:"mid"`
	Text string    `json:"text"` // clean (see Clean) and never empty
	// From is the neighbour that brought the text first, which need not be its
	// author: nobody can know who that is. Zero if Own or Bridged.
	From netip.Addr `json:"from,omitzero"`
	// Name is what Config.NameOf calls From.
	Name    string `json:"name,omitempty"`
	Own     bool   `json:"own,omitempty"`     // said here
	Bridged bool   `json:"bridged,omitempty"` // from another network, by Bridge
}

// History keeps messages. A Servent calls Append from one goroutine, in order;
// it may block for as long as it takes, but what waits is bounded, and lost
// beyond that (HistoryLost). An implementation bounds what it keeps.
type History interface {
	Append(Message) error
	// Recent returns the last n messages, oldest first.
	Recent(n int) ([]Message, error)
}

// Subscription delivers messages as they come. A reader that is too slow
// loses the newest ones, and can see how many.
type Subscription struct {
	messages chan Message
	dropped  atomic.Uint64
	owner    *hub
}

// Messages is closed by Close, and when the Servent has stopped.
func (s *Subscription) Messages() <-chan Message { return s.messages }

// Dropped counts the messages that found the channel full.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription; it may be called more than once.
func (s *Subscription) Close() { s.owner.remove(s) }

// hub hands messages to subscribers and never waits for one.
type hub struct {
	mu     sync.Mutex
	all    map[*Subscription]bool
	closed bool
}

func (h *hub) subscribe(size int) *Subscription {
	s := &Subscription{messages: make(chan Message, max(1, size)), owner: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(s.messages)
		return s
	}
	h.all[s] = true
	return s
}

func (h *hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all[s] {
		delete(h.all, s)
		close(s.messages)
	}
}

// publish returns how many subscribers were too slow.
func (h *hub) publish(m Message) (slow int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.all {
		select {
		case s.messages <- m:
		default:
			s.dropped.Add(1)
			slow++
		}
	}
	return slow
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.all {
		close(s.messages)
	}
	h.all, h.closed = nil, true
}
