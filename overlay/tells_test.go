package overlay

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// someone is People that decides as the program does, as far as the engine can tell: an invitation
// lets in as many as it has uses, and what an issuer has to say follows at once.
type someone struct {
	n      *testNode
	events chan any
	slow   time.Duration // to decide

	mu      sync.Mutex
	invites map[InvitationID]*invite
	ups     []Up
	heard   []Heard
	told    []wire.ToldMsg
	refused []InvitationID
	asked   int // look-ups of invitations
}

type invite struct {
	psk  [32]byte
	uses int
	by   []anode.Address
}

// withPeople gives a node someone, before it starts.
func withPeople(n *testNode) *someone {
	s := &someone{n: n, events: make(chan any, 256), invites: map[InvitationID]*invite{}}
	n.cfg.People = s
	return s
}

// begin decides until the test ends; it is for after the start.
func (s *someone) begin() *someone {
	done := s.n.Node.done
	go func() {
		for {
			select {
			case e := <-s.events:
				s.decide(e)
			case <-done:
				return
			}
		}
	}()
	return s
}

func (s *someone) put(e any) bool {
	select {
	case s.events <- e:
		return true
	default:
		return false
	}
}

func (s *someone) Heard(h Heard) bool {
	s.mu.Lock()
	s.heard = append(s.heard, h)
	s.mu.Unlock()
	return s.put(h)
}

func (s *someone) Told(_ anode.Address, m wire.ToldMsg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, m)
}

func (s *someone) Up(u Up) {
	s.mu.Lock()
	s.ups = append(s.ups, u)
	s.mu.Unlock()
	s.put(u)
}

func (s *someone) Invitation(id InvitationID, from anode.Address) (psk [32]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	i := s.invites[id]
	if i == nil || i.uses == 0 && !slices.Contains(i.by, from) {
		return psk, false
	}
	return i.psk, true
}

func (s *someone) Refused(_ anode.Address, id InvitationID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, id)
}

// spend is the transaction.
func (s *someone) spend(u Up) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.invites[u.Invitation]
	switch {
	case i == nil:
		return false
	case slices.Contains(i.by, u.Address):
		return true
	case i.uses == 0:
		return false
	}
	i.uses--
	i.by = append(i.by, u.Address)
	return true
}

func (s *someone) decide(e any) {
	n, ctx := s.n, context.Background()
	switch e := e.(type) {
	case Up:
		if !e.Issued {
			return
		}
		time.Sleep(s.slow)
		if !s.spend(e) {
			n.Tell(ctx, e.Address, wire.TellMsg{ID: newTellID(), Kind: wire.TellBye})
			return
		}
		if _, err := n.AddPeer(ctx, Peer{Address: e.Address}); err != nil {
			n.t.Error(err)
		}
		m := wire.TellMsg{ID: newTellID(), Kind: wire.TellProfile}
		if psk := n.cfg.PSK; psk != [32]byte{} {
			m.Body = wire.Fields{{Type: wire.FieldSecret, Value: psk[:]}}.Append(nil)
		}
		n.Tell(ctx, e.Address, m)
	case Heard:
		if e.Msg.Kind == wire.TellProfile {
			f, err := wire.ParseFields(e.Msg.Body)
			if secret, ok := f.Get(wire.FieldSecret); err == nil && ok {
				n.SetSecret(ctx, [32]byte(secret))
			}
		}
		n.TellBack(ctx, e.From, wire.ToldMsg{ID: e.Msg.ID, Status: wire.TellDone})
	}
}

func newTellID() (id wire.TellID) {
	rand.Read(id[:])
	return id
}

