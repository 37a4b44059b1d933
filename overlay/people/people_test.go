package people

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// The ways in which two become friends.
func TestFriends(t *testing.T) {
	for name, how := range map[string]func(w *world, a, b *party){
		"link":      func(w *world, a, b *party) { b.join(a.invite(Invite{}), false) },
		"both ask":  func(w *world, a, b *party) { a.ask(b, ""); b.ask(a, "") },
		"both add":  func(w *world, a, b *party) { a.addPeer(b); b.addPeer(a) },
		"one adds":  func(w *world, a, b *party) { a.addPeer(b); w.pass(40 * time.Second); b.addPeer(a) },
		"accept":    func(w *world, a, b *party) { a.ask(b, "from the party"); w.pass(40 * time.Second); b.accept(a) },
		"add later": func(w *world, a, b *party) { a.ask(b, ""); w.pass(40 * time.Second); b.addPeer(a) },
		"card": func(w *world, a, b *party) {
			b.join(invite.Link{Address: a.addr, Name: "a"}, false)
			w.pass(40 * time.Second)
			a.accept(b)
		},
		"left": func(w *world, a, b *party) {
			w.befriend(a, b)
			a.remove(b)
			w.pass(40 * time.Second)
			w.states("b", "a", Approved, "a", "b", Stranger)
			b.ask(a, "")
			w.pass(40 * time.Second)
			a.accept(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, loss := range []float64{0, 0.3} {
				w := newWorld(t, 7, "a", "b")
				w.loss = loss
				how(w, w.of("a"), w.of("b"))
				w.pass(time.Minute)
				w.loss = 0
				for _, p := range w.parties { // what was lost too often goes with the next session
					p.sessions = map[anode.Address]bool{}
				}
				w.pass(time.Minute)
				w.states("a", "b", Friend, "b", "a", Friend)
				for _, p := range w.parties {
					if n := len(p.core.outbox.sending); n > 0 {
						for _, o := range p.core.outbox.sending {
							t.Errorf("%s still sends one of %d: %+v", p.name, n, o)
						}
					}
					if next := p.core.Next(w.now); next != mono.Never {
						t.Errorf("%s is never idle: %v", p.name, next.Sub(w.now.Mono))
					}
				}
			}
		})
	}
}

