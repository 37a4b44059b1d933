package peer

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/path"
)

// two has a meet two machines of b's address, with peer IDs 2 and 3.
func two(t *testing.T) (w *world, a, b, c *fake) {
	w = newWorld(t, 1)
	a, b = w.pair()
	w.meet(a, b)
	c = w.another(b, 3, 3, 0xc3)
	c.p.Offer(w.now, direct(1), path.Stored)
	c.say("here as well")
	w.run(time.Second, nil)
	return w, a, b, c
}

func TestTwoMachines(t *testing.T) {
	w, a, b, c := two(t)
	is(t, "machines", len(a.p.Each()), 2)
	for _, m := range a.p.Each() {
		is(t, "state", m.State(), Up)
		is(t, "endpoint", m.line.Route.Load().Way, direct(m.ID()))
	}
	is(t, "state of c", c.p.State(), Up)
	many := a.p.Machines.Load()
	if many == nil || many.Routes[2] == nil || many.Routes[3] == nil {
		t.Fatalf("machines for the lanes: %v", many)
	}
	is(t, "the default stays", a.p.Route.Load().PeerID, 2)
	is(t, "the one in front was found last", (*a.p.Forward.Load())[0], Hop{3, ep(3)})
	many.Note(1<<20, 3)
	is(t, "a flow's machine", many.Route(1<<20).PeerID, 3)

	for id, f := range map[uint8]*fake{2: b, 3: c} { // answers go to the machine that asked
		f.p.Reply(w.now, ep(1), 1, wire.EPCReq, wire.AppendEPC(nil, 7))
		for _, x := range f.take() {
			a.receive(x)
		}
		is(t, "answers", a.count(wire.EPC), 1)
		is(t, "answer's machine", a.of(wire.EPC)[0].machine, id)
		a.drop()
	}

	c.say("newest") // what is sent without a flow goes to the machine heard last
	w.run(10*time.Millisecond, nil)
	a.say("to c")
	is(t, "machine", a.of(wire.Dgram)[0].machine, 3)
	a.drop()

	gone := func(p *packet) bool { return p.to == b.at || p.from == b.at }
	w.run(4*time.Minute, gone) // both are quiet: keys end
	is(t, "state", a.p.State(), Idle)
	is(t, "machines for the lanes", a.p.Machines.Load(), nil)
	a.say("anybody?")
	w.run(time.Second, gone)
	is(t, "whoever answers", a.p.Route.Load().PeerID, 3)
}

// One machine of two falls silent: the other takes over.
func TestOneOfTwoIsLost(t *testing.T) {
	w, a, b, _ := two(t)
	gone := func(p *packet) bool { return p.to == b.at || p.from == b.at }
	r := a.p.Each()[0].line.Route.Load()
	is(t, "machine", r.PeerID, 2)
	for range 8 {
		r.Session.Sent(int64(w.now))
		if r.Session.Activate() {
			a.p.Tick(w.now)
		}
		w.run(time.Second, gone)
	}
	is(t, "default", a.p.Route.Load().PeerID, 3)
	is(t, "several", a.p.Machines.Load(), nil)
	is(t, "state", a.p.State(), Up)
	w.run(time.Minute, gone)
	is(t, "forward", len(*a.p.Forward.Load()), 1)
	is(t, "forward to", (*a.p.Forward.Load())[0].PeerID, 3)
	w.run(5*time.Minute, gone)
	is(t, "the one that is left is idle", a.p.State(), Idle)
}

// Of two machines that answer checks, one shakes hands: what the other answered at is no
// way to that one.
func TestWaysOfWhoeverAnswers(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.another(b, 3, 3, 0xc3)
	a.p.Offer(w.now, direct(2), path.Static)
	a.p.Offer(w.now, direct(3), path.Static)
	a.say("x")
	w.run(time.Second, func(p *packet) bool { return p.typ == wire.Hello && p.to == b.at })
	r := a.p.Route.Load()
	if r == nil || r.PeerID != 3 || r.Way != direct(3) {
		t.Errorf("route %+v", r)
	}
	to, _ := a.p.Forward.Load().To(3)
	is(t, "forward", to, ep(3))
}

