package peer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/path"
)

// game is a world of two machines, or three of which two have one address, that a fuzzer
// plays.
type game struct {
	*world
	flight  []packet
	said    map[*fake][]string
	costly  int // steps that lead to handshakes, which are slow
	hellos  int // that arrived
	renamed uint8
}

const (
	maxSteps  = 24
	maxFlight = 64
	maxCostly = 2
	maxHellos = 4 // before the quiet time
)

func newGame(t testing.TB) *game {
	g := &game{world: newWorld(t, 1), said: map[*fake][]string{}}
	g.pair()
	g.roads()
	return g
}

// roads has everybody found where it is.
func (g *game) roads() {
	a := g.all[0]
	a.lan = nil
	for _, f := range g.all[1:] {
		a.lan = append(a.lan, path.Way{Endpoint: f.at})
		f.lan = []path.Way{{Endpoint: a.at}}
	}
}

// step does one thing.
func (g *game) step(op, arg byte) {
	f := g.all[int(arg>>6)%len(g.all)]
	arg &= 63
	now := g.now
	switch op % 19 {
	case 0, 1:
		g.speak(f)
	case 2, 3, 4: // deliver one
		if n := len(g.flight); n > 0 {
			k := int(arg) % n
			x := g.flight[k]
			g.flight = slices.Delete(g.flight, k, k+1)
			g.deliver(x)
		}
	case 5, 6: // deliver all that is under way
		flight := g.flight
		g.flight = nil
		for _, x := range flight {
			g.deliver(x)
		}
	case 7: // once more later
		if n := len(g.flight); n > 0 {
			g.deliver(g.flight[int(arg)%n])
		}
	case 8:
		g.flight = nil
	case 9, 10:
		g.now = g.now.Add(time.Millisecond << (arg % 18))
	case 11: // no more than is due
		next := g.now.Add(time.Hour)
		for _, f := range g.all {
			next = min(next, f.p.entry.due)
		}
		g.now = next
	case 12:
		g.restart(f)
	case 13:
		g.rename(f, arg%15+1)
	case 14:
		f.at = ep(arg%8 + 1)
		if arg < 32 {
			g.roads()
		}
	case 15:
		f.p.Decide(now, book.Standing(int(book.Blocked)+int(arg)%(int(book.Added)-int(book.Blocked)+1)), nil)
	case 16:
		if !f.p.blocked() {
			f.p.Came(now, arg&15, direct(arg+10), path.Beacon)
			f.p.Heard(now)
		}
	case 17: // a machine joins, maybe with the peer ID of the other
		if len(g.all) == 2 && g.expensive() {
			g.another(g.all[1], 3, arg%4+1, 0xc3)
			g.roads()
		}
	case 18:
		switch {
		case f.p.blocked():
		case arg < 20:
			f.p.Lost(now, arg&15)
		case arg < 40:
			f.p.LinksChanged(now)
		default:
			f.p.Look(now)
		}
	}
}

func (g *game) speak(f *fake) {
	msg := fmt.Sprint(len(g.said[f]))
	g.said[f] = append(g.said[f], dgram(msg))
	f.say(msg)
}

// expensive reports whether one more step that leads to handshakes may be made.
func (g *game) expensive() bool {
	g.costly++
	return g.costly <= maxCostly
}

// restart has a machine forget everything.
func (g *game) restart(f *fake) {
	if !g.expensive() {
		return
	}
	f.p.Close(g.now, ErrRemoved)
	local := *f.p.env.Local
	local.Instance[1]++
	env := *f.p.env
	env.Local = &local
	standing := f.p.Standing()
	f.p = New(&env, f.p.Address)
	f.p.Decide(g.now, standing, nil)
}

// rename gives a machine another peer ID.
func (g *game) rename(f *fake, id uint8) {
	if !g.expensive() {
		return
	}
	local := *f.p.env.Local
	local.PeerID = id
	f.p.env.Local = &local
	f.p.Reshake(g.now)
}

// deliver gives a packet to whoever is where it goes.
func (g *game) deliver(x packet) {
	for _, f := range g.all {
		if x.typ == wire.Hello {
			if g.hellos++; g.hellos > maxHellos {
				return // lost
			}
		}
		if f.at != x.to || f.p.Address != x.author || f.p.blocked() {
			continue
		}
		f.receive(x)
		if x.typ == wire.Clash && x.session != nil {
			g.renamed++
			g.rename(f, 10+g.renamed%5)
		}
	}
}

// settleAll ticks everybody, and takes what is sent.
func (g *game) settleAll() {
	for _, f := range g.all {
		g.tick(f)
		for _, x := range f.take() {
			x.author = f.local.Identity.Address()
			if len(g.flight) < maxFlight {
				g.flight = append(g.flight, x)
			}
		}
		f.log = nil
		g.check(f)
	}
}