// A guest is named, and told its name; in a network with a secret it gets that, and nobody else does.
func TestInvitation(t *testing.T) {
	w := newWorld(t, 1, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	a.secret = [32]byte{1}
	w.loss = 0.3
	l := a.invite(Invite{Name: "east"})
	j := b.join(l, false)
	if j.State != JoinTrying || j.Name != "a" {
		t.Errorf("%+v", j)
	}
	w.pass(2 * time.Minute)
	j = b.join(l, false)
	if j.State != JoinDone || j.Own != "east" || b.secret != a.secret {
		t.Errorf("%+v, secret %v", j, b.secret == a.secret)
	}
	if e := a.book.Get(b.addr); e.Name != "east" {
		t.Errorf("%+v", e)
	}
	w.loss = 0
	c.secret = a.secret
	c.addPeer(a)
	a.addPeer(c)
	c.secret = [32]byte{2} // of another network: what a tells c is no business of its
	w.pass(time.Minute)
	if f, err := parseProfile(a.core.profileFor(a.core.person(c.addr))); err != nil || f.Secret != [32]byte{} {
		t.Error("the secret is told to somebody who is no guest", err)
	}
	c.core.Heard(w.now, Heard{From: a.addr, Msg: wire.TellMsg{ID: id(1), Kind: wire.TellProfile, Body: profile{Secret: [32]byte{9}}.body()}})
	if slices.ContainsFunc(c.core.Take(), func(x Action) bool { _, is := x.(Secret); return is }) {
		t.Error("c took a secret of somebody whose guest it is not")
	}
}

// Twenty guests with a link for one: one is let in, nineteen are told, and the issuer knows.
func TestTwentyGuests(t *testing.T) {
	w := newWorld(t, 3, "a")
	a := w.of("a")
	w.loss = 0.3
	l := a.invite(Invite{})
	for i := range 20 {
		w.add(fmt.Sprintf("g%d", i)).join(l, false)
	}
	w.pass(3 * time.Minute)
	in, told := 0, 0
	for _, g := range w.parties[1:] {
		j := g.join(l, false)
		switch {
		case j.State == JoinDone && a.state(g) == Friend:
			in++
		case j.State == JoinAsked && j.Failed && a.standing(g) == book.Stranger:
			told++
		}
	}
	v := a.core.Invitations(w.now)[0]
	if in != 1 || told != 19 || v.Uses != 0 || len(v.Guests) != 1 || len(v.Late) != maxLate {
		t.Errorf("%d in, %d told; %+v", in, told, v)
	}
	if n := len(a.core.Requests(w.now)); n == 0 || n > 19 {
		t.Errorf("%d ask", n)
	}
}

// Who was let in spends nothing again; who was removed, or is blocked, gets in with no use that is left.
func TestUses(t *testing.T) {
	w := newWorld(t, 4, "a", "b", "c", "d")
	a, b, c, d := w.of("a"), w.of("b"), w.of("c"), w.of("d")
	l := a.invite(Invite{Uses: 5})
	uses := func(want int) {
		t.Helper()
		if v := a.core.Invitations(w.now)[0]; v.Uses != want || v.Of-v.Uses != len(v.Guests) {
			t.Errorf("%d uses left, want %d; %d guests", v.Uses, want, len(v.Guests))
		}
	}
	b.join(l, false)
	w.pass(20 * time.Second)
	uses(4)
	b.invited = map[anode.Address][8]byte{}
	b.joins[a.addr] = Join{Issuer: a.addr, ID: idOf(l)}
	w.pass(20 * time.Second)
	uses(4)
	a.remove(b)
	b.invited = map[anode.Address][8]byte{}
	w.pass(20 * time.Second)
	uses(4)
	w.states("a", "b", Stranger)
	a.block(c)
	c.join(l, false)
	w.pass(20 * time.Second)
	uses(4)
	w.states("a", "c", Blocked)
	a.failing = true // the disk is full: neither
	d.join(l, false)
	w.pass(5 * time.Second)
	uses(4)
	if a.standing(d) != book.Stranger {
		t.Error("let in without a record")
	}
	a.failing = false
	d.invited = map[anode.Address][8]byte{}
	w.pass(20 * time.Second)
	uses(3)
	w.states("a", "d", Friend, "d", "a", Friend)
	// An invitation outranks a removal, since people made it after: with another link the guest is back.
	b.core.Decided(w.now, a.addr)
	b.join(a.invite(Invite{}), false)
	w.pass(30 * time.Second)
	w.states("a", "b", Friend)
}

func idOf(l invite.Link) [8]byte {
	id, _ := l.Token.Keys(l.Address)
	return id
}

// Links that let nobody in, and what is said of them.
func TestDeadLinks(t *testing.T) {
	w := newWorld(t, 5, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	l := a.invite(Invite{For: time.Minute})
	if _, err := a.core.Join(w.now, JoinRequest{Link: l}); !errors.Is(err, ErrOwnLink) {
		t.Errorf("own link: %v", err)
	}
	v, err := a.core.Revoke(w.now, a.core.Invitations(w.now)[0].ID[:5])
	if err != nil || v.Of != 1 {
		t.Error(v, err)
	}
	b.join(l, false)
	w.pass(20 * time.Second)
	if j := b.join(l, false); j.State != JoinAsked || !j.Failed || j.Why == Used {
		t.Errorf("revoked: %+v", j)
	}
	w.states("a", "b", Asking)
	a.off = true
	l = a.invite(Invite{For: time.Minute})
	c.join(l, false)
	c.start() // it goes on
	if len(c.joins) != 1 {
		t.Error("a join ended with a restart")
	}
	w.pass(70 * time.Second)
	if j := c.join(l, false); j.State != JoinAsked || !j.Silent {
		t.Errorf("silent: %+v", j)
	}
	w.now.Wall = w.now.Wall.Add(time.Hour)
	if _, err := w.add("d").core.Join(w.now, JoinRequest{Link: l}); !errors.Is(err, invite.ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	for _, r := range []Invite{{Uses: -1}, {Uses: 1001}, {For: 31 * 24 * time.Hour}, {For: -1}, {Name: "no name"}} {
		if _, _, err := a.core.Invite(w.now, r); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	for range maxInvites {
		a.invite(Invite{})
	}
	if _, _, err := a.core.Invite(w.now, Invite{}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

// 10,000 strangers ask: the list stays at 64, an honest one gets on it within a minute, and is not pushed out.
func TestStrangers(t *testing.T) {
	for name, hostOf := range map[string]func(i int) netip.Addr{
		"one network":   func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) },
		"five networks": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i % 5), byte(i)}) },
		"one host":      func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 200}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 6, "a", "honest")
			a, h := w.of("a"), w.of("honest")
			h.host = netip.AddrFrom4([4]byte{192, 0, 2, 7})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			flood := func(i int) {
				from := fakeAddress()
				body := ask{fmt.Sprint("bank", i), strings.Repeat("x", maxNote), anode.Address{}}.body()
				a.core.Heard(w.now, Heard{From: from, Host: hostOf(i), Msg: wire.TellMsg{ID: id(uint64(i)), Kind: wire.TellAsk, Body: body}})
				a.core.Take()
			}
			asked, listed, out := false, mono.Time(0), false
			var since mono.Time
			for i := range 10_000 { // 50 a second
				flood(i)
				if i%5 == 0 {
					w.step()
				}
				if i == 500 {
					h.ask(a, "it is me")
					asked, since = true, w.now.Mono
				}
				if n := len(a.core.requests.m); n > maxAsks {
					t.Fatalf("%d are listed", n)
				}
				if is := a.state(h) == Asking; is && listed == 0 && asked {
					listed = w.now.Mono
				} else if !is && listed != 0 {
					out = true
				}
			}
			if listed == 0 || listed.Sub(since) > time.Minute || out {
				t.Errorf("the honest one: listed after %v, pushed out: %v", listed.Sub(since), out)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
				t.Errorf("%d bytes grew", grown)
			}
			runtime.KeepAlive(a.core)
			if len(a.core.marks) > 0 || len(a.core.seen.rings) > 0 || len(a.core.people.m) > 0 {
				t.Error("a stranger has a place of its own")
			}
		})
	}
}

