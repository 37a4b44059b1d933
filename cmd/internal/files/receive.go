package files

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// ReceiveConfig is what Receive needs.
type ReceiveConfig struct {
	Dir string
	// Who returns which peer a connection comes from, or why it may not send.
	Who func(ctx context.Context, from net.Addr) (Peer, error)
	// Ask returns whether an offer is accepted. It ends when ctx does, since the sender may go.
	// nil: every offer is.
	Ask      func(ctx context.Context, o Offer) (bool, error)
	Keep     bool          // go on after a transfer
	Patience time.Duration // how long to wait for a sender that was cut off, or sends nothing
	Tell     func(Event)   // called by one goroutine at a time
	// Complete is called after each transfer.
	Complete func(from Peer, o Outcome)
}

// Offer is what a peer wants to send.
type Offer struct {
	Peer  Peer
	Tops  []Top
	Files int
	Bytes int64
	Kept  int64 // bytes of them that an earlier attempt brought
}

// maxGreetings is how many connections may be making an offer at a time.
const maxGreetings = 4

// Receive receives what peers send to a listener, which it closes. It returns after one
// transfer, unless it keeps going, until ctx ends.
func Receive(ctx context.Context, l net.Listener, c ReceiveConfig) error {
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		l.Close()
		return err
	}
	defer root.Close()
	sweep(root, time.Now())
	r := &receiver{config: c, root: root, agreed: map[agreement]bool{}, arrivals: make(chan *arrival), broken: make(chan error, 1), greeting: map[string]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { r.accept(ctx, l) })
	err = r.run(ctx)
	cancel()
	l.Close()
	group.Wait()
	return err
}

// receiver takes one transfer at a time.
type receiver struct {
	config   ReceiveConfig
	root     *os.Root
	agreed   map[agreement]bool // owned by run's goroutine
	arrivals chan *arrival
	broken   chan error // the listener ended

	mu       sync.Mutex
	current  *arrival        // whose transfer has its turn, perhaps cut off
	greeting map[string]bool // peers that are making an offer

	telling sync.Mutex
}

// arrival is a connection that made an offer.
type arrival struct {
	peer     Peer
	manifest *Manifest
	id       Hash
	conn     *patient
	in       reader
	w        *writer
	ctx      context.Context
	cancel   context.CancelFunc // closes the connection too
	outcome  Outcome            // so far
}

// verdict is how a connection ended.
type verdict int

const (
	nothing verdict = iota // the offer came to nothing
	cut                    // the sender has to come again
	unsure                 // all is there, and the sender may not know
	whole                  // all is there, and both know
)

// farewell is how long a sender that may not know that all is there may take to come again.
const farewell = 30 * time.Second

// agreement is an offer that was accepted.
type agreement struct {
	peer string
	id   Hash
}

func (r *receiver) tell(e Event) {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.config.Tell(e)
}

// run serves one arrival after the other.
func (r *receiver) run(ctx context.Context) error {
	var last *arrival
	var waiting <-chan time.Time // for the sender of the last one
	state := nothing
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-r.broken:
			return err
		case <-waiting:
			if state == cut {
				return fmt.Errorf("%w in %v: %s is away", ErrStalled, r.config.Patience, last.peer.Name)
			}
			state, err = whole, r.forget(last)
		case last = <-r.arrivals:
			state, err = newTransfer(r, last).serve()
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if waiting = r.await(state); waiting != nil {
			continue
		}
		r.leave(last)
		if state == whole {
			r.config.Complete(last.peer, last.outcome)
		}
		if !r.config.Keep && (err != nil || state == whole) {
			return err
		}
	}
}

// await returns a channel that ends the time in which a sender should come again; nil if
// others may have their turn.
func (r *receiver) await(state verdict) <-chan time.Time {
	switch {
	case state == unsure:
		return time.After(farewell)
	case state == cut && !r.config.Keep:
		return time.After(r.config.Patience)
	}
	return nil
}

// leave lets others have their turn, if it is still an arrival's.
func (r *receiver) leave(a *arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == a {
		r.current = nil
	}
}

// forget removes the journal of a transfer.
func (r *receiver) forget(a *arrival) error {
	f, err := openFolder(r.root, a.peer.Key, a.manifest.Tops())
	if err != nil {
		return err
	}
	return f.journal.remove()
}

// claim gives an arrival its turn. One with the same offer from the same peer takes the
// place of an earlier one, which is dead or about to be.
func (r *receiver) claim(a *arrival) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.current; c != nil {
		if c.peer.Key != a.peer.Key || c.id != a.id {
			return false
		}
		c.cancel()
	}
	r.current = a
	return true
}

// accept accepts connections until the listener ends, and waits for all that it began.
func (r *receiver) accept(ctx context.Context, l net.Listener) {
	var group sync.WaitGroup
	defer group.Wait()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.broken <- err
			}
			return
		}
		peer, err := r.config.Who(ctx, conn.RemoteAddr())
		if err != nil {
			r.tell(Event{Type: Refused, Peer: peer, Err: err})
			conn.Close()
			continue
		}
		if !r.mayGreet(peer) {
			conn.Close()
			continue
		}
		group.Go(func() { r.greet(ctx, conn, peer) })
	}
}

// mayGreet reports whether a peer may make an offer now. Each may make one at a time.
func (r *receiver) mayGreet(p Peer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.greeting) >= maxGreetings || r.greeting[p.Key] {
		return false
	}
	r.greeting[p.Key] = true
	return true
}

func (r *receiver) greeted(p Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.greeting, p.Key)
}

// greet reads an offer, and hands it to run.
func (r *receiver) greet(ctx context.Context, conn net.Conn, peer Peer) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { conn.Close() })
	p := &patient{Conn: conn, start: time.Now()}
	a := &arrival{peer: peer, conn: p, in: newReader(p), w: newWriter(p), ctx: ctx, cancel: cancel}
	err := a.readOffer()
	p.start = time.Time{}
	if err == nil && r.claim(a) {
		r.greeted(peer)
		select {
		case r.arrivals <- a:
		case <-ctx.Done():
			cancel()
		}
		return
	}
	switch {
	case err == nil:
		a.refuse(refusedBusy, ErrBusy)
	case isViolation(err):
		r.tell(Event{Type: Refused, Peer: peer, Err: err})
		a.refuse(refusedOffer, err)
	}
	cancel()
	r.greeted(peer) // no earlier: what is refused takes memory too
}

// isViolation reports whether an error is the sender's fault, rather than the network's.
func isViolation(err error) bool {
	return errors.Is(err, ErrProtocol) || errors.Is(err, ErrName) || errors.Is(err, ErrTooMany) || errors.Is(err, ErrTooBig)
}