// invite makes an invitation, and returns what a guest gets.
func (s *someone) invite(uses int) Invitation {
	g := Invitation{Issuer: s.n.address0(), Until: time.Now().Add(24 * time.Hour)}
	rand.Read(g.ID[:])
	rand.Read(g.PSK[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invites[g.ID] = &invite{psk: g.PSK, uses: uses}
	return g
}

// join adds the issuer and joins, as the program does.
func (s *someone) join(g Invitation) {
	s.n.t.Helper()
	if _, err := s.n.AddPeer(s.n.t.Context(), Peer{Address: g.Issuer}); err != nil {
		s.n.t.Fatal(err)
	}
	if err := s.n.Join(s.n.t.Context(), g); err != nil {
		s.n.t.Fatal(err)
	}
}

// saw returns how many events of each kind there were.
func (s *someone) saw() (issued, by, ordinary, heard, told, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.ups {
		switch {
		case u.Issued:
			issued++
		case u.Invitation != InvitationID{}:
			by++
		default:
			ordinary++
		}
	}
	return issued, by, ordinary, len(s.heard), len(s.told), len(s.refused)
}

// host is a node with people on a host, started.
func newHost(t *testing.T, h *vnet.Host, secret [32]byte) *someone {
	n := newTestNode(t, h, func(c *Config) { c.PSK = secret })
	return withPeople(n)
}

// pingable waits until a ping of to arrives, and returns when.
func (s *someone) pingable(to *someone, most time.Duration) (time.Duration, bool) {
	began := time.Now()
	for time.Since(began) < most {
		ctx, cancel := context.WithTimeout(s.n.t.Context(), 400*time.Millisecond)
		_, err := s.n.Ping(ctx, to.n.address0(), 40)
		cancel()
		if err == nil && s.n.peer(to.n).Allowed && to.n.peer(s.n).Allowed {
			return time.Since(began), true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, false
}

// letIn checks that both have added each other, and that everything flows.
func letIn(t *testing.T, issuer, guest *someone) {
	t.Helper()
	guest.n.say(issuer.n, "to the issuer")
	issuer.n.say(guest.n, "to the guest")
	settle(500 * time.Millisecond)
	issuer.n.heard(guest.n, "to the issuer", 1)
	guest.n.heard(issuer.n, "to the guest", 1)
	for _, d := range issuer.n.dev.delivered() {
		if d.from == guest.n.address0().ULA() && !d.trusted {
			t.Error("the guest is not trusted")
		}
	}
}

// On one LAN a link leads to a ping in less than a second, without a secret and with one that
// the guest does not know before.
func TestJoinOnLAN(t *testing.T) {
	for _, secret := range [][32]byte{{}, {7}} {
		t.Run(fmt.Sprintf("secret %v", secret[0]), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b := newHost(t, w.Host("a"), secret), newHost(t, w.Host("b"), [32]byte{})
				lan(w, "lan", 0, a.n.host, b.n.host)
				a.n.start()
				b.n.start()
				defer a.n.stop()
				defer b.n.stop()
				a.begin()
				b.begin()
				settle(time.Second)
				g := a.invite(1)
				b.join(g)
				settle(100 * time.Millisecond) // nobody has anything to say
				if x, y := a.n.peer(b.n).State, b.n.peer(a.n).State; x != StateUp || y != StateUp {
					t.Errorf("100 ms after the link the states are %v and %v", x, y)
				}
				after, ok := b.pingable(a, 5*time.Second)
				t.Logf("the first ping arrives after %v", after)
				if !ok || after > time.Second {
					t.Fatalf("the first ping arrives after %v, %v", after, ok)
				}
				letIn(t, a, b)
				settle(5 * time.Second)
				issued, _, _, _, told, _ := a.saw()
				_, by, _, heard, _, refused := b.saw()
				if issued != 1 || told != 1 || by != 1 || heard != 1 || refused != 0 {
					t.Errorf("%d issued, %d told, %d joined, %d heard, %d refused", issued, told, by, heard, refused)
				}
				b.n.call(t.Context(), func(l *loop) error {
					if len(l.tells.joins.of) != 0 {
						t.Error("the join goes on")
					}
					if p := l.peers.get(a.n.address0()); p.Invited(l.now) {
						t.Error("the invitation's session goes on")
					}
					return nil
				})
				if s := b.n.peer(a.n); s.Reason != NoReason {
					t.Errorf("trouble: %v", s.Reason)
				}
				if s := a.n.peer(b.n); s.Reason != NoReason {
					t.Errorf("trouble: %v", s.Reason)
				}
			})
		})
	}
}

// Both ends are behind NATs that give each destination another port, and have one relay in common,
// which is in the link. The guest knows nothing else.
func TestJoinByRelay(t *testing.T) {
	for _, secret := range [][32]byte{{}, {7}} {
		t.Run(fmt.Sprintf("secret %v", secret[0]), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newNATWorld(t, w, 1)
				h, k, _ := x.net.Pair(vnet.SymmetricRandom, vnet.SymmetricRandom)
				a, b := newHost(t, h, secret), newHost(t, k, [32]byte{})
				a.n.cfg.Identity = identityIn(t, testZone)
				a.n.start()
				b.n.start()
				x.nodes = append(x.nodes, a.n, b.n)
				defer x.stop()
				a.n.knows(testZone, x.file)
				a.begin()
				b.begin()
				settle(2 * time.Second)
				g := a.invite(1)
				var err error
				if g.Endpoints, g.Relays, err = a.n.Candidates(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(g.Relays) != 1 || g.Relays[0].Address != x.relays[0].address0() {
					t.Fatalf("the relays are %+v", g.Relays)
				}
				b.join(g)
				after, ok := b.pingable(a, 5*time.Second)
				t.Logf("the first ping arrives after %v; endpoints %v", after, g.Endpoints)
				if !ok || after > time.Second {
					t.Fatalf("the first ping arrives after %v, %v", after, ok)
				}
				letIn(t, a, b)

				// The guest starts anew, and knows the relay from the link that it has kept.
				settle(10 * time.Minute)
				b.n.stop()
				b.n.start()
				b.begin()
				if secret != [32]byte{} {
					b.n.SetSecret(t.Context(), secret)
				}
				if err := b.n.Know(t.Context(), g.Issuer, nil, g.Relays); err != nil {
					t.Fatal(err)
				}
				settle(time.Second)
				if after, ok := b.pingable(a, 5*time.Second); !ok || after > time.Second {
					t.Errorf("after a restart the first ping arrives after %v, %v", after, ok)
				}
				settle(time.Hour)
				b.n.call(t.Context(), func(l *loop) error {
					if len(l.zones.relays) != 0 {
						t.Error("the relay is in use after an hour without traffic")
					}
					return nil
				})
			})
		})
	}
}