// fakeAddress is an address of nobody's.
func fakeAddress() anode.Address {
	id, err := anode.NewIdentity(0)
	if err != nil {
		panic(err)
	}
	return id.Address()
}

// A slow flood, by which a room of places for strangers is always full, keeps nobody waiting for more than a
// minute who comes from elsewhere: not when it began in many regions before, nor when it comes from one region after
// another, nor when a provider has all its networks.
func TestSlowFlood(t *testing.T) {
	for name, hostOf := range map[string]func(i int) netip.Addr{
		"forty regions":        func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i % 40), byte(i), 1}) },
		"one after another":    func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i / 60), byte(i), 1}) },
		"networks of a region": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, 1, byte(i), byte(i >> 8)}) },
		"an IPv6 provider": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i), 15: 1})
		},
		"networks of ten":       func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i % 10), byte(i / 10), 1}) },
		"hosts of ten networks": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, 1, byte(i % 10), byte(i / 10)}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 7, "a")
			a := w.of("a")
			since, took := map[*party]mono.Time{}, map[*party]time.Duration{}
			for i := range 3000 { // 5 a second, for 10 minutes
				a.core.Heard(w.now, Heard{From: fakeAddress(), Host: hostOf(i), Msg: wire.TellMsg{ID: id(uint64(i)), Kind: wire.TellAsk}})
				a.act()
				w.step()
				w.step()
				if i%600 == 500 {
					h := w.add(fmt.Sprint("honest", i/600))
					h.host = netip.AddrFrom4([4]byte{192, byte(i / 600), 2, 7})
					h.ask(a, "it is me")
					since[h] = w.now.Mono
				}
				for h, at := range since {
					if _, ok := took[h]; !ok && a.state(h) == Asking {
						took[h] = w.now.Mono.Sub(at)
					}
				}
			}
			for h := range since {
				if d, ok := took[h]; !ok || d > time.Minute {
					t.Errorf("%s is listed after %v: %v", h.name, d, ok)
				} else if a.state(h) != Asking {
					t.Errorf("%s was pushed out", h.name)
				}
			}
			t.Logf("they are listed after %v", slices.Sorted(maps.Values(took)))
		})
	}
}

