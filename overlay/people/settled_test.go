package people

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

const day = 24 * time.Hour

// meets has a session come up between two parties, where there was none for a while.
func (p *party) meets(o *party) {
	for _, pair := range [][2]*party{{p, o}, {o, p}} {
		delete(pair[0].sessions, pair[1].addr)
	}
	p.meet(o)
}

// nothing checks that two parties keep nothing of each other.
func (w *world) nothing(a, b *party) {
	w.Helper()
	for _, pair := range [][2]*party{{a, b}, {b, a}} {
		p, o := pair[0], pair[1]
		_, person := p.core.people.m[o.addr.X()]
		_, request := p.core.requests.m[o.addr.X()]
		_, ring := p.core.seen.rings[o.addr.X()]
		tells := p.core.outbox.has(o.addr.X(), func(*outgoing) bool { return true })
		if owed, _ := p.core.Owed(); person || request || ring || tells || owed[o.addr] || p.standing(o) != book.Stranger {
			w.Errorf("%s keeps something of %s: %v, %v, %v, %v, %v, %v", p.name, o.name, person, request, ring, tells, owed[o.addr], p.standing(o))
		}
	}
}

// trouble has packets lost, and one of two parties killed, for a while.
func (w *world) trouble(a, b *party) {
	w.loss = 0.3
	for range 20 {
		w.step()
		if w.rng.IntN(8) == 0 {
			[]*party{a, b}[w.rng.IntN(2)].start()
		}
	}
	w.loss = 0
}

// Somebody asks and withdraws that while the other side is away, for however long. If that one accepts, it
// learns when the two meet that there is nothing to accept, once, and lets nobody in any more.
func TestWithdrawnWhileAway(t *testing.T) {
	for seed := range uint64(20) {
		for _, away := range []time.Duration{time.Hour, 3 * day, 29 * day} {
			for _, introduced := range []bool{false, true} {
				t.Run(fmt.Sprint(seed, away, introduced), func(t *testing.T) {
					w, a, b := newWorld(t, seed, "f", "a", "b"), (*party)(nil), (*party)(nil)
					f := w.of("f")
					a, b = w.of("a"), w.of("b")
					w.befriend(f, a)
					w.befriend(f, b)
					if introduced {
						f.introduce(a, b)
						w.pass(5 * time.Second)
						a.accept(b)
					} else {
						a.ask(b, "")
					}
					w.pass(20 * time.Second)
					w.states("b", "a", Asking)
					b.off = true
					if ok, err := a.core.Withdraw(w.now, b.addr); !ok || err != nil {
						t.Fatal(ok, err)
					}
					a.act()
					a.off = seed%2 == 0 // and comes back later
					w.later(away)
					a.off = away > day // or else it says so itself
					b.off = false
					b.accept(a)
					if w.states("b", "a", Friend); seed%3 == 0 {
						w.later(2 * day)
					}
					a.off = false
					w.trouble(a, b)
					b.meets(a)
					w.trouble(a, b)
					b.meets(a)
					w.pass(2 * time.Minute)
					if w.states("a", "b", Stranger); b.count(EventWithdrawn) != 1 || b.count(EventLeft)+b.count(EventRefused) != 0 {
						t.Errorf("%+v", b.events)
					}
					if b.book.Removed(a.addr, w.now.Wall) {
						t.Error("it counts as removed by people")
					}
					if introduced {
						w.states("b", "a", Introduced)
						b.accept(a) // and thinks again
						w.pass(20 * time.Second)
						w.states("a", "b", Asking, "b", "a", Asked)
						return
					}
					w.nothing(a, b)
					a.ask(b, "") // again
					w.pass(20 * time.Second)
					b.accept(a)
					w.pass(20 * time.Second)
					w.states("a", "b", Friend, "b", "a", Friend)
				})
			}
		}
	}
}

// An ASK ends by itself while the other side has it on its list: it was away at first.
func TestExpiredWhileAway(t *testing.T) {
	w := newWorld(t, 60, "a", "b")
	a, b := w.of("a"), w.of("b")
	b.off = true
	a.ask(b, "")
	w.later(10 * day)
	b.off = false
	w.later(2 * time.Hour)
	w.states("a", "b", Asked, "b", "a", Asking)
	b.off = true
	w.later(25 * day)
	w.states("a", "b", Stranger)
	b.off = false
	b.accept(a)
	w.pass(2 * time.Minute)
	w.nothing(a, b)
	if b.count(EventWithdrawn) != 1 {
		t.Errorf("%+v", b.events)
	}
}