// A link that is not known any more, without a secret: the guest is told, and asks in the ordinary way.
// With a secret it hears nothing at all.
func TestDeadLink(t *testing.T) {
	for _, secret := range [][32]byte{{}, {7}} {
		t.Run(fmt.Sprintf("secret %v", secret[0]), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b := newHost(t, w.Host("a"), secret), newHost(t, w.Host("b"), [32]byte{})
				s := lan(w, "lan", 0, a.n.host, b.n.host)
				a.n.start()
				b.n.start()
				defer a.n.stop()
				defer b.n.stop()
				a.begin()
				b.begin()
				settle(time.Second)
				g := a.invite(1)
				g.ID[0] ^= 1
				seen := record(s)
				b.join(g)
				settle(20 * time.Second)
				issued, _, _, _, _, _ := a.saw()
				_, by, _, _, _, refused := b.saw()
				if issued != 0 || by != 0 || a.n.peer(b.n).Allowed {
					t.Errorf("%d issued, %d joined, allowed %v", issued, by, a.n.peer(b.n).Allowed)
				}
				if secret != [32]byte{} {
					if refused != 0 {
						t.Error("the guest is told that the link is dead, in a network with a secret")
					}
					if n := welcomes(seen, a.n); n != 0 {
						t.Errorf("%d answers to handshakes of a stranger", n)
					}
					if a.n.counter("drop_no_secret") == 0 {
						t.Error("not counted")
					}
					a.n.call(t.Context(), func(l *loop) error {
						if p := l.peers.get(b.n.address0()); p != nil && len(p.Each()) != 0 {
							t.Error("a machine of the stranger is kept")
						}
						return nil
					})
					return
				}
				if refused != 1 {
					t.Errorf("refused %d times", refused)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := b.n.Tell(ctx, g.Issuer, wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk}); err != nil {
					t.Errorf("ASK: %v", err)
				}
				settle(time.Second)
				_, _, _, heard, _, _ := a.saw()
				_, _, _, _, told, _ := b.saw()
				if heard != 1 || told != 1 || a.heard[0].Standing != book.Stranger || a.heard[0].Invitation != (InvitationID{}) {
					t.Errorf("%+v, told %d", a.heard, told)
				}
			})
		})
	}
}