// The list is full of what came over days: who is pushed out is told, and asks again.
func TestListIsFull(t *testing.T) {
	w := newWorld(t, 8, "a", "honest")
	a, h := w.of("a"), w.of("honest")
	h.ask(a, "")
	w.pass(time.Second)
	w.states("a", "honest", Asking)
	for i := range 2 * maxAsks { // each of another network
		host := netip.AddrFrom4([4]byte{10, byte(i), 0, 1})
		a.core.Heard(w.now, Heard{From: fakeAddress(), Host: host, Msg: wire.TellMsg{ID: id(uint64(i)), Kind: wire.TellAsk}})
		a.act()
		w.pass(11 * time.Second)
	}
	if n := len(a.core.requests.m); n != maxAsks || a.core.count.Evicted == 0 {
		t.Errorf("%d listed, %d pushed out", n, a.core.count.Evicted)
	}
	w.pass(3 * time.Minute)
	w.states("a", "honest", Asking)
}

// Who may say what, and what it is told.
func TestWhoMaySayWhat(t *testing.T) {
	w := newWorld(t, 9, "a", "friend", "stranger", "blocked", "asked")
	a, f := w.of("a"), w.of("friend")
	w.befriend(a, f)
	a.block(w.of("blocked"))
	w.of("asked").policy = FromNobody
	a.must(a.core.Ask(w.now, AskRequest{Address: w.of("asked").addr}))
	const silent = wire.TellStatus(0xff)
	other := w.add("other").addr
	bodies := map[wire.TellKind][]byte{
		wire.TellAsk: ask{"x", "", anode.Address{}}.body(), wire.TellAccept: accept{"x"}.body(), wire.TellBye: bye{}.body(),
		wire.TellProfile: profile{Name: "x"}.body(), wire.TellIntro: intro{Address: other}.body(), 5: nil, 99: nil,
	}
	bad := []byte{1, 0, 9}
	for i, test := range []struct {
		from string
		kind wire.TellKind
		body []byte
		want wire.TellStatus
	}{
		{"friend", wire.TellAsk, nil, wire.TellDone}, {"friend", wire.TellAsk, nil, wire.TellDone}, {"friend", wire.TellAsk, nil, wire.TellDone},
		{"friend", wire.TellAsk, nil, wire.TellDone}, {"friend", wire.TellAsk, nil, wire.TellDone}, {"friend", wire.TellAsk, nil, wire.TellDone},
		{"friend", wire.TellAsk, nil, wire.TellTooMuch},
		{"friend", wire.TellAccept, nil, wire.TellDone}, {"friend", wire.TellProfile, nil, wire.TellDone},
		{"friend", wire.TellIntro, nil, wire.TellDone}, {"friend", 5, nil, wire.TellUnknown}, {"friend", 99, nil, wire.TellUnknown},
		{"friend", wire.TellBye, bye{Remove: other}.body(), wire.TellNotNow}, {"friend", wire.TellIntro, bad, wire.TellMalformed},
		{"friend", wire.TellProfile, make([]byte, maxProfile+1), wire.TellMalformed}, {"friend", wire.TellBye, nil, wire.TellDone},
		{"stranger", wire.TellAccept, nil, wire.TellNotNow}, {"stranger", wire.TellBye, nil, wire.TellDone}, {"stranger", wire.TellProfile, nil, wire.TellNotNow},
		{"stranger", wire.TellIntro, nil, wire.TellNotNow}, {"stranger", 99, nil, wire.TellNotNow}, {"stranger", wire.TellAsk, nil, wire.TellDone},
		{"blocked", wire.TellAsk, nil, silent}, {"blocked", wire.TellAccept, nil, silent},
		{"asked", wire.TellIntro, nil, silent}, {"asked", 99, nil, silent}, {"asked", wire.TellBye, nil, wire.TellDone},
		{"asked", wire.TellAccept, nil, wire.TellDone},
	} {
		body := test.body
		if body == nil {
			body = bodies[test.kind]
		}
		w.now.Mono = w.now.Mono.Add(byeFor)
		a.core.Heard(w.now, Heard{From: w.of(test.from).addr, Host: w.of(test.from).host, Msg: wire.TellMsg{ID: id(uint64(1000 + i)), Kind: test.kind, Body: body}})
		got := silent
		for _, x := range a.core.Take() {
			if x, ok := x.(Told); ok && x.Msg.ID == id(uint64(1000+i)) {
				got = x.Msg.Status
			}
		}
		if got != test.want {
			t.Errorf("%s %v: %v, want %v", test.from, test.kind, got, test.want)
		}
	}
	w.states("a", "asked", Friend, "a", "stranger", Asking, "a", "friend", Approved)
}

