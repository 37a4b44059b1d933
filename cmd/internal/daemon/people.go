package daemon

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/people"
)

// peopleService runs a people.Core on a goroutine of its own, feeds it, and carries out its actions.
//
//	node's loop --Heard, Told, Up, Refused--> inbox --> core --Commit--> book, node's loop
//	control socket --verbs------------------> calls -->      --Tell----> senders --> node
//	node's events --decisions---------------> inbox
//
// No timer runs while nothing is due.
type peopleService struct {
	self  anode.Address
	book  *book.Book
	log   *slog.Logger
	node  *overlay.Node // set before run
	clock overlay.Clock

	settings atomic.Pointer[config.People]
	host     string // the host's name, as a peer's
	resolve  Resolver
	secret   *secret
	occurs   func(Occasion) // nil: the log has what happens

	inbox inbox
	calls chan call
	ended chan struct{} // closed when run ends
	open  atomic.Pointer[map[[8]byte]*people.Open]
	owed  atomic.Pointer[map[anode.Address]bool] // who is no peer, and is told something when it comes
	offer atomic.Pointer[offers]
	sent  sentTells
	peers sender
	other sender // to those who are no peers

	// of run's goroutine
	core     *people.Core
	places   map[anode.Address]*people.Ways // of those who are asked where names of machines lead
	ctx      context.Context                // run's; nil before
	services func() []people.Service
	offered  func() // is called when friends offer other services; nil: nobody asked. Set before run

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed at each change
	count   people.Counters
}

// How many TELLs wait for a session at a time.
const (
	peerSenders  = 64
	otherSenders = 16
	sendPatience = 10 * time.Second
)

// newPeople reads the tables. services returns what friends are told that this machine offers.
func (d *daemon) newPeople(secret *secret, services func() []people.Service, occurs func(Occasion)) (*peopleService, error) {
	host, _ := os.Hostname()
	s := &peopleService{
		self: d.identity.Address(), book: d.book, log: d.log, clock: d.clock, secret: secret, services: services, occurs: occurs,
		host: ownName(host), resolve: d.resolver(), calls: make(chan call), ended: make(chan struct{}), changed: make(chan struct{}),
		places: map[anode.Address]*people.Ways{}, peers: sender{slots: make(chan struct{}, peerSenders)}, other: sender{slots: make(chan struct{}, otherSenders)},
	}
	s.inbox.wake = make(chan struct{}, 1)
	s.settings.Store(&d.cfg.People)
	core, problems, err := people.New(people.Config{
		Self: s.self, Book: peopleBook{d.book, s}, Name: s.name, Services: services, Secret: secret.get, Policy: s.policy,
		Found: s.found, Random: func(b []byte) { rand.Read(b) },
	}, s.moment())
	for _, problem := range problems {
		d.log.Warn("people", "err", problem)
	}
	if err != nil {
		return nil, err
	}
	s.core = core
	s.publish()
	return s, nil
}

// ownName makes a name of that of the host, up to its first dot.
func ownName(host string) string {
	host, _, _ = strings.Cut(host, ".")
	name := book.NameFrom(host, invite.MaxName)
	if book.CheckName(name) != nil {
		return ""
	}
	return name
}

// moment is now.
func (s *peopleService) moment() people.Now {
	return people.Now{Wall: s.clock.Now(), Mono: mono.At(s.clock.Since())}
}

// name is what this machine is called by others.
func (s *peopleService) name() string {
	if n := s.settings.Load().Name; n != "" {
		return n
	}
	return s.host
}

func (s *peopleService) policy() people.Policy {
	switch s.settings.Load().Requests {
	case config.RequestsOff:
		return people.FromNobody
	case config.RequestsIntroduced:
		return people.FromIntroduced
	}
	return people.FromAll
}

// found returns where a peer was found.
func (s *peopleService) found(a anode.Address) (list []wire.Endpoint) {
	for _, e := range append(s.book.Learned(a), s.book.Get(a).Endpoints...) {
		if e.Kind != wire.Ethernet {
			list = append(list, e)
		}
	}
	return list
}

// peopleBook is the book, whose changes the node follows once it runs.
type peopleBook struct {
	*book.Book
	s *peopleService
}

