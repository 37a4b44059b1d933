package peer

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// moved makes a side reachable at another endpoint alone.
func (f *fake) moved(n byte) { f.at = ep(n) }

func TestForwardFollows(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	is(t, "at first", (*a.p.Forward.Load())[0], Hop{2, ep(2)})
	b.moved(20)
	b.say("from elsewhere")
	w.run(10*time.Millisecond, nil)
	is(t, "moved", (*a.p.Forward.Load())[0], Hop{2, ep(20)})
	is(t, "one", len(*a.p.Forward.Load()), 1)
	w.run(20*time.Second, nil)
	is(t, "the dead one is forgotten", len(slices.Collect(a.p.Direct)), 1)
	b.moved(21)
	for range 20 {
		a.p.Recheck(w.now)
		w.run(time.Second, nil)
	}
	if f := a.p.Forward.Load(); f != nil {
		t.Errorf("packets go to %v, where nobody answers", *f)
	}
	is(t, "no route", a.p.Route.Load(), nil)
}

// via has a reach b through a relay.
func via(t *testing.T) (w *world, a, b *fake, relay anode.Address) {
	w = newWorld(t, 1)
	a, b = w.pair()
	relay = identities()[3].Address()
	// The relay's endpoint is b's here, and what comes from there came by the relay.
	a.relay, b.relay = relay, relay
	a.p.Offer(w.now, path.Way{Endpoint: ep(2), Via: relay}, path.Relay)
	a.say("x")
	w.run(time.Second, nil)
	is(t, "state", a.p.State(), Up)
	is(t, "via", a.p.Route.Load().Way.Via, relay)
	return w, a, b, relay
}

// Whoever is silent behind a relay has the relay checked.
func TestRelayIsChecked(t *testing.T) {
	w, a, _, relay := via(t)
	w.run(10*time.Second, nil)
	a.relays = nil
	a.say("unanswered")
	w.run(4*time.Second, lost)
	if len(a.relays) == 0 || len(a.relays) > 8 || a.relays[0] != relay {
		t.Errorf("%d checks of the relay", len(a.relays))
	}
}

// Data that stops coming has the way checked once a pause.
func TestPauseIsChecked(t *testing.T) {
	w, a, b, _ := via(t)
	w.run(10*time.Second, nil)
	for pause := range 3 {
		a.relays = nil
		for range 10 { // a flow from b, which a need not answer
			b.say("data")
			w.run(100*time.Millisecond, nil)
		}
		is(t, "checks while data comes", len(a.relays), 0)
		w.run(30*time.Second, nil)
		if len(a.relays) != 1 {
			t.Errorf("pause %d: %d checks", pause, len(a.relays))
		}
	}
	a.relays = nil
	w.run(time.Minute, nil)
	is(t, "checks while it is quiet", len(a.relays), 0)
}

// A peer behind a relay is told where we are while data flows.
func TestTell(t *testing.T) {
	w, a, _, _ := via(t)
	a.own = []wire.Endpoint{wire.UDP(ep(1).Addr)}
	n := 0
	count := func(p *packet) bool {
		if p.from == a.at && p.typ == wire.EPI {
			n++
		}
		return false
	}
	for range 31 {
		a.say("flows")
		w.run(time.Second, count)
	}
	is(t, "told", n, 2)
	a.p.LinksChanged(w.now)
	w.run(time.Second, count)
	is(t, "told after a change", n, 3)
	w.run(time.Minute, count)
	is(t, "told while quiet", n, 3)
}

// An endpoint that a session's packet proposed gets few sealed questions and nothing else.
func TestRoamedIsAskedSealed(t *testing.T) {
	for name, hello := range map[string]bool{"quiet": false, "shaking hands": true} {
		w := newWorld(t, 1)
		a, b := w.pair()
		w.meet(a, b)
		w.run(5*time.Second, nil)
		if hello {
			if err := a.p.Each()[0].set.OnUnknown(w.now.Duration()); err != nil {
				t.Fatal(err)
			}
			w.run(10*time.Millisecond, func(p *packet) bool { return p.from == b.at })
		}
		in := (*a.p.Inbound.Load())[0]
		a.p.Roamed(w.now, in, direct(66))
		questions := 0
		w.run(20*time.Second, func(p *packet) bool { return p.from == b.at })
		for _, p := range a.log {
			if p.to != ep(66) {
				continue
			}
			if questions++; p.session == nil || p.typ != wire.EPCReq {
				t.Errorf("%s: %v to a proposed endpoint, sealed %v", name, p.typ, p.session != nil)
			}
		}
		if questions == 0 || questions > maxProposed {
			t.Errorf("%s: %d questions", name, questions)
		}
	}
}

