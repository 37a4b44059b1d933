package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/vnet"
)

// strict gives the adapter of a node a policy: it refuses what is not trusted, and knows
// what needs to be let in.
func (n *testNode) strict() *testNode {
	n.dev.mu.Lock()
	defer n.dev.mu.Unlock()
	n.dev.strictly = true
	return n
}

// prohibited counts the messages to a peer that were answered by "prohibited".
func (n *testNode) prohibited(to *testNode) (count int) {
	for _, e := range n.dev.answers() {
		if e.what == "prohibited" && e.to == to.address0().ULA() {
			count++
		}
	}
	return count
}

// reason checks the reason of a peer in the status.
func (n *testNode) reason(of *testNode, want Reason) {
	n.t.Helper()
	if p := n.peer(of); p.Reason != want {
		n.t.Errorf("%s about %s: reason %q (%s), want %q; state %s", n.host.Name(), of.host.Name(), p.Reason, p.ReasonAt, want, p.State)
	}
}

// pingFails checks the reason of a ping that fails.
func (n *testNode) pingFails(to *testNode, timeout time.Duration, want Reason) {
	n.t.Helper()
	_, err := n.ping(to, timeout)
	var x *UnreachableError
	if !errors.As(err, &x) || x.Reason != want || !errors.Is(err, ErrUnreachable) {
		n.t.Errorf("%s pings %s: %v, want reason %q", n.host.Name(), to.host.Name(), err, want)
	}
}

// two makes two nodes on a LAN, of which a has added b.
func two(t *testing.T, w *vnet.World, change func(a, b *Config)) (a, b *testNode, s *vnet.Segment) {
	t.Helper()
	a, b = newTestNode(t, w.Host("a"), nil), newTestNode(t, w.Host("b"), nil)
	if change != nil {
		change(&a.cfg.Config, &b.cfg.Config)
	}
	a.cfg.Peers = []Peer{{Address: b.address0(), Name: "b"}}
	s = lan(w, "lan", 0, a.host, b.host)
	a.start().strict()
	b.start().strict()
	return a, b, s
}

// A peer that has not added us says so at once, on both sides. Programs are answered, pings
// pass, and when it adds us everything flows; when it removes us, nothing hangs.
func TestNotAddedThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := two(t, w, nil)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "one")
		settle(100 * time.Millisecond)
		if n := a.prohibited(b); n != 1 {
			t.Errorf("%d errors for the first packet, want 1", n)
		}
		a.say(b, "two")
		settle(100 * time.Millisecond)
		if n := a.prohibited(b); n != 2 {
			t.Errorf("%d errors for two packets, want 2", n)
		}
		a.reason(b, ReasonNotAddedThere)
		b.reason(a, ReasonNotAddedHere)
		if _, err := a.ping(b, time.Second); err != nil {
			t.Errorf("ping: %v", err)
		}
		change := func(added bool) {
			t.Helper()
			var err error
			if added {
				_, err = b.AddPeer(t.Context(), Peer{Address: a.address0(), Name: "a"})
			} else {
				_, err = b.RemovePeer(t.Context(), a.address0())
			}
			if err != nil {
				t.Fatal(err)
			}
			settle(200 * time.Millisecond)
		}
		for round := range 3 {
			change(true)
			a.reason(b, NoReason)
			b.reason(a, NoReason)
			text := fmt.Sprint("added ", round)
			a.say(b, text)
			settle(200 * time.Millisecond)
			b.heard(a, text, 1)

			change(false)
			a.reason(b, ReasonNotAddedThere)
			before := a.prohibited(b)
			a.say(b, "removed")
			settle(time.Second)
			if n := a.prohibited(b) - before; n != 1 {
				t.Errorf("%d errors after the removal, want 1", n)
			}
			if _, err := a.ping(b, 5*time.Second); err != nil {
				t.Errorf("ping after the removal: %v", err)
			}
		}
		b.heard(a, "removed", 0)
	})
}

// Of a message that was lost nothing remains wrong: packets that are refused have the peer
// asked again.
func TestStandingLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := two(t, w, nil)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "refused")
		settle(time.Second)
		a.reason(b, ReasonNotAddedThere)
		s.SetLink(vnet.Link{Loss: 1})
		if _, err := b.AddPeer(t.Context(), Peer{Address: a.address0()}); err != nil {
			t.Fatal(err)
		}
		settle(100 * time.Millisecond)
		s.SetLink(vnet.Link{Delay: time.Millisecond})
		for k := range 20 { // as a program that tries again
			a.say(b, fmt.Sprint("again ", k))
			settle(time.Second)
		}
		a.reason(b, NoReason)
		b.heard(a, "again 19", 1)
	})
}

