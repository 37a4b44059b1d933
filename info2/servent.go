package info2

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors of a Servent; returned ones wrap them.
var (
	ErrStopped   = errors.New("info2: the servent is not running")
	ErrNobody    = errors.New("info2: nobody is linked, so nobody would hear it")
	ErrEmpty     = errors.New("info2: there is no text")
	ErrTooLong   = errors.New("info2: the text is too long for one message")
	ErrSecret    = errors.New("info2: the text looks like a secret")
	ErrForbidden = errors.New("info2: an address that is never dialled")
	ErrPortTaken = errors.New("info2: the port is taken")
)

// Servent takes part in one Info2 network while Run runs. All methods but Run
// may be called from any goroutine, and wait for Run to begin.
type Servent struct {
	config Config
	log    *slog.Logger
	hub    hub

	calls   chan func()
	events  chan event
	stopped chan struct{} // closed when Run is over
	started atomic.Bool   // Run runs once

	// Owned by Run's goroutine.
	core    *core
	conns   map[linkID]*conn
	history chan Message // nil: none
	group   sync.WaitGroup
}

// New checks the configuration and makes a servent that does nothing yet.
func New(config Config) (*Servent, error) {
	if config.Dial == nil {
		return nil, errors.New("info2: Config.Dial is missing")
	}
	if config.Port == 0 {
		config.Port = Port
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Rand == nil {
		config.Rand = rand.Reader
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	var seed [32]byte
	if _, err := io.ReadFull(config.Rand, seed[:]); err != nil {
		return nil, fmt.Errorf("info2: no randomness: %w", err)
	}
	r := rules{allow: config.Allow, loopback: config.AllowLoopback, listening: config.Listen != nil, closed: config.Closed}
	now := config.Now()
	s := &Servent{
		config:  config,
		log:     config.Logger.With("network", config.Name),
		hub:     hub{all: make(map[*Subscription]bool)},
		calls:   make(chan func()),
		events:  make(chan event),
		stopped: make(chan struct{}),
		core:    newCore(now, r, mathrand.New(mathrand.NewChaCha8(seed))),
		conns:   make(map[linkID]*conn),
	}
	s.core.hosts.setFriends(unmapAll(config.Friends))
	for _, a := range unmapAll(config.Known) {
		s.core.hosts.add(now, a, netip.Addr{})
	}
	return s, nil
}

func unmapAll(addrs []netip.Addr) []netip.Addr {
	list := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		list[i] = a.Unmap()
	}
	return list
}

// Run takes part in the network until ctx ends; then it says LOGOFF to its links
// and returns nil when all its goroutines are gone. It fails with ErrPortTaken
// if another program has the port, and with the listener's error. It can be
// called once.
func (s *Servent) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("info2: Run has been called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer s.group.Wait()
	defer s.hub.close()
	defer close(s.stopped)
	defer cancel()

	broken := make(chan error, 1)
	if s.config.Listen != nil {
		listener, err := s.config.Listen(ctx, s.config.Port)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w: port %d is in use by another program; Info2 has no other (another port is another network): %w", ErrPortTaken, s.config.Port, err)
		}
		if err != nil {
			return fmt.Errorf("info2: listening on port %d: %w", s.config.Port, err)
		}
		s.group.Go(func() { broken <- s.accept(ctx, listener) })
		stop := context.AfterFunc(ctx, func() { listener.Close() })
		defer stop()
		defer listener.Close()
	}
	if s.config.History != nil {
		s.history = make(chan Message, 256)
		s.group.Go(func() { s.keepHistory(s.history) })
		defer close(s.history)
	}
	s.log.Info("info2 started", "port", s.config.Port, "listening", s.config.Listen != nil)
	s.core.tick(s.config.Now())
	err := s.loop(ctx, broken)
	s.leave()
	return err
}

// loop owns the core until ctx ends, or until the core has left the network.
func (s *Servent) loop(ctx context.Context, broken <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.perform(ctx, s.core.fx.take())
		if s.core.leaving && len(s.core.links.list) == 0 {
			return nil
		}
		now := s.config.Now()
		if at := s.core.next(now); !at.IsZero() {
			timer.Reset(max(0, at.Sub(now)))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return err
		case e := <-s.events:
			s.apply(e)
		case f := <-s.calls:
			f()
		case <-timer.C:
			s.core.tick(s.config.Now())
		}
	}
}

// leave says LOGOFF to all links, which takes as long as the pause that must
// follow their last message.
func (s *Servent) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	s.core.logoff(s.config.Now())
	s.loop(ctx, nil) // ends without error: nothing is broken
	for _, c := range s.conns {
		c.close()
	}
	s.log.Info("info2 stopped")
}

// perform does what the core asks for.
func (s *Servent) perform(ctx context.Context, actions []action) {
	for _, a := range actions {
		switch a.op {
		case opDial:
			s.group.Go(func() { s.dial(ctx, a.id, a.addr) })
		case opDeliver:
			s.publish(a.message)
		case opWrite, opWriteLast:
			if c := s.conns[a.id]; c != nil {
				c.out <- parcel{a.data, a.op == opWriteLast} // has room: the core writes one thing at a time
			}
		case opClose:
			if c := s.conns[a.id]; c != nil {
				delete(s.conns, a.id)
				s.log.Debug("info2 closed", "link", a.id)
				c.close()
			}
		}
	}
}