// welcomes counts the WELCOMEs that a node sent.
func welcomes(x *tape, n *testNode) (count int) {
	for _, p := range x.all() {
		if h, _, err := wire.Parse(p.Data); err == nil && h.Type == wire.Welcome && (h.Sender.ID == n.id || h.Sender.Address == n.address) {
			count++
		}
	}
	return count
}

// Of twenty guests at once with a link for one, one is let in, and the others learn that it is used.
func TestTwentyGuests(t *testing.T) {
	for _, c := range []struct {
		secret [32]byte
		uses   int
	}{{[32]byte{}, 1}, {[32]byte{7}, 1}, {[32]byte{}, 20}} {
		t.Run(fmt.Sprintf("secret %v, %d uses", c.secret[0], c.uses), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newHost(t, w.Host("a"), c.secret)
				hosts := []*vnet.Host{a.n.host}
				var guests []*someone
				for k := range 20 {
					b := newHost(t, w.Host(fmt.Sprint("b", k)), [32]byte{})
					guests, hosts = append(guests, b), append(hosts, b.n.host)
				}
				lan(w, "lan", 0, hosts...)
				a.n.start()
				defer a.n.stop()
				a.begin()
				for _, b := range guests {
					b.n.start()
					defer b.n.stop()
					b.begin()
				}
				settle(time.Second)
				g := a.invite(c.uses)
				for _, b := range guests {
					b.join(g)
				}
				settle(3 * time.Second)
				early := 0
				for _, b := range guests {
					if a.n.peer(b.n).Allowed {
						early++
					}
				}
				if early > 10 {
					t.Errorf("%d are let in at once by one invitation", early)
				}
				settle(2 * time.Minute)
				in, told := 0, 0
				for _, b := range guests {
					_, _, _, _, _, refused := b.saw()
					bye := slices.ContainsFunc(b.heard, func(h Heard) bool { return h.Msg.Kind == wire.TellBye })
					switch allowed := a.n.peer(b.n).Allowed; {
					case allowed && refused == 0 && !bye:
						in++
					case !allowed && (refused > 0 || bye):
						told++
					}
				}
				t.Logf("%d in, %d told; %d look-ups, %d over the limit", in, told, a.asked, a.n.counter("drop_claims"))
				if in != c.uses {
					t.Errorf("%d are let in", in)
				}
				if want := 20 - c.uses; told != want && c.secret == [32]byte{} {
					t.Errorf("%d of %d are told", told, want)
				}
			})
		})
	}
}

// In a session by an invitation nothing travels but what the wait for an ordinary one needs, whatever
// the other side's standing is; neither is anything else sent in it.
func TestAside(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		lan(w, "lan", 0, a.n.host, b.n.host)
		a.n.start()
		b.n.start()
		defer a.n.stop()
		defer b.n.stop()
		settle(time.Second) // nobody decides: a.begin is not called
		b.join(a.invite(1))
		settle(time.Second)
		inside := func(n, to *testNode, msg []byte, checked bool) {
			n.call(t.Context(), func(l *loop) error {
				p := l.peers.get(to.address0())
				list := p.Inbound.Load()
				if p == nil || list == nil || !p.Invited(l.now) {
					t.Fatal("no session by the invitation")
				}
				for _, in := range *list {
					if !in.Session.Invited() {
						continue
					}
					best, _ := p.Best()
					r := peer.Route{Session: in.Session, Way: best.Way, PeerID: in.PeerID, Line: in.Line, Datagram: 1200}
					if checked {
						l.shell.Seal(p.Contact, &r, msg, 0)
						continue
					}
					number, _ := r.Session.Reserve(0, 1, int64(l.now))
					l.shell.send.seal(&r, number, msg)
				}
				return nil
			})
			settle(100 * time.Millisecond)
		}
		data := ip6("not by an invitation")
		inside(b.n, a.n, data, true)
		if b.n.counter("drop_aside") != 1 || a.n.counter("drop_aside") != 0 {
			t.Error("it is sent")
		}
		for _, added := range []bool{false, true} {
			if added {
				a.n.book.Add(b.n.address0(), "", nil, time.Now()) // the loop does not know, and begins no ordinary session
				a.n.call(t.Context(), func(l *loop) error {
					l.peers.get(b.n.address0()).SetStanding(book.Added)
					return nil
				})
			}
			before, id := a.n.counter("drop_aside"), uint32(7)
			if added {
				id++
			}
			for k, msg := range [][]byte{data, {byte(wire.Standing), 1}, {byte(wire.Whois)}, wire.ProbeMsg{ID: 1, Size: 60}.AppendProbe([]byte{byte(wire.Probe)}),
				{byte(wire.SOpen)}, {byte(wire.Groups)}, {byte(wire.Dgram), 0, 1, 0, 2},
				wire.FragMsg{ID: id, Total: uint16(len(data)), Part: data[:20]}.Append([]byte{byte(wire.Frag)}),
				wire.FragMsg{ID: id, Offset: 20, Total: uint16(len(data)), Part: data[20:]}.Append([]byte{byte(wire.Frag)}),
			} {
				inside(b.n, a.n, msg, false)
				inside(a.n, b.n, msg, false)
				want := before + uint64(k) + 1
				if wire.Type(msg[0]) == wire.Frag {
					want = before + 7 + uint64(k-7) // the whole one counts
				}
				if n := a.n.counter("drop_aside"); n != want {
					t.Errorf("added %v: type %#x: %d are refused, want %d", added, msg[0], n, want)
				}
			}
			if len(a.n.dev.delivered()) != 0 || len(b.n.dev.delivered()) != 0 {
				t.Error("data is delivered")
			}
		}
		ask := wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk, Body: make([]byte, 5000)}
		if err := b.n.Tell(t.Context(), a.n.address0(), ask); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if len(a.heard) != 1 || a.heard[0].Invitation == (InvitationID{}) || len(a.heard[0].Msg.Body) != 5000 {
			t.Errorf("%d TELLs are heard", len(a.heard))
		}
	})
}