// check verifies what always holds.
func (g *game) check(f *fake) {
	t, p := g.t, f.p
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%v at %v: %s; %v", f.at.Addr, g.now.Duration(), fmt.Sprintf(format, args...), p.all())
	}
	if p.blocked() && (len(p.all()) > 0 || p.Waits() || p.entry.due.Happened()) {
		fail("something goes on with one who is blocked")
	}
	ids := map[uint8]bool{}
	up, live := 0, 0
	for _, m := range p.all() {
		if ids[m.ID()] || (m.ID() == 0) != (m == p.unknown) {
			fail("peer ID %d", m.ID())
		}
		ids[m.ID()] = true
		r := m.line.Route.Load()
		_, way := m.ways.Best()
		current := m.set.Current(g.now.Duration())
		if (r != nil) != (m.state == Up) || r != nil && (!way || r.Session != current || r.PeerID != m.ID()) {
			fail("route %v, session %v, way %v", r, current, way)
		}
		if r != nil {
			up++
		}
		if len(m.sizes.list) > maxSized || len(m.inbound) != len(m.set.Live()) {
			fail("%d sizes, %d sessions to receive on", len(m.sizes.list), len(m.inbound))
		}
		live += len(m.inbound)
	}
	if (p.Route.Load() != nil) != (up > 0) || (p.Machines.Load() != nil) != (up > 1) || (p.State() == Up) != (up > 0) {
		fail("%d are up, and the lanes have %v, %v", up, p.Route.Load(), p.Machines.Load())
	}
	if in := p.Inbound.Load(); (in != nil) != (live > 0) || in != nil && len(*in) != live {
		fail("%d sessions to receive on", live)
	}
	if hops := p.Forward.Load(); hops != nil {
		for k, h := range *hops {
			if !ids[h.PeerID] || slices.ContainsFunc((*hops)[:k], func(o Hop) bool { return o.PeerID == h.PeerID }) {
				fail("forward %v", *hops)
			}
		}
	}
	if len(p.queue.msgs) > queueMessages || p.queue.bytes > queueBytes || up > 0 && p.Waits() {
		fail("%d messages wait", len(p.queue.msgs))
	}
	for _, msg := range g.said[f] {
		n := f.said[msg]
		if f.failed[msg] != nil {
			n++
		}
		if slices.ContainsFunc(p.queue.msgs, func(w Waiting) bool { return string(w.Msg) == msg }) {
			n++
		}
		if n != 1 {
			fail("message %q has %d fates", msg, n)
		}
	}
}

// quiet lets everybody speak without losses, and all have to find each other.
func (g *game) quiet() {
	g.flight, g.hellos = nil, -1000
	for k, f := range g.all { // each where nobody else is
		f.at = ep(byte(k + 1))
	}
	g.roads()
	for _, f := range g.all {
		f.p.Decide(g.now, book.Added, nil)
	}
	for round := 0; round < 12 && !g.rested(); round++ {
		for k, f := range g.all {
			if k != 1 || round > 1 { // both at once would be two handshakes
				g.speak(f)
			}
		}
		for range 4 { // of 250 ms
			for range 5 { // and of no time
				g.settleAll()
				flight := g.flight
				g.flight = nil
				for _, x := range flight {
					g.deliver(x)
				}
			}
			g.settleAll()
			g.now = g.now.Add(250 * time.Millisecond)
		}
	}
	if !g.rested() {
		for _, f := range g.all {
			g.t.Errorf("%v: %v after a quiet time; %v", f.at.Addr, f.p.State(), f.p.all())
		}
	}
}

// rested reports whether all are up, except one of two that share a peer ID.
func (g *game) rested() bool {
	shared := len(g.all) > 2 && g.all[1].p.env.Local.PeerID == g.all[2].p.env.Local.PeerID
	for k, f := range g.all {
		if f.p.State() != Up && (k == 0 || !shared) {
			return false
		}
	}
	return true
}

// FuzzPeers plays with two or three machines: packets are lost, come twice and late, machines
// restart, move, change their peer IDs and block each other.
func FuzzPeers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 5, 0, 5, 0, 5, 0, 5, 0, 9, 10, 5, 0})
	f.Add([]byte{0, 0, 5, 0, 5, 0, 5, 0, 12, 64, 0, 1, 5, 0, 5, 0, 9, 12, 5, 0})
	f.Add([]byte{0, 0, 1, 64, 5, 0, 5, 0, 5, 0, 13, 64, 5, 0, 5, 0, 15, 1, 9, 13, 15, 2})
	f.Add([]byte{17, 2, 0, 64, 0, 128, 5, 0, 5, 0, 5, 0, 5, 0, 13, 130, 5, 0, 5, 0, 5, 0, 9, 10, 0, 0})
	f.Add([]byte{0, 0, 5, 0, 5, 0, 5, 0, 14, 69, 0, 64, 5, 0, 5, 0, 9, 12, 0, 0, 9, 12, 5, 0})
	f.Add([]byte{0, 0, 5, 0, 5, 0, 5, 0, 16, 9, 18, 3, 18, 21, 18, 50, 9, 17, 0, 0, 8, 0, 9, 14, 11, 0})
	f.Add([]byte{0, 0, 5, 0, 5, 0, 5, 0, 17, 1, 0, 128, 5, 0, 5, 0, 5, 0, 5, 0, 9, 10, 5, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		g := newGame(t)
		g.settleAll()
		for n := 0; n+1 < len(steps) && n < 2*maxSteps; n += 2 {
			g.step(steps[n], steps[n+1])
			g.settleAll()
		}
		if len(steps)%2 == 0 { // others cost less
			g.quiet()
		}
	})
}