// publish hands a message to the subscribers and to the history.
func (s *Servent) publish(m Message) {
	m.Name = s.nameOf(m.From)
	s.core.fx.add(SlowReaders, s.hub.publish(m))
	if s.history == nil {
		return
	}
	select {
	case s.history <- m:
	default:
		s.core.fx.inc(HistoryLost)
	}
}

func (s *Servent) nameOf(a netip.Addr) string {
	if s.config.NameOf == nil || !a.IsValid() {
		return ""
	}
	return Clean(s.config.NameOf(a))
}

// keepHistory says once that the history fails, and not for each message.
func (s *Servent) keepHistory(messages <-chan Message) {
	failing := false
	for m := range messages {
		err := s.config.History.Append(m)
		if err != nil && !failing {
			s.log.Warn("info2 history is not kept", "err", err)
		}
		failing = err != nil
	}
}

// call runs f on Run's goroutine, and waits for it.
func (s *Servent) call(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	g := func() { f(s.config.Now()); close(done) }
	select {
	case s.calls <- g:
		<-done
		return nil
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Say sends a text to everybody, and returns its identifier. The text is
// cleaned first. ErrSecret (as *SecretError, which says what it looks like) asks
// for a confirmation: SayAnyway. At more than two texts a second it waits. Other
// errors: ErrEmpty, ErrTooLong (over MaxText bytes), ErrNobody, ErrStopped, and
// ctx's.
func (s *Servent) Say(ctx context.Context, text string) (MID, error) {
	if what := LooksSecret(text); what != "" {
		return MID{}, &SecretError{What: what}
	}
	return s.SayAnyway(ctx, text)
}

// SayAnyway is Say without the question whether it is a secret.
func (s *Servent) SayAnyway(ctx context.Context, text string) (MID, error) {
	text = Clean(text)
	switch {
	case text == "":
		return MID{}, ErrEmpty
	case len(text) > maxText:
		return MID{}, fmt.Errorf("%w: %d bytes of at most %d", ErrTooLong, len(text), maxText)
	}
	for {
		var mid MID
		var wait time.Duration
		var failed error
		err := s.call(ctx, func(now time.Time) {
			if !s.core.flood.own.take(now) {
				wait = s.core.flood.own.ready(now).Sub(now)
				return
			}
			mid, failed = s.core.say(now, text)
		})
		if err == nil {
			err = failed
		}
		if err != nil || wait == 0 {
			return mid, err
		}
		if err := s.sleep(ctx, wait); err != nil {
			return MID{}, err
		}
	}
}

func (s *Servent) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Connect dials an address soon, whatever its pause, and keeps it in the host
// cache. It returns before the dial has succeeded: Status shows what came of it.
// Errors: ErrForbidden, ErrStopped, and ctx's.
func (s *Servent) Connect(ctx context.Context, addr netip.Addr) error {
	addr = addr.Unmap()
	var failed error
	err := s.call(ctx, func(now time.Time) { failed = s.core.connect(now, addr) })
	return errors.Join(err, failed)
}

// SetFriends replaces the friends; links to former ones stay. Hosts that Config.Allow no
// longer lets in are forgotten.
func (s *Servent) SetFriends(ctx context.Context, addrs []netip.Addr) error {
	addrs = unmapAll(addrs)
	return s.call(ctx, func(now time.Time) {
		s.core.hosts.setFriends(addrs)
		s.core.hosts.keep(s.core.reach.allowed)
		s.core.pump(now)
	})
}

// NetworkChanged forgets the pauses after failed dials of friends and of hosts
// that have answered before: they may be reachable now.
func (s *Servent) NetworkChanged(ctx context.Context) error {
	return s.call(ctx, func(now time.Time) { s.core.wake(now) })
}

// Status describes the servent at this moment.
func (s *Servent) Status(ctx context.Context) (Status, error) {
	var st Status
	err := s.call(ctx, func(now time.Time) {
		st = s.core.status(now)
		st.Network, st.Port = s.config.Name, s.config.Port
		for i := range st.Links {
			st.Links[i].Name = s.nameOf(st.Links[i].Addr)
		}
		for i := range st.Neighbours {
			st.Neighbours[i].Name = s.nameOf(st.Neighbours[i].Addr)
		}
	})
	return st, err
}

// Hosts returns the host cache, by address; Config.Known of the next start, if
// the caller keeps those that are verified.
func (s *Servent) Hosts(ctx context.Context) ([]HostStatus, error) {
	var list []HostStatus
	err := s.call(ctx, func(time.Time) {
		list = s.core.hosts.status()
		for i := range list {
			list[i].Name = s.nameOf(list[i].Addr)
		}
	})
	return list, err
}

// Subscribe delivers every message from now on, own ones included, through a
// channel that holds size. It may be called before Run.
func (s *Servent) Subscribe(size int) *Subscription { return s.hub.subscribe(size) }
