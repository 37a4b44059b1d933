package daemon

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay/book"
	"anodenet/overlay/vnet"
)

// crowd is machines on one simulated LAN.
func crowd(t *testing.T, n int) (list []*machine) {
	t.Helper()
	w := vnet.New(vnet.Seed(t))
	t.Cleanup(w.Close)
	s := w.Segment("lan", vnet.Link{})
	for i := range n {
		h := w.Host(string(rune('a' + i)))
		h.Attach(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}), 24))
		m := newMachine(t, h)
		m.configure(t, "people.name = \""+string(rune('a'+i))+"\"\n")
		list = append(list, m)
	}
	return list
}

func (m *machine) link(t *testing.T, r control.InviteRequest) control.Invited {
	t.Helper()
	v, err := m.client.Invite(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// join uses a link until that is decided.
func (m *machine) join(t *testing.T, r control.JoinRequest) (j control.Joined) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for j.State = control.JoinTrying; j.State == control.JoinTrying && time.Now().Before(limit); {
		var err error
		if j, err = m.client.Join(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// waitState waits until a peer has a state.
func (m *machine) waitState(t *testing.T, a anode.Address, want control.State) control.PeerState {
	t.Helper()
	return m.waitPeer(t, a, string(want), func(s control.PeerState) bool { return s.State == want })
}

// waitPeer waits until a condition holds for a peer.
func (m *machine) waitPeer(t *testing.T, a anode.Address, want string, holds func(control.PeerState) bool) control.PeerState {
	t.Helper()
	var got control.PeerState
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		states, err := m.client.States(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = control.PeerState{State: control.StateStranger}
		for _, s := range states.States {
			if s.Address == a {
				got = s
			}
		}
		if holds(got) {
			return got
		}
	}
	t.Fatalf("%s is %+v, want %s", a.ID(), got, want)
	return got
}

// TestJoin: two machines, a link, and both know each other by name; after a restart too.
func TestJoin(t *testing.T) {
	list := crowd(t, 2)
	a, b := list[0].start(t), list[1].start(t)
	began := time.Now()
	v := a.link(t, control.InviteRequest{Name: "east"})
	if v.Reachable != "lan" {
		t.Errorf("%+v", v)
	}
	j := b.join(t, control.JoinRequest{Link: v.Link, As: "north"})
	if j.State != control.JoinDone || j.Own != "east" || j.Name != "north" {
		t.Fatalf("%+v", j)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	a.waitState(t, b.identity(t), control.StateFriend)
	if s := b.waitState(t, a.identity(t), control.StateFriend); s.Name != "north" {
		t.Errorf("%+v", s)
	}
	b.waitPeer(t, a.identity(t), `its own name, "a"`, func(s control.PeerState) bool { return s.Said == "a" }) // with its PROFILE
	list2, err := a.client.Invitations(t.Context())
	if err != nil || len(list2.Invitations) != 1 || list2.Invitations[0].Uses != 0 || len(list2.Invitations[0].Guests) != 1 || list2.Invitations[0].Guests[0].Name != "east" {
		t.Errorf("%+v, %v", list2, err)
	}
	a.log.wait("an invitation was used")
	if _, err := a.client.Join(t.Context(), control.JoinRequest{Link: v.Link}); !isCode(err, control.CodeRefused) {
		t.Errorf("own link: %v", err)
	}
	if _, err := b.client.Join(t.Context(), control.JoinRequest{Link: v.Link[:80]}); !isCode(err, control.CodeInvalid) {
		t.Errorf("cut link: %v", err)
	}
	// A friend that is removed is told, and nothing of it counts any more.
	if err := a.client.Remove(t.Context(), control.RemoveRequest{Address: b.identity(t)}); err != nil {
		t.Fatal(err)
	}
	if s := b.waitState(t, a.identity(t), control.StateApproved); !s.Left {
		t.Errorf("%+v", s)
	}
	a.waitState(t, b.identity(t), control.StateStranger)
}

func isCode(err error, c control.Code) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == c
}

// TestJoinClosed: the guest gets the secret of the network, keeps it, and has it after a restart.
func TestJoinClosed(t *testing.T) {
	list := crowd(t, 2)
	a, b := list[0], list[1]
	secret := bytes.Repeat([]byte{7}, 32)
	path := filepath.Join(filepath.Dir(a.options.State), "net")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	a.configure(t, "secret = \"file:"+path+"\"\npeople.name = \"a\"\n")
	a.start(t)
	b.start(t)
	j := b.join(t, control.JoinRequest{Link: a.link(t, control.InviteRequest{}).Link})
	if j.State != control.JoinDone || j.Own != "b" {
		t.Fatalf("%+v", j)
	}
	info, err := os.Stat(filepath.Join(b.options.State, secretFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	if err := b.client.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	b.start(t)
	if _, err := b.client.Ping(t.Context(), control.PingRequest{Address: a.identity(t), TimeoutMS: 5000}); err != nil {
		t.Error(err)
	}
}

// TestLateGuest: the second guest of a link for one is told so, asks, and the issuer sees both.
func TestLateGuest(t *testing.T) {
	list := crowd(t, 3)
	a, b, c := list[0].start(t), list[1].start(t), list[2].start(t)
	l := a.link(t, control.InviteRequest{}).Link
	if j := b.join(t, control.JoinRequest{Link: l}); j.State != control.JoinDone {
		t.Fatalf("%+v", j)
	}
	j := c.join(t, control.JoinRequest{Link: l})
	if j.State != control.JoinAsked || j.Why != "the link was used by somebody else" || j.Try == "" {
		t.Errorf("%+v", j)
	}
	a.waitState(t, c.identity(t), control.StateAsking)
	v, err := a.client.Invitations(t.Context())
	if err != nil || len(v.Invitations[0].Guests) != 1 || len(v.Invitations[0].Late) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := a.client.AcceptPeer(t.Context(), control.AcceptRequest{Address: c.identity(t)}); err != nil {
		t.Fatal(err)
	}
	a.waitState(t, c.identity(t), control.StateFriend)
	c.waitState(t, a.identity(t), control.StateFriend)
}

// TestIntroduce: two friends of one are made known to each other, and go on without it.
func TestIntroduce(t *testing.T) {
	list := crowd(t, 3)
	f, a, b := list[0].start(t), list[1].start(t), list[2].start(t)
	for _, m := range []*machine{a, b} {
		if j := m.join(t, control.JoinRequest{Link: f.link(t, control.InviteRequest{}).Link}); j.State != control.JoinDone {
			t.Fatalf("%+v", j)
		}
	}
	ida, idb := a.identity(t), b.identity(t)
	v, err := f.client.Introduce(t.Context(), control.IntroduceRequest{A: ida, B: idb, Note: "hello"})
	if err != nil || len(v.Told) != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	a.waitState(t, idb, control.StateIntroduced)
	b.waitState(t, ida, control.StateIntroduced)
	if err := f.client.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-f.ended
	accepted, err := a.client.AcceptPeer(t.Context(), control.AcceptRequest{Address: idb, As: "bee"})
	if err != nil || accepted.State != control.StateAsked || accepted.Name != "bee" {
		t.Fatalf("%+v, %v", accepted, err)
	}
	r, err := b.client.Requests(t.Context())
	if err != nil || len(r.Requests) != 1 || r.Requests[0].Via != "a" {
		t.Errorf("%+v, %v", r, err)
	}
	b.waitState(t, ida, control.StateAsking)
	if s := a.waitState(t, idb, control.StateAsked); s.Name != "bee" {
		t.Errorf("%+v", s)
	}
	if p, err := a.client.Resolve(t.Context(), "bee"); err != nil || p.Address != idb {
		t.Errorf("by the name that it gets: %+v, %v", p, err)
	}
	// The yes can be taken back, and said again. b is told.
	if err := a.client.Remove(t.Context(), control.RemoveRequest{Address: idb}); err != nil {
		t.Fatal(err)
	}
	b.waitState(t, ida, control.StateIntroduced)
	if err := a.client.Remove(t.Context(), control.RemoveRequest{Address: idb}); !isCode(err, control.CodeUnknownPeer) {
		t.Errorf("there is no yes: %v", err)
	}
	if _, err := a.client.Ask(t.Context(), control.AskRequest{Address: idb, Name: "bee"}); err != nil {
		t.Fatal(err)
	}
	b.waitState(t, ida, control.StateAsking)
	a.waitState(t, idb, control.StateAsked)
	if _, err := b.client.AcceptPeer(t.Context(), control.AcceptRequest{Address: ida, As: "alan"}); err != nil {
		t.Fatal(err)
	}
	if s := a.waitState(t, idb, control.StateFriend); s.Name != "bee" {
		t.Errorf("%+v", s)
	}
	b.waitState(t, ida, control.StateFriend)
}

// TestMine: a new device of a person is let in by the person's other devices.
func TestMine(t *testing.T) {
	list := crowd(t, 3)
	l, d, p := list[0].start(t), list[1].start(t), list[2].start(t)
	for _, m := range []*machine{d, p} {
		if j := m.join(t, control.JoinRequest{Link: l.link(t, control.InviteRequest{Mine: true}).Link, Mine: true}); j.State != control.JoinDone {
			t.Fatalf("%+v", j)
		}
	}
	if s := d.waitState(t, p.identity(t), control.StateFriend); !s.Mine || s.Name != "c" || len(s.Via) != 1 || s.Via[0] != "a" {
		t.Errorf("%+v", s)
	}
	p.waitState(t, d.identity(t), control.StateFriend)
	if err := l.client.Remove(t.Context(), control.RemoveRequest{Address: p.identity(t)}); err != nil {
		t.Fatal(err)
	}
	d.waitState(t, p.identity(t), control.StateStranger)
}

// TestAsk: who asks is listed, and let in when it is accepted; when it is not there it is asked later.
func TestAsk(t *testing.T) {
	list := crowd(t, 2)
	a, b := list[0].start(t), list[1]
	idb := b.identity(t)
	v, err := a.client.Ask(t.Context(), control.AskRequest{Address: idb, Name: "bee", Note: "it is me"})
	if err != nil || v.Told || v.State != control.StateAsked {
		t.Fatalf("%+v, %v", v, err)
	}
	b.start(t)
	b.waitState(t, a.identity(t), control.StateAsking)
	if _, err := b.client.AcceptPeer(t.Context(), control.AcceptRequest{Address: a.identity(t)}); err != nil {
		t.Fatal(err)
	}
	if s := a.waitState(t, idb, control.StateFriend); s.Name != "bee" {
		t.Errorf("%+v", s)
	}
}

// TestAskAt: somebody that nothing leads to is asked where the user says that it is.
func TestAskAt(t *testing.T) {
	list := crowd(t, 2)
	for i, m := range list {
		m.configure(t, "people.name = \""+string(rune('a'+i))+"\"\ndiscovery.quiet = [\"10.0.0.0/24\"]\n")
	}
	a, b := list[0], list[1].start(t)
	var asked atomic.Int32
	a.options.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		switch asked.Add(1) {
		case 1: // the machine has moved since
			return []netip.Addr{netip.MustParseAddr("10.0.0.77")}, nil
		case 2:
			return nil, errors.New("no answer")
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil
	}
	a.start(t)
	places, err := book.ParsePlaces("udp:bee.example:8737")
	if err != nil {
		t.Fatal(err)
	}
	v, err := a.client.Ask(t.Context(), control.AskRequest{Address: b.identity(t), Endpoints: places})
	if err != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	b.waitState(t, a.identity(t), control.StateAsking)
	if _, err := b.client.AcceptPeer(t.Context(), control.AcceptRequest{Address: a.identity(t)}); err != nil {
		t.Fatal(err)
	}
	a.waitState(t, b.identity(t), control.StateFriend)
	e, err := a.client.Endpoints(t.Context(), control.EndpointsRequest{Address: b.identity(t)})
	if err != nil || len(e.Hosts) != 1 || e.Hosts[0].Endpoint.String() != places[0].String() {
		t.Errorf("%+v, %v", e, err)
	}
}
