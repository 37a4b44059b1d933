package overlay

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// apart is two nodes that added each other, in networks of their own behind a router.
func apart(t *testing.T, w *vnet.World) (a, b *testNode) {
	t.Helper()
	router := w.Router("internet")
	var list []*testNode
	for k, name := range []string{"a", "b"} {
		n := newTestNode(t, w.Host(name), nil)
		s := w.Segment(name, vnet.Link{Delay: 5 * time.Millisecond})
		net := [4]byte{51, 0, byte(k + 1), 254}
		router.Attach(s, netip.PrefixFrom(netip.AddrFrom4(net), 24))
		net[3] = 1
		n.host.Attach(s, netip.PrefixFrom(netip.AddrFrom4(net), 24))
		net[3] = 254
		n.host.Gateway(netip.AddrFrom4(net))
		list = append(list, n)
	}
	a, b = list[0], list[1]
	b.cfg.Peers = []Peer{{Address: a.address0()}}
	a.start()
	b.start()
	if _, err := a.AddPeer(t.Context(), Peer{Address: b.address0()}); err != nil {
		t.Fatal(err)
	}
	settle(time.Second)
	return a, b
}

func hintsOf(texts ...string) (list []wire.Endpoint) {
	for _, text := range texts {
		list = append(list, wire.UDP(ap(text)))
	}
	return list
}

// TestSetHints reaches a peer by a hint, after others that were wrong and were replaced.
func TestSetHints(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := apart(t, w)
		defer a.stop()
		defer b.stop()
		set := func(hints ...wire.Endpoint) {
			t.Helper()
			if err := a.SetHints(t.Context(), b.address0(), hints); err != nil {
				t.Fatal(err)
			}
			settle(100 * time.Millisecond)
		}
		a.pingFails(b, 10*time.Second, ReasonNoEndpoint)

		// Wrong ones take up all places, and lose them when they are replaced.
		set(wrongHints()...)
		set(hintsOf("51.0.2.9:8737", "51.0.2.1:8737")...)
		if r, err := a.ping(b, time.Second); err != nil || r.Path.Endpoint != "udp:51.0.2.1:8737" {
			t.Errorf("with the right one: %+v, %v", r.Path, err)
		}

		// A path that works stays when its hint goes, and the book never has it.
		set()
		if r, err := a.ping(b, 5*time.Second); err != nil || r.Path.Endpoint != "udp:51.0.2.1:8737" {
			t.Errorf("without hints: %+v, %v", r.Path, err)
		}
		for _, e := range a.Entries() {
			if len(e.Endpoints) > 0 {
				t.Errorf("the book has %v", e.Endpoints)
			}
		}
	})
}

// wrongHints are as many as are tried at a time; nobody is there.
func wrongHints() []wire.Endpoint {
	return hintsOf("51.0.2.9:8737", "51.0.2.10:8737", "51.0.2.11:8737", "51.0.2.12:8737")
}

// TestHintsBesideEndpoints has an endpoint that people gave tried at once, whatever DNS says:
// hints, which can be forged, have places of their own.
func TestHintsBesideEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := apart(t, w)
		defer a.stop()
		defer b.stop()
		if err := a.SetHints(t.Context(), b.address0(), wrongHints()); err != nil {
			t.Fatal(err)
		}
		right := Peer{Endpoints: hintsOf("51.0.2.1:8737")}.Places()
		if _, err := a.AddEndpoints(t.Context(), b.address0(), right); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ping(b, time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestHintsOfStrangers refuses hints about peers that nobody added, and for addresses inside the
// overlay; they end with the peer.
func TestHintsOfStrangers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := apart(t, w)
		defer a.stop()
		defer b.stop()
		right := hintsOf("51.0.2.1:8737")
		if err := a.SetHints(t.Context(), newIdentity(t).Address(), right); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("of a stranger: %v", err)
		}
		inside := wire.UDP(netip.AddrPortFrom(b.address0().ULA().Addr(), 8737))
		own := wire.UDP(netip.AddrPortFrom(a.address0().ULA().Addr(), 8737))
		if err := a.SetHints(t.Context(), b.address0(), []wire.Endpoint{inside, own, {}}); err != nil {
			t.Error(err)
		}
		a.pingFails(b, 10*time.Second, ReasonNoEndpoint)

		if _, err := a.BlockPeer(t.Context(), b.address0(), true); err != nil {
			t.Fatal(err)
		}
		if err := a.SetHints(t.Context(), b.address0(), right); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("of a blocked peer: %v", err)
		}
		if _, err := a.BlockPeer(t.Context(), b.address0(), false); err != nil {
			t.Fatal(err)
		}
		if err := a.SetHints(t.Context(), b.address0(), right); err != nil {
			t.Error(err)
		}
		if _, err := a.RemovePeer(t.Context(), b.address0()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.AddPeer(t.Context(), Peer{Address: b.address0()}); err != nil {
			t.Fatal(err)
		}
		if s, err := a.PeerStatus(t.Context(), b.address0()); err != nil || s.State == StateUp || !s.Allowed {
			t.Errorf("%v, %v", s, err)
		}
	})
}

// TestRemovedEndpoint stops the checks of an endpoint that was taken back.
func TestRemovedEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := apart(t, w)
		defer a.stop()
		defer b.stop()
		for _, e := range wrongHints() {
			if _, err := a.AddEndpoints(t.Context(), b.address0(), Peer{Endpoints: []wire.Endpoint{e}}.Places()); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		wrong := Peer{Endpoints: hintsOf("51.0.2.9:8737")}.Places()[0]
		if _, err := a.RemoveEndpoint(t.Context(), b.address0(), wrong); err != nil {
			t.Fatal(err)
		}
		right := Peer{Endpoints: hintsOf("51.0.2.1:8737")}.Places()
		if _, err := a.AddEndpoints(t.Context(), b.address0(), right); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ping(b, 5*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestWatchKinds has events of other kinds pass by.
func TestWatchKinds(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		some := a.Watch(EventDecided)
		defer some.Close()
		settle(time.Second)
		if _, err := a.AddPeer(t.Context(), Peer{Address: b.address0()}); err != nil {
			t.Fatal(err)
		}
		if _, err := some.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.say(b, "hello")
		settle(time.Second)
		if p := a.peer(b); p.State != StateUp {
			t.Errorf("nothing happened: %+v", p)
		}
		if _, err := a.RenamePeer(t.Context(), b.address0(), "bee"); err != nil {
			t.Fatal(err)
		}
		list, err := some.Next(t.Context())
		if want := (Event{EventDecided, b.address0()}); err != nil || len(list) != 1 || list[0] != want {
			t.Errorf("%v, %v", list, err)
		}
	})
}