// A machine that shakes hands with us from elsewhere is looked for where whichever
// machine was found.
func TestWaysAreAdopted(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("x")
	w.settle(func(p *packet) bool { return p.typ == wire.Hello })
	b.at = ep(9)
	b.p.Offer(w.now, direct(1), path.Stored)
	b.say("y")
	w.run(time.Second, func(p *packet) bool { return p.from == a.at && p.typ == wire.Hello })
	is(t, "state", a.p.State(), Up)
	is(t, "peer ID", a.p.Each()[0].ID(), 2)
	known := slices.ContainsFunc(a.p.Each()[0].ways.Ways(), func(i path.Info) bool { return i.Way == direct(2) })
	is(t, "the way is known", known, true)
}

// A HELLO that leaves after a COOKIE bears the cookie wherever it goes.
func TestCookie(t *testing.T) {
	w := newWorld(t, 1)
	a, _ := w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("x")
	a.p.Tick(w.now)
	h, err := seal.ParseHello(a.of(wire.Hello)[0].body)
	if err != nil {
		t.Fatal(err)
	}
	a.drop()
	cookie := [16]byte{7}
	if err := a.p.Cookie(w.now, h.Challenge(cookie).Body, ep(2)); err != nil {
		t.Fatal(err)
	}
	h.Index++
	if err := a.p.Cookie(w.now, h.Challenge(cookie).Body, ep(2)); err == nil {
		t.Error("a COOKIE for another HELLO is taken")
	}
	a.p.Offer(w.now, direct(5), path.Stored)
	a.p.Tick(w.now)
	got := a.of(wire.Hello)
	is(t, "HELLOs", len(got), 2)
	is(t, "to", got[1].to, ep(5))
	for _, x := range got {
		h, _ := seal.ParseHello(x.body)
		is(t, "cookie", h.Cookie, cookie)
	}
}

// A WELCOME of a machine that shook hands with us in the meantime.
func TestWelcomeOfKnownMachine(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	b.p.Offer(w.now, direct(1), path.Stored)
	a.say("x")
	b.say("y")
	var late []packet
	w.run(time.Second, func(p *packet) bool {
		if p.typ == wire.Welcome && p.to == a.at {
			late = append(late, *p)
			return true
		}
		return false
	})
	is(t, "state", a.p.State(), Up)
	is(t, "machines", len(a.p.all()), 1)
	before := a.p.Route.Load().Session
	if len(late) == 0 {
		t.Fatal("no WELCOME")
	}
	is(t, "a HELLO that is forgotten is not answered", a.receive(late[0]), false)
	is(t, "session", a.p.Route.Load().Session, before)
	w.run(time.Second, nil)
	is(t, "sets", len(a.p.Each()[0].set.Live()) <= 3, true)

	// The same while the unknown machine's HELLO is still outstanding.
	w = newWorld(t, 2)
	a, b = w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("x")
	a.p.Tick(w.now)
	hello := a.of(wire.Hello)[0]
	a.drop()
	w.now = w.now.Add(20 * time.Millisecond)
	b.receive(hello)
	welcome := b.of(wire.Welcome)[0]
	b.p.Offer(w.now, direct(1), path.Stored)
	b.p.want(w.now, b.p.target(w.now))
	b.p.Tick(w.now)
	a.receive(b.of(wire.Hello)[0])
	b.drop()
	is(t, "both", len(a.p.all()), 2)
	a.p.Tick(w.now) // it checks the way
	is(t, "welcome", a.receive(welcome), true)
	is(t, "one", len(a.p.all()), 1)
	is(t, "sessions", len(a.p.Each()[0].set.Live()), 2)
	best, ok := a.p.Each()[0].ways.Best()
	is(t, "a way", ok, true)
	is(t, "its round trip, as long as the HELLO's", best.RTT, 20*time.Millisecond)
	w.run(2*time.Second, nil)
	is(t, "state", a.p.State(), Up)
	is(t, "state of b", b.p.State(), Up)
}