// Commit makes an edit in one transaction.
func (b peopleBook) Commit(e book.Edit, now time.Time) (book.Change, error) {
	if b.s.ctx == nil {
		return b.Book.Commit(e, now)
	}
	return b.s.node.Commit(b.s.ctx, e)
}

// Heard takes a TELL; see overlay.People.
func (s *peopleService) Heard(h overlay.Heard) bool {
	return s.inbox.put(h, h.Standing < book.Added && h.Invitation == overlay.InvitationID{})
}

// Told takes the answer to a TELL; see overlay.People. Anybody may send one; only one to a TELL that was sent gets on.
func (s *peopleService) Told(a anode.Address, m wire.ToldMsg) {
	if s.sent.take(m.ID) {
		s.inbox.put(toldBy{a, m}, false)
	}
}

// Up takes a session that is confirmed; see overlay.People. Most strangers' are of no interest.
func (s *peopleService) Up(u overlay.Up) {
	if u.Standing >= book.Added || u.Invitation != (overlay.InvitationID{}) || (*s.owed.Load())[u.Address] {
		s.inbox.put(u, false)
	}
}

// Invitation returns the key of an invitation of ours; see overlay.People.
func (s *peopleService) Invitation(id overlay.InvitationID, from anode.Address) (psk [32]byte, ok bool) {
	o := (*s.open.Load())[id]
	if o == nil || !o.Admits(from, s.clock.Now()) {
		return psk, false
	}
	return o.PSK, true
}

// Refused takes that the issuer of an invitation knows nothing of it; see overlay.People.
func (s *peopleService) Refused(issuer anode.Address, id overlay.InvitationID) {
	s.inbox.put(refusal{issuer, id}, false)
}

// run does what people say and want until ctx ends.
func (s *peopleService) run(ctx context.Context) error {
	s.ctx = ctx
	defer s.wait()
	watch := s.node.Watch(overlay.EventDecided)
	defer watch.Close()
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() { s.follow(ctx, watch) })
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	s.act(ctx)
	for {
		wait := s.wind(due)
		select {
		case <-ctx.Done():
			return nil
		case <-s.inbox.wake:
			s.events(ctx)
			s.wakeWaiting()
		case x := <-s.calls:
			s.answer(ctx, x)
		case <-wait:
			s.core.Tick(s.moment())
			s.act(ctx)
			s.wakeWaiting()
		}
	}
}

// events takes what waits in the inbox. Calls do not wait for all of it, as each may write to the disk.
func (s *peopleService) events(ctx context.Context) {
	for _, x := range s.inbox.take() {
		s.event(x)
		s.act(ctx)
		select {
		case <-ctx.Done():
			return
		case x := <-s.calls:
			s.answer(ctx, x)
		default:
		}
	}
}

// answer does what a call wants. What that changed counts when it returns: a guest may come with a link as soon as people
// have it.
func (s *peopleService) answer(ctx context.Context, x call) {
	x.verb(s.core)
	s.act(ctx)
	close(x.done)
}

// wait waits for all that run began.
func (s *peopleService) wait() {
	close(s.ended)
	s.peers.running.Wait()
	s.other.running.Wait()
}

// wind sets the timer to what is due next; nil: nothing is.
func (s *peopleService) wind(t *time.Timer) <-chan time.Time {
	now := s.moment()
	next := s.core.Next(now)
	if next == mono.Never {
		t.Stop()
		return nil
	}
	t.Reset(max(next.Sub(now.Mono), time.Millisecond))
	return t.C
}

// follow puts what people decide into the inbox.
func (s *peopleService) follow(ctx context.Context, w *overlay.Watch) {
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return
		}
		for _, e := range events {
			if e.Kind == overlay.EventMissed || !s.inbox.put(decision{e.Address}, false) {
				s.inbox.missed()
			}
		}
	}
}

// event gives the core what happened.
func (s *peopleService) event(x any) {
	now := s.moment()
	switch x := x.(type) {
	case overlay.Heard:
		s.core.Heard(now, people.Heard{From: x.From, Host: hostOf(x.Endpoint), Endpoint: x.Endpoint, Msg: x.Msg})
	case toldBy:
		s.core.Told(now, x.from, x.msg)
	case overlay.Up:
		s.core.Up(now, people.Up{Address: x.Address, Invitation: x.Invitation, Issued: x.Issued, Endpoint: x.Endpoint})
	case refusal:
		s.core.Refused(now, x.issuer, x.id)
	case decision:
		s.core.Decided(now, x.about)
	case review:
		s.core.Review(now)
	}
}