// A friend is removed while it is away: it is told when the two meet, within 30 days, or else when it has something
// to say. What it may do here its people decide.
func TestRemovedWhileAway(t *testing.T) {
	for _, away := range []time.Duration{time.Hour, 3 * day, 40 * day} {
		w := newWorld(t, 61, "a", "b")
		a, b := w.of("a"), w.of("b")
		w.befriend(a, b)
		b.off = true
		a.remove(b)
		w.later(away)
		before := a.tells
		w.later(day)
		if away > day && a.tells != before {
			t.Errorf("%d TELLs to somebody who is away for %v", a.tells-before, away)
		}
		a.start()
		b.off = false
		if b.meets(a); away > outboxFor {
			w.pass(time.Minute)
			b.services = []Service{{Name: "web", Port: 80, Proto: 6}}
			b.core.ProfileChanged(w.now)
			b.act()
		}
		w.pass(2 * time.Minute)
		w.states("a", "b", Stranger, "b", "a", Approved)
		if v := b.core.Peer(w.now, a.addr); !v.Left || b.count(EventLeft) != 1 || b.count(EventRefused) != 0 {
			t.Errorf("away for %v: %+v, %+v", away, v, b.events)
		}
		b.remove(a)
		w.pass(time.Minute)
		w.nothing(a, b)
	}
}