// A replayed HELLO of a peer ID that nobody has any more makes a machine for a while.
func TestReplayedHello(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	old := w.another(b, 2, 9, 0xb2)
	w.all = w.all[:2]
	old.p.Offer(w.now, direct(1), path.Stored)
	old.say("x")
	old.p.Tick(w.now)
	hello := old.of(wire.Hello)[0]
	w.meet(a, b)
	route := a.p.Route.Load()
	for range 20 {
		hello.from = ep(66)
		a.receive(hello)
		w.run(20*time.Second, nil)
		a.say("still there")
		is(t, "machines at most", len(a.p.all()) <= 2, true)
	}
	w.run(time.Second, nil)
	is(t, "route", a.p.Route.Load().Way, route.Way)
	is(t, "state", a.p.State(), Up)
	w.run(time.Minute, nil)
	is(t, "machines", len(a.p.all()), 1)
	is(t, "forward", len(*a.p.Forward.Load()), 1)
}

// What is not authentic makes no machine.
func TestForgedBeacons(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	for id := range uint8(16) {
		a.p.Came(w.now, id, direct(50+id), path.Beacon)
	}
	is(t, "machines", len(a.p.all()), 1)
}

func TestRestart(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	w.run(10*time.Second, nil)
	b.p = New(&Env{Shell: b, Local: &seal.Local{Identity: b.local.Identity, PeerID: 2, Rand: b.local.Rand, Clock: b.local.Clock,
		Instance: wire.Instance{0xb9}}, Log: b.p.env.Log, Request: b.p.env.Request, Trains: b.p.env.Trains}, b.p.Address)
	b.p.Decide(w.now, 3, nil)
	a.say("who?")
	w.run(2*time.Second, nil)
	is(t, "state", a.p.State(), Up)
	is(t, "state of b", b.p.State(), Up)
	is(t, "machines", len(a.p.all()), 1)
	is(t, "clash", a.changes&ChangedClash, 0)
	is(t, "instance", instance(a.p.Each()[0].set), wire.Instance{0xb9})
}

// A machine that takes another peer ID is one machine, and goes on at once.
func TestPeerIDChanges(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	a.say("x")
	w.run(time.Second, nil)
	local := *b.p.env.Local
	local.PeerID = 7
	b.p.env.Local = &local
	b.p.Reshake(w.now)
	w.run(100*time.Millisecond, nil)
	is(t, "machines", len(a.p.all()), 1)
	is(t, "peer ID", a.p.Route.Load().PeerID, 7)
	is(t, "state", a.p.State(), Up)
	is(t, "state of b", b.p.State(), Up)
	is(t, "forward", len(*a.p.Forward.Load()), 1)
}

// Reshake shakes hands with all machines that are up, and what waits goes on.
func TestReshake(t *testing.T) {
	w, a, b, c := two(t)
	local := *a.p.env.Local
	local.PeerID = 8
	a.p.env.Local = &local
	a.p.Reshake(w.now)
	is(t, "route", a.p.Route.Load(), nil)
	a.say("waits")
	got := 0
	w.run(200*time.Millisecond, func(p *packet) bool {
		if p.typ == wire.Dgram {
			got++
		}
		return false
	})
	is(t, "sent", got, 1)
	is(t, "machines", len(a.p.all()), 2)
	for _, m := range a.p.Each() {
		is(t, "state", m.State(), Up)
	}
	for _, f := range []*fake{b, c} {
		is(t, "peer ID", f.p.Route.Load().PeerID, 8)
		is(t, "machines there", len(f.p.all()), 1)
	}

	w = newWorld(t, 2)
	a, _ = w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("waits")
	w.settle(lost)
	a.p.Reshake(w.now)
	w.run(time.Second, nil)
	is(t, "state", a.p.State(), Up)
	is(t, "answered", len(a.failed), 0)
}

// clashing has a newcomer with the peer ID of b shake hands with a.
func clashing(t *testing.T) (w *world, a, b, c *fake) {
	w = newWorld(t, 1)
	a, b = w.pair()
	w.meet(a, b)
	w.run(10*time.Second, nil)
	c = w.another(b, 3, 2, 0xc3)
	c.p.Offer(w.now, direct(1), path.Stored)
	c.say("x")
	return w, a, b, c
}