// hostOf returns the IP address of an endpoint as people read it; invalid if there is none.
func hostOf(endpoint string) netip.Addr {
	e, err := wire.EndpointFromText(endpoint)
	if err != nil {
		return netip.Addr{}
	}
	return e.Addr.Addr()
}

// act does what the core wants.
func (s *peopleService) act(ctx context.Context) {
	did := false
	for list := s.core.Take(); len(list) > 0; list = s.core.Take() {
		did = true
		for _, a := range list {
			s.doOne(ctx, a)
		}
	}
	s.publish()
	if did {
		s.wakeWaiting()
	}
}

func (s *peopleService) doOne(ctx context.Context, a people.Action) {
	switch a := a.(type) {
	case people.Tell:
		s.tell(ctx, a)
	case people.Told:
		_ = s.node.TellBack(ctx, a.To, a.Msg) // without a session, the TELL comes again
	case people.Know:
		s.know(ctx, a)
	case people.Join:
		s.join(ctx, a)
	case people.Secret:
		s.takeSecret(ctx, a)
	case people.Event:
		s.occur(a)
	}
}

// tell sends a TELL, beside what else goes on: it may wait for a session.
func (s *peopleService) tell(ctx context.Context, t people.Tell) {
	via := &s.peers
	if s.book.Standing(t.To) != book.Added {
		via = &s.other
	}
	at := s.places[t.To]
	via.send(func() {
		if at != nil && t.Msg.Kind == wire.TellAsk {
			s.resolveAsked(ctx, t.To, at)
		}
		s.sent.note(t.Msg.ID)
		ctx, cancel := context.WithTimeout(ctx, sendPatience)
		defer cancel()
		if err := s.node.Tell(ctx, t.To, t.Msg); err != nil {
			s.log.Debug("not told", "peer", t.To.ID(), "what", t.Msg.Kind, "err", err)
		}
	})
}

func (s *peopleService) join(ctx context.Context, j people.Join) {
	g := overlay.Invitation{Issuer: j.Issuer, ID: j.ID, PSK: j.PSK, Endpoints: j.Ways.Endpoints, Relays: relaysAt(j.Ways.Relays), Until: j.Until}
	if err := s.node.Join(ctx, g); err != nil && ctx.Err() == nil {
		s.log.Warn("the link is not tried", "peer", j.Issuer.ID(), "err", err)
	}
}

func relaysAt(list []people.Relay) (relays []overlay.RelayAt) {
	for _, r := range list {
		relays = append(relays, overlay.RelayAt(r))
	}
	return relays
}

// publish copies from the core what other goroutines read.
func (s *peopleService) publish() {
	if open, changed := s.core.OpenInvitations(); changed {
		s.open.Store(&open)
	}
	if owed, changed := s.core.Owed(); changed {
		s.owed.Store(&owed)
	}
	s.publishOffers()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count = s.core.Counters()
}

// wakeWaiting wakes the calls of until.
func (s *peopleService) wakeWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// call is a verb. done is closed when everything that follows from it is done.
type call struct {
	verb func(*people.Core)
	done chan struct{}
}

