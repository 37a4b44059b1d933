package seal

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// issued are the invitations of one side.
type issued struct {
	keys  map[InvitationID][32]byte
	late  bool // it answers none now
	asked []anode.Address
}

// invites has a side issue one invitation, and returns what a guest has.
func (s *side) invites() (*issued, *Invitation) {
	g := &Invitation{ID: InvitationID{1, 2, 3}, PSK: [32]byte{9, 8, 7}}
	x := &issued{keys: map[InvitationID][32]byte{g.ID: g.PSK}}
	s.local.Invitation = func(from anode.Address, id InvitationID) ([32]byte, Claim) {
		x.asked = append(x.asked, from)
		psk, ok := x.keys[id]
		switch {
		case !ok:
			return psk, Dead
		case x.late:
			return psk, Later
		}
		return psk, Live
	}
	return x, g
}

func (s *side) join(i *Invitation) {
	s.note(s.set.Join(s.w.now, i, 30*time.Second))
	s.tick()
}

// newJoin is a world in which a has an invitation of b's.
func newJoin(t testing.TB, secret [32]byte) (w *world, a, b *side, x *issued, g *Invitation) {
	w, a, b = newWorld(t, 1)
	b.local.PSK = secret
	x, g = b.invites()
	return w, a, b, x, g
}

var secrets = [][32]byte{{}, {0x77}}

// A session by an invitation comes about whether the network has a secret or not, both know
// by which it was made and that the other knows, and nothing can be sent in it by those who ask for the session to send on.
func TestJoin(t *testing.T) {
	for _, secret := range secrets {
		w, a, b, x, g := newJoin(t, secret)
		a.join(g)
		w.run(time.Second)
		p, q := a.set.Invited(w.now), b.set.Invited(w.now)
		if p == nil || q == nil || !sameSession(p, q) || p.Invitation() != g.ID || q.Invitation() != g.ID || !p.heard() || !q.heard() {
			t.Fatalf("sessions %v and %v; a's errors %v, b's %v", p != nil, q != nil, a.errs, b.errs)
		}
		if a.set.Current(w.now) != nil || b.set.Current(w.now) != nil {
			t.Error("one of them is to send data on it")
		}
		if !slices.Equal(x.asked, []anode.Address{address(a)}) {
			t.Errorf("looked up for %v", x.asked)
		}
		if a.keeps != 1 || b.keeps != 1 {
			t.Errorf("%d and %d keepalives", a.keeps, b.keeps)
		}
		ticks := a.ticks + b.ticks
		w.run(keyLife - 2*time.Second)
		if n := a.ticks + b.ticks - ticks; n > 8 || a.hellos != 1 {
			t.Errorf("%d ticks while nothing happens, %d HELLOs", n, a.hellos)
		}
		w.run(3 * time.Second)
		if a.set.Invited(w.now) != nil || !a.set.Empty() || !b.set.Empty() {
			t.Error("it outlives its keys")
		}
	}
}

// With loss the guest's proof gets through, and it learns that.
func TestJoinWithLoss(t *testing.T) {
	for seed := range uint64(100) {
		w, a, b, _, g := newJoin(t, secrets[1])
		w.rand.Uint64()
		for range seed {
			w.rand.Uint64()
		}
		w.loss, w.twice = 0.3, 0.1
		a.join(g)
		w.run(25 * time.Second)
		if p := a.set.Invited(w.now); p == nil || !p.heard() || b.set.Invited(w.now) == nil {
			t.Errorf("seed %d: the guest has a session: %v, the issuer: %v", seed, p != nil, b.set.Invited(w.now) != nil)
		}
	}
}

// Who names an invitation without having its key gets no session by it, and neither is the other
// side believed to have said that there is none.
func TestJoinWithoutTheKey(t *testing.T) {
	for _, secret := range secrets {
		for _, psk := range [][32]byte{{}, {1}, secret} {
			w, a, b, _, g := newJoin(t, secret)
			a.join(&Invitation{g.ID, psk})
			w.run(9 * time.Second)
			if a.set.Invited(w.now) != nil || len(a.set.live) != 0 || len(b.set.live) != 0 {
				t.Errorf("secret %x, key %x: a session", secret[:1], psk[:1])
			}
			if b.set.greatest != (Stamp{}) || a.errs[ErrAuth] == 0 || a.errs[ErrRefused] != 0 {
				t.Errorf("secret %x, key %x: a's errors %v", secret[:1], psk[:1], a.errs)
			}
		}
	}
}