// Whoever refuses something says so, also where its word in the handshake was another.
func TestRefusedIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := two(t, w, nil)
		defer a.stop()
		defer b.stop()
		b.call(t.Context(), func(l *loop) error { // its handshakes do not say exactly which peers it lets in
			l.env.Local.Exact = false
			return nil
		})
		settle(time.Second)
		if _, err := a.ping(b, time.Second); err != nil {
			t.Fatal(err)
		}
		tap := record(s)
		for k := range 10 {
			a.say(b, fmt.Sprint("message ", k))
			settle(10 * time.Millisecond)
		}
		settle(time.Second)
		if n := a.prohibited(b); n < 8 {
			t.Errorf("%d of 10 packets were answered", n)
		}
		told := 0
		for _, p := range tap.all() {
			if p.From.Addr() == netip.MustParseAddr("10.0.0.2") && len(p.Data) == wire.SealedMin+2 {
				told++
			}
		}
		if told < 1 || told > 2 {
			t.Errorf("b told %d times in a second that it refused something", told)
		}
		a.reason(b, ReasonNotAddedThere)
	})
}

// A node that lets everybody in says so, from its start on or when that changes.
func TestOpenIsLetIn(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := two(t, w, func(_, b *Config) { b.Open = true })
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		speak := func(text string, want Reason) {
			t.Helper()
			before := a.prohibited(b)
			a.say(b, text)
			settle(100 * time.Millisecond)
			refused := a.prohibited(b) > before
			if refused != (want != NoReason) {
				t.Errorf("%s: refused %v", text, refused)
			}
			a.reason(b, want)
		}
		speak("open", NoReason)
		b.heard(a, "open", 1)
		if s := b.status(); !s.Open || a.status().Open {
			t.Error("the status does not say who is open")
		}
		for _, open := range []bool{false, true, false} {
			if err := b.SetOpen(t.Context(), open); err != nil {
				t.Fatal(err)
			}
			settle(100 * time.Millisecond)
			want := ReasonNotAddedThere
			if open {
				want = NoReason
			}
			speak(fmt.Sprint("open ", open), want)
		}
		b.heard(a, "open true", 1)
		b.heard(a, "open false", 0)
	})
}

// Only peers that somebody added learn where a node is, and not everybody that it lets in.
func TestOpenTellsNobodyWhereItIs(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := two(t, w, func(_, b *Config) { b.Open = true })
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		said := func() int {
			t.Helper()
			settle(10 * time.Second)
			a.say(b, "handshake")
			settle(time.Second)
			list := -1
			a.call(t.Context(), func(l *loop) error {
				for _, in := range *l.peers.get(b.address0()).Inbound.Load() {
					if x, ok := in.Session.Announced(); ok && x.Standing == wire.StandingAdded {
						list = len(x.Reach.Endpoints)
					}
				}
				return nil
			})
			return list
		}
		if n := said(); n != 0 {
			t.Errorf("a stranger is told %d endpoints", n)
		}
		if _, err := b.AddPeer(t.Context(), Peer{Address: a.address0()}); err != nil {
			t.Fatal(err)
		}
		settle(4 * time.Minute) // for the session to end
		if n := said(); n == 0 {
			t.Errorf("a peer that was added is told %d endpoints", n)
		}
	})
}

// Each machine of an address has its own word.
func TestStandingOfMachines(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newTestNode(t, w.Host("b"), nil)
		b2 := newTestNode(t, w.Host("b2"), func(c *Config) { c.Identity = b.cfg.Identity })
		adds(a, b)
		b.keepPeerID(1)
		b2.keepPeerID(2)
		lan(w, "lan", 0, a.host, b.host, b2.host)
		for _, n := range []*testNode{a, b, b2} {
			n.start().strict()
			defer n.stop()
		}
		settle(time.Second)
		for _, n := range []*testNode{b, b2} {
			if _, err := n.ping(a, 3*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		told := map[wire.StandingMsg]int{}
		a.call(t.Context(), func(l *loop) error {
			for _, m := range l.peers.get(b.address0()).Each() {
				told[m.Told()]++
			}
			return nil
		})
		if told[wire.StandingAdded] != 1 || told[wire.StandingNotAdded] != 1 {
			t.Errorf("the machines said %v", told)
		}
	})
}

