package people

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// introduced makes a world in which f has introduced a and b to each other.
func introduced(t *testing.T, seed uint64) (w *world, f, a, b *party) {
	t.Helper()
	w = newWorld(t, seed, "f", "a", "b")
	f, a, b = w.of("f"), w.of("a"), w.of("b")
	w.befriend(f, a)
	w.befriend(f, b)
	f.introduce(a, b)
	w.pass(5 * time.Second)
	w.states("a", "b", Introduced, "b", "a", Introduced)
	return w, f, a, b
}

func (p *party) introduce(a, b *party) {
	p.w.Helper()
	_, err := p.core.Introduce(p.w.now, a.addr, b.addr, "")
	p.must(err)
}

// Whoever accepts first, whatever is lost, whoever is killed and whether the friend is there: neither side lets the
// other in before both have accepted; then each does, without another click.
func TestBothAccept(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, f, a, b := introduced(t, seed)
			if seed%2 == 0 {
				f.off = true
			}
			w.loss = 0.4 * w.rng.Float64()
			yes := map[*party]bool{}
			pair := [2]*party{a, b}
			if w.rng.IntN(2) == 0 {
				pair = [2]*party{b, a}
			}
			check := func() {
				t.Helper()
				for _, x := range [][2]*party{{a, b}, {b, a}} {
					if x[0].standing(x[1]) == book.Added && (!yes[a] || !yes[b]) {
						t.Fatalf("%s lets %s in; accepted: a %v, b %v", x[0].name, x[1].name, yes[a], yes[b])
					}
				}
			}
			for i, p := range pair {
				o := pair[1-i]
				p.accept(o)
				yes[p] = true
				for range w.rng.IntN(40) * w.rng.IntN(2) { // or at the same time
					w.step()
					check()
					if w.rng.IntN(15) == 0 {
						pair[w.rng.IntN(2)].start()
					}
					if p := pair[w.rng.IntN(2)]; w.rng.IntN(15) == 0 {
						p.off = !p.off
					}
				}
			}
			w.pass(time.Duration(w.rng.IntN(20)) * time.Second)
			check()
			w.loss = 0
			for _, p := range pair {
				p.off = false
				p.start()
			}
			w.pass(2 * time.Minute)
			w.states("a", "b", Friend, "b", "a", Friend)
			for _, p := range pair {
				if n := len(p.core.outbox.sending) + len(p.core.requests.m); n > 0 {
					t.Errorf("%s: %d TELLs or requests are left", p.name, n)
				}
			}
		})
	}
}

// On a good line both are friends as soon as the second accepts, and what is told is one ASK of each, one ACCEPT
// of each at most, and the PROFILEs.
func TestBothAcceptAtOnce(t *testing.T) {
	for name, how := range map[string]func(w *world, a, b *party){
		"at once":           func(w *world, a, b *party) { a.accept(b); b.accept(a) },
		"one after another": func(w *world, a, b *party) { a.accept(b); w.pass(time.Minute); b.accept(a) },
		"a restart":         func(w *world, a, b *party) { a.accept(b); w.pass(time.Minute); a.start(); b.accept(a) },
	} {
		t.Run(name, func(t *testing.T) {
			w, _, a, b := introduced(t, 41)
			how(w, a, b)
			told := map[wire.TellKind]int{}
			for range 5 {
				for _, k := range w.queue {
					if k.tell != nil {
						told[k.tell.Kind]++
					}
				}
				w.step()
			}
			w.states("a", "b", Friend, "b", "a", Friend)
			before := a.tells + b.tells
			w.pass(10 * time.Minute)
			if a.tells+b.tells != before || told[wire.TellAsk] > 2 || told[wire.TellAccept] > 2 || told[wire.TellProfile] > 2 {
				t.Errorf("%v, and %d later", told, a.tells+b.tells-before)
			}
			for _, p := range []*party{a, b} {
				if n := p.count(EventFriend); n != 2 { // f, and the other
					t.Errorf("%s: %d events", p.name, n)
				}
			}
		})
	}
}