// Devices of one person are told as well, after days, that one of them removed a peer that it had brought.
func TestRemovedWhileDeviceIsAway(t *testing.T) {
	w := newWorld(t, 62, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	b.join(a.invite(Invite{Mine: true}), true)
	w.pass(20 * time.Second)
	c.join(a.invite(Invite{Mine: true}), true)
	w.pass(time.Minute)
	w.states("b", "c", Friend)
	b.off = true
	a.remove(c)
	w.later(3 * day)
	b.off = false
	w.loss = 1
	a.meets(b)
	w.pass(time.Minute)
	w.loss = 0
	a.meets(b)
	w.pass(time.Minute)
	if b.standing(c) == book.Added {
		t.Error("it stays where it was brought")
	}
	w.states("c", "a", Approved, "c", "b", Approved) // it knows that neither lets it in
}

// A friend who was removed while it was away is let in again, in whatever way, and removed again, before it learns of
// either: it is told then.
func TestRemovedTwiceWhileAway(t *testing.T) {
	for i, again := range []func(a, b *party, l invite.Link){
		func(a, b *party, _ invite.Link) { a.addPeer(b) },
		func(a, _ *party, l invite.Link) { a.join(l, false) },
		func(a, b *party, _ invite.Link) { a.ask(b, "") },
	} {
		w := newWorld(t, 64, "a", "b")
		a, b := w.of("a"), w.of("b")
		w.befriend(a, b)
		l := b.invite(Invite{})
		b.off = true
		a.remove(b)
		w.pass(time.Minute)
		again(a, b, l)
		w.pass(time.Minute)
		a.start()
		if ok, err := a.core.Withdraw(w.now, b.addr); !ok {
			a.must(err)
			a.remove(b)
		}
		w.later(2 * day)
		b.off = false
		a.meets(b)
		w.pass(2 * time.Minute)
		w.states("a", "b", Stranger, "b", "a", Approved)
		if b.count(EventLeft) != 1 {
			t.Errorf("%d: %+v", i, b.events)
		}
	}
}

// The same, of a peer that a device of ours brings and takes away.
func TestTakenTwiceWhileAway(t *testing.T) {
	w := newWorld(t, 66, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	c.join(a.invite(Invite{Mine: true}), true)
	w.pass(20 * time.Second)
	tell := func(kind wire.TellKind, body []byte) {
		x := c.core.begun(w.now)
		c.core.outbox.post(x, a.addr, kind, body)
		c.must(x.commit())
		w.pass(20 * time.Second)
	}
	bring, take := intro{Address: b.addr, Name: "b", Mine: true}.body(), bye{Remove: b.addr}.body()
	tell(wire.TellIntro, bring)
	b.addPeer(a)
	w.pass(20 * time.Second)
	w.states("a", "b", Friend, "b", "a", Friend)
	b.off = true
	tell(wire.TellBye, take)
	tell(wire.TellIntro, bring)
	tell(wire.TellBye, take)
	w.later(2 * day)
	b.off = false
	a.meets(b)
	w.pass(time.Minute)
	w.states("a", "b", Stranger, "b", "a", Approved)
}

// What somebody said before a BYE comes after it, as packets do: it changes nothing, and what is said again later does.
func TestLateNews(t *testing.T) {
	for _, friends := range []bool{true, false} {
		w := newWorld(t, 67, "a", "b")
		a, b := w.of("a"), w.of("b")
		old := map[wire.TellKind][]byte{wire.TellAsk: ask{Name: "a"}.body()}
		if friends {
			w.befriend(a, b)
			old[wire.TellAccept], old[wire.TellProfile] = accept{"b"}.body(), profile{Name: "a"}.body()
			a.remove(b)
		} else {
			a.ask(b, "")
			w.pass(20 * time.Second)
			if ok, err := a.core.Withdraw(w.now, b.addr); !ok || err != nil {
				t.Fatal(err)
			}
			a.act()
		}
		w.step()
		w.step()
		for kind, body := range old {
			b.core.Heard(w.now, Heard{From: a.addr, Host: a.host, Msg: wire.TellMsg{ID: id(uint64(kind)), Kind: kind, Body: body}})
			b.act()
		}
		w.pass(20 * time.Second)
		if friends {
			w.states("b", "a", Approved)
		} else {
			w.states("b", "a", Stranger)
		}
		a.ask(b, "")
		w.pass(20 * time.Second)
		if friends {
			w.states("a", "b", Friend, "b", "a", Friend)
		} else {
			w.states("b", "a", Asking)
		}
	}
}

// Who asks one that removed it before, or refused it, is asking, also after a restart.
func TestAskAfterNo(t *testing.T) {
	for _, no := range []string{"removed", "refused"} {
		for _, again := range []func(a, b *party, l invite.Link){
			func(a, b *party, _ invite.Link) { b.ask(a, "") },
			func(_, b *party, l invite.Link) { b.join(l, false) },
		} {
			w := newWorld(t, 68, "a", "b")
			a, b := w.of("a"), w.of("b")
			l := a.invite(Invite{Uses: 2})
			if no == "removed" {
				w.befriend(a, b)
				a.remove(b)
			} else {
				a.policy = FromNobody
				b.addPeer(a)
			}
			w.pass(5 * time.Second)
			w.states("b", "a", Approved)
			a.policy, a.off = FromAll, true
			again(a, b, l)
			w.pass(time.Minute)
			b.start()
			if p := b.core.Peer(w.now, a.addr); p.Left || p.Refused {
				t.Errorf("after it was %s: %+v", no, p)
			}
			if b.core.joins.m[a.addr.X()].State == JoinTrying { // the invitation is over when a is back
				w.later(2 * day)
				b.start()
			}
			a.off = false
			w.pass(20 * time.Second)
			if s := a.state(b); s != Asking && s != Friend {
				t.Errorf("after it was %s: a of b is %s", no, s)
			}
		}
	}
}

// A machine that lost what it knew is no friend any more, whatever a friend tells it first.
func TestFriendLostAll(t *testing.T) {
	for _, first := range []string{"profile", "introduction"} {
		w := newWorld(t, 65, "a", "b", "c")
		a, b, c := w.of("a"), w.of("b"), w.of("c")
		w.befriend(a, b)
		w.befriend(a, c)
		b.store = &book.Memory{}
		b.start()
		w.pass(time.Minute)
		if first == "profile" {
			a.services = []Service{{Name: "web", Port: 80, Proto: 6}}
			a.core.ProfileChanged(w.now)
		} else if _, err := a.core.Introduce(w.now, b.addr, c.addr, ""); err != nil {
			t.Error(err)
		}
		a.act()
		w.pass(time.Minute)
		if w.states("a", "b", Approved, "a", "c", Friend); a.count(EventLeft) != 1 {
			t.Errorf("%s: %+v", first, a.events)
		}
	}
}

// Who blocks says nothing. After that is over, a late acceptance of what was asked before counts for nothing.
func TestBlockedWhileAway(t *testing.T) {
	w := newWorld(t, 63, "a", "b")
	a, b := w.of("a"), w.of("b")
	a.ask(b, "")
	w.pass(20 * time.Second)
	b.off = true
	a.block(b)
	w.later(3 * day)
	b.off = false
	tells := len(a.told) + a.tells
	b.accept(a)
	w.later(day)
	if w.states("a", "b", Blocked, "b", "a", Friend); len(a.told)+a.tells != tells {
		t.Error("who is blocked is told something")
	}
	_, err := a.book.Unblock(b.addr)
	a.decided(b, err)
	b.meets(a)
	w.pass(2 * time.Minute)
	w.nothing(a, b)
}

// Who asked is away while the other side declines: it learns that when it asks again.
func TestDeclinedWhileAway(t *testing.T) {
	w := newWorld(t, 64, "a", "b")
	a, b := w.of("a"), w.of("b")
	a.ask(b, "")
	w.pass(20 * time.Second)
	a.off = true
	_, err := b.core.Decline(w.now, a.addr)
	b.must(err)
	w.later(3 * day)
	a.off = false
	a.start()
	w.pass(time.Minute)
	w.states("a", "b", Asked, "b", "a", Stranger)
	if v := a.core.Peer(w.now, b.addr); !v.Refused {
		t.Errorf("%+v", v)
	}
}

// A peer that people here added themselves or call a device of theirs, or that has answered, stays let in: it has left,
// no more.
func TestNotTakenOut(t *testing.T) {
	for name, let := range map[string]func(w *world, a, b *party){
		"added":  func(w *world, a, b *party) { b.addPeer(a) },
		"device": func(w *world, a, b *party) { b.accept(a); b.must(b.core.SetMine(w.now, a.addr, true)) },
		"told alone": func(w *world, a, b *party) {
			b.accept(a)
			for k, o := range b.core.outbox.sending {
				if o.Kind == wire.TellAccept {
					b.core.Told(w.now, a.addr, wire.ToldMsg{ID: k.id})
				}
			}
		},
		"told": func(w *world, a, b *party) { a.start(); b.accept(a); w.pass(20 * time.Second); a.remove(b) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 65, "a", "b")
			a, b := w.of("a"), w.of("b")
			a.ask(b, "")
			w.pass(20 * time.Second)
			if name != "told" {
				b.off = true
				a.core.Withdraw(w.now, b.addr)
				a.act()
				w.later(3 * day)
				b.off = false
			}
			let(w, a, b)
			b.meets(a)
			w.pass(2 * time.Minute)
			w.states("b", "a", Approved, "a", "b", Stranger)
			if b.count(EventWithdrawn) != 0 || b.count(EventLeft) != 1 {
				t.Errorf("%+v", b.events)
			}
		})
	}
}