// A TELL takes effect once, whatever is lost, and whoever is killed at whatever moment.
func TestExactlyOnce(t *testing.T) {
	w := newWorld(t, 10, "a", "b")
	a, b := w.of("a"), w.of("b")
	w.befriend(a, b)
	w.loss = 0.3
	seen := map[anode.Address]int{}
	for range 15 {
		x := fakeAddress()
		tx := a.core.begun(w.now)
		a.core.outbox.post(tx, b.addr, wire.TellIntro, intro{Address: x, Name: "x"}.body())
		a.must(tx.commit())
		seen[x] = 0
		w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		w.parties[w.rng.IntN(2)].start()
	}
	w.pass(time.Minute)
	w.loss = 0
	a.start()
	w.pass(20 * time.Second)
	for _, e := range b.events {
		if e.Kind == EventIntroduced {
			seen[e.Address]++
		}
	}
	for x, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d times", x.ID(), n)
		}
	}
	if len(a.core.outbox.stored.m) > 0 {
		t.Errorf("%d still wait", len(a.core.outbox.stored.m))
	}
}

// The last 1024 TELLs of a peer are known, across restarts, and memory is bounded.
func TestRing(t *testing.T) {
	w := newWorld(t, 11, "a", "b")
	a, b := w.of("a"), w.of("b")
	for i := range uint64(3000) {
		x := a.core.begun(w.now)
		a.core.seen.note(x, b.addr.X(), id(i+1))
		a.must(x.commit())
		if i%701 == 0 || i == 2999 {
			if a.core.seen.rings[b.addr.X()] != nil {
				var err error
				a.core.seen.rings = map[Key]*ring{}
				if _, err = a.core.seen.load(a.book); err != nil {
					t.Fatal(err)
				}
			}
			for n := range min(i+1, seenLast) {
				if !a.core.seen.knows(b.addr.X(), id(i+1-n)) {
					t.Fatalf("after %d: %d is not known", i+1, i+1-n)
				}
			}
			if r := a.core.seen.rings[b.addr.X()]; len(r.ids) > seenParts*seenPart || len(r.has) > seenParts*seenPart {
				t.Fatalf("%d, %d are kept", len(r.ids), len(r.has))
			}
		}
	}
	if records, _ := a.store.Records(tableSeen); len(records) != seenParts {
		t.Errorf("%d records", len(records))
	}
	x := a.core.begun(w.now)
	a.core.seen.forget(x, b.addr.X())
	a.must(x.commit())
	if records, _ := a.store.Records(tableSeen); len(records) != 0 {
		t.Errorf("%d records are left", len(records))
	}
}

// An introduction informs; each accepts for itself, and whoever accepts second needs no click of the first. The one who
// introduced them is not needed after.
func TestIntroduction(t *testing.T) {
	w := newWorld(t, 12, "f", "a", "b")
	f, a, b := w.of("f"), w.of("a"), w.of("b")
	w.befriend(f, a)
	w.befriend(f, b)
	w.loss = 0.3
	_, err := f.core.Introduce(w.now, a.addr, b.addr, "meet")
	f.must(err)
	w.pass(time.Minute)
	w.loss = 0
	w.states("a", "b", Introduced, "b", "a", Introduced)
	if a.standing(b) != book.Stranger || b.standing(a) != book.Stranger {
		t.Error("an introduction lets somebody in")
	}
	if r := a.core.Requests(w.now); len(r) != 1 || r[0].Via != f.addr || r[0].Note != "meet" || r[0].Name != "b" {
		t.Errorf("%+v", r)
	}
	f.off = true
	if name := a.accept(b); name != "b" || a.accept(b) != "b" {
		t.Error(name)
	}
	w.pass(20 * time.Second)
	w.states("a", "b", Asked, "b", "a", Asking)
	if a.standing(b) != book.Stranger {
		t.Error("b is let in before it has accepted")
	}
	if r := a.core.Requests(w.now); len(r) != 1 || r[0].State != Asked || r[0].Via != f.addr || r[0].As != "b" {
		t.Errorf("%+v", r)
	}
	b.accept(a)
	w.pass(20 * time.Second)
	w.states("a", "b", Friend, "b", "a", Friend)
}