// A blocked peer has a reason here; there it just does not answer.
func TestReasonBlocked(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		if _, err := b.BlockPeer(t.Context(), a.address0(), true); err != nil {
			t.Fatal(err)
		}
		b.reason(a, ReasonBlocked)
		b.pingFails(a, time.Second, ReasonBlocked)
		a.pingFails(b, 30*time.Second, ReasonNoAnswer)
		if _, err := b.BlockPeer(t.Context(), a.address0(), false); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ping(b, 10*time.Second); err != nil {
			t.Error(err)
		}
		a.reason(b, NoReason)
		b.reason(a, NoReason)
	})
}

// Both sides learn that their secrets differ, whoever begins, and also if only one has one.
func TestOtherSecret(t *testing.T) {
	one, other := [32]byte{1}, [32]byte{2}
	for name, secrets := range map[string][2][32]byte{
		"two secrets":                  {one, other},
		"who begins has none":          {{}, one},
		"only who begins has a secret": {one, {}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newTestNode(t, w.Host("a"), func(c *Config) { c.PSK = secrets[0] })
				b := newTestNode(t, w.Host("b"), func(c *Config) { c.PSK = secrets[1] })
				adds(a, b)
				lan(w, "lan", 0, a.host, b.host)
				a.start()
				b.start()
				settle(time.Second)
				a.pingFails(b, 2*time.Second, ReasonOtherSecret)
				settle(5 * time.Second)
				a.reason(b, ReasonOtherSecret)
				b.reason(a, ReasonOtherSecret)
				a.pingFails(b, 20*time.Second, ReasonOtherSecret)
				if s := a.status(); s.Secret != (secrets[0] != [32]byte{}) {
					t.Error("the status does not say whether there is a secret")
				}
				settle(5 * time.Minute)
				a.reason(b, ReasonOtherSecret) // it is not forgotten when nobody tries
				b.stop()
				b.cfg.PSK = a.cfg.PSK
				b.start()
				defer a.stop()
				defer b.stop()
				settle(time.Second)
				if _, err := a.ping(b, 10*time.Second); err != nil {
					t.Error(err)
				}
				a.reason(b, NoReason)
				b.reason(a, NoReason)
			})
		})
	}
}

// A session that the other side has lost, since it started again with another secret,
// hides nothing.
func TestOtherSecretLater(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := two(t, w, nil)
		adds(a, b)
		defer a.stop()
		settle(time.Second)
		if _, err := a.ping(b, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		b.stop()
		b.cfg.PSK = [32]byte{1}
		b.start()
		defer b.stop()
		a.pingFails(b, 10*time.Second, ReasonOtherSecret)
		for range 20 {
			settle(3 * time.Second)
			a.reason(b, ReasonOtherSecret)
		}
	})
}

// A node with a secret answers no stranger's handshake, though its checks.
func TestNoSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := two(t, w, func(a, b *Config) { a.PSK, b.PSK = [32]byte{1}, [32]byte{1} })
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.pingFails(b, 20*time.Second, ReasonNoSession)
		a.reason(b, ReasonNoSession)
		b.reason(a, ReasonNotAddedHere)
		if _, err := b.AddPeer(t.Context(), Peer{Address: a.address0()}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ping(b, 5*time.Second); err != nil {
			t.Error(err)
		}
		a.reason(b, NoReason)
	})
}

// silence is what keeps a's packets from b, or b's from a.
type silence struct {
	name   string
	do     func(x *silenced)
	undo   func(x *silenced)
	reason Reason // that a has for b
	there  Reason // that b has for a, if it tries at the same time; empty: not looked at
}

type silenced struct {
	a, b   *testNode
	ai, bi *vnet.Interface
	s      *vnet.Segment
}