// Many BYEs that nobody takes leave room for what else is said.
func TestManyOwed(t *testing.T) {
	w := newWorld(t, 66, "a", "b")
	a, b := w.of("a"), w.of("b")
	for range 2 * outboxTotal {
		o := fakeAddress()
		a.must(a.core.Ask(w.now, AskRequest{Address: o}))
		if ok, err := a.core.Withdraw(w.now, o); !ok || err != nil {
			t.Fatal(ok, err)
		}
		a.act()
		w.now.Wall = w.now.Wall.Add(3 * time.Minute)
	}
	if n := len(a.core.outbox.stored.m); n != outboxTotal {
		t.Fatalf("%d TELLs wait", n)
	}
	w.now.Wall = w.now.Wall.Add(2 * day)
	a.start()
	if tells := slices.DeleteFunc(a.core.Take(), func(x Action) bool { _, is := x.(Tell); return !is }); len(tells) > 0 {
		t.Errorf("%d TELLs at a start", len(tells))
	}
	w.befriend(a, b)
	if n := len(a.core.outbox.stored.m); n > outboxTotal || a.core.Counters().OutboxFull > outboxTotal {
		t.Errorf("%d TELLs wait, %d had no room", n, a.core.Counters().OutboxFull)
	}
	a.core.Heard(w.now, Heard{From: b.addr, Msg: wire.TellMsg{ID: id(1), Kind: wire.TellAsk}})
	if a.act(); !a.core.outbox.has(b.addr.X(), func(o *outgoing) bool { return o.Kind == wire.TellAccept }) {
		t.Error("there is no room for an ACCEPT")
	}
}

