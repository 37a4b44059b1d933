package main_test

import (
	"sync/atomic"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// TestNetAttackTrains: a peer that falls silent after one answer says nothing of the
// node's other peers: those go on getting trains of packets.
//
//	n ── 10.0.1.0/24 ── b, which n has added
//	      '── evil, where somebody shakes hands, answers one PROBE, and no more
func TestNetAttackTrains(t *testing.T) {
	for _, added := range []bool{false, true} {
		name := "a stranger"
		if added {
			name = "a peer that leaves"
		}
		t.Run(name, func(t *testing.T) {
			n, b, evil := newHost(t, "n"), newHost(t, "b"), newMachine(t, "evil")
			join(1, n, b, evil)
			n.add(b)
			b.add(n)
			id := newIdentity(t)
			if added {
				n.run(n.bin, "peers", "add", id.Address().String(), "evil", "--state", n.state())
			}
			n.up()
			b.up()
			n.meets(b)
			before := trains(t, n, b)
			if before < 50 {
				t.Fatalf("without an attack %d %% of the bytes leave in trains: that proves nothing", before)
			}
			settled(n, b) // else the links' events have the paths measured again

			o := newOutsider(evil, id, 1, n, "10.0.1.1:8737")
			var probed atomic.Bool
			o.shall(func(kind wire.Type, sealed bool) bool {
				if kind == wire.Probe {
					return probed.CompareAndSwap(false, true)
				}
				return !probed.Load()
			})
			o.meets()
			// A node that has nothing to learn of such a peer sends no PROBE at all.
			for start := time.Now(); time.Since(start) < 3*time.Second && !probed.Load(); {
				time.Sleep(10 * time.Millisecond)
			}
			o.shall(nothing)
			time.Sleep(3 * time.Second)
			rung, after := n.status().Rung, trains(t, n, b)
			t.Logf("%d PROBEs came; the mode is %s; in trains: %d %% before, %d %% after", o.count(wire.Probe), rung, before, after)
			if rung != string(link.RungGSO) {
				t.Errorf("the mode is %s, want %s", rung, link.RungGSO)
			}
			if after < before/2 {
				t.Errorf("%d %% of the bytes to b leave in trains, %d %% did before", after, before)
			}
			if !added && o.count(wire.Probe) > 0 {
				t.Errorf("a stranger was sent %d PROBEs", o.count(wire.Probe))
			}
		})
	}
}

// trains is how many percent of the bytes of a transfer leave a host in datagrams that
// the system has yet to cut.
func trains(t *testing.T, from, to *host) int {
	t.Helper()
	const one = 1500 + 14
	cable := from.capture("eth1")
	transfer(t, from, to, 8<<20)
	all, long := 0, 0
	for _, p := range cable.stop() {
		all += len(p)
		if len(p) > one {
			long += len(p)
		}
	}
	return 100 * long / max(all, 1)
}