// What keeps packets from a peer is told apart, and forgotten when it is over.
func TestReasonOfSilence(t *testing.T) {
	lost := &vnet.Link{Loss: 1}
	for _, c := range []silence{
		{name: "all UDP is dropped", do: func(x *silenced) { x.ai.SetLink(lost); x.bi.SetLink(lost) },
			undo: func(x *silenced) { x.ai.SetLink(nil); x.bi.SetLink(nil) }, reason: ReasonNoAnswer, there: ReasonNoAnswer},
		{name: "UDP from a is dropped", do: func(x *silenced) { x.ai.SetLink(lost) },
			undo: func(x *silenced) { x.ai.SetLink(nil) }, reason: ReasonNotHeardThere, there: ReasonNoAnswer},
		{name: "UDP to a is dropped", do: func(x *silenced) { x.bi.SetLink(lost) },
			undo: func(x *silenced) { x.bi.SetLink(nil) }, reason: ReasonNoAnswer, there: ReasonNotHeardThere},
		{name: "b does not run", do: func(x *silenced) { x.b.stop() },
			undo: func(x *silenced) { x.b.start() }, reason: ReasonNotRunning},
		{name: "b's machine is off", do: func(x *silenced) { x.b.stop(); x.bi.SetAddrs() },
			undo: func(x *silenced) { x.bi.SetAddrs(netip.MustParsePrefix("10.0.0.2/24")); x.b.start() }, reason: ReasonNoMachine},
		{name: "a's firewall refuses", do: func(x *silenced) { x.a.host.SetRefuses(true) },
			undo: func(x *silenced) { x.a.host.SetRefuses(false) }, reason: ReasonSendRefused, there: ReasonNoAnswer},
		{name: "a has no network", do: func(x *silenced) { x.ai.SetUp(false) },
			undo: func(x *silenced) { x.ai.SetUp(true) }, reason: ReasonNoRoute, there: ReasonNoAnswer},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) { c.run(t, w) })
		})
	}
}

func (c *silence) run(t *testing.T, w *vnet.World) {
	x := &silenced{a: newTestNode(t, w.Host("a"), nil), b: newTestNode(t, w.Host("b"), nil), s: w.Segment("lan", vnet.Link{Delay: time.Millisecond})}
	x.ai = x.a.host.Attach(x.s, netip.MustParsePrefix("10.0.0.1/24"))
	x.bi = x.b.host.Attach(x.s, netip.MustParsePrefix("10.0.0.2/24"))
	for _, n := range [][2]*testNode{{x.a, x.b}, {x.b, x.a}} {
		e, err := book.ParseEndpoint(map[*testNode]string{x.a: "udp:10.0.0.1:8737", x.b: "udp:10.0.0.2:8737"}[n[1]])
		if err != nil {
			t.Fatal(err)
		}
		n[0].cfg.Peers = []Peer{{Address: n[1].address0(), Name: n[1].host.Name(), Endpoints: []wire.Endpoint{e}}}
	}
	x.a.start()
	x.b.start()
	settle(time.Second)
	c.do(x)
	settle(time.Second)
	if c.there != NoReason {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 4 {
				x.b.ping(x.a, 6*time.Second)
			}
		}()
		settle(500 * time.Millisecond)
		x.a.pingFails(x.b, 20*time.Second, c.reason)
		x.a.reason(x.b, c.reason)
		x.b.reason(x.a, c.there)
		<-done
	} else {
		x.a.pingFails(x.b, 20*time.Second, c.reason)
		x.a.reason(x.b, c.reason)
	}
	if p := x.a.peer(x.b); p.ReasonAt != "udp:10.0.0.2:8737" {
		t.Errorf("the reason is about %q", p.ReasonAt)
	}
	c.undo(x)
	defer x.a.stop()
	defer x.b.stop()
	settle(time.Second)
	if _, err := x.a.ping(x.b, 10*time.Second); err != nil {
		t.Error(err)
	}
	x.a.reason(x.b, NoReason)
	x.b.reason(x.a, NoReason)
}

// The endpoints of somebody that nobody wants are left alone, and those of others are asked
// at a bounded rate.
func TestDiagnosesAreFew(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		settle(time.Second)
		b.stop()
		bytes := func(tap *tape) (n int) {
			for _, p := range tap.all() {
				if len(p.Data) == 1 {
					n++
				}
			}
			return n
		}
		idle := record(s)
		settle(10 * time.Minute)
		if n := bytes(idle); n != 0 {
			t.Errorf("%d questions about a peer that nobody wants", n)
		}
		busy := record(s)
		for range 60 {
			a.ping(b, time.Second)
		}
		if n := bytes(busy); n == 0 || n > 10 {
			t.Errorf("%d questions in a minute", n)
		}
	})
}

// Nobody knows where an added peer is that was never heard.
func TestNoEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		adds(a, b)
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		a.pingFails(b, 20*time.Second, ReasonNoEndpoint)
		a.reason(b, ReasonNoEndpoint)
	})
}