// A friend who was blocked is told nothing, and learns that it was removed once it is a stranger again: at once, or when it
// comes. If it is let in again instead, the two are friends.
func TestFriendBlockedForAWhile(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, added := range []bool{false, true} {
			w := newWorld(t, 69, "a", "b")
			a, b := w.of("a"), w.of("b")
			w.befriend(a, b)
			if !added {
				a.book.Remove(b.addr, w.now.Wall) // and people here are not asked what that means before it is blocked
			}
			tells := a.tells
			a.block(b)
			w.later(3 * day)
			if restart {
				a.start()
			}
			if w.states("a", "b", Blocked, "b", "a", Friend); a.tells != tells {
				t.Error("who is blocked is told something")
			}
			a.unblock(b)
			w.pass(time.Minute)
			if added {
				w.states("a", "b", Friend, "b", "a", Friend)
				a.remove(b)
				w.pass(time.Minute)
			}
			if w.states("a", "b", Stranger, "b", "a", Approved); b.count(EventLeft) != 1 {
				t.Errorf("%+v", b.events)
			}
			b.remove(a)
			w.pass(time.Minute)
			w.nothing(a, b)
		}
	}
}

// Who says BYE often takes nobody else's place among those who said it just now.
func TestManyByes(t *testing.T) {
	w := newWorld(t, 70, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	w.befriend(a, b)
	w.befriend(a, c)
	b.remove(a)
	w.step()
	for n := range uint64(2 * byesMax) {
		a.core.Heard(w.now, Heard{From: c.addr, Msg: wire.TellMsg{ID: id(n), Kind: wire.TellBye, Body: bye{}.body()}})
	}
	a.core.Heard(w.now, Heard{From: b.addr, Msg: wire.TellMsg{ID: id(1), Kind: wire.TellProfile, Body: profile{Name: "b"}.body()}})
	a.act()
	w.states("a", "b", Approved, "a", "c", Approved)
	if n := len(a.core.byes); n != 2 {
		t.Errorf("%d are kept", n)
	}
}

// Who takes an issuer for a friend and lost its secret may use its link again: it is in, or learns that it was removed.
func TestSecretLost(t *testing.T) {
	for _, removed := range []bool{false, true} {
		w := newWorld(t, 71, "a", "b")
		a, b := w.of("a"), w.of("b")
		a.secret = [32]byte{1}
		l := a.invite(Invite{})
		b.join(l, false)
		w.pass(20 * time.Second)
		w.states("a", "b", Friend, "b", "a", Friend)
		if b.join(l, false).State != JoinDone || b.secret != a.secret {
			t.Error("it has no secret")
		}
		b.off = true
		if removed {
			a.remove(b)
		}
		w.pass(20 * time.Second)
		b.off, b.secret = false, [32]byte{}
		b.start()
		if j := b.join(l, false); j.State != JoinTrying {
			t.Errorf("%+v", j)
		}
		w.pass(20 * time.Second)
		j := b.join(l, false)
		if removed {
			if w.states("a", "b", Asking, "b", "a", Approved); !j.Failed || j.Why != Removed {
				t.Errorf("%+v", j)
			}
			continue
		}
		if w.states("a", "b", Friend, "b", "a", Friend); j.State != JoinDone || b.secret != a.secret {
			t.Errorf("%+v", j)
		}
	}
}

// A guest that was late with one link and comes with another is not told any more that the first was used.
func TestLateThenIn(t *testing.T) {
	w := newWorld(t, 72, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	used, next := a.invite(Invite{}), a.invite(Invite{})
	c.join(used, false)
	w.pass(5 * time.Second)
	w.loss = 1
	for _, l := range []invite.Link{used, next} {
		id, _ := l.Token.Keys(a.addr)
		a.core.Up(w.now, Up{Address: b.addr, Invitation: id, Issued: true})
		a.act()
		w.pass(time.Second)
	}
	if a.core.outbox.has(b.addr.X(), func(o *outgoing) bool { return o.once }) {
		t.Error("who is let in is told that it is not")
	}
}
