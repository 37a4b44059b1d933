package overlay

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// meddler is somebody on the wire between an issuer, a guest and another issuer: a relay, or a
// neighbour in the LAN. Beacons pass. The world calls it, one packet at a time.
type meddler struct {
	random *rand.Rand
	deeds  []deed
	share  float64     // of packets that something is done to
	only   []wire.Type // of those that are not sealed; nil: all, and the sealed ones
	hosts  []netip.AddrPort
	kept   []vnet.Packet // the last that passed, for replays
	done   int           // deeds
	sealed int           // of them, to packets of sessions
}

// deed is what becomes of a packet.
type deed func(m *meddler, p vnet.Packet) []vnet.Packet

const keptPackets = 64

// deeds are all, by name.
func deeds() map[string]deed {
	return map[string]deed{
		"flip": func(m *meddler, p vnet.Packet) []vnet.Packet {
			p.Data = bytes.Clone(p.Data)
			n := len(p.Data)
			if m.random.IntN(2) == 0 {
				n = min(n, 64) // the header
			}
			p.Data[m.random.IntN(n)] ^= 1 << m.random.IntN(8)
			return []vnet.Packet{p}
		},
		"cut": func(m *meddler, p vnet.Packet) []vnet.Packet {
			p.Data = p.Data[:m.random.IntN(len(p.Data))]
			return []vnet.Packet{p}
		},
		"extend": func(m *meddler, p vnet.Packet) []vnet.Packet {
			p.Data = append(bytes.Clone(p.Data), make([]byte, 1+m.random.IntN(64))...)
			return []vnet.Packet{p}
		},
		"drop": func(*meddler, vnet.Packet) []vnet.Packet { return nil },
		"delay": func(m *meddler, p vnet.Packet) []vnet.Packet {
			p.At = p.At.Add(time.Duration(m.random.Int64N(int64(12 * time.Second))))
			return []vnet.Packet{p}
		},
		"double": func(m *meddler, p vnet.Packet) []vnet.Packet {
			again := p
			again.At = p.At.Add(time.Duration(m.random.Int64N(int64(20 * time.Second))))
			return []vnet.Packet{p, p, again}
		},
		// An old packet comes in place of this one, to its receiver or to the sender.
		"replay": func(m *meddler, p vnet.Packet) []vnet.Packet {
			old := m.kept[m.random.IntN(len(m.kept))]
			if p.At = old.At; m.random.IntN(2) == 0 {
				old.From, old.To = old.To, old.From
			}
			return []vnet.Packet{old}
		},
		"reflect": func(m *meddler, p vnet.Packet) []vnet.Packet {
			p.From, p.To = p.To, p.From
			if m.random.IntN(2) == 0 {
				p.Data = turned(p.Data)
			}
			return []vnet.Packet{p}
		},
		// The packet goes to somebody else, with that one's ID in the header or as it was.
		"redirect": func(m *meddler, p vnet.Packet) []vnet.Packet {
			aside := p
			aside.To = m.hosts[m.random.IntN(len(m.hosts))]
			return []vnet.Packet{aside}
		},
		// The body of an old packet is put into this one.
		"graft": func(m *meddler, p vnet.Packet) []vnet.Packet {
			old := m.kept[m.random.IntN(len(m.kept))].Data
			n := min(len(p.Data), len(old), 20+m.random.IntN(60))
			p.Data = append(bytes.Clone(p.Data[:n]), old[n:]...)
			return []vnet.Packet{p}
		},
	}
}

// turned is a packet with sender and recipient exchanged, as far as they are of one length.
func turned(b []byte) []byte {
	h, msg, err := wire.Parse(b)
	if err != nil {
		return b
	}
	h.Sender, h.Recipient = h.Recipient, h.Sender
	h.SenderPeer, h.RecipientPeer = h.RecipientPeer, h.SenderPeer
	return h.Append(nil, msg)
}

func (m *meddler) meddle(p vnet.Packet) []vnet.Packet {
	h, _, err := wire.Parse(p.Data)
	sealed := len(p.Data) > 1 && p.Data[1] == 8
	if !sealed && (err != nil || h.MAC == [8]byte{} && h.Type != wire.Hello && h.Type != wire.Welcome) {
		return []vnet.Packet{p}
	}
	if m.kept = append(m.kept, p); len(m.kept) > keptPackets {
		m.kept = m.kept[1:]
	}
	if m.random.Float64() >= m.share || m.only != nil && (sealed || !slices.Contains(m.only, h.Type)) {
		return []vnet.Packet{p}
	}
	m.done++
	if sealed {
		m.sealed++
	}
	return m.deeds[m.random.IntN(len(m.deeds))](m, p)
}

// held is how much of others a node holds.
func (s *someone) held(t *testing.T) (peers, machines, joins, claims int) {
	t.Helper()
	s.n.call(t.Context(), func(l *loop) error {
		peers, joins, claims = len(l.peers.byAddress), len(l.tells.joins.of), len(l.tells.claims)
		for _, p := range l.peers.byAddress {
			machines += len(p.Each())
		}
		return nil
	})
	return peers, machines, joins, claims
}

// spent returns who used an invitation.
func (s *someone) spent(g Invitation) []anode.Address {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.invites[g.ID].by)
}