// A stranger that nobody here wants gets one question and no probes.
func TestStranger(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	a.p.Decide(w.now, book.Stranger, nil)
	a.p.Came(w.now, 2, direct(2), path.Heard)
	w.run(time.Minute, lost)
	is(t, "packets", len(a.log), 1)
	is(t, "of them questions", a.log[0].typ, wire.EPCReq)
	is(t, "full address", a.log[0].full, true)

	a.log = nil
	b.p.Offer(w.now, direct(1), path.Stored)
	b.say("x")
	w.run(5*time.Second, nil)
	is(t, "state", a.p.State(), Up)
	a.say("y")
	w.run(5*time.Second, nil)
	probes := 0
	for _, p := range a.log {
		if p.typ == wire.Probe {
			probes++
		}
	}
	is(t, "probes of a stranger", probes, 0)
	if a.p.MAC.Load() != nil {
		t.Error("the lanes hold a stranger's key")
	}
}

// Probes of the path's size leave alone.
func TestProbesLeaveAlone(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	w.run(5*time.Second, nil)
	probes := 0
	for _, p := range a.log {
		if p.typ == wire.Probe {
			probes++
			is(t, "count", p.count, 1)
			is(t, "session", p.session != nil, true)
		}
	}
	if probes == 0 {
		t.Error("no probes")
	}
	is(t, "datagram", a.p.Route.Load().Datagram, 1400)
}

// While nothing goes on, nothing is due; a link event has the ways checked once.
func TestQuiet(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	w.run(10*time.Second, nil)
	a.log, b.log = nil, nil
	w.run(2*time.Minute, nil)
	is(t, "packets while quiet", len(a.log)+len(b.log), 0)
	w.run(time.Minute+time.Second, nil)
	for _, f := range w.all {
		if f.p.entry.due.Happened() {
			t.Errorf("due in %v with neither session nor traffic", f.p.entry.due.Sub(w.now))
		}
	}
	a.p.LinksChanged(w.now)
	w.run(time.Minute, nil)
	questions := 0
	for _, p := range a.log {
		if p.typ == wire.EPCReq {
			questions++
		}
	}
	is(t, "questions after a link event", questions, 1)
}

// A relay is reached by UDP again at the end of a trial, at which nothing comes: whoever follows its
// ways is told then.
func TestEndOfTrialIsTold(t *testing.T) {
	w := newWorld(t, 1)
	ids := identities()
	a := w.side(ids[0], ids[1].Address(), 1, 1, 0xa1)
	a.p.Decide(w.now, book.Relay, nil)
	udp, tcp := path.Way{Endpoint: ep(2)}, path.Way{Endpoint: ep(2)}
	tcp.Endpoint.Kind = link.TCP
	byTCP := func(x *packet) bool { return x.to == udp.Endpoint || x.from == udp.Endpoint }
	for _, x := range []path.Way{udp, tcp} {
		w.side(ids[1], ids[0].Address(), 2, 2, 0xb2).at = x.Endpoint
	}
	a.p.Offer(w.now, tcp, path.Stored)
	a.p.Offer(w.now, udp, path.Stored)
	uses := func() link.Kind {
		best, ok := a.p.Best()
		if !ok {
			t.Fatal("there is no way")
		}
		return best.Endpoint.Kind
	}
	w.run(10*time.Second, byTCP)
	is(t, "without UDP", uses(), link.TCP)
	for began := w.now; uses() != link.UDP; {
		a.changes = 0
		a.p.Carries(w.now)
		w.run(10*time.Millisecond, nil)
		if w.now.Sub(began) > 15*time.Second {
			t.Fatal("UDP is not used")
		}
	}
	is(t, "told of the change", a.changes&ChangedWays, ChangedWays)
}