// Only the peer itself, in answer to our HELLO, can make us say that it has another secret.
func TestOtherSecretForged(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h, other := w.Host("bare"), w.Host("other")
		lan(w, "lan", 0, n.host, h, other)
		b, c := newBare(t, h, "10.0.0.2:8737"), newBare(t, other, "10.0.0.3:8737")
		defer b.conn.Close()
		defer c.conn.Close()
		e, err := book.ParseEndpoint("udp:10.0.0.2:8737")
		if err != nil {
			t.Fatal(err)
		}
		n.cfg.Peers = []Peer{{Address: b.id.Address(), Endpoints: []wire.Endpoint{e}}}
		n.start()
		defer n.stop()
		settle(time.Second)
		pinged := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			_, err := n.Ping(ctx, b.id.Address(), 40)
			pinged <- err
		}()
		_, body := b.next(n, wire.Hello)
		hello, err := seal.ParseHello(body)
		if err != nil {
			t.Fatal(err)
		}
		point := newIdentity(t).Address()
		welcome := func(index uint16) []byte {
			return seal.Welcome{Index: 7, Your: index, Noise: append(point[7:], make([]byte, wire.TagSize)...)}.Append(nil)
		}
		reason := func(when string, want Reason) {
			t.Helper()
			settle(100 * time.Millisecond)
			for _, p := range n.status().Peers {
				if p.Address == b.id.Address() && p.Reason != want {
					t.Errorf("%s: reason %q, want %q", when, p.Reason, want)
				}
			}
		}
		const at = "10.0.0.1:8737"
		c.send(at, c.packet(n, true, wire.Welcome, welcome(hello.Index)))
		reason("by another key", NoReason)
		forged := b.packet(n, true, wire.Welcome, welcome(hello.Index))
		forged[2] ^= 1
		c.send(at, forged)
		reason("with a wrong MAC", NoReason)
		for k := range uint16(100) {
			b.send(at, b.packet(n, true, wire.Welcome, welcome(hello.Index+1+k)))
		}
		reason("for another HELLO, as a replay is", NoReason)
		b.send(at, b.packet(n, true, wire.Welcome, welcome(hello.Index)))
		reason("by the peer", ReasonOtherSecret)
		var x *UnreachableError
		if err := <-pinged; !errors.As(err, &x) || x.Reason != ReasonOtherSecret {
			t.Errorf("ping: %v", err)
		}
	})
}

// A peer with another version of the handshake says so by its own.
func TestAnotherVersion(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		lan(w, "lan", 0, n.host, h)
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address()}}
		n.start()
		defer n.stop()
		settle(time.Second)
		body := make([]byte, 200)
		body[0] = 2
		b.send("10.0.0.1:8737", b.packet(n, true, wire.Hello, body))
		settle(100 * time.Millisecond)
		for _, p := range n.status().Peers {
			if p.Reason != ReasonAnotherVersion {
				t.Errorf("reason %q", p.Reason)
			}
		}
	})
}

// Whoever repeats its HELLO without an end, or is played by somebody who recorded it, gets
// few HELLOs of ours.
func TestRepeatedHello(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		lan(w, "lan", 0, n.host, h)
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address()}}
		n.start()
		defer n.stop()
		settle(time.Second)
		set := seal.NewSet(&seal.Local{Identity: b.id, PeerID: 1}, n.address0(), 0)
		if err := set.Want(time.Second); err != nil {
			t.Fatal(err)
		}
		do, _ := set.Tick(time.Second)
		b.drain()
		const repeated = 3 * 60 * 10
		for range repeated {
			b.send("10.0.0.1:8737", b.packet(n, true, wire.Hello, do.Hello.Body))
			settle(100 * time.Millisecond)
		}
		begun := map[uint16]int{}
		for _, p := range b.drain() {
			h, msg, err := wire.Parse(p)
			if err != nil || h.Type != wire.Hello {
				continue
			}
			if x, err := seal.ParseHello(msg); err == nil {
				begun[x.Index]++
			}
		}
		if len(begun) < 1 || len(begun) > 3 {
			t.Errorf("%d handshakes of ours in three minutes: %v", len(begun), begun)
		}
		sent := 0
		for _, n := range begun {
			sent += n
		}
		if sent > repeated/10 {
			t.Errorf("%d HELLOs of ours for %d", sent, repeated)
		}
	})
}