// A node without people refuses what is told, and counts it.
func TestNobodyToTell(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newHost(t, w.Host("b"), [32]byte{})
		lan(w, "lan", 0, a.host, b.n.host)
		a.start()
		b.n.start()
		defer a.stop()
		defer b.n.stop()
		settle(time.Second)
		if err := b.n.Tell(t.Context(), a.address0(), wire.TellMsg{Kind: wire.TellAsk}); err != nil {
			t.Error(err)
		}
		settle(time.Second)
		if a.counter("drop_no_people") != 1 || len(b.told) != 0 {
			t.Errorf("%v", a.status().Counters)
		}
		ctx := t.Context()
		for what, err := range map[string]error{"Tell": a.Tell(ctx, b.n.address0(), wire.TellMsg{}), "TellBack": a.TellBack(ctx, b.n.address0(), wire.ToldMsg{}),
			"Join": a.Join(ctx, Invitation{})} {
			if err != ErrNoPeople {
				t.Errorf("%s: %v", what, err)
			}
		}
		b.join(Invitation{Issuer: a.address0(), ID: InvitationID{1}, PSK: [32]byte{1}})
		settle(time.Second)
		if _, _, _, _, _, refused := b.saw(); refused != 1 {
			t.Errorf("a node without people does not know an invitation: told %d times", refused)
		}
	})
}

// Who is added says as much as its own budget allows, whatever strangers say.
func TestTellBudgets(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		c := newHost(t, w.Host("c"), [32]byte{})
		lan(w, "lan", 0, a.n.host, b.n.host, c.n.host)
		adds(a.n, b.n)
		for _, x := range []*someone{a, b, c} {
			x.n.start()
			defer x.n.stop()
		}
		settle(time.Second)
		for range 300 {
			if err := c.n.Tell(t.Context(), a.n.address0(), wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk}); err != nil {
				t.Fatal(err)
			}
		}
		settle(100 * time.Millisecond)
		if n := len(a.heard); n > 10 {
			t.Errorf("%d of 300 of a stranger are heard", n)
		}
		before := len(a.heard)
		for range 300 {
			if err := b.n.Tell(t.Context(), a.n.address0(), wire.TellMsg{ID: newTellID(), Kind: wire.TellBye}); err != nil {
				t.Fatal(err)
			}
		}
		settle(100 * time.Millisecond)
		if n := len(a.heard) - before; n < 100 || n > 110 {
			t.Errorf("%d of 300 of an added peer are heard", n)
		}
		if a.n.counter("drop_tells")+a.n.counter("drop_budget") < 450 {
			t.Errorf("%d are counted", a.n.counter("drop_tells"))
		}
	})
}