func TestClash(t *testing.T) {
	t.Run("the old instance answers", func(t *testing.T) {
		w, a, _, c := clashing(t)
		var told []packet
		w.run(900*time.Millisecond, func(p *packet) bool {
			if p.typ == wire.Clash {
				told = append(told, *p)
			}
			return false
		})
		is(t, "told", len(told), 1)
		is(t, "to", told[0].to, c.at)
		is(t, "instance", wire.Instance(told[0].body), wire.Instance{0xc3})
		is(t, "in its session", c.p.Find(told[0].session.Index(), nil) == nil, true)
		is(t, "noted", a.changes&ChangedClash, ChangedClash)
	})
	t.Run("the old instance is silent", func(t *testing.T) {
		w, a, b, _ := clashing(t)
		n := 0
		w.run(5*time.Second, func(p *packet) bool {
			if p.typ == wire.Clash {
				n++
			}
			return p.from == b.at
		})
		is(t, "told", n, 0)
		is(t, "outstanding", a.p.Each()[0].clash, clash{})
		is(t, "state", a.p.State(), Up)
	})
	for name, change := range map[string]func(w *world, m *Machine, in **Inbound, id *uint32){
		"another question":   func(_ *world, _ *Machine, _ **Inbound, id *uint32) { *id ^= 2 },
		"none":               func(_ *world, _ *Machine, _ **Inbound, id *uint32) { *id = 0 },
		"in another session": func(_ *world, m *Machine, in **Inbound, _ *uint32) { *in = newcomer(m) },
		"newcomer has ended": func(_ *world, m *Machine, _ **Inbound, _ *uint32) { m.clash.newcomer.Erase() },
		"machine is gone":    func(_ *world, _ *Machine, in **Inbound, _ *uint32) { *in = &Inbound{Line: new(Line)} },
		"answer is too late": func(w *world, m *Machine, _ **Inbound, _ *uint32) { m.clash.tick(w.now.Add(clashFor)) },
		"answered before": func(w *world, m *Machine, in **Inbound, id *uint32) {
			m.peer.Answered(w.now, *in, *id)
			m.peer.env.Shell.(*fake).drop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b, _ := clashing(t)
			w.run(20*time.Millisecond, func(p *packet) bool { return p.from == b.at })
			m := a.p.Each()[0]
			if m.clash.id == 0 {
				t.Fatal("nobody was asked")
			}
			var in *Inbound
			for _, x := range m.inbound {
				if x.Session != m.clash.newcomer {
					in = x
				}
			}
			id := m.clash.id
			change(w, m, &in, &id)
			a.drop()
			a.p.Answered(w.now, in, id)
			is(t, "told", a.count(wire.Clash), 0)
		})
	}
}

func newcomer(m *Machine) *Inbound {
	for _, x := range m.inbound {
		if x.Session == m.clash.newcomer {
			return x
		}
	}
	return nil
}

// A packet in a session that nobody has leads to a new one, once a second at most.
func TestUnknownSession(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	w.run(10*time.Second, nil)
	n := 0
	for range 50 {
		a.p.Lost(w.now, 2)
		a.p.Lost(w.now, 9)
		w.run(10*time.Millisecond, func(p *packet) bool {
			if p.typ == wire.Hello {
				n++
			}
			return false
		})
	}
	is(t, "HELLOs", n, 1)
	is(t, "state", a.p.State(), Up)
}

// The endpoints to remember are those of all machines, and do not change with who spoke.
func TestSavedEndpoints(t *testing.T) {
	w, a, b, c := two(t)
	w.run(time.Second, nil)
	before := slices.Clone(a.p.Saved())
	is(t, "endpoints", len(before), 2)
	for range 5 {
		for _, f := range []*fake{c, b} {
			f.say("x")
			a.p.Recheck(w.now)
			w.run(time.Second, nil)
			is(t, "the same", slices.Equal(a.p.Saved(), before), true)
		}
	}
}
