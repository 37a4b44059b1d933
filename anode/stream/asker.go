package stream

import (
	"context"
	"sync/atomic"
	"time"
)

// Others decides about the streams that peers open to ports without a listener. It answers
// for a program that has to be asked first, as a connection to a service has to be made.
type Others interface {
	// Admits reports whether a machine may open streams to such ports at all. It is called
	// while locks are held, and must not wait.
	Admits(from Remote) bool
	// Ask returns who takes a stream that the machine opens to the port, or an error: the
	// peer is told that nothing listens there. It may wait until ctx ends. Any number of
	// goroutines call it.
	Ask(ctx context.Context, from Remote, port uint16) (Taken, error)
}

// Taken takes a stream that was admitted, once; nil: it did not open after all. It must not
// wait.
type Taken func(*Conn)

// askFor is how long a stream waits for the answer of Others.
const askFor = 20 * time.Second

// asker asks about ports without a listener.
type asker struct {
	others  atomic.Pointer[Others] // nil: all such ports are refused
	running context.Context        // until the Host closes
	stop    context.CancelFunc
}

// Otherwise has somebody decide about ports without a listener. nil: all of them are refused,
// as at first.
func (h *Host) Otherwise(o Others) {
	if o == nil {
		h.asker.others.Store(nil)
		return
	}
	h.asker.others.Store(&o)
}

// admits returns what becomes of an S_OPEN to a port without a listener.
func (a *asker) admits(from Remote) Admission {
	if o := a.others.Load(); o != nil && (*o).Admits(from) {
		return Later
	}
	return Refuse
}

// asks begins to find out what becomes of the S_OPENs that are new, and gives up on those that are
// withdrawn; the peer's lock is held.
func (p *peer) asks() {
	p.m.Asks(func(own, peer uint16) {
		ctx, cancel := context.WithTimeout(p.host.asker.running, askFor)
		if p.questions == nil {
			p.questions = make(map[key]context.CancelFunc)
		}
		p.questions[keyOf(own, peer)] = cancel
		p.host.done.Go(func() {
			p.ask(ctx, own, peer)
			cancel()
		})
	})
	p.m.Withdrawn(func(own, peer uint16) {
		if cancel := p.questions[keyOf(own, peer)]; cancel != nil {
			cancel()
		}
	})
}

// ask finds out what becomes of an S_OPEN.
func (p *peer) ask(ctx context.Context, own, peer uint16) {
	var taken Taken
	err := context.Canceled
	if o := p.host.asker.others.Load(); o != nil {
		taken, err = (*o).Ask(ctx, p.remote, own)
	}
	var s *Stream
	p.do(func(now time.Duration) {
		delete(p.questions, keyOf(own, peer))
		if s = p.m.Decide(now, own, peer, err == nil && !p.quit); s != nil {
			newConn(p, s).taken = taken
		}
	})
	if s == nil && err == nil {
		taken(nil)
	}
}

// missed tells who admitted a stream that it did not open after all; the peer's lock is held.
func (p *peer) missed(c *Conn) {
	if c.taken == nil || c.s.phase < aborting {
		return
	}
	take := c.taken
	c.taken = nil
	p.host.done.Go(func() { take(nil) })
}