// Who said yes can take it back before the other side answers: that one is told, and finds nobody to accept.
func TestYesTakenBack(t *testing.T) {
	for name, back := range map[string]func(w *world, a, b *party){
		"remove": func(w *world, a, b *party) {
			if ok, err := a.core.Withdraw(w.now, b.addr); !ok || err != nil {
				t.Error(ok, err)
			}
			a.act()
		},
		"decline": func(w *world, a, b *party) {
			r, err := a.core.Decline(w.now, b.addr)
			if a.must(err); r.State != Asked || r.As != "b" {
				t.Errorf("%+v", r)
			}
		},
		"block": func(w *world, a, b *party) { a.block(b) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				w, f, a, b := introduced(t, 42)
				w.loss = 0.3
				a.accept(b)
				if b.off = late; !late {
					w.pass(20 * time.Second)
					w.states("b", "a", Asking)
				}
				back(w, a, b)
				w.states("a", "b", map[bool]State{true: Blocked, false: Stranger}[name == "block"])
				a.start()
				w.pass(20 * time.Second)
				b.off, w.loss = false, 0
				w.pass(2 * time.Minute)
				if name != "block" { // who blocks says nothing
					w.states("b", "a", Introduced)
				}
				b.accept(a)
				w.pass(2 * time.Minute)
				if a.standing(b) == book.Added || name != "block" && b.standing(a) == book.Added {
					t.Errorf("late %v: let in after all: %v, %v", late, a.standing(b), b.standing(a))
				}
				switch name {
				case "remove": // it is asked now, and may think again
					w.states("a", "b", Asking, "b", "a", Asked)
					a.accept(b)
					w.pass(20 * time.Second)
					w.states("a", "b", Friend, "b", "a", Friend)
				case "decline":
					w.states("a", "b", Stranger, "b", "a", Asked)
					if v := b.core.Peer(w.now, a.addr); !v.Refused {
						t.Errorf("%+v", v)
					}
					f.introduce(a, b) // a declined it this week
					w.pass(20 * time.Second)
					w.states("a", "b", Stranger)
					w.later(8 * 24 * time.Hour)
					f.introduce(a, b)
					w.pass(20 * time.Second)
					w.states("a", "b", Introduced)
					a.accept(b) // b's yes still holds
					w.pass(20 * time.Second)
					w.states("a", "b", Friend, "b", "a", Friend)
				}
				if name != "block" && len(a.core.outbox.stored.m) > 0 {
					t.Errorf("%d TELLs wait", len(a.core.outbox.stored.m))
				}
			}
		})
	}
	w, _, a, b := introduced(t, 43)
	if ok, err := a.core.Withdraw(w.now, b.addr); ok || err != nil {
		t.Error("there was no yes", ok, err)
	}
	a.accept(b)
	a.core.Withdraw(w.now, b.addr)
	a.act()
	b.off = true
	w.pass(time.Second)
	for _, running := range []bool{true, false} {
		if running {
			w.later(25 * time.Hour)
			tells := a.tells
			w.later(24 * time.Hour)
			a.start()
			w.later(27 * 24 * time.Hour)
			if n := len(a.core.people.m); n != 2 || a.tells != tells {
				t.Errorf("%d records are kept, and %d TELLs sent after a day", n, a.tells-tells)
			}
			w.later(2 * 24 * time.Hour)
		} else {
			a.ask(b, "")
			a.core.Withdraw(w.now, b.addr)
			w.now.Wall = w.now.Wall.Add(31 * 24 * time.Hour)
			a.start()
		}
		if n := len(a.core.people.m); n != 1 || len(a.core.outbox.sending) != 0 { // f
			t.Errorf("%d records are kept", n)
		}
	}
}

// What somebody asks and takes back, again and again, is no way past a bound or a decision.
func TestAskedAndTakenBack(t *testing.T) {
	w, _, a, b := introduced(t, 52)
	c := w.add("c")
	says := func(p *party, n int, kind wire.TellKind) {
		a.core.Heard(w.now, Heard{From: p.addr, Host: p.host, Msg: wire.TellMsg{ID: id(uint64(n)), Kind: kind}})
		a.act()
	}
	writes := 0
	for n := range 100 {
		says(b, 2*n, wire.TellAsk)
		if a.core.requests.m[b.addr.X()].Asked {
			writes++
		}
		says(b, 2*n+1, wire.TellBye)
		w.step()
	}
	if writes != 1 || a.count(EventAsks) != 1 {
		t.Errorf("in 10 s, %d ASKs are listed, with %d events", writes, a.count(EventAsks))
	}
	c.ask(a, "")
	w.pass(time.Second)
	_, err := a.core.Decline(w.now, c.addr)
	a.must(err)
	says(c, 1000, wire.TellBye)
	w.pass(20 * time.Second)
	says(c, 1001, wire.TellAsk)
	w.states("a", "c", Stranger)
	if last := a.told[len(a.told)-1]; last.To != c.addr || last.Msg.Status != wire.TellNotNow {
		t.Errorf("who was declined is told %v", last.Msg.Status)
	}
}