// Whatever somebody on the wire does to a join, nobody is let in except the guest, no other invitation is
// spent, little is held, and the join ends soon after he stops.
func TestJoinThroughMeddler(t *testing.T) {
	const meddles, most, runs = 40 * time.Second, 70 * time.Second, 4
	all := deeds()
	kinds := map[string][]deed{"all": slices.Collect(maps.Values(all))}
	for name, d := range all {
		kinds[name] = []deed{d}
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(name, func(t *testing.T) {
			done, sealed, in := 0, 0, 0
			var worst time.Duration
			for run := range 2 * runs {
				secret := [32]byte{byte(run % 2 * 7)}
				t.Run(fmt.Sprint(run), func(t *testing.T) {
					seed := vnet.Seed(t)
					synctest.Test(t, func(t *testing.T) {
						w := vnet.New(seed)
						defer w.Close()
						m := &meddler{random: rand.New(rand.NewPCG(seed, 0)), deeds: kinds[name]}
						m.share = []float64{0.4, 0.7, 0.9, 1}[m.random.IntN(4)]
						m.only = [][]wire.Type{nil, nil, {wire.Hello}, {wire.Welcome}}[m.random.IntN(4)]
						took, early := joinThrough(t, w, m, secret, meddles, most)
						done, sealed, worst = done+m.done, sealed+m.sealed, max(worst, took)
						if early {
							in++
						}
					})
				})
			}
			t.Logf("%d packets altered, %d of sessions; %d of %d were in before the end, the others %v after it at most", done, sealed, in, 2*runs, worst)
			if done == 0 {
				t.Error("nothing was altered")
			}
		})
	}
}

// joinThrough has a guest join while somebody meddles, and returns how long after the end of that it is
// let in; early: before.
func joinThrough(t *testing.T, w *vnet.World, m *meddler, secret [32]byte, meddles, most time.Duration) (took time.Duration, early bool) {
	t.Helper()
	a, b, c := newHost(t, w.Host("a"), secret), newHost(t, w.Host("b"), [32]byte{}), newHost(t, w.Host("c"), secret)
	s := lan(w, "lan", 0, a.n.host, b.n.host, c.n.host)
	for k, x := range []*someone{a, b, c} {
		x.n.start()
		defer x.n.stop()
		x.begin()
		m.hosts = append(m.hosts, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k + 1)}), 8737))
	}
	settle(time.Second)
	g, others := a.invite(1), []Invitation{a.invite(1), c.invite(1)}
	s.Meddle(m.meddle)
	b.join(g)
	settle(meddles)
	early = a.n.peer(b.n).Allowed
	s.Meddle(nil)
	began := time.Now()
	over := func() bool {
		_, _, joins, _ := b.held(t)
		return joins == 0 && a.n.peer(b.n).Allowed
	}
	for !over() && time.Since(began) < 10*time.Minute {
		settle(250 * time.Millisecond)
	}
	took = time.Since(began)
	if !over() || took > most {
		t.Errorf("the join ends %v after the meddling", took)
	}
	if by := a.spent(g); !slices.Equal(by, []anode.Address{b.n.address0()}) {
		t.Errorf("%d used the invitation", len(by))
	}
	if n := len(a.spent(others[0])) + len(c.spent(others[1])); n != 0 {
		t.Errorf("%d uses of other invitations", n)
	}
	if took, ok := talks(a, b, time.Minute); !ok || took > 20*time.Second {
		t.Errorf("the adapters reach each other %v after the join", took)
	}
	settle(10 * time.Minute)
	for _, x := range []*someone{a, b, c} {
		for _, p := range x.n.status().Peers {
			if p.Allowed && (x == c || p.Address != a.n.address0() && p.Address != b.n.address0()) {
				t.Errorf("%s has added %v", x.n.host.Name(), p.ID)
			}
		}
		peers, machines, joins, claims := x.held(t)
		if peers > 2 || machines > 2 || joins > 0 || claims > 1 {
			t.Errorf("%s holds %d peers, %d machines, %d joins, %d counts of invitations", x.n.host.Name(), peers, machines, joins, claims)
		}
	}
	return took, early
}

// talks waits until what the adapters of two nodes say gets through both ways, and returns how long.
func talks(a, b *someone, most time.Duration) (took time.Duration, ok bool) {
	for n := 0; took < most; n++ {
		text := fmt.Sprint("try ", n)
		a.n.say(b.n, text)
		b.n.say(a.n, text)
		settle(500 * time.Millisecond)
		if a.n.gotText(b.n, text) && b.n.gotText(a.n, text) {
			return took, true
		}
		took += 500 * time.Millisecond
	}
	return took, false
}

// Somebody lets handshakes by the invitation through, and keepalives, and nothing else, and later nothing at all: when he
// stops, the guest does not wait for long, since the issuer has answered.
func TestJoinAfterAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newHost(t, w.Host("a"), [32]byte{}), newHost(t, w.Host("b"), [32]byte{})
		s := lan(w, "lan", 0, a.n.host, b.n.host)
		a.n.start()
		b.n.start()
		defer a.n.stop()
		defer b.n.stop()
		a.begin()
		b.begin()
		settle(time.Second)
		first := 0 // bytes of a HELLO with an invitation
		s.Meddle(func(p vnet.Packet) []vnet.Packet {
			h, msg, err := wire.Parse(p.Data)
			if err == nil && h.Type == wire.Hello && first == 0 {
				first = len(msg)
			}
			keepalive := len(p.Data) == 43
			if keepalive || err == nil && (h.Type == wire.Hello && len(msg) == first || h.Type == wire.Welcome) {
				return []vnet.Packet{p}
			}
			return nil
		})
		b.join(a.invite(1))
		settle(5 * time.Minute)
		if _, by, ordinary, _, _, _ := b.saw(); by < 3 || ordinary != 0 {
			t.Fatalf("%d sessions by the invitation, %d others", by, ordinary)
		}
		s.Meddle(func(vnet.Packet) []vnet.Packet { return nil })
		settle(40 * time.Second)
		s.Meddle(nil)
		settle(firstTry + joinPause)
		if _, _, joins, _ := b.held(t); joins != 0 || !a.n.peer(b.n).Allowed {
			t.Error("the guest is not let in")
		}
	})
}