// An invitation's ID with the key of another one, both of them live, is like one without the key.
func TestJoinWithAnothersKey(t *testing.T) {
	for _, secret := range secrets {
		w, a, b, x, g := newJoin(t, secret)
		second := &Invitation{ID: InvitationID{4, 5, 6}, PSK: [32]byte{6, 5, 4}}
		x.keys[second.ID] = second.PSK
		a.join(&Invitation{g.ID, second.PSK})
		w.run(9 * time.Second)
		if len(a.set.live) != 0 || len(b.set.live) != 0 || b.set.greatest != (Stamp{}) || a.errs[ErrAuth] == 0 || a.errs[ErrRefused] != 0 {
			t.Errorf("secret %x: %d and %d sessions, a's errors %v", secret[:1], len(a.set.live), len(b.set.live), a.errs)
		}
		a.join(second)
		w.run(9 * time.Second)
		if p := a.set.Invited(w.now); p == nil || p.Invitation() != second.ID {
			t.Errorf("secret %x: no session by the right one", secret[:1])
		}
	}
}

// Handshake messages in the place of others: each is refused, and changes nothing.
func TestJoinMessagesExchanged(t *testing.T) {
	for _, secret := range secrets {
		w, a, b, x, g := newJoin(t, secret)
		second := &Invitation{ID: InvitationID{4, 5, 6}, PSK: [32]byte{6, 5, 4}}
		x.keys[second.ID] = second.PSK
		c := w.add("c", 3, 7) // another issuer, with the same invitations
		c.local.PSK, c.local.Invitation = secret, b.local.Invitation
		c.set = NewSet(c.local, address(a), 0)
		b.set.SetStanding(true, true) // answered without an invitation too
		a.local.PSK = secret
		w.drop = func(*packet) bool { return true }

		// kinds of handshakes that a begins
		begin := map[string]func() error{
			"first":    func() error { return a.set.Join(w.now, g, 30*time.Second) },
			"second":   func() error { return a.set.Join(w.now, second, 30*time.Second) },
			"ordinary": func() error { return a.set.Want(w.now) },
		}
		hello := func(kind string) []byte {
			a.set.abandon(w.now)
			w.now += 10 * time.Second
			if err := begin[kind](); err != nil {
				t.Fatal(err)
			}
			do, _ := a.set.Tick(w.now)
			if do.Hello == nil {
				t.Fatalf("%s: no HELLO", kind)
			}
			return bytes.Clone(do.Hello.Body)
		}
		for _, of := range []string{"first", "second", "ordinary"} {
			h := hello(of)
			if _, _, err := c.set.OnHello(w.now, 3, h); err == nil || !c.set.Empty() {
				t.Errorf("%s: another issuer takes the HELLO: %v", of, err)
			}
			if _, _, err := a.set.OnHello(w.now, 3, h); err == nil {
				t.Errorf("%s: the guest takes its own HELLO", of)
			}
			reply, _, err := b.set.OnHello(w.now, 3, h)
			if err != nil {
				t.Fatalf("%s: %v", of, err)
			}
			if _, err := b.set.OnWelcome(w.now, 5, reply.Body); err == nil {
				t.Errorf("%s: the issuer takes its own WELCOME", of)
			}
			for _, in := range []string{"first", "second", "ordinary"} {
				hello(in)
				before := a.set.attempt
				if s, err := a.set.OnWelcome(w.now, 5, reply.Body); err == nil || s != nil || errors.Is(err, ErrRefused) || a.set.attempt != before || len(a.set.live) != 0 {
					t.Errorf("secret %x: the answer to the %s handshake as one to the %s: %v", secret[:1], of, in, err)
				}
			}
		}
	}
}