// later has a long time pass, in which all that is due is done.
func (w *world) later(d time.Duration) {
	w.Helper()
	for end := w.now.Wall.Add(d); w.now.Wall.Before(end); {
		next := end.Sub(w.now.Wall)
		for _, p := range w.parties {
			if !p.off { // who is off does nothing, however long it is due
				next = min(next, max(p.core.Next(w.now).Sub(w.now.Mono), 0))
			}
		}
		w.now = Now{w.now.Wall.Add(next), w.now.Mono.Add(next)}
		w.step()
	}
}

// A yes that nobody answers is over after 30 days, with an event; in a daemon that runs, at its next start, and when it
// was refused.
func TestYesIsOver(t *testing.T) {
	for _, how := range []string{"running", "started anew", "refused"} {
		t.Run(how, func(t *testing.T) {
			w, _, a, b := introduced(t, 44)
			if b.off = true; how == "refused" {
				b.off, b.policy = false, FromNobody
			}
			a.accept(b)
			w.pass(time.Minute)
			if how == "refused" { // it is not asked again, at a start or when somebody sets the clock
				asked := len(b.told)
				a.start()
				w.pass(time.Second)
				if len(b.told) != asked {
					t.Error("it is asked again by a start")
				}
				w.now.Wall = w.now.Wall.Add(-3 * 24 * time.Hour)
				w.later(3 * 24 * time.Hour)
			}
			tells := len(b.told)
			w.later(29 * 24 * time.Hour)
			if how == "refused" && len(b.told) != tells {
				t.Error("it is asked again")
			}
			if w.states("a", "b", Asked); a.count(EventUnanswered) != 0 {
				t.Error("over too early")
			}
			if how == "started anew" {
				w.now.Wall = w.now.Wall.Add(25 * time.Hour)
				a.start()
			} else {
				w.later(25 * time.Hour)
			}
			w.states("a", "b", Stranger)
			if e := a.events[len(a.events)-1]; a.count(EventUnanswered) != 1 || e.Kind != EventUnanswered || e.Name != "b" || e.Address != b.addr {
				t.Errorf("%+v", e)
			}
			if len(a.core.people.m) != 1 || len(a.core.outbox.sending) != 0 {
				t.Error("something is kept")
			}
		})
	}
}

// A name that somebody is to get is no other's meanwhile, and one that people gave away since gets a number.
func TestNameOfAsked(t *testing.T) {
	w, _, a, b := introduced(t, 45)
	name, err := a.core.Accept(w.now, b.addr, "south")
	if a.must(err); name != "south" {
		t.Error(name)
	}
	c := w.add("c")
	if err := a.core.Ask(w.now, AskRequest{Address: c.addr, Name: "south"}); !errors.Is(err, book.ErrTaken) {
		t.Error(err)
	}
	_, err = a.book.Add(c.addr, "south", nil, w.now.Wall)
	a.decided(c, err)
	b.accept(a)
	w.pass(20 * time.Second)
	if e := a.book.Get(b.addr); e.Name != "south-2" || a.state(b) != Friend {
		t.Errorf("%+v", e)
	}
}

// A friend who is blocked takes with it those that it introduced, except those that people here accepted.
func TestIntroducerIsBlocked(t *testing.T) {
	w, f, a, b := introduced(t, 46)
	c, d := w.add("c"), w.add("d")
	for _, x := range []*party{c, d} {
		w.befriend(f, x)
		f.introduce(a, x)
	}
	w.pass(5 * time.Second)
	a.accept(b)
	d.accept(a)
	w.pass(20 * time.Second)
	a.block(f)
	w.states("a", "b", Asked, "a", "c", Stranger, "a", "d", Asking)
	a.start()
	w.states("a", "b", Asked, "a", "c", Stranger, "a", "d", Asking)
	b.accept(a)
	w.pass(20 * time.Second)
	w.states("a", "b", Friend, "b", "a", Friend)
}