// An hour after a join nothing more is sent than between two nodes that have just added each other, and
// nothing of it waits for a time.
func TestIdleAfterJoin(t *testing.T) {
	var counts [2]int
	for k := range counts {
		bubble(t, func(t *testing.T, w *vnet.World) {
			a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
			s := lan(w, "lan", 0, a.n.host, b.n.host)
			if k == 0 {
				a.n.cfg.People, b.n.cfg.People = nil, nil
				adds(a.n, b.n)
			}
			a.n.start()
			b.n.start()
			defer a.n.stop()
			defer b.n.stop()
			settle(time.Second)
			if k == 1 {
				a.begin()
				b.begin()
				b.join(a.invite(1))
			}
			settle(time.Second)
			if _, err := b.n.ping(a.n, time.Second); err != nil {
				t.Fatal(err)
			}
			settle(10 * time.Minute)
			x := record(s)
			settle(time.Hour)
			counts[k] = len(x.all())
			for _, n := range []*testNode{a.n, b.n} {
				n.call(t.Context(), func(l *loop) error {
					if at := l.tells.tick(); at != mono.Never {
						t.Errorf("something is due in %v", at.Sub(l.now))
					}
					return nil
				})
			}
		})
	}
	t.Logf("%d packets in an hour without a join, %d after one", counts[0], counts[1])
	if counts[1] > counts[0] {
		t.Errorf("%d packets in an hour without a join, %d after one", counts[0], counts[1])
	}
}

// A peer that is removed and joined again while its session is up: the session is reported again, by the
// same link and by another.
func TestJoinAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		lan(w, "lan", 0, a.n.host, b.n.host)
		a.n.start()
		b.n.start()
		defer a.n.stop()
		defer b.n.stop()
		a.begin()
		b.begin()
		settle(time.Second)
		g := a.invite(1)
		for i, link := range []Invitation{g, g, a.invite(1)} {
			_, _, before, _, _, _ := b.saw()
			b.join(link)
			settle(5 * time.Second)
			if _, _, ordinary, _, _, _ := b.saw(); ordinary == before {
				t.Errorf("join %d: no ordinary session is reported", i)
			}
			if _, err := b.n.RemovePeer(t.Context(), a.n.address0()); err != nil {
				t.Fatal(err)
			}
			settle(100 * time.Millisecond)
		}
	})
}

// An issuer that is asleep is joined when it wakes; meanwhile a guest hardly sends.
func TestJoinLater(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		s := lan(w, "lan", 0, a.n.host, b.n.host)
		b.n.start()
		defer b.n.stop()
		b.begin()
		settle(time.Second)
		g := a.invite(1)
		b.join(g)
		settle(2 * time.Hour)
		x := record(s)
		settle(time.Hour)
		if n := len(x.all()); n > 100 {
			t.Errorf("%d packets in an hour of waiting", n)
		} else {
			t.Logf("%d packets in an hour of waiting", n)
		}
		a.n.start()
		defer a.n.stop()
		a.begin()
		settle(10 * time.Second)
		if !a.n.peer(b.n).Allowed || !b.n.peer(a.n).Allowed {
			t.Error("the guest is not let in")
		}
		letIn(t, a, b)
	})
}

// An issuer that is killed in the middle of a join, whenever, and starts again: the join ends soon, without anybody
// saying anything.
func TestJoinAfterKill(t *testing.T) {
	for _, c := range []struct {
		secret byte
		met    bool // they had a session before, as strangers
	}{{0, false}, {0, true}, {7, false}} {
		const most = 8 * time.Second
		secret := [32]byte{c.secret}
		var worst time.Duration
		for at := time.Millisecond; at < 16*time.Millisecond; at += 500 * time.Microsecond {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b := newHost(t, w.Host("a"), secret), newHost(t, w.Host("b"), [32]byte{})
				lan(w, "lan", 0, a.n.host, b.n.host)
				a.n.start()
				b.n.start()
				defer b.n.stop()
				a.begin()
				b.begin()
				settle(time.Second)
				if c.met {
					if _, err := b.n.ping(a.n, time.Second); err != nil {
						t.Fatal(err)
					}
				}
				b.join(a.invite(1))
				settle(at)
				a.n.stop()
				settle(time.Second)
				a.n.start()
				defer a.n.stop()
				a.begin()
				began := time.Now()
				for over := false; !over && time.Since(began) < 3*time.Minute; settle(100 * time.Millisecond) {
					b.n.call(t.Context(), func(l *loop) error { over = len(l.tells.joins.of) == 0; return nil })
					_, _, ordinary, _, _, _ := b.saw()
					over = over && ordinary > 0
				}
				took := time.Since(began)
				worst = max(worst, took)
				if took > most {
					t.Errorf("%+v, killed after %v: the join ends %v after the start", c, at, took)
				}
			})
		}
		t.Logf("%+v: the join ends %v after the start at most", c, worst)
	}
}