// Devices of one person: a new one is let in by the others without a click; one that was removed where it was
// brought from goes everywhere; what people removed here stays out.
func TestOwnDevices(t *testing.T) {
	w := newWorld(t, 13, "laptop", "desk", "phone", "north")
	l, d, p, n := w.of("laptop"), w.of("desk"), w.of("phone"), w.of("north")
	w.befriend(l, n)
	d.join(l.invite(Invite{Mine: true}), true)
	w.pass(20 * time.Second)
	w.loss = 0.3
	p.join(l.invite(Invite{Mine: true}), true)
	w.pass(3 * time.Minute)
	w.loss = 0
	for _, x := range w.parties {
		x.sessions = map[anode.Address]bool{}
	}
	w.pass(time.Minute)
	w.states("phone", "desk", Friend, "desk", "phone", Friend, "phone", "north", Stranger, "north", "phone", Stranger)
	if e := d.book.Get(p.addr); !e.Mine || !slices.Equal(e.Via, []anode.Address{l.addr}) || e.Name != "phone" {
		t.Errorf("%+v", e)
	}
	d.remove(p)
	x := l.core.begun(w.now)
	l.core.postIntro(x, d.addr, p.addr, "phone", "", true)
	l.must(x.commit())
	w.pass(time.Minute)
	if d.standing(p) == book.Added {
		t.Error("what people removed was brought back")
	}
	d.addPeer(p) // by hand: nobody else takes it away
	w.pass(time.Minute)
	l.remove(p)
	w.pass(time.Minute)
	w.states("desk", "phone", Friend)
	w.loss = 0.2
	q := w.add("tablet")
	q.join(l.invite(Invite{Mine: true}), true)
	w.pass(3 * time.Minute)
	w.loss = 0
	w.pass(time.Minute)
	if d.standing(q) != book.Added {
		t.Fatal("the tablet was not brought")
	}
	l.remove(q)
	w.pass(time.Minute)
	if d.standing(q) == book.Added {
		t.Error("the tablet stays where it was brought")
	}
	if d.book.Removed(q.addr, w.now.Wall) {
		t.Error("a tombstone of what a device removed")
	}
}

// A friend who is removed is told, and what it says afterwards counts for nothing.
func TestRemoved(t *testing.T) {
	w := newWorld(t, 14, "a", "b")
	a, b := w.of("a"), w.of("b")
	w.befriend(a, b)
	a.remove(b)
	a.core.Heard(w.now, Heard{From: b.addr, Msg: wire.TellMsg{ID: id(1), Kind: wire.TellProfile}})
	if slices.ContainsFunc(a.core.Take(), func(x Action) bool { told, is := x.(Told); return is && told.Msg.Status != wire.TellNotNow }) {
		t.Error("a TELL of somebody who was removed is taken")
	}
	w.pass(time.Minute)
	w.states("a", "b", Stranger, "b", "a", Approved)
	if v := b.core.Peer(w.now, a.addr); !v.Left || b.count(EventLeft) != 1 {
		t.Errorf("%+v", v)
	}
	if len(a.core.people.m)+len(a.core.outbox.stored.m)+len(a.core.seen.rings)+len(a.core.marks) != 0 {
		t.Error("something of it stays")
	}
	// Offline, by the command line: the daemon finds it at the next start.
	w.befriend(b, a)
	_, err := a.book.Remove(b.addr, w.now.Wall)
	a.must(err)
	a.start()
	w.pass(time.Minute)
	if b.count(EventLeft) != 2 {
		t.Error("not told of a removal without a daemon")
	}
	// Somebody who was asked, added by hand and removed is not let in by its ACCEPT.
	c := w.add("c")
	a.ask(c, "")
	a.addPeer(c)
	a.remove(c)
	a.core.Heard(w.now, Heard{From: c.addr, Msg: wire.TellMsg{ID: id(2), Kind: wire.TellAccept}})
	if a.standing(c) == book.Added {
		t.Error("who was removed let itself in")
	}
}