// An invitation that the issuer does not know: a guest with the same secret, or none as the issuer
// has none, has an ordinary session then, and knows. One with another secret knows. A stranger in a
// network with a secret gets no answer.
func TestDeadInvitation(t *testing.T) {
	for _, c := range []struct {
		name           string
		ours, theirs   [32]byte
		trusted        bool
		session, knows bool
	}{
		{"no secrets", [32]byte{}, [32]byte{}, false, true, true},
		{"the guest has a secret", [32]byte{1}, [32]byte{}, false, false, true},
		{"the same secret, added", [32]byte{1}, [32]byte{1}, true, true, true},
		{"the same secret, not added", [32]byte{1}, [32]byte{1}, false, false, false},
		{"the issuer has a secret", [32]byte{}, [32]byte{1}, false, false, false},
		{"the issuer has a secret, added", [32]byte{}, [32]byte{1}, true, false, false},
	} {
		w, a, b, x, g := newJoin(t, c.theirs)
		a.local.PSK = c.ours
		b.set.SetStanding(c.trusted, c.trusted)
		clear(x.keys)
		var welcomes int
		w.drop = func(p *packet) bool {
			if p.msg != nil && p.msg.Type == wire.Welcome {
				welcomes++
			}
			return false
		}
		a.join(g)
		w.run(5 * time.Second)
		s := a.set.Current(w.now)
		if (s != nil) != c.session || s != nil && (!s.Refused() || s.Invited() || !sameSession(s, b.set.Current(w.now))) {
			t.Errorf("%s: a session: %v", c.name, s != nil)
		}
		if knows := s != nil && s.Refused() || a.errs[ErrRefused] > 0; knows != c.knows {
			t.Errorf("%s: it knows: %v", c.name, knows)
		}
		if a.set.Invited(w.now) != nil || b.set.Invited(w.now) != nil {
			t.Errorf("%s: a session by the invitation", c.name)
		}
		if silent := !c.trusted && c.theirs != [32]byte{}; silent != (welcomes == 0) || silent != (b.errs[ErrUninvited] > 0) {
			t.Errorf("%s: %d answers, b's errors %v", c.name, welcomes, b.errs)
		}
	}
}

// A stranger without an invitation gets no answer in a network with a secret, whatever it knows.
func TestUninvited(t *testing.T) {
	w, a, b, _, _ := newJoin(t, secrets[1])
	a.local.PSK = secrets[1]
	w.drop = func(p *packet) bool {
		if p.from == b {
			t.Errorf("b answers with %+v", p.msg)
		}
		return false
	}
	a.say("x")
	w.run(5 * time.Second)
	if b.errs[ErrUninvited] == 0 || !b.set.Empty() {
		t.Errorf("b's errors %v", b.errs)
	}
	b.set.greatest = stampOf(epoch.Add(24 * time.Hour)) // it was in the network once: still nothing, also no STALE
	n := b.errs[ErrUninvited]
	w.run(5 * time.Second)
	if b.errs[ErrUninvited] == n {
		t.Errorf("b's errors %v", b.errs)
	}
}

// An invitation that was asked for too often gets no answer now, and one later.
func TestLaterInvitation(t *testing.T) {
	w, a, b, x, g := newJoin(t, [32]byte{})
	x.late = true
	a.join(g)
	w.run(3 * time.Second)
	if len(a.set.live) != 0 || b.errs[ErrLater] == 0 || a.errs[ErrAuth] != 0 {
		t.Errorf("a's errors %v, b's %v", a.errs, b.errs)
	}
	x.late = false
	w.run(5 * time.Second)
	if a.set.Invited(w.now) == nil {
		t.Error("no session afterwards")
	}
}

// A HELLO that is replayed proves nothing: the session that it makes stays pending, also with an
// issuer that has started anew, and one that was confirmed is not looked up again.
func TestReplayedJoin(t *testing.T) {
	w, a, b, x, g := newJoin(t, secrets[1])
	var hello []byte
	w.drop = func(p *packet) bool {
		if p.msg != nil && p.msg.Type == wire.Hello {
			hello = p.msg.Body
		}
		return false
	}
	a.join(g)
	w.run(2 * time.Second)
	asked := len(x.asked)
	b.set.keep(func(*Session) bool { return false }) // it has ended, whyever
	b.tick()
	if _, _, err := b.set.OnHello(w.now, 3, hello); !errors.Is(err, ErrDuplicate) || len(x.asked) != asked {
		t.Errorf("the issuer says %v, and looked it up %d times", err, len(x.asked)-asked)
	}
	b.restart()
	reply, pending, err := b.set.OnHello(w.now, 3, hello)
	if err != nil || pending == nil || !pending.Invited() {
		t.Fatalf("after a restart: pending %v, %v", pending != nil, err)
	}
	// All that was recorded of the session before says nothing in this one, and the WELCOME
	// is one for another ephemeral key of the issuer's, which only the guest can read.
	if b.set.Invited(w.now) != nil {
		t.Error("the replay is believed")
	}
	if _, err := a.set.OnWelcome(w.now, 5, reply.Body); !errors.Is(err, ErrUnexpected) {
		t.Errorf("the guest says %v", err)
	}
	b.tick()
	w.run(pendingLife + time.Second)
	if !b.set.Empty() {
		t.Error("it stays")
	}
}