// An issuer that is killed before it has told the network's secret: the guest heard it in the session by the invitation,
// and cannot read its ordinary handshakes, or gets none. Another session by the invitation is made soon.
func TestJoinAfterKillWithSecret(t *testing.T) {
	for _, added := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			a, b := newHost(t, w.Host("a"), [32]byte{7}), newHost(t, w.Host("b"), [32]byte{})
			lan(w, "lan", 0, a.n.host, b.n.host)
			a.n.start()
			b.n.start()
			defer b.n.stop()
			b.begin() // a.begin is not called: nobody tells anything before it is killed
			settle(time.Second)
			b.join(a.invite(1))
			settle(500 * time.Millisecond)
			if _, by, _, _, _, _ := b.saw(); by != 1 {
				t.Fatal("no session by the invitation")
			}
			if added {
				if _, err := a.n.AddPeer(t.Context(), Peer{Address: b.n.address0()}); err != nil {
					t.Fatal(err)
				}
			}
			a.n.stop()
			settle(time.Second)
			a.events = make(chan any, cap(a.events))
			a.n.start()
			defer a.n.stop()
			a.begin()
			began := time.Now()
			if err := b.n.Tell(t.Context(), a.n.address0(), wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk}); err != nil {
				t.Fatal(err)
			}
			for ordinary := 0; ordinary == 0 && time.Since(began) < time.Minute; settle(100 * time.Millisecond) {
				_, _, ordinary, _, _, _ = b.saw()
			}
			took, most := time.Since(began), 5*time.Second
			if added {
				most = 3 * time.Second
			}
			t.Logf("added %v: the join ends %v after the start", added, took)
			if took > most {
				t.Errorf("added %v: the join ends %v after the start", added, took)
			}
			letIn(t, a, b)
		})
	}
}

// Who was asked, or was introduced, is a stranger whatever was told in a session: nothing of it is trusted by the
// adapter, and no stream is taken, before both are added. Then the same session carries all.
func TestAskedIsAStranger(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		lan(w, "lan", 0, a.n.host, b.n.host)
		both := [2][2]*someone{{a, b}, {b, a}}
		for _, x := range both {
			x[0].n.start()
			defer x[0].n.stop()
			x[0].n.dev.strictly = true
		}
		settle(time.Second)
		for _, x := range both {
			if err := x[0].n.Tell(t.Context(), x[1].n.address0(), wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk}); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		for _, x := range both {
			if len(x[1].heard) == 0 {
				t.Fatal("no session: that proves nothing")
			}
			x[0].n.say(x[1].n, "let me in")
			x[0].n.call(t.Context(), func(l *loop) error {
				p := l.peers.get(x[1].n.address0())
				if p.Standing() != book.Stranger {
					t.Errorf("the other side is %v", p.Standing())
				}
				r := p.Route.Load()
				l.shell.Seal(p.Contact, r, ip6("by a program of the attacker's"), 0)
				l.shell.Seal(p.Contact, r, []byte{byte(wire.SOpen), 0, 0, 0, 1}, 0)
				return nil
			})
		}
		settle(time.Second)
		for _, x := range both {
			if d := x[0].n.dev.delivered(); len(d) > 0 {
				t.Errorf("delivered: %+v", d)
			}
		}
		for _, x := range both {
			if _, err := x[0].n.AddPeer(t.Context(), Peer{Address: x[1].n.address0()}); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		for _, x := range both {
			x[0].n.say(x[1].n, "here I am")
		}
		settle(time.Second)
		a.n.heard(b.n, "here I am", 1)
		b.n.heard(a.n, "here I am", 1)
	})
}