// Changes of what friends are told reach them, and nothing is told twice.
func TestProfile(t *testing.T) {
	w := newWorld(t, 15, "a", "b")
	a, b := w.of("a"), w.of("b")
	w.befriend(a, b)
	told := a.tells
	a.core.ProfileChanged(w.now)
	a.act()
	a.start()
	w.pass(20 * time.Second)
	if a.tells != told {
		t.Error("what did not change was told")
	}
	a.services = []Service{{"web", "http", 6, 8080, []string{"path=/"}}}
	a.core.ProfileChanged(w.now)
	a.act()
	w.pass(20 * time.Second)
	if v := b.core.Peer(w.now, a.addr); !reflect.DeepEqual(v.Services, a.services) || v.Said != "a" {
		t.Errorf("%+v", v)
	}
}

// Names of others become names here that nobody has.
func TestNames(t *testing.T) {
	w := newWorld(t, 16, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	_, err := a.book.Add(b.addr, "east", nil, w.now.Wall)
	a.must(err)
	for offered, want := range map[string]string{
		"east": "east-2", "East": "east-2", "my_box.local": "my-box-local", "self": "self-2", "id": "id-2", "": "", "__": "", "\x1b[31mred": "31mred",
		"ünster": "nster", "055b413c40ef750d": "055b413c40ef750d-2", strings.Repeat("x", 100): strings.Repeat("x", 63), "v4": "v4-2", "localhost": "localhost-2",
	} {
		if got := a.core.names.unique(offered, c.addr); got != want {
			t.Errorf("%q: %q, want %q", offered, got, want)
		}
	}
	if got := a.core.names.unique("east", b.addr); got != "east" {
		t.Error(got)
	}
	if err := a.core.names.given("east", c.addr); !errors.Is(err, book.ErrTaken) || !strings.Contains(err.Error(), "try: east-2") {
		t.Error(err)
	}
}

// Whose requests are kept.
func TestPolicy(t *testing.T) {
	w := newWorld(t, 17, "f", "a", "b", "c")
	f, a, b, c := w.of("f"), w.of("a"), w.of("b"), w.of("c")
	w.befriend(f, a)
	w.befriend(f, b)
	a.policy = FromIntroduced
	c.ask(a, "")
	w.pass(20 * time.Second)
	w.states("a", "c", Stranger)
	_, err := f.core.Introduce(w.now, a.addr, b.addr, "")
	f.must(err)
	w.pass(5 * time.Second)
	b.accept(a)
	w.pass(20 * time.Second)
	w.states("a", "b", Asking)
	_, err = a.core.Decline(w.now, b.addr)
	a.must(err)
	w.states("a", "b", Stranger)
	b.ask(a, "again")
	w.pass(20 * time.Second)
	w.states("a", "b", Stranger)
}

// A TELL that comes again is answered, and nothing else, also after a restart and when what it did was undone.
func TestAgain(t *testing.T) {
	w := newWorld(t, 19, "a", "b")
	a, b := w.of("a"), w.of("b")
	w.befriend(a, b)
	x := fakeAddress()
	m := wire.TellMsg{ID: id(5), Kind: wire.TellIntro, Body: intro{Address: x, Name: "x"}.body()}
	b.core.Heard(w.now, Heard{From: a.addr, Msg: m})
	b.act()
	undo := b.core.begun(w.now)
	b.core.requests.drop(undo, x.X())
	b.must(undo.commit())
	for range 2 {
		b.told = nil
		b.core.Heard(w.now, Heard{From: a.addr, Msg: m})
		b.act()
		if len(b.core.requests.m) > 0 || len(b.told) != 1 || b.told[0].Msg.Status != wire.TellDone {
			t.Errorf("%d requests, told %+v", len(b.core.requests.m), b.told)
		}
		b.start()
	}
}

// Nothing that changes how other text is shown stays in a text.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"  north ": "north", "a\nb\tc": "a b c", "\x1b[31mred": "[31mred", "a\u202eb\u2066c\u200f": "abc", "\x00\x7f\u009b": "", "\xff\xfe": "", "grün": "grün",
		strings.Repeat("ü", 20): strings.Repeat("ü", 16),
	} {
		if got := clean(text, maxName); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Where a link says that its issuer is stays known after a restart, is passed on by introductions, and is
// forgotten with the peer.
func TestWays(t *testing.T) {
	w := newWorld(t, 23, "a", "b", "c")
	a, b, c := w.of("a"), w.of("b"), w.of("c")
	w.befriend(b, c)
	l := a.invite(Invite{})
	l.Endpoints = []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("192.0.2.1:1"))}
	l.Relays = []invite.Relay{{Address: c.addr, Endpoint: wire.UDP(netip.MustParseAddrPort("192.0.2.2:1"))}}
	b.join(l, false)
	w.pass(20 * time.Second)
	w.states("b", "a", Friend)
	b.start()
	if got := b.known[a.addr]; !reflect.DeepEqual(got, waysOf(l)) {
		t.Errorf("after a restart b knows %+v", got)
	}
	_, err := b.core.Introduce(w.now, a.addr, c.addr, "")
	b.must(err)
	w.pass(5 * time.Second)
	c.accept(a)
	if got := c.known[a.addr].Relays; len(got) != 1 || got[0] != Relay(l.Relays[0]) {
		t.Errorf("c knows %+v", got)
	}
	b.remove(a)
	if got := b.known[a.addr]; !got.IsZero() {
		t.Errorf("b knows %+v of who was removed", got)
	}
	// A business card leads to its issuer too.
	card := invite.Link{Address: a.addr, Name: "a", Endpoints: l.Endpoints}
	d := w.add("d")
	d.join(card, false)
	if got := d.known[a.addr]; !reflect.DeepEqual(got, waysOf(card)) {
		t.Errorf("d knows %+v", got)
	}
	if err := d.core.Ask(w.now, AskRequest{Address: b.addr, Ways: Ways{Endpoints: []wire.Endpoint{{}}}}); !errors.Is(err, book.ErrEndpoint) {
		t.Errorf("an endpoint that cannot be: %v", err)
	}
}

