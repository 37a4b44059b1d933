package overlay

import (
	"slices"
	"testing"
	"time"

	"anodenet/overlay/vnet"
)

// TestSetFixed changes the peers of the configuration while the node runs.
func TestSetFixed(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		lan(w, "lan", 0, a.host, b.host)
		b.cfg.Peers = []Peer{{Address: a.address0()}}
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		watch := a.Watch()
		defer watch.Close()
		set := func(peers ...Peer) {
			t.Helper()
			changes, report, err := a.SetFixed(t.Context(), peers)
			if err != nil || len(report) > 0 || len(changes) != 1 {
				t.Fatal(changes, report, err)
			}
			events, err := watch.Next(t.Context())
			if want := (Event{EventDecided, b.address0()}); err != nil || !slices.Contains(events, want) {
				t.Errorf("events %v, %v; want %v", events, err, want)
			}
		}
		set(Peer{Address: b.address0(), Name: "b"})
		settle(time.Second)
		if p := a.peer(b); !p.Allowed || p.Name != "b" {
			t.Errorf("added: %+v", p)
		}
		a.say(b, "hello")
		settle(time.Second)
		b.heard(a, "hello", 1)
		set(Peer{Address: b.address0(), Name: "bee"})
		if p := a.peer(b); !p.Allowed || p.Name != "bee" || p.State != StateUp {
			t.Errorf("renamed: %+v", p)
		}
		set()
		status, err := a.Status(t.Context())
		if err != nil || slices.ContainsFunc(status.Peers, func(p PeerStatus) bool { return p.Allowed }) {
			t.Errorf("removed: %+v, %v", status.Peers, err)
		}
	})
}

// TestSetRelay stops a relay, and lets it go on.
func TestSetRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		r := newTestNode(t, w.Host("r"), nil)
		adds(a, b, r)
		lan(w, "west", 1, a.host, r.host)
		lan(w, "east", 2, b.host, r.host)
		for _, n := range []*testNode{a, b, r} {
			n.start()
			defer n.stop()
		}
		settle(2 * time.Second)
		a.say(b, "one")
		settle(10 * time.Second)
		b.heard(a, "one", 1)
		if err := r.SetRelay(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if s, err := r.Status(t.Context()); err != nil || s.Relay {
			t.Errorf("its status says that it relays: %v, %v", s.Relay, err)
		}
		relayed := r.counter("relayed_packets")
		a.say(b, "two")
		settle(time.Second)
		b.heard(a, "two", 0)
		if n := r.counter("relayed_packets"); n != relayed {
			t.Errorf("%d packets relayed, %d before", n, relayed)
		}
		if err := r.SetRelay(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		a.say(b, "three")
		settle(10 * time.Second)
		b.heard(a, "three", 1)
	})
}