// Who declined may ask later: the yes of the other side still holds.
func TestDeclinedAndAsked(t *testing.T) {
	w, f, a, b := introduced(t, 47)
	_, err := b.core.Decline(w.now, a.addr)
	b.must(err)
	a.accept(b)
	w.pass(20 * time.Second)
	w.states("a", "b", Asked, "b", "a", Stranger)
	if r := a.core.Requests(w.now); len(r) != 1 || !r[0].Refused {
		t.Errorf("%+v", r)
	}
	f.introduce(a, b) // a waits for an answer, b has given it
	w.pass(20 * time.Second)
	w.states("a", "b", Asked, "b", "a", Stranger)
	b.ask(a, "")
	w.pass(20 * time.Second)
	w.states("a", "b", Friend, "b", "a", Friend)
}

// Somebody who is introduced again, by another friend, after people here said yes is not listed a second time.
func TestIntroducedAgain(t *testing.T) {
	w, _, a, b := introduced(t, 48)
	g := w.add("g")
	w.befriend(g, a)
	w.befriend(g, b)
	b.off = true
	a.accept(b)
	g.introduce(a, b)
	w.pass(20 * time.Second)
	if r := a.core.Requests(w.now); len(r) != 1 || r[0].State != Asked {
		t.Errorf("%+v", r)
	}
	if v := a.core.Peer(w.now, b.addr); len(v.Via) != 2 {
		t.Errorf("%+v", v)
	}
}

// The endpoints that the user gives for an asked machine are kept beside those of the introduction; host names are in the
// book once it is a peer.
func TestAskedAt(t *testing.T) {
	w, _, a, b := introduced(t, 49)
	at := wire.UDP(netip.MustParseAddrPort("192.0.2.7:8737"))
	host := book.Host{Name: "b.example", Port: 8737}
	r := a.core.requests.m[b.addr.X()]
	r.Endpoints = []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("192.0.2.8:8737"))}
	a.core.requests.m[b.addr.X()] = r
	a.must(a.core.Ask(w.now, AskRequest{Address: b.addr, Ways: Ways{Endpoints: []wire.Endpoint{at}, Hosts: []book.Host{host}}}))
	a.start()
	if got := a.known[b.addr]; !slices.Equal(got.Endpoints, []wire.Endpoint{at, r.Endpoints[0]}) || !slices.Equal(got.Hosts, []book.Host{host}) {
		t.Errorf("%+v", got)
	}
	b.accept(a)
	w.pass(20 * time.Second)
	if e := a.book.Get(b.addr); !slices.Equal(e.Hosts, []book.Host{host}) {
		t.Errorf("%+v", e)
	}
	if got := a.known[b.addr]; len(got.Hosts) > 0 || len(got.Endpoints) != 2 {
		t.Errorf("%+v", got)
	}
	five := make([]book.Host, book.MaxHosts+1)
	if err := a.core.Ask(w.now, AskRequest{Address: w.add("c").addr, Ways: Ways{Hosts: five}}); !errors.Is(err, book.ErrEndpoint) {
		t.Error(err)
	}
}

// A peer that people add by hand is on no list any more, and an acceptance that waits counts as none.
func TestIntroducedAndAdded(t *testing.T) {
	w, _, a, b := introduced(t, 50)
	a.addPeer(b)
	if r := a.core.Requests(w.now); len(r) != 0 {
		t.Errorf("%+v", r)
	}
	b.accept(a)
	w.pass(20 * time.Second)
	w.states("a", "b", Friend, "b", "a", Friend)
	w, _, a, b = introduced(t, 51)
	b.off = true
	a.accept(b)
	a.addPeer(b)
	if w.states("a", "b", Approved); len(a.core.Requests(w.now)) != 0 {
		t.Error("it waits still")
	}
	if ok, err := a.core.Withdraw(w.now, b.addr); ok || err != nil {
		t.Error("a peer is none that was asked", ok, err)
	}
}