// One transaction that tells much, as a new device of somebody who has many, keeps to the bounds of the outbox.
func TestOutboxBounds(t *testing.T) {
	w := newWorld(t, 24, "a")
	a := w.of("a")
	x := a.core.begun(w.now)
	for range outboxPeer + 3 {
		a.core.outbox.post(x, a.addr, wire.TellIntro, []byte{1})
	}
	a.must(x.commit())
	if n := len(a.core.outbox.stored.m); n != outboxPeer || a.core.Counters().OutboxFull != 3 {
		t.Errorf("%d wait, %d were refused", n, a.core.Counters().OutboxFull)
	}
}

// Somebody who was asked without a name gets the one that it says once it has accepted; a name that people
// took away stays away.
func TestAskedGetsName(t *testing.T) {
	w := newWorld(t, 31, "a", "b")
	a, b := w.of("a"), w.of("b")
	a.ask(b, "")
	w.pass(time.Minute)
	b.accept(a)
	w.pass(time.Minute)
	if e := a.book.Get(b.addr); e.Name != "b" || a.count(EventFriend) != 1 {
		t.Errorf("%+v", e)
	}
	_, err := a.book.Rename(b.addr, "")
	a.decided(b, err)
	b.core.ProfileChanged(w.now)
	w.pass(time.Minute)
	if e := a.book.Get(b.addr); e.Name != "" {
		t.Errorf("%+v", e)
	}
}

// BenchmarkRoom is what an ASK costs in a flood from thousands of hosts.
func BenchmarkRoom(b *testing.B) {
	var r room
	k := 0
	enter := func() {
		var x anode.Address
		x[10], x[11], x[12] = byte(k>>16), byte(k>>8), byte(k)
		r.enter(waiting{from: x, host: netip.AddrFrom4([4]byte{100, byte(64 + k%10), byte(k / 10), byte(1 + k/2560)}), at: mono.At(time.Duration(k) * time.Millisecond)})
		k++
	}
	for range 10_000 {
		enter()
	}
	b.ReportAllocs()
	for b.Loop() {
		enter()
	}
}