// do runs a function with the core, on its goroutine, and does what the core wants then.
func (s *peopleService) do(ctx context.Context, f func(*people.Core)) error {
	done := make(chan struct{})
	select {
	case s.calls <- call{f, done}:
		<-done
		return nil
	case <-s.ended:
		return overlay.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until runs a function with the core again and again, at each change, until it returns true or a time is over.
func (s *peopleService) until(ctx context.Context, most time.Duration, f func(*people.Core) bool) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		done := false
		if err := s.do(ctx, func(c *people.Core) { done = f(c) }); err != nil || done {
			return err
		}
		select {
		case <-changed:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Set takes up other settings, and tells friends what is new.
func (s *peopleService) Set(ctx context.Context, c config.People) error {
	s.settings.Store(&c)
	return s.ServicesChanged(ctx)
}

// ServicesChanged tells friends that this machine offers other services.
func (s *peopleService) ServicesChanged(ctx context.Context) error {
	return s.do(ctx, func(c *people.Core) { c.ProfileChanged(s.moment()) })
}

// Count adds what was dropped.
func (s *peopleService) Count(c map[string]uint64) {
	s.mu.Lock()
	n := s.count
	s.mu.Unlock()
	c["people_blocked"] = n.Blocked
	c["people_not_allowed"] = n.NotAllowed
	c["people_too_much"] = n.TooMuch
	c["people_malformed"] = n.Malformed
	c["people_unknown_kind"] = n.Unknown
	c["people_again"] = n.Again
	c["people_not_written"] = n.Unwritten
	c["people_requests_evicted"] = n.Evicted
	c["people_outbox_full"] = n.OutboxFull
	c["people_not_sent"] = s.peers.full.Load() + s.other.full.Load()
	peers, strangers := s.inbox.dropped()
	c["people_inbox_full"], c["people_strangers_inbox_full"] = peers, strangers
}

// Occasion is something that people said or did elsewhere, for whoever looks.
type Occasion struct {
	Kind    people.EventKind
	Address anode.Address
	Name    string // of the peer here, or that it says; empty: none
	Via     string // name or short ID of who introduced or brought it
	Text    string // a note, an invitation's ID, or where somebody came from
	Asked   bool   // of a peer that lets us in: it was only asked before, and is added with it
	Failed  string // of a join: why the link let nobody in; empty: it did
}

// occur reports what happened, to who looks or to the log.
func (s *peopleService) occur(e people.Event) {
	if s.occurs == nil {
		s.logEvent(e)
		return
	}
	o := Occasion{Kind: e.Kind, Address: e.Address, Via: s.shown(e.Via), Text: e.Text, Asked: e.Asked}
	if o.Name = e.Name; o.Name == e.Address.ID().String() {
		o.Name = ""
	}
	if e.Failed != nil {
		o.Failed = whyFailed(*e.Failed)
	}
	s.occurs(o)
}

// logEvent reports what happened.
func (s *peopleService) logEvent(e people.Event) {
	attrs := []any{"peer", e.Address.ID(), "name", e.Name}
	if !e.Via.IsZero() {
		attrs = append(attrs, "via", s.shown(e.Via))
	}
	if e.Text != "" {
		attrs = append(attrs, "text", e.Text)
	}
	level := slog.LevelInfo
	if e.Kind == people.EventLate {
		level = slog.LevelWarn
	}
	s.log.Log(s.ctx, level, wordsOf(e.Kind), attrs...)
}

// wordsOf says what happened.
func wordsOf(k people.EventKind) string {
	switch k {
	case people.EventAsks:
		return "a peer asks to be let in; try: anode peers requests"
	case people.EventIntroduced:
		return "a peer was introduced; try: anode peers requests"
	case people.EventFriend:
		return "a peer let this machine in"
	case people.EventGuest:
		return "an invitation was used"
	case people.EventLate:
		return "somebody came with an invitation that is used up: others have the link"
	case people.EventLeft:
		return "a peer removed this machine"
	case people.EventBrought:
		return "another device of yours brought a peer"
	case people.EventTaken:
		return "another device of yours removed a peer that it had brought"
	case people.EventUnanswered:
		return "a peer that was asked has not answered; it is asked no more"
	case people.EventWithdrawn:
		return "a peer was accepted that had withdrawn its request; it is let in no more"
	case people.EventJoin:
		return "the join with a link has ended"
	case people.EventRefused:
		return "a peer did not take what it was told"
	}
	return string(k)
}

// shown is a peer's name, or its short ID.
func (s *peopleService) shown(a anode.Address) string {
	if a.IsZero() {
		return ""
	}
	if n := s.book.Get(a).Name; n != "" {
		return n
	}
	return a.ID().String()
}

// takeSecret takes up the network's secret, which the issuer of our invitation told us.
func (s *peopleService) takeSecret(ctx context.Context, a people.Secret) {
	taken, err := s.secret.set(a.Secret)
	if err != nil {
		s.log.Error("the network's secret that came with an invitation is not kept", "peer", s.shown(a.From), "err", err)
	}
	if !taken {
		return
	}
	if err := s.node.SetSecret(ctx, a.Secret); err != nil && ctx.Err() == nil {
		s.log.Error("the network's secret is not used", "err", err)
		return
	}
	s.log.Info("the network's secret was told", "peer", s.shown(a.From))
	s.core.ProfileChanged(s.moment())
}

var _ overlay.People = (*peopleService)(nil)