// Somebody recorded a join, and has the issuer's private key later. He reads message 1, and which
// invitation it was by; he makes neither message 2 nor any key of the session, whatever he guesses
// the token to be: so he cannot try guesses, and who he lets say that he has it is not believed.
func TestIssuersKeyTellsNoToken(t *testing.T) {
	w, a, b, x, g := newJoin(t, [32]byte{})
	w.record = true
	a.join(g)
	w.run(time.Second)
	var hello, welcome, sealed []byte
	for _, m := range w.wire {
		switch {
		case hello == nil:
			hello = m
		case welcome == nil:
			welcome = m
		case sealed == nil:
			sealed = m
		}
	}
	h, err := ParseHello(hello)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseWelcome(welcome)
	if err != nil {
		t.Fatal(err)
	}
	// With the issuer's key alone: message 1 opens, and says which.
	thief := &Local{Identity: b.local.Identity, PeerID: 5}
	state, err := newHandshake(thief, address(a), false, &[32]byte{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, _, _, err := readMessage(state, h.Noise)
	if err != nil {
		t.Fatal(err)
	}
	said, ok := parseAnnouncement(payload[stampSize:])
	if !ok || said.Invitation != g.ID || bytes.Contains(payload, g.PSK[:8]) {
		t.Fatalf("message 1 says %+v", said)
	}
	// Message 2 depends on an ephemeral key of each side, of which he has neither, so that the right
	// token looks like any other to him.
	for _, guess := range [][32]byte{g.PSK, {}, {1}} {
		if err := state.SetPresharedKey(guess[:]); err != nil {
			t.Fatal(err)
		}
		own, first, second, err := state.WriteMessage(nil, nil) // with an ephemeral key of his own
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(own, m.Noise) {
			t.Error("he makes the same message 2")
		}
		for _, k := range [][32]byte{first.UnsafeKey(), second.UnsafeKey()} {
			s, err := newSession(ends{address(b), address(a), 5, 3, wire.SealedIndex(sealed), h.Index, 1, false, w.now}, false, &k, &k, Announcement{Lanes: 1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(make([]byte, len(sealed)), sealed, int64(w.now)); !errors.Is(err, ErrAuth) {
				t.Errorf("he reads the session: %v", err)
			}
		}
		if state, err = newHandshake(thief, address(a), false, &[32]byte{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err = readMessage(state, h.Noise); err != nil {
			t.Fatal(err)
		}
	}
	// A second guest, who knows the ID from there, and the guest again, played by him: message 1 he
	// can make in anybody's name, since he has the issuer's key. Neither proves a token.
	asked := len(x.asked)
	c := w.add("c", 3, 7)
	c.connectTo(b)
	b.restart()
	c.join(&Invitation{ID: g.ID})
	w.run(5 * time.Second)
	if len(x.asked) == asked || b.set.Invited(w.now) != nil || c.set.Invited(w.now) != nil || b.set.greatest != (Stamp{}) {
		t.Errorf("he is let in, or was not asked: b's errors %v, c's %v", b.errs, c.errs)
	}
}

// connectTo has both send to each other.
func (s *side) connectTo(b *side) {
	s.other, b.other = b, s
	s.restart()
}

// Data waits for the ordinary handshake, which the guest begins only when it knows that the issuer
// has seen its proof. The session by the invitation ends then.
func TestJoinThenOrdinary(t *testing.T) {
	w, a, b, _, g := newJoin(t, [32]byte{})
	lost := 0
	w.drop = func(p *packet) bool {
		if p.sealed != nil && p.from == b && lost < 2 {
			lost++
			return true // the issuer's word that it saw the proof
		}
		return false
	}
	a.join(g)
	w.run(25 * time.Millisecond)
	a.say("data")
	w.run(200 * time.Millisecond)
	if a.hellos != 1 || len(b.got) != 0 {
		t.Errorf("%d HELLOs before the proof is known to be seen, %q", a.hellos, b.got)
	}
	w.run(time.Second)
	if a.hellos != 2 || !slices.Equal(b.got, []string{"data"}) || a.set.Current(w.now) == nil || b.set.Current(w.now) == nil {
		t.Fatalf("%d HELLOs, b got %q", a.hellos, b.got)
	}
	w.run(3 * time.Second)
	if a.set.Invited(w.now) != nil || b.set.Invited(w.now) != nil {
		t.Error("the session by the invitation goes on")
	}
	if a.set.Current(w.now).Invited() || b.set.Current(w.now).Invited() {
		t.Error("data goes by the invitation")
	}
}

// Whoever has a session may join by an invitation beside it, such as after the issuer has lost its state.
func TestJoinBesideSession(t *testing.T) {
	w, a, b, _, g := newJoin(t, [32]byte{})
	a.say("x")
	w.run(time.Second)
	a.join(g)
	w.run(100 * time.Millisecond)
	if a.set.Invited(w.now) == nil || b.set.Invited(w.now) == nil || a.set.Current(w.now) == nil {
		t.Fatal("no session by the invitation")
	}
	a.say("y")
	w.run(time.Second)
	if !slices.Equal(b.got, []string{"x", "y"}) {
		t.Errorf("b got %q", b.got)
	}
}

// Another secret holds for handshakes from now on, also for those under way.
func TestUse(t *testing.T) {
	w, a, b, _, _ := newJoin(t, secrets[1])
	b.set.SetStanding(true, true)
	a.say("x")
	w.run(2 * time.Second)
	if len(b.got) != 0 || a.errs[ErrAuth] == 0 {
		t.Fatalf("b got %q, a's errors %v", b.got, a.errs)
	}
	local := *a.local
	local.PSK = b.local.PSK
	a.local = &local
	a.note(a.set.Use(w.now, a.local))
	a.tick()
	w.run(100 * time.Millisecond)
	if len(b.got) != 1 {
		t.Errorf("b got %q, a's errors %v", b.got, a.errs)
	}
	before := a.set.Current(w.now)
	a.set.SetStanding(true, true)
	w.drop = func(p *packet) bool { return p.from == a }
	b.note(b.set.Renew(w.now))
	b.tick()
	w.run(100 * time.Millisecond)
	if len(a.set.pending) != 1 {
		t.Fatal("no session is pending")
	}
	local.PSK = [32]byte{5}
	a.note(a.set.Use(w.now, &local))
	a.tick()
	if a.set.Current(w.now) != before || a.hellos > 6 {
		t.Error("the session that is up does not stay")
	}
	if len(a.set.pending) != 0 {
		t.Error("one that was begun with the secret before can still be confirmed")
	}
}

// Leave ends the handshake, and a try ends by itself.
func TestLeave(t *testing.T) {
	w, a, _, _, g := newJoin(t, [32]byte{})
	w.drop = func(*packet) bool { return true }
	a.join(g)
	w.run(time.Second)
	a.set.Leave(w.now)
	a.tick()
	if !a.set.Empty() || a.gaveUp != 1 {
		t.Errorf("the set is not empty, gave up %d times", a.gaveUp)
	}
	a.note(a.set.Join(w.now, g, 10*time.Second))
	a.tick()
	w.run(11 * time.Second)
	if hellos := a.hellos; !a.set.Empty() || hellos < 6 || hellos > 9 {
		t.Errorf("%d HELLOs", hellos)
	}
}

// Both begin at the same time, one by an invitation.
func TestJoinCrosses(t *testing.T) {
	for ms := range 60 {
		w, a, b, _, g := newJoin(t, [32]byte{})
		a.join(g)
		w.run(time.Duration(ms) * time.Millisecond)
		b.say("from b")
		w.run(time.Second)
		a.say("from a")
		w.run(3 * time.Second)
		if len(a.got) != 1 || len(b.got) != 1 || !sameSession(a.set.Current(w.now), b.set.Current(w.now)) {
			t.Errorf("%d ms: a got %q, b got %q", ms, a.got, b.got)
		}
	}
}

// A handshake by an invitation byte for byte, in a network with a secret. The figures were also
// worked out with an implementation of Noise that shares no code with this one.
func TestInvitationGolden(t *testing.T) {
	clock := func() time.Time { return time.Unix(1700000000, 123456789) }
	g := &Invitation{ID: InvitationID{0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8}, PSK: [32]byte(bytes.Repeat([]byte{0x88}, 32))}
	la := &Local{Identity: identity(t, 1), PeerID: 3, Rand: &counting{0}, Clock: clock}
	lb := &Local{Identity: identity(t, 2), PeerID: 5, Rand: &counting{100}, Clock: clock, PSK: [32]byte(bytes.Repeat([]byte{0x77}, 32)),
		Invitation: func(anode.Address, InvitationID) ([32]byte, Claim) { return g.PSK, Live }}
	a, b := NewSet(la, lb.Identity.Address(), 0), NewSet(lb, la.Identity.Address(), 0)
	if err := a.Join(1, g, time.Second); err != nil {
		t.Fatal(err)
	}
	do, _ := a.Tick(1)
	welcome, y, err := b.OnHello(2, 3, do.Hello.Body)
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.OnWelcome(3, 5, welcome.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{
		"HELLO, by an invitation":          do.Hello.Body,
		"WELCOME, by an invitation":        welcome.Body,
		"sealed, the proof of a guest":     sealOne(t, x, nil),
		"sealed, the answer to that proof": sealOne(t, y, nil),
	} {
		if want := wireFile(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is %x, want %x", name, got, want)
		}
	}
}
